"""Necessity margin: its loss by hand, what its second pass sees, whom its gradients reach, and the running mean."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mnemoscope.contracts import ReadPoint
from mnemoscope.models import StackConfig, build
from mnemoscope.training.remedies import Computed, NecessityMargin, treated
from mnemoscope.training.remedies.necessity_margin import NecessityMarginTreatment, RunningMean


class Sum(nn.Module):
    """Says a * read + c * x, its memory's read being x; what is beside the memory is c * x."""

    def __init__(self) -> None:
        super().__init__()
        self.read = ReadPoint()
        self.a, self.c = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.tensor(0.25))

    def forward(self, x: Tensor) -> Tensor:
        return self.a * self.read(x) + self.c * x


X = torch.tensor([[[1.0], [2.0]], [[3.0], [6.0]]])
"""Mean 3, mean square 12.5, variance 3.5."""


def _computed(model: nn.Module, loss: Callable[[Tensor], Tensor], x: Tensor = X) -> Computed:
    logits = model(x)
    return Computed(inputs=x, targets=x, logits=logits, loss=loss(logits), again=lambda: loss(model(x)))


def _error(y: Tensor) -> Tensor:
    """Mean squared error to x itself."""
    return (y - X).square().mean()


def _treat(model: nn.Module, remedy: NecessityMargin) -> NecessityMarginTreatment:
    treatment = remedy.attach(model)
    assert isinstance(treatment, NecessityMarginTreatment)
    return treatment


def test_the_loss_by_hand() -> None:
    """With a = 1/2, c = 1/4: L = E(x/4)^2 = .78125; at read 3, L_c = E(1.5 - .75 x)^2 = 2.25 - 6.75 + 7.03125."""
    model = Sum().train()
    treatment = _treat(model, NecessityMargin(strength=0.2, margin=0.5, headroom=8.0))
    treatment.on_step(1, 1)
    loss = treatment.extra_loss(_computed(model, _error))
    assert loss is not None
    effect = 2.53125 - 0.78125
    assert loss.item() == pytest.approx(0.2 * (4.0 - effect))
    assert treatment.figures() == pytest.approx({"strength": 0.2, "effect": effect, "margin": 4.0})


def test_gradients_go_through_both_passes_and_not_through_the_constant() -> None:
    model = Sum().train()
    treatment = _treat(model, NecessityMargin(strength=1.0, margin=0.5, headroom=8.0))
    treatment.on_step(1, 1)
    scale = torch.ones((), requires_grad=True)
    loss = treatment.extra_loss(_computed(model, _error, X * scale))
    assert loss is not None
    got = torch.autograd.grad(loss, (model.a, model.c, scale))
    a, c, k = (torch.tensor(value, requires_grad=True) for value in (0.5, 0.25, 1.0))
    with_memory, without = (a * k * X + c * k * X - X).square().mean(), (a * 3 + c * k * X - X).square().mean()
    want = torch.autograd.grad(with_memory - without, (a, c, k))
    torch.testing.assert_close(torch.stack(got), torch.stack(want))


def test_a_memory_that_is_needed_enough_is_left_alone() -> None:
    model = Sum().train()
    treatment = _treat(model, NecessityMargin(margin=0.5, headroom=2.0))
    treatment.on_step(1, 1)
    loss = treatment.extra_loss(_computed(model, _error))
    assert loss is not None
    assert loss.item() == 0
    assert not any(gradient.any() for gradient in torch.autograd.grad(loss, list(model.parameters())))


def test_the_second_pass_reads_the_constant_and_leaves_no_hook() -> None:
    model = Sum().train()
    treatment = _treat(model, NecessityMargin(headroom=1.0))
    seen: list[Tensor] = []
    treatment.on_step(1, 1)
    computed = _computed(model, _error)
    hooks = len(model.read._forward_hooks)

    def again() -> Tensor:
        handle = model.read.register_forward_hook(lambda module, inputs, read: seen.append(read))
        loss = _error(model(X))
        handle.remove()
        return loss

    treatment.extra_loss(Computed(inputs=X, targets=X, logits=computed.logits, loss=computed.loss, again=again))
    assert len(seen) == 1
    torch.testing.assert_close(seen[0], torch.full_like(X, 3.0))
    assert len(model.read._forward_hooks) == hooks
    mean = treatment.means[0]
    assert isinstance(mean, RunningMean)
    assert mean.n_seen == 1


def test_the_hooks_of_a_second_pass_that_fails_are_taken_off() -> None:
    model = Sum().train()
    treatment = _treat(model, NecessityMargin(headroom=1.0))
    treatment.on_step(1, 1)
    computed = _computed(model, _error)

    def again() -> Tensor:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        treatment.extra_loss(Computed(inputs=X, targets=X, logits=X, loss=computed.loss, again=again))
    treatment.detach()
    assert not model.read._forward_hooks


def test_all_memories_are_replaced_in_one_pass() -> None:
    model = build(StackConfig.of("gated_delta(n_heads=2), gru", vocab_size=8, d_model=8), 0).train()
    tokens = torch.randint(8, (2, 6))
    passes: list[Tensor] = []

    def loss(logits: Tensor) -> Tensor:
        passes.append(logits)
        return logits.square().mean()

    treatment = _treat(model, NecessityMargin())
    treatment.on_step(1, 1)
    assert treatment.extra_loss(_computed(model, loss, tokens)) is not None
    assert len(passes) == 2
    assert treatment.figures()["margin"] == pytest.approx(0.1 * math.log(8))
    reads = []
    for place in treatment.places:
        place.module.register_forward_hook(lambda module, inputs, read: reads.append(read))
    model.eval()
    model(tokens)
    for mean, read in zip(treatment.means, reads, strict=True):
        assert isinstance(mean, RunningMean)
        torch.testing.assert_close(mean.mean, read.detach().mean((0, 1)))


def test_the_running_mean_is_plain_at_first_and_then_decays() -> None:
    mean = RunningMean(0.5)
    found = []
    for value in (4.0, 0.0, 8.0):
        mean.see(torch.full((2, 3, 1), value))
        assert mean.mean is not None
        found.append(mean.mean.item())
    assert found == [4.0, 2.0, 5.0]


def test_the_running_mean_is_kept() -> None:
    mean, other = RunningMean(0.9), RunningMean(0.9)
    other.load_state_dict(mean.state_dict())
    assert other.mean is None
    mean.see(torch.randn(2, 3, 4, 5))
    mean.see(torch.randn(2, 3, 4, 5))
    other.load_state_dict(mean.state_dict())
    for each in (mean, other):
        each.see(torch.ones(2, 3, 4, 5))
    assert mean.mean is not None
    assert other.mean is not None
    assert torch.equal(mean.mean, other.mean)
    assert other.n_seen == 3


def test_without_strength_nothing_is_run_or_kept() -> None:
    model = Sum().train()
    with treated(model, (NecessityMargin(begin=0.5, headroom=1.0),)) as (treatment,):
        treatment.on_step(1, 10)
        computed = _computed(model, _error)
        assert treatment.extra_loss(computed) is None
        assert list(treatment.state_dict()) == ["means.0.n_seen"]
        assert not treatment.state_dict()["means.0.n_seen"]


def test_what_does_not_fit_is_refused() -> None:
    model = Sum().train()
    treatment = _treat(model, NecessityMargin())
    treatment.on_step(1, 1)
    with pytest.raises(ValueError, match=r"headroom: must be given where targets are vectors"):
        treatment.extra_loss(_computed(model, _error))
    computed = _computed(model, _error)
    treatment.on_step(1, 1)
    with pytest.raises(ValueError, match="read must be called in training after on_step, got no call"):
        treatment.extra_loss(computed)
    with pytest.raises(ValueError, match=r"read must give \(b, t, ...\), got \(2, 2\)"):
        model(X[..., 0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"margin": 0.0}, "NecessityMargin.margin: must be positive and finite, got 0.0"),
        ({"headroom": -1.0}, "NecessityMargin.headroom: must be positive and finite, got -1.0"),
        ({"decay": 1.0}, r"NecessityMargin.decay: must be in \[0, 1\), got 1.0"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NecessityMargin(**settings)

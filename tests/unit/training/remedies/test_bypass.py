"""Bottlenecks and weakening: what they do to numbers, weights and gradients."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from mnemoscope.training.remedies import (
    BottleneckNoise,
    BottleneckRank,
    BottleneckVariational,
    Computed,
    RemedyConfig,
    ShortcutWeakening,
    treated,
)
from mnemoscope.training.remedies.bottleneck_variational import rate
from mnemoscope.training.remedies.projections import find_projections
from tests.unit.training.remedies.models import MEMORY, ROUTE, Hybrid, stack


class _Bypass(nn.Module):
    """A route of one layer, (b, t, 2) -> (b, t, 2), with a norm behind it that gives the width."""

    def __init__(self) -> None:
        super().__init__()
        self.route = nn.Linear(2, 2)
        self.norm = nn.LayerNorm(2)
        with torch.no_grad():
            self.route.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
            self.route.bias.copy_(torch.tensor([1.0, 2.0]))

    def forward(self, x: Tensor) -> Tensor:
        return self.route(x)


def _computed(model: nn.Module, x: Tensor) -> Computed:
    logits = model(x)

    def again() -> Tensor:
        raise AssertionError("no second pass is needed")

    return Computed(inputs=x, targets=x, logits=logits, loss=logits.sum() * 0, again=again)


X = torch.tensor([[[1.0, 0.5], [0.0, -1.0]]])
"""Contributions of the route: (4, 4) and (1, -2)."""


def test_noise_is_as_large_as_the_contribution_of_each_token() -> None:
    model = _Bypass().train()
    torch.manual_seed(0)
    with treated(model, (BottleneckNoise(strength=0.5, sites=("route",)),)) as (treatment,):
        treatment.on_step(1, 1)
        noise = (model(X.expand(4000, 2, 2)) - model.route.weight.new_tensor([[4.0, 4.0], [1.0, -2.0]])).detach()
    # 0.5 rms: rms of (4, 4) is 4, that of (1, -2) is sqrt(5 / 2).
    expected = torch.tensor([[2.0, 2.0], [0.5 * 2.5**0.5, 0.5 * 2.5**0.5]])
    torch.testing.assert_close(noise.std(0), expected, rtol=0.05, atol=0)
    assert noise.mean(0).abs().max() < 0.15


def test_noise_passes_gradients_as_the_identity_does() -> None:
    model, x = _Bypass().train(), X.clone().requires_grad_()
    with treated(model, (BottleneckNoise(sites=("route",)),)) as (treatment,):
        treatment.on_step(1, 1)
        model(x).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.tensor([3.0, 4.0]).expand(1, 2, 2))


def test_the_rate_is_that_of_a_gaussian_channel_by_hand() -> None:
    sigma = 0.5
    # Channels: (0.25 + 4 - 1 - ln 0.25) / 2 and (0.25 + 0 - 1 - ln 0.25) / 2
    expected = (3.25 + 2 * math.log(2)) / 2 + (-0.75 + 2 * math.log(2)) / 2
    got = rate(torch.tensor([[[2.0, 0.0]]]), torch.full((2,), math.log(sigma)))
    assert abs(got.item() - expected) < 1e-6


def test_the_rate_is_torch_s_divergence() -> None:
    torch.manual_seed(0)
    mean, log_sigma = torch.randn(3, 5, 4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    oracle = kl_divergence(Normal(mean, log_sigma.exp().expand_as(mean)), Normal(torch.zeros_like(mean), 1.0))
    torch.testing.assert_close(rate(mean, log_sigma), oracle.sum(-1).mean(), rtol=1e-12, atol=0)


def test_the_rate_is_weighted_by_the_schedule_and_moves_mean_and_spread() -> None:
    model = _Bypass().train()
    remedy = BottleneckVariational(sites=("route",), strength=0.1, final_strength=0.3, start_sigma=0.5)
    contributions = torch.tensor([[[4.0, 4.0], [1.0, -2.0]]])
    nats = rate(contributions, torch.full((2,), math.log(0.5))).item()
    with treated(model, (remedy,)) as (treatment,):
        for step, weight in ((1, 0.1), (2, 0.2), (3, 0.3)):
            treatment.on_step(step, 3)
            computed = _computed(model, X)
            with torch.no_grad():
                model(X + 1)
            extra = treatment.extra_loss(computed)
            assert extra is not None
            assert abs(extra.item() - weight * nats) < 1e-5, "passes after the first do not count"
            assert abs(treatment.figures()["nats"] - nats) < 1e-5
        extra.backward()
        (log_sigma,) = treatment.parameters()
        assert log_sigma.grad is not None
        assert model.route.bias.grad is not None
        # d/dm of sum m^2 / 2, mean over two tokens; d/d ln s of (s^2 - ln s^2) / 2 is s^2 - 1.
        torch.testing.assert_close(model.route.bias.grad, 0.3 * torch.tensor([5.0, 2.0]) / 2)
        torch.testing.assert_close(log_sigma.grad, torch.full((2,), 0.3 * (0.25 - 1)))
        treatment.on_step(3, 3)
        model(2 * X)
        assert treatment.figures()["nats"] > nats + 1, "a step has rates of its own"


def test_variational_noise_has_the_learned_spread() -> None:
    model = _Bypass().train()
    torch.manual_seed(0)
    with treated(model, (BottleneckVariational(sites=("route",), start_sigma=0.5),)) as (treatment,):
        treatment.on_step(1, 1)
        out = model(X[:, :1].expand(4000, 1, 2)).detach()
    torch.testing.assert_close(out.std(0), torch.full((1, 2), 0.5), rtol=0.05, atol=0)
    torch.testing.assert_close(out.mean(0), torch.full((1, 2), 4.0), rtol=0, atol=0.03)


def test_a_contribution_of_another_width_is_refused() -> None:
    model = _Bypass().train()
    with treated(model, (BottleneckVariational(sites=("route",), width=3),)) as (treatment,):
        treatment.on_step(1, 1)
        with pytest.raises(ValueError, match="must be the channels of route, 2, got 3"):
            model(X)
    with pytest.raises(ValueError, match="must be given for a model without an embedding"):
        BottleneckVariational(sites=("0",)).attach(nn.Sequential(nn.Linear(2, 2)))


def test_the_rank_is_cut_by_hand() -> None:
    model = _Bypass().train()
    with treated(model, (BottleneckRank(rank=1, strength=0.5, sites=("route",), every=3),)) as (treatment,):
        for step in (1, 2, 3):
            treatment.on_step(step, 10)
            assert torch.equal(model.route.weight, torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
            treatment.after_step(_computed(model, X))
        torch.testing.assert_close(model.route.weight.detach(), torch.tensor([[1.5, 0.0], [0.0, 4.0]]))
        assert abs(treatment.figures()["beyond_rank"] - 9 / 25) < 1e-6
        treatment.on_step(10, 10)
        treatment.after_step(_computed(model, X))
        torch.testing.assert_close(model.route.weight.detach(), torch.tensor([[0.75, 0.0], [0.0, 4.0]]))
    torch.testing.assert_close(model.route.bias.detach(), torch.tensor([1.0, 2.0]))


def test_the_rank_of_a_stack_s_attention_is_what_was_asked_for() -> None:
    model = stack("gated_delta | attention(window=16)")
    with treated(model, (BottleneckRank(rank=3),)) as (treatment,):
        treatment.on_step(1, 1)
        treatment.after_step(_computed(model, torch.zeros(1, 2, dtype=torch.int64)))
    assert torch.linalg.matrix_rank(model.blocks[0].mixer.beside.inner.out.weight, rtol=1e-4) == 3


def test_the_bypass_is_scaled_by_schedule_and_stays_so() -> None:
    model = _Bypass()
    remedy = ShortcutWeakening(sites=("route",), strength=0.0, final_strength=0.75, end=0.5)
    with treated(model, (remedy,)) as (treatment,):
        for step, alpha in ((1, 1.0), (2, 0.625), (3, 0.25), (5, 0.25)):
            treatment.on_step(step, 5)
            torch.testing.assert_close(model.route.weight.detach(), alpha * torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
            torch.testing.assert_close(model.route.bias.detach(), alpha * torch.tensor([1.0, 2.0]))
            assert abs(treatment.figures()["alpha"] - alpha) < 1e-12
        trained = {name: value.clone() for name, value in model.state_dict().items()}
        state = {name: value.clone() for name, value in treatment.state_dict().items()}
    assert all(torch.equal(value, trained[name]) for name, value in model.state_dict().items())
    with treated(model, (remedy,)) as (treatment,):
        treatment.load_state_dict(state)
        treatment.on_step(5, 5)
        torch.testing.assert_close(model.route.weight.detach(), 0.25 * torch.tensor([[3.0, 0.0], [0.0, 4.0]]))


def test_adam_moves_the_output_as_if_alpha_stood_behind_the_layer() -> None:
    torch.manual_seed(0)
    x, target, alpha = torch.randn(8, 2), torch.randn(8, 2), 0.25
    weakened, behind = nn.Linear(2, 2).double(), nn.Linear(2, 2).double()
    behind.load_state_dict(weakened.state_dict())
    with treated(weakened, (ShortcutWeakening(sites=("",), strength=1 - alpha, final_strength=None),)) as (treatment,):
        optimisers = (
            torch.optim.Adam(weakened.parameters(), lr=1e-2, eps=1e-30),
            torch.optim.Adam(behind.parameters(), lr=1e-2, eps=1e-30),
        )
        outputs: tuple[Callable[[], Tensor], ...] = (
            lambda: weakened(x.double()),
            lambda: alpha * behind(x.double()),
        )
        for step in range(1, 6):
            treatment.on_step(step, 5)
            for optimiser, output in zip(optimisers, outputs, strict=True):
                optimiser.zero_grad()
                (output() - target).square().sum().backward()
                optimiser.step()
            treatment.after_step(_computed(weakened, x.double()))
    torch.testing.assert_close(outputs[0](), outputs[1](), rtol=0, atol=1e-9)


def test_layers_are_found_or_the_user_is_told_which_there_are() -> None:
    model = stack("gated_delta | attention(window=16), attention")
    assert list(find_projections(model, ())) == ["blocks.0.mixer.beside.inner.out", "blocks.1.mixer.out"]
    with pytest.raises(ValueError, match=rf"{ROUTE} must be a linear layer.*{ROUTE}\.o_proj"):
        ShortcutWeakening(sites=(ROUTE,)).attach(Hybrid())
    with pytest.raises(ValueError, match=rf"{MEMORY} must be a linear layer"):
        BottleneckRank(sites=(MEMORY,)).attach(Hybrid())
    with pytest.raises(ValueError, match="must be a linear layer"):
        ShortcutWeakening(sites=("embedding",)).attach(model)


@pytest.mark.parametrize("remedy", [BottleneckNoise, BottleneckVariational, BottleneckRank, ShortcutWeakening])
def test_without_strength_nothing_is_touched(remedy: type[RemedyConfig]) -> None:
    model = _Bypass().train()
    before, rng = model(X), torch.get_rng_state()
    with treated(model, (remedy(sites=("route",), strength=0.0, final_strength=None, **_small(remedy)),)) as (
        treatment,
    ):
        treatment.on_step(1, 1)
        computed = _computed(model, X)
        assert treatment.extra_loss(computed) is None
        treatment.after_step(computed)
        torch.testing.assert_close(model(X), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), rng)


def _small(remedy: type[RemedyConfig]) -> dict[str, int]:
    return {"rank": 1} if remedy is BottleneckRank else {}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BottleneckRank(rank=0), "BottleneckRank.rank: must be at least 1, got 0"),
        (lambda: BottleneckRank(every=0), "BottleneckRank.every: must be at least 1, got 0"),
        (lambda: BottleneckRank(strength=2.0), "BottleneckRank.strength: must be in"),
        (lambda: BottleneckVariational(start_sigma=0.0), "BottleneckVariational.start_sigma: must be positive"),
        (lambda: BottleneckVariational(width=0), "BottleneckVariational.width: must be at least 1"),
        (lambda: ShortcutWeakening(final_strength=1.0), "ShortcutWeakening.final_strength: must be below 1"),
        (lambda: BottleneckRank(rank=2, sites=("route",)).attach(_Bypass()), "below the rank that route can have, 2"),
    ],
)
def test_bad_settings_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()

"""The metrics of a training: which steps are looked at, what the model keeps of it, and what is said."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.contracts import ReadPoint
from mnemoscope.models import StackConfig, build
from mnemoscope.training.metrics import METRIC_NAMES, Metrics, MetricsConfig, effective_dimension, memory_rank
from mnemoscope.training.metrics.sampling import evenly
from tests.tolerances import FLOAT32, FLOAT32_GRADIENT, assert_close

LAYOUT = "attention(window=4), gated_delta(n_heads=2) | attention"
TOKENS = torch.arange(36).reshape(3, 12) % 7


def stack(layout: str = LAYOUT, tie: bool = True) -> nn.Module:
    return build(StackConfig.of(layout, vocab_size=7, d_model=16, tie_embeddings=tie), seed=0)


def hooks_of(model: nn.Module) -> list[int]:
    return [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]


def step(metrics: Metrics, model: nn.Module, number: int = 1, **options: Any) -> dict[str, float]:
    with metrics.observing(number):
        logits = model(TOKENS)
    model.zero_grad()
    F.cross_entropy(logits.flatten(0, -2), TOKENS.flatten()).backward()
    metrics.before_projection()
    metrics.after_projection()
    return metrics.figures(logits, TOKENS, **options)


def test_one_step_in_every_so_many():
    model = stack()
    metrics = Metrics(model, MetricsConfig(every=3))
    assert [number for number in range(1, 10) if step(metrics, model, number)] == [3, 6, 9]
    assert [number for number in range(1, 10) if metrics.due(number)] == [3, 6, 9]


def test_a_model_has_its_hooks_only_while_it_is_observed():
    model = stack()
    model.blocks[0].mixer.read.register_forward_hook(lambda *_: None)  # pyright: ignore[reportIndexIssue]
    before, metrics = hooks_of(model), Metrics(model, MetricsConfig(every=2))
    with metrics.observing(1):
        assert hooks_of(model) == before
    with metrics.observing(2):
        assert hooks_of(model) > before
        assert model.blocks[0].mixer.addressing.observed  # pyright: ignore[reportIndexIssue]
    assert hooks_of(model) == before
    with pytest.raises(RuntimeError, match="stop"), metrics.observing(2):
        raise RuntimeError("stop")
    assert hooks_of(model) == before
    assert metrics.figures(torch.zeros(1, 1, 7), TOKENS[:1, :1]) == {}


def test_looking_changes_rounding_at_most_and_draws_nothing():
    model = stack()
    metrics, rng = Metrics(model, MetricsConfig(every=1)), torch.get_rng_state()
    step(metrics, model)
    observed = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    quiet = Metrics(model, MetricsConfig(every=2))
    step(quiet, model)
    plain = [p.grad for p in model.parameters() if p.grad is not None]
    for ours, theirs in zip(observed, plain, strict=True):
        assert_close(ours, theirs, FLOAT32_GRADIENT)
    assert torch.equal(torch.get_rng_state(), rng)


def test_only_what_is_named_is_formed():
    model = stack()
    metrics = Metrics(model, MetricsConfig(every=1, names=("softmax_collapse", "attention_saturation")))
    with metrics.observing(1):
        points = {name.rpartition(".")[2]: p.observed for name, p in model.named_modules() if isinstance(p, ReadPoint)}
        logits = model(TOKENS)
    assert points == {name: name == "addressing" for name in points}
    names = {name.partition(".")[0] for name in metrics.figures(logits, TOKENS)}
    assert names == {"softmax_collapse", "attention_saturation"}


def test_names_are_stable():
    model = stack()
    figures = step(Metrics(model, MetricsConfig(every=1, detail=False)), model)
    assert sorted(figures) == sorted(
        [
            "attention_saturation.share",
            "effective_dimension.participation.hidden",
            "effective_dimension.participation.tied",
            "effective_dimension.share.hidden",
            "effective_dimension.share.tied",
            "gradient_weight_cosine.after",
            "gradient_weight_cosine.before",
            "memory_rank.mean",
            "memory_rank.share",
            "raw_gate.branch_share",
            "raw_gate.dead",
            "raw_gate.effective",
            "raw_gate.lifted_fraction",
            "raw_gate.mean",
            "raw_gate.saturated",
            "raw_gate.std",
            "softmax_collapse.share",
            "softmax_collapse.zero_losses",
            "state_magnitude.norm",
            "state_magnitude.relative_update",
        ]
    )
    full = step(Metrics(model, MetricsConfig(every=1)), model)
    assert figures.items() <= full.items()
    assert "gradient_weight_cosine.before.embedding.weight" in full
    assert "gradient_weight_cosine.before.head.weight" not in full
    site = "blocks.1.mixer.memory.inner"
    assert full[f"memory_rank.mean.{site}"] == full["memory_rank.mean"]
    assert all(isinstance(value, float) and value == value for value in full.values())


def test_figures_of_states_are_those_of_the_stream():
    model = stack("gated_delta(n_heads=2, head_width=4)")
    figures = step(Metrics(model, MetricsConfig(every=1)), model)
    s = model.prefill(TOKENS)[1].blocks[0].s.detach()  # pyright: ignore[reportCallIssue]
    assert figures["state_magnitude.norm"] == pytest.approx(
        s.flatten(1).norm(dim=-1).mean().item(), rel=FLOAT32.relative
    )
    assert figures["memory_rank.mean"] == pytest.approx(memory_rank(s), rel=1e-4)


def test_the_sites_count_alike():
    model = stack("gated_delta, gated_delta")
    figures = step(Metrics(model, MetricsConfig(every=1, names=("state_magnitude",))), model)
    sites = [figures[f"state_magnitude.norm.blocks.{block}.mixer"] for block in range(2)]
    assert figures["state_magnitude.norm"] == pytest.approx(sum(sites) / 2)


def test_embedding_head_and_hidden_states_apart():
    model = stack(tie=False)
    with torch.no_grad():
        model.head.weight.copy_(torch.outer(torch.arange(7.0), torch.ones(16)))  # pyright: ignore[reportCallIssue]
    given: list[Tensor] = []
    model.head.register_forward_pre_hook(lambda module, arguments: given.append(arguments[0]))  # pyright: ignore
    metrics = Metrics(model, MetricsConfig(every=1, names=("effective_dimension",)))
    figures = step(metrics, model)
    assert figures["effective_dimension.share.head"] == 1 / 16
    embedding = effective_dimension(model.embedding.weight.detach())  # pyright: ignore[reportArgumentType, reportCallIssue]
    assert figures["effective_dimension.share.embedding"] == embedding.share > 1 / 16
    hidden = effective_dimension(given[0].detach().flatten(0, 1))
    assert figures["effective_dimension.participation.hidden"] == hidden.participation


def test_a_projection_shows():
    """After every tensor's part along its weights is taken out, no cosine is left; before, there was one."""
    model = stack()
    metrics = Metrics(model, MetricsConfig(every=1, names=("gradient_weight_cosine",)))
    with metrics.observing(1):
        logits = model(TOKENS)
    F.cross_entropy(logits.flatten(0, -2), TOKENS.flatten()).backward()
    metrics.before_projection()
    for p in model.parameters():
        if p.grad is not None:
            p.grad -= (p.grad * p.detach()).sum() / p.detach().square().sum().clamp_min(1e-30) * p.detach()
    metrics.after_projection()
    figures = metrics.figures(logits, TOKENS)
    assert abs(figures["gradient_weight_cosine.before"]) > 1e-3
    assert figures["gradient_weight_cosine.after"] == pytest.approx(0.0, abs=1e-6)


def test_cosines_that_were_not_taken_are_missed():
    model = stack()
    metrics = Metrics(model, MetricsConfig(every=1))
    with metrics.observing(1):
        logits = model(TOKENS)
    with pytest.raises(ValueError, match=r"got no call of before_projection\(\); call it after backward\(\)"):
        metrics.figures(logits, TOKENS)
    with metrics.observing(1):
        logits = model(TOKENS)
    with pytest.raises(ValueError, match="needs live gradients, got none"):
        metrics.before_projection()


def test_other_losses_have_no_softmax():
    model = stack()
    metrics = Metrics(model, MetricsConfig(every=1))
    assert not any(name.startswith("softmax") for name in step(metrics, model, softmax=False))
    vectors = build(StackConfig.of_vectors("gru", n_channels=3, n_outputs=2, d_model=8), seed=0)
    watched = metrics_of(vectors)
    with watched.observing(1):
        outputs = vectors(torch.ones(2, 5, 3))
    outputs.sum().backward()
    watched.before_projection()
    figures = watched.figures(outputs, torch.zeros(2, 5, 2))
    assert not any(name.startswith("softmax") for name in figures)
    assert "effective_dimension.share.head" in figures
    assert "effective_dimension.share.embedding" not in figures


def metrics_of(model: nn.Module) -> Metrics:
    return Metrics(model, MetricsConfig(every=1))


class Foreign(nn.Module):
    """Nothing announced, and a head without a module."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(7, 8)
        self.positions = nn.Embedding(12, 8)

    def forward(self, tokens: Tensor) -> Tensor:
        return (self.tokens(tokens) + self.positions(torch.arange(12))) @ self.tokens.weight.T


def test_any_module_gives_what_it_has():
    model = Foreign()
    figures = step(Metrics(model, MetricsConfig(every=1, detail=False)), model)
    assert {name.partition(".")[0] for name in figures} == {
        "softmax_collapse",
        "gradient_weight_cosine",
        "effective_dimension",
    }
    share = effective_dimension(model.tokens.weight.detach()).share
    assert figures["effective_dimension.share.embedding"] == share
    assert "effective_dimension.share.head" not in figures


def test_the_phase_is_fed_the_raw_gate_of_the_last_observed_step():
    model = stack()
    nn.init.constant_(model.blocks[1].mixer.fusion.mix.bias, -9.0)  # pyright: ignore[reportIndexIssue]
    metrics = Metrics(model, MetricsConfig(every=1))
    gate = model.blocks[1].mixer.memory.gate  # pyright: ignore[reportIndexIssue]
    gate.register_forward_hook(lambda module, arguments, output: output.clamp_min(0.3))
    step(metrics, model)
    resumed = Metrics(model, MetricsConfig(every=1))
    for index in range(1, 11):
        if index == 5:
            resumed.load_state_dict(metrics.state_dict())
        figures = (metrics if index < 5 else resumed).evaluated(100 * index, held_out_accuracy=0.9, train_accuracy=1.0)
    assert resumed.grokking.phase == "gate_collapse"
    assert figures["grokking_phase.phase"] == 4.0
    assert figures["grokking_phase.strict"] == 0.0
    assert figures["grokking_phase.accuracy_slope"] == pytest.approx(0.0, abs=1e-12)
    assert figures["grokking_phase.dimension_slope"] == pytest.approx(0.0, abs=1e-12)
    assert Metrics(model, MetricsConfig(names=("raw_gate",))).evaluated(1, 0.5) == {}
    with pytest.raises(ValueError, match=r"must hold last, got \['accuracies'\]"):
        resumed.load_state_dict({"accuracies": torch.zeros(3)})


def test_settings_that_cannot_be():
    with pytest.raises(ValueError, match=r"MetricsConfig\.every: must be at least 1 step, got 0"):
        MetricsConfig(every=0)
    with pytest.raises(ValueError, match=r"got 'raw_gates'; did you mean raw_gate\?"):
        MetricsConfig(names=("raw_gates",))
    with pytest.raises(ValueError, match="must not repeat"):
        MetricsConfig(names=("raw_gate", "raw_gate"))
    assert MetricsConfig().names == METRIC_NAMES


@pytest.mark.parametrize(("n", "most"), [(1, 1), (5, 8), (8, 8), (9, 8), (100, 7)])
def test_samples_are_evenly_spaced(n: int, most: int):
    indices = evenly(n, most).tolist()
    assert len(indices) == min(n, most)
    assert indices[0] == 0
    gaps = {after - before for before, after in pairwise(indices)}
    assert gaps <= {n // min(n, most), n // min(n, most) + 1}
    assert indices[-1] < n

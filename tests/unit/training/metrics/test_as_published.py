"""The guide's metrics as its code has them, beside what they were to say."""

import math

import pytest
import torch
from torch import nn

from mnemoscope.contracts import IGNORE
from mnemoscope.models import StackConfig, build
from mnemoscope.training.metrics import METRIC_NAMES, Metrics, MetricsConfig
from mnemoscope.training.metrics.config import AS_PUBLISHED
from mnemoscope.training.remedies import GateFloor, treated

TOKENS = torch.randint(11, (4, 12), generator=torch.Generator().manual_seed(0))
TARGETS = TOKENS.roll(-1, dims=1)


def observed(names: tuple[str, ...], gate_bias: float = 0.0, floor: float = 0.0) -> dict[str, float]:
    """One step of a model whose memory has a gate, under a clamped floor in retrieval."""
    layout = f"parallel(atlas_compat(chunk_tokens=4), attention(window=4), gate_bias={gate_bias})"
    model = build(StackConfig.of(layout, vocab_size=11, d_model=8), seed=0)
    metrics = Metrics(model, MetricsConfig(every=1, names=names))
    remedy = GateFloor(floors=(0.0,), switches=(), retrieval_floor=floor, floor_mode="clamp")
    with treated(model, (remedy,)) as (treatment,):
        treatment.on_step(1, 1)
        treatment.set_mode("retrieval")
        with metrics.observing(1):
            logits = model(TOKENS)
    nn.functional.cross_entropy(logits.flatten(0, 1), TARGETS.flatten()).backward()
    metrics.before_projection()
    return metrics.figures(logits, TARGETS)


def test_a_shut_gate_under_a_floor_looks_healthy_as_published_and_not_in_the_raw_gate():
    """D4."""
    found = observed(("raw_gate", AS_PUBLISHED), gate_bias=math.log(0.02 / 0.98), floor=0.3)
    assert found["raw_gate.mean"] == pytest.approx(0.02, abs=0.02)
    assert found["raw_gate.mean"] < 0.1
    assert found["raw_gate.lifted_fraction"] == 1
    assert found["as_published.gate_mean"] == pytest.approx(0.3, abs=1e-6)
    assert found["as_published.gate_collapse_risk"] == 0
    assert found["as_published.gate_dead_ratio"] == 0
    assert observed((AS_PUBLISHED,), gate_bias=math.log(0.02 / 0.98))["as_published.gate_collapse_risk"] == 1


def test_the_gate_is_that_of_the_last_call():
    """An episode ends with its retrieval: the floor of storage is not in the mean."""
    layout = "parallel(atlas_compat(chunk_tokens=4), attention(window=4))"
    model = build(StackConfig.of(layout, vocab_size=11, d_model=8), seed=0)
    metrics = Metrics(model, MetricsConfig(every=1, names=(AS_PUBLISHED,)))
    remedy = GateFloor(floors=(0.0,), switches=(), storage_floor=0.99, retrieval_floor=0.3, floor_mode="clamp")
    with treated(model, (remedy,)) as (treatment,):
        treatment.on_step(1, 1)
        with metrics.observing(1):
            for mode in ("storage", "retrieval"):
                treatment.set_mode(mode)
                logits = model(TOKENS)
    assert 0.3 <= metrics.figures(logits, TARGETS)["as_published.gate_mean"] < 0.7


def test_the_cosine_is_read_after_gradients_are_cleared():
    """D5."""
    found = observed(("gradient_weight_cosine", AS_PUBLISHED))
    assert found["as_published.grad_weight_cosine"] == 0
    assert abs(found["gradient_weight_cosine.before"]) > 1e-4


@pytest.mark.parametrize(("dtype", "collapsed"), [(torch.float32, 0.0), (torch.bfloat16, 1.0)])
def test_collapse_depends_on_the_dtype_of_the_logits_and_counts_what_is_not_scored(
    dtype: torch.dtype, collapsed: float
):
    model = build(StackConfig.of("attention", vocab_size=11, d_model=8), seed=0)
    metrics = Metrics(model, MetricsConfig(every=1, names=("softmax_collapse", AS_PUBLISHED)))
    with metrics.observing(1):
        logits = model(TOKENS)
    # The others have 2 % together, which float32 sees and bfloat16 rounds away at this size.
    logits = torch.full_like(logits, 26.0).index_fill(-1, torch.tensor(0), 32.0).to(dtype)
    found = metrics.figures(logits, torch.full_like(TARGETS, IGNORE).index_fill(1, torch.tensor(0), 3))
    assert found["as_published.sc_fraction"] == collapsed
    assert found["softmax_collapse.share"] == 0


def test_memories_are_those_of_all_rows_together_where_states_are_formed():
    found = observed(("state_magnitude", "memory_rank", AS_PUBLISHED))
    assert found["as_published.memory_magnitude"] > 1.5 * found["state_magnitude.norm"] > 0
    assert 1 <= found["as_published.memory_rank"] <= 8
    assert "as_published.memory_magnitude" not in observed((AS_PUBLISHED,))


def test_it_is_not_among_the_metrics_by_default():
    assert AS_PUBLISHED not in METRIC_NAMES
    with pytest.raises(ValueError, match="did you mean"):
        MetricsConfig(names=("as_publised",))

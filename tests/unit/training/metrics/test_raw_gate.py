"""The raw gate: by hand, and under a floor that must not hide a collapse."""

import pytest
import torch
from torch import Tensor, nn

from mnemoscope.models import StackConfig, build
from mnemoscope.training.metrics import Metrics, MetricsConfig, effective_gate, raw_gate
from mnemoscope.training.metrics.raw_gate import ungated

TOKENS = torch.arange(24).reshape(2, 12) % 7
ONLY = MetricsConfig(every=1, names=("raw_gate",))


def figures(model: nn.Module) -> dict[str, float]:
    metrics = Metrics(model, ONLY)
    with metrics.observing(1):
        logits = model(TOKENS)
    return metrics.figures(logits, TOKENS)


def test_by_hand():
    raw = torch.tensor([0.0, 0.004, 0.5, 0.996])
    found = raw_gate(raw, raw.clamp_min(0.3))
    assert found == pytest.approx((0.375, raw.double().std(correction=0).item(), 0.5, 0.25, 0.5))


def test_effective_gate_by_hand():
    memory = torch.tensor([[[3.0, 0.0], [0.0, 1.0]]])
    beside = torch.tensor([[[0.0, 1.0], [3.0, 0.0]]])
    raw = torch.tensor([[[0.9, 0.7], [0.4, 0.4]]])
    assert effective_gate(raw, memory, beside) == pytest.approx((0.75 * 0.8 + 0.25 * 0.4, 0.5))
    assert effective_gate(raw, 0 * memory, 0 * beside) is None


def test_a_branch_is_seen_through_its_gate():
    gate, branch = torch.tensor([[[0.5, 0.0]]]), torch.tensor([[[3.0, 4.0]]])
    assert torch.equal(ungated(gate * branch, gate), torch.tensor([[[3.0, 0.0]]]))


@pytest.mark.parametrize("layout", ["gated_delta | attention", "attention | gated_delta"])
def test_a_floor_does_not_hide_a_collapse(layout: str):
    """The public code read the gate after the floor, which no collapse can bring below it."""
    model = build(StackConfig.of(layout, vocab_size=7, d_model=8), seed=0)
    mixer = model.blocks[0].mixer
    memory_first = layout.startswith("gated")
    site = "memory" if memory_first else "beside"
    raw = 0.02 if memory_first else 0.98
    nn.init.zeros_(mixer.fusion.mix.weight)
    nn.init.constant_(mixer.fusion.mix.bias, torch.logit(torch.tensor(raw)).item())
    gate = mixer.get_submodule(f"{site}.gate")
    floor = gate.register_forward_hook(lambda module, arguments, output: output.clamp_min(0.3))
    found = figures(model)
    assert found["raw_gate.mean"] == found[f"raw_gate.mean.blocks.0.mixer.{site}"] == pytest.approx(0.02, rel=1e-5)
    assert found["raw_gate.lifted_fraction"] == 1.0
    assert found["raw_gate.effective"] == pytest.approx(0.02, rel=1e-5)
    floor.remove()
    earlier = gate.register_forward_pre_hook(lambda module, arguments: (arguments[0].clamp_min(0.3),))
    assert figures(model)["raw_gate.mean"] == pytest.approx(0.02, rel=1e-5)
    earlier.remove()
    assert figures(model)["raw_gate.lifted_fraction"] == 0.0


def test_branches_of_a_stack():
    """The branches as their modules gave them, though only gates and contributions are announced; and floored."""
    model = build(StackConfig.of("gated_delta | attention", vocab_size=7, d_model=8), seed=0)
    mixer = model.blocks[0].mixer
    mixer.memory.gate.register_forward_hook(lambda module, arguments, output: output.clamp_min(0.55))
    branches: list[Tensor] = []
    for side in (mixer.memory.inner, mixer.beside.inner):
        side.register_forward_hook(lambda module, arguments, output: branches.append(output[0].detach()))
    found = figures(model)
    raw = mixer.fusion.mix(torch.cat(branches, dim=-1)).sigmoid()
    expected = effective_gate(raw.detach(), *branches)
    assert expected is not None
    assert found["raw_gate.effective"] == pytest.approx(expected.effective, rel=1e-5)
    assert found["raw_gate.branch_share"] == pytest.approx(expected.branch_share, rel=1e-5)
    assert 0 < found["raw_gate.lifted_fraction"] < 1


def test_a_gated_bank_has_no_second_branch():
    found = figures(build(StackConfig.of("bank(n_slots=4)", vocab_size=7, d_model=8), seed=0))
    assert "raw_gate.mean.blocks.0.mixer" in found
    assert "raw_gate.effective" not in found


def test_the_gate_of_a_route_is_none_of_a_memory():
    assert figures(build(StackConfig.of("attention | attention", vocab_size=7, d_model=8), seed=0)) == {}

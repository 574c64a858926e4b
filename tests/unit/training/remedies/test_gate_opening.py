"""Gate opening: which biases move, when, by how much, and what learns faster."""

import pytest
import torch
from torch import Tensor, nn

from mnemoscope.models import StackConfig, build
from mnemoscope.training.remedies import GateOpening, treated
from tests.unit.training.remedies.models import MEMORY, Hybrid

TOKENS = torch.arange(8).view(1, 8)


def _stack(layout: str) -> nn.Module:
    return build(StackConfig.of(layout, vocab_size=8, d_model=8), 0).train()


def _bias(model: nn.Module, path: str) -> Tensor:
    return model.get_parameter(path).detach().clone()


MIX = "blocks.0.mixer.fusion.mix.bias"


@pytest.mark.parametrize(
    ("layout", "moved"),
    [("gated_delta | attention(window=4)", 2.0), ("attention(window=4) | gated_delta", -2.0)],
)
def test_the_convex_gate_moves_towards_the_memory(layout: str, moved: float) -> None:
    model = _stack(layout)
    with treated(model, (GateOpening(),)) as (treatment,):
        assert not _bias(model, MIX).any()
        treatment.on_step(1, 10)
        assert torch.equal(_bias(model, MIX), torch.full((8,), moved))
        treatment.on_step(2, 10)
        assert treatment.figures() == {"strength": 1.0, "bias": moved}
    assert torch.equal(_bias(model, MIX), torch.full((8,), moved))


def test_a_bank_has_a_gate_of_its_own() -> None:
    model = _stack("bank(n_slots=4, gated=True)")
    before = _bias(model, "blocks.0.mixer.fusion.bias")
    with treated(model, (GateOpening(gate_bias=1.5),)) as (treatment,):
        treatment.on_step(1, 10)
    torch.testing.assert_close(_bias(model, "blocks.0.mixer.fusion.bias"), before + 1.5)


def test_strength_scales_bias_and_rate_and_a_late_begin_opens_late() -> None:
    model = _stack("gated_delta | attention(window=4)")
    remedy = GateOpening(strength=0.5, final_strength=0.0, begin=0.5)
    with treated(model, (remedy,)) as (treatment,):
        assert set(treatment.rate_factors().values()) == {1.0}
        treatment.on_step(1, 11)
        assert not _bias(model, MIX).any()
        assert set(treatment.rate_factors().values()) == {1.0}
        treatment.on_step(6, 11)
        assert torch.equal(_bias(model, MIX), torch.ones(8))
        assert set(treatment.rate_factors().values()) == {2.0}
        treatment.on_step(11, 11)
        assert torch.equal(_bias(model, MIX), torch.ones(8))
        assert set(treatment.rate_factors().values()) == {1.0}


def test_the_memory_and_its_gate_learn_faster_and_nothing_else() -> None:
    model = _stack("gated_delta | attention(window=4), attention")
    with treated(model, (GateOpening(rate=4.0),)) as (treatment,):
        factors = treatment.rate_factors()
    named = {name for name, parameter in model.named_parameters() if parameter in factors}
    block = "blocks.0.mixer"
    wanted = {
        name
        for name, _ in model.named_parameters()
        if name.startswith((f"{block}.memory.inner.", f"{block}.fusion.mix."))
    }
    assert named == wanted
    assert set(factors.values()) == {4.0}


def test_a_training_that_goes_on_does_not_open_again() -> None:
    model = _stack("gated_delta | attention(window=4)")
    with treated(model, (GateOpening(),)) as (treatment,):
        treatment.on_step(1, 10)
        state = treatment.state_dict()
    with treated(model, (GateOpening(),)) as (other,):
        other.load_state_dict(state)
        other.on_step(5, 10)
    assert torch.equal(_bias(model, MIX), torch.full((8,), 2.0))


@pytest.mark.parametrize("start", [-6.0, 0.0])
def test_more_of_the_memory_comes_through_and_more_gradient(start: float) -> None:
    """The gate's start is in the log-odds of how much of the memory's gradient it passes."""
    passed = []
    for gate_bias in (0.0, 2.0):
        model = _stack("gated_delta | attention(window=4)")
        nn.init.constant_(model.get_parameter(MIX), start)
        nn.init.zeros_(model.get_parameter("blocks.0.mixer.fusion.mix.weight"))
        with treated(model, (GateOpening(gate_bias=gate_bias),)) as (treatment,):
            treatment.on_step(1, 1)
            seen: list[Tensor] = []
            model.get_submodule("blocks.0.mixer.memory.gate").register_forward_hook(lambda m, a, y, s=seen: s.append(y))
            model(TOKENS)
        passed.append(seen[0].mean().item())
    want = [torch.tensor(start + bias).sigmoid().item() for bias in (0.0, 2.0)]
    assert passed == pytest.approx(want)


def test_a_memory_that_starts_at_zero_is_refused() -> None:
    model = _stack("gated_delta | attention(window=4)")
    nn.init.zeros_(model.get_parameter("blocks.0.mixer.memory.inner.out.weight"))
    with treated(model, (GateOpening(),)) as (treatment,):
        treatment.on_step(1, 1)
        with pytest.raises(ValueError, match=r"blocks\.0\.mixer\.memory\.contribution contributes exactly zero"):
            model(TOKENS)
    with treated(model, (GateOpening(zero_output="warn"),)) as (treatment,):
        treatment.on_step(1, 1)
        with pytest.warns(UserWarning, match="may never open"):
            model(TOKENS)
        model(TOKENS)


def test_without_strength_nothing_is_refused_or_moved() -> None:
    model = _stack("gated_delta | attention(window=4)")
    nn.init.zeros_(model.get_parameter("blocks.0.mixer.memory.inner.out.weight"))
    with treated(model, (GateOpening(strength=0.0),)) as (treatment,):
        treatment.on_step(1, 1)
        model(TOKENS)
        assert set(treatment.rate_factors().values()) == {1.0}
    assert not _bias(model, MIX).any()


def test_a_foreign_memory_that_starts_at_zero_is_refused() -> None:
    model = Hybrid().train()
    nn.init.zeros_(model.get_parameter(f"{MEMORY}.out_proj.weight"))
    remedy = GateOpening(sites=(MEMORY,), gate_bias=0.0)
    with treated(model, (remedy,)), pytest.raises(ValueError, match="linear_attn contributes exactly zero"):
        model(TOKENS)


def test_a_named_layer_is_the_gate() -> None:
    model = _stack("gated_delta, attention")
    path = "blocks.1.mlp.inner.bias"
    for name in (path, path.removesuffix(".bias")):
        before = _bias(model, path)
        with treated(model, (GateOpening(gates=(name,)),)) as (treatment,):
            treatment.on_step(1, 1)
            assert model.get_parameter(path) in treatment.rate_factors()
        torch.testing.assert_close(_bias(model, path), before + 2)


@pytest.mark.parametrize(
    ("layout", "remedy", "message"),
    [
        ("gated_delta", GateOpening(), r"no gate of blocks\.0\.mixer is known; name its linear layer"),
        ("gated_delta | gru", GateOpening(), r"fusion\.mix stands between two memories"),
        ("gated_delta", GateOpening(gates=("blocks.*.mixer.qkv",)), "linear layer with a bias, got Linear with weight"),
        ("gated_delta", GateOpening(gates=("blocks.0.mixer.nothing",)), "no module matches"),
        ("attention", GateOpening(), "announces no memory"),
    ],
)
def test_what_has_no_gate_is_refused(layout: str, remedy: GateOpening, message: str) -> None:
    model = _stack(layout)
    with pytest.raises(ValueError, match=message):
        remedy.attach(model)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("layout", ["gated_delta", "gated_delta | gru"])
def test_the_rate_alone_needs_no_gate(layout: str) -> None:
    model = _stack(layout)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with treated(model, (GateOpening(gate_bias=0.0),)) as (treatment,):
        treatment.on_step(1, 1)
        assert set(treatment.rate_factors().values()) == {3.0}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": 0.0}, "GateOpening.rate: must be positive and finite, got 0.0"),
        ({"gate_bias": float("nan")}, "GateOpening.gate_bias: must be finite, got nan"),
        ({"rate": 0.5, "strength": 3.0}, "must be at least 0, got -0.5"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GateOpening(**settings)

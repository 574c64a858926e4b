"""Gate floors: their phases and modes, what they do to a gate and its gradient, and what is told of the raw gate."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from mnemoscope.contracts import ReadPoint
from mnemoscope.models import StackConfig, build
from mnemoscope.training.remedies import Computed, GateFloor
from mnemoscope.training.remedies.gate_floor import GateFloorTreatment, affine_logits, clamp_logits


class Gated(nn.Module):
    """A memory whose gates are its parameter."""

    def __init__(self, gates: list[float]) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.tensor(gates))
        self.gate, self.read = ReadPoint(), ReadPoint()

    def forward(self, x: Tensor) -> Tensor:
        return self.gate(self.raw.expand(*x.shape, -1)) * self.read(x).unsqueeze(-1)


ONES = torch.ones(1, 1)
RAW = [0.02, 0.5, 0.9]


def _computed() -> Computed:
    zero = torch.zeros(())
    return Computed(inputs=ONES, targets=ONES, logits=torch.zeros(1, 1, 1), loss=zero, again=lambda: zero)


def _flat(**settings: object) -> GateFloor:
    return replace(GateFloor(floors=(0.3,), switches=()), **settings)


def _attached(model: nn.Module, remedy: GateFloor) -> GateFloorTreatment:
    treatment = remedy.attach(model)
    assert isinstance(treatment, GateFloorTreatment)
    return treatment


@pytest.mark.parametrize(
    ("mode", "gates", "gradients"),
    [
        ("affine", [0.314, 0.65, 0.93], [0.7, 0.7, 0.7]),
        ("clamp", [0.3, 0.5, 0.9], [0.0, 1.0, 1.0]),
        ("penalty", [0.02, 0.5, 0.9], [1.0, 1.0, 1.0]),
    ],
)
def test_a_floored_gate_and_its_gradient(mode: str, gates: list[float], gradients: list[float]) -> None:
    model = Gated(RAW)
    treatment = _attached(model, _flat(floor_mode=mode))
    treatment.on_step(1, 10)
    out = model(ONES)
    torch.testing.assert_close(out.flatten(), torch.tensor(gates))
    out.sum().backward()
    assert model.raw.grad is not None
    torch.testing.assert_close(model.raw.grad, torch.tensor(gradients))


def test_the_penalty_is_what_the_gates_lack_and_pulls_only_those_below() -> None:
    model = Gated(RAW)
    treatment = _attached(model, _flat(floor_mode="penalty", weight=3.0))
    treatment.on_step(1, 10)
    model(ONES)
    loss = treatment.extra_loss(_computed())
    assert loss is not None
    assert loss.item() == pytest.approx(3 * 0.28 / 3)
    loss.backward()
    assert model.raw.grad is not None
    torch.testing.assert_close(model.raw.grad, torch.tensor([-1.0, 0.0, 0.0]))
    assert treatment.extra_loss(_computed()) is None


@pytest.mark.parametrize("mode", ["affine", "clamp", "penalty"])
def test_the_raw_gate_is_told_whatever_the_floor(mode: str) -> None:
    model = Gated([0.02] * 4)
    treatment = _attached(model, _flat(floor_mode=mode))
    assert treatment.figures() == {"strength": 0.0, "floor": 0.0}
    treatment.on_step(1, 10)
    model(ONES)
    told = treatment.figures()
    assert told == pytest.approx({"strength": 1.0, "floor": 0.3, "raw_mean": 0.02, "floored_fraction": 1.0})


def test_figures_are_of_the_gates_of_one_step() -> None:
    model = Gated(RAW)
    treatment = _attached(model, _flat())
    treatment.on_step(1, 10)
    model(ONES)
    model(torch.ones(2, 3))
    told = treatment.figures()
    assert told["raw_mean"] == pytest.approx(sum(RAW) / 3)
    assert told["floored_fraction"] == pytest.approx(1 / 3)
    treatment.on_step(2, 10)
    assert "raw_mean" not in treatment.figures()
    nn.init.constant_(model.raw, 0.6)
    model(ONES)
    assert treatment.figures() == pytest.approx({"strength": 1.0, "floor": 0.3, "raw_mean": 0.6, "floored_fraction": 0})


def test_phases_switch_after_their_steps() -> None:
    remedy = GateFloor(switches=(3, 7), unit="steps")
    assert [remedy.phase_floor(step, 100) for step in (1, 3, 4, 7, 8, 100)] == [0.3, 0.3, 0.1, 0.1, 0.05, 0.05]


def test_phases_switch_at_parts_of_the_training() -> None:
    remedy = GateFloor(switches=(0.25, 0.5))
    assert [remedy.phase_floor(step, 5) for step in range(1, 6)] == [0.3, 0.1, 0.05, 0.05, 0.05]
    assert remedy.phase_floor(1, 1) == 0.3


def test_an_episode_has_floors_of_its_own_and_the_larger_acts() -> None:
    model = Gated(RAW)
    treatment = _attached(model, GateFloor(floors=(0.5, 0.1), switches=(0.5,), floor_mode="clamp"))
    found = {}
    for step in (1, 10):
        treatment.on_step(step, 10)
        for mode in ("normal", "storage", "retrieval"):
            treatment.set_mode(mode)
            found[step, mode] = round(model(ONES).min().item(), 6)
    assert found == {
        (1, "normal"): 0.5,
        (1, "storage"): 0.8,
        (1, "retrieval"): 0.5,
        (10, "normal"): 0.1,
        (10, "storage"): 0.8,
        (10, "retrieval"): 0.3,
    }
    with pytest.raises(ValueError, match="must be one of normal, storage, retrieval, got 'store'"):
        treatment.set_mode("store")  # pyright: ignore[reportArgumentType]


def test_every_floor_of_the_settings_reaches_the_gate() -> None:
    settings = GateFloor(storage_floor=0.7, retrieval_floor=0.6, floors=(0.5, 0.4), switches=(2,), unit="steps")
    treatment = _attached(Gated(RAW), settings)
    found = []
    for step, mode in ((1, "normal"), (3, "normal"), (3, "storage"), (3, "retrieval")):
        treatment.on_step(step, 10)
        treatment.set_mode(mode)
        found.append(treatment.floor)
    assert found == [0.5, 0.4, 0.7, 0.6]


@pytest.mark.parametrize("mode", ["affine", "clamp", "penalty"])
def test_strength_scales_the_floor_and_none_changes_no_bit(mode: str) -> None:
    model = Gated(RAW)
    remedy = _flat(floor_mode=mode, final_strength=0.0)
    treatment = _attached(model, remedy)
    floors = []
    for step in (1, 2, 3):
        treatment.on_step(step, 3)
        floors.append(treatment.floor)
        out = model(ONES)
    assert floors == pytest.approx([0.3, 0.15, 0.0])
    assert torch.equal(out.flatten(), model.raw)
    assert treatment.extra_loss(_computed()) is None


def test_a_convex_fusion_floors_the_memory_and_caps_what_is_beside() -> None:
    config = StackConfig.of("gated_delta(n_heads=2) | attention(window=4)", vocab_size=8, d_model=8)
    model = build(config, 0).train()
    nn.init.constant_(model.get_parameter("blocks.0.mixer.fusion.mix.bias"), -20.0)
    treatment = _attached(model, _flat(floor_mode="clamp"))
    treatment.on_step(1, 1)
    seen: dict[str, Tensor] = {}
    for side in ("memory", "beside"):
        point = model.get_submodule(f"blocks.0.mixer.{side}.gate")
        point.register_forward_hook(lambda module, inputs, gate, side=side: seen.update({side: gate}))
    model(torch.arange(8).view(1, 8))
    torch.testing.assert_close(seen["memory"], torch.full_like(seen["memory"], 0.3))
    torch.testing.assert_close(seen["beside"], torch.full_like(seen["beside"], 0.7))
    assert treatment.figures()["raw_mean"] < 1e-6


@pytest.mark.parametrize("mode", ["affine", "clamp"])
def test_logits_are_floored_as_their_gates_are(mode: str) -> None:
    logits = torch.tensor([-90.0, -3.0, -1.0, 0.5, 4.0, 90.0], requires_grad=True)
    raw = logits.double().sigmoid()
    floored = affine_logits(logits, 0.3) if mode == "affine" else clamp_logits(logits, 0.3)
    wanted = 0.3 + 0.7 * raw if mode == "affine" else raw.clamp(min=0.3)
    torch.testing.assert_close(floored.double().sigmoid(), wanted, rtol=1e-6, atol=1e-7)
    assert bool(torch.isfinite(floored).all())
    assert floored[-1].item() == pytest.approx(90.0, abs=0.5)
    ours = torch.autograd.grad(floored.sigmoid().sum(), logits, retain_graph=True)[0]
    theirs = torch.autograd.grad(wanted.sum(), logits)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_layer_of_logits_is_floored_by_its_path() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Sigmoid()).train()
    x = torch.randn(2, 5, 3)
    with torch.no_grad():
        raw = model(x)
        treatment = _attached(model, _flat(sites=("0",), site_gives="logits"))
        treatment.on_step(1, 1)
        torch.testing.assert_close(model(x), 0.3 + 0.7 * raw)
    assert treatment.figures()["raw_mean"] == pytest.approx(raw.mean().item())


def test_what_is_no_gate_is_refused() -> None:
    treatment = _attached(Gated([0.5, 1.5]), _flat())
    treatment.on_step(1, 1)
    model = Gated([0.5, 1.5])
    _attached(model, _flat()).on_step(1, 1)
    with pytest.raises(ValueError, match=r"gate must give gates in \[0, 1\], got 0.5 to 1.5; .* site_gives='logits'"):
        model(ONES)
    stack = build(StackConfig.of("gated_delta", vocab_size=8, d_model=8), 0)
    with pytest.raises(ValueError, match="no memory with a read point 'gate'"):
        GateFloor().attach(stack)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"floors": (0.3, 1.0), "switches": (0.5,)}, r"GateFloor.floors: must be in \[0, 1\), got \(0.3, 1.0\)"),
        ({"floors": ()}, "GateFloor.floors: must be at least one"),
        ({"storage_floor": -0.1}, r"GateFloor.storage_floor: must be in \[0, 1\), got -0.1"),
        ({"retrieval_floor": 1.0}, r"GateFloor.retrieval_floor: must be in \[0, 1\), got 1.0"),
        ({"switches": (0.5,)}, "one fewer than the 3 floors"),
        ({"switches": (0.5, 0.5)}, "must be ascending"),
        ({"switches": (3000, 7000)}, r"parts of the training in \(0, 1\).*; or set unit='steps'"),
        ({"switches": (0.5, 7), "unit": "steps"}, "must be whole steps.*; or set unit='parts'"),
        ({"weight": 0.0}, "GateFloor.weight: must be positive and finite, got 0.0"),
        ({"strength": 1.5}, r"GateFloor.strength: must be in \[0, 1\], got 1.5"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GateFloor(**settings)  # pyright: ignore[reportArgumentType]

"""The negative controls do what they say, so that a run with one says something."""

import math

import pytest
import torch
from torch import Tensor, nn

from mnemoscope.memories import Bank, BankConfig, EnergyBank, EnergyBankConfig
from mnemoscope.training.remedies import (
    REMEDIES,
    Computed,
    NegativeControlDiversity,
    NegativeControlOrthogonality,
    NegativeControlReinitialiseSlots,
    NegativeControlTopKAddressing,
    RemedyConfig,
    Treatment,
)
from mnemoscope.training.remedies.banks import find_slots, mean_cosine
from mnemoscope.training.remedies.negative_control_diversity import spectral_loss
from mnemoscope.training.remedies.negative_control_orthogonality import orthogonality_loss

NONE = torch.zeros(())
COMPUTED = Computed(inputs=NONE, targets=NONE, logits=NONE, loss=NONE, again=lambda: NONE)
PENALTIES = {
    "diversity": (NegativeControlDiversity, spectral_loss),
    "orthogonality": (NegativeControlOrthogonality, orthogonality_loss),
}


def at_sixty_degrees(lengths: tuple[float, float] = (1, 1)) -> Tensor:
    return torch.tensor([[lengths[0], 0, 0], [0.5 * lengths[1], math.sqrt(0.75) * lengths[1], 0]])


def bank(n_slots: int = 6) -> Bank:
    torch.manual_seed(0)
    return Bank(BankConfig(n_slots=n_slots), 8)


def on(remedy: RemedyConfig, model: nn.Module, step: int = 1, steps: int = 1) -> Treatment:
    treatment = remedy.attach(model)
    treatment.on_step(step, steps)
    return treatment


def test_every_negative_control_says_so():
    controls = {kind: config for kind, config in REMEDIES.items() if "negative_control" in kind}
    assert len(controls) == 4
    for kind, config in controls.items():
        page = __import__(config.__module__, fromlist=["__doc__"]).__doc__
        assert page.startswith("NEGATIVE CONTROL")
        assert "Published effect: harmful" in page
        assert config.__name__.startswith("NegativeControl")
        assert config.__module__.endswith(kind)


@pytest.mark.parametrize("lengths", [(1, 1), (3, 0.2)])
def test_losses_are_as_by_hand_and_blind_to_lengths(lengths: tuple[float, float]):
    slots = at_sixty_degrees(lengths)
    # Squared singular values 1 +- 1/2; cosines of both ordered pairs 1/2.
    assert spectral_loss(slots).item() == pytest.approx(-math.log(0.75) / 2, abs=1e-5)
    assert orthogonality_loss(slots).item() == pytest.approx(0.5)
    assert mean_cosine(slots) == pytest.approx(0.5)


def test_a_collapsed_bank_has_finite_losses_and_gradients():
    slots = torch.ones(4, 3, requires_grad=True)
    for loss, expected in ((spectral_loss, -(math.log(4) + 2 * math.log(1e-6)) / 2), (orthogonality_loss, 12.0)):
        value = loss(slots)
        assert value.item() == pytest.approx(expected, rel=1e-4)
        (grad,) = torch.autograd.grad(value, slots)
        assert grad.isfinite().all()
    assert mean_cosine(slots) == pytest.approx(1)


@pytest.mark.parametrize("name", PENALTIES)
def test_minimising_spreads_the_slots_and_nothing_else(name: str):
    make, loss = PENALTIES[name]
    memory = bank()
    with torch.no_grad():
        memory.slots.copy_(torch.ones(6, 8) + 0.3 * torch.randn(6, 8))
    before = mean_cosine(memory.slots)
    treatment = make(strength=0.5).attach(nn.Sequential(memory))
    optimiser = torch.optim.Adam(memory.parameters(), lr=0.05)
    assert treatment.extra_loss(COMPUTED) is None  # before the first step
    for step in range(1, 101):
        treatment.on_step(step, 100)
        extra = treatment.extra_loss(COMPUTED)
        assert extra is not None
        assert extra.item() == pytest.approx(0.5 * loss(memory.slots).item())
        optimiser.zero_grad()
        extra.backward()
        assert [n for n, p in memory.named_parameters() if p.grad is not None] == ["slots"]
        optimiser.step()
    assert before > 0.7
    assert treatment.figures() == {"strength": 0.5, "slot_cosine": pytest.approx(0, abs=0.05)}


def test_slots_are_found_in_banks_and_by_path():
    model = nn.ModuleDict({"a": bank(), "b": EnergyBank(EnergyBankConfig(n_slots=3), 8), "c": nn.Linear(2, 5)})
    found = find_slots(model, ())
    assert sorted(found) == ["a.slots", "b.slots"]
    assert found["b.slots"] is model["b"].slots
    assert list(find_slots(model, ("c", "a::slots", "a.query::weight"))) == ["c.weight", "a.slots", "a.query.weight"]
    for patterns, message in [
        (("c::bias",), r"c must hold a matrix .* called 'bias', got shape \(5,\); matrices there: c::weight"),
        (("c::slots",), r"called 'slots', got none; matrices there: c::weight"),
        (("d",), "no module matches 'd'; nearest: "),
    ]:
        with pytest.raises(ValueError, match=message):
            find_slots(model, patterns)
    with pytest.raises(ValueError, match="the model has no bank of learned slots; name the modules"):
        find_slots(nn.Linear(2, 2), ())


WEIGHTS = torch.tensor([[0.1, 0.4, 0.2, 0.3], [0.7, 0.1, 0.1, 0.1]])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"k": 1}, [[0, 1, 0, 0], [1, 0, 0, 0]]),
        ({"k": 2, "strength": 0.5}, [[0.05 / 0.85, 0.4 / 0.85, 0.1 / 0.85, 0.3 / 0.85], None]),
        ({"k": 2, "renormalised": False}, [[0, 0.4, 0, 0.3], None]),
    ],
)
def test_all_but_the_strongest_lose_their_weight(settings: dict[str, float], expected: list[list[float] | None]):
    model = nn.Sequential(nn.Identity())
    on(NegativeControlTopKAddressing(sites=("0",), **settings), model)  # pyright: ignore[reportArgumentType]
    for row, wanted in zip(model(WEIGHTS), expected, strict=True):
        if wanted is not None:
            torch.testing.assert_close(row, torch.tensor(wanted, dtype=torch.float32))


def test_a_bank_is_read_from_its_strongest_slots_in_training_alone():
    memory, x = bank(), torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    usual = memory(x)[0]
    treatment = on(NegativeControlTopKAddressing(k=1), nn.Sequential(memory))
    reads: list[Tensor] = []

    def listen(module: nn.Module, arguments: object, output: Tensor) -> None:
        reads.append(output)

    memory.read.register_forward_hook(listen)
    memory(x)
    best = (memory.query(x) @ memory.slots.T).argmax(-1)
    torch.testing.assert_close(reads[0], memory.slots[best])
    memory.eval()
    assert torch.equal(memory(x)[0], usual)
    memory.train()
    treatment.on_step(1, 1)
    treatment.strength = 0.0
    assert torch.equal(memory(x)[0], usual)
    on(NegativeControlTopKAddressing(k=6), nn.Sequential(memory))
    assert torch.equal(memory(x)[0], usual)


def test_slots_are_drawn_anew_once_and_half_way():
    memory = bank(n_slots=400)
    with torch.no_grad():
        memory.slots.mul_(3)
    model, start = nn.Sequential(memory), memory.slots.detach().clone()
    treatment = NegativeControlReinitialiseSlots().attach(model)
    others = {name: value.clone() for name, value in memory.named_parameters() if name != "slots"}
    with torch.no_grad():
        memory.slots.copy_(torch.full((400, 8), 0.01))
    for step in range(1, 6):
        treatment.on_step(step, 11)
    assert (memory.slots == 0.01).all()
    treatment.on_step(6, 11)
    drawn = memory.slots.detach().clone()
    assert drawn.square().mean().sqrt().item() == pytest.approx(start.square().mean().sqrt().item(), rel=0.1)
    assert drawn.mean().abs().item() < 0.2
    assert abs(mean_cosine(drawn)) < 0.01
    assert not torch.equal(drawn, start)
    treatment.on_step(7, 11)
    assert torch.equal(memory.slots, drawn)
    resumed = NegativeControlReinitialiseSlots().attach(model)
    resumed.load_state_dict(treatment.state_dict())
    resumed.on_step(8, 11)
    assert torch.equal(memory.slots, drawn)
    assert all(torch.equal(memory.get_parameter(name), value) for name, value in others.items())


@pytest.mark.parametrize(("strength", "n_drawn"), [(0.0, 0), (0.25, 2), (1.0, 8)])
def test_a_share_of_the_slots_is_drawn(strength: float, n_drawn: int):
    memory = bank(n_slots=8)
    before = memory.slots.detach().clone()
    on(NegativeControlReinitialiseSlots(strength=strength, begin=0.0), nn.Sequential(memory))
    assert (memory.slots != before).any(1).sum() == n_drawn


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NegativeControlTopKAddressing(k=0), r"NegativeControlTopKAddressing.k: must be at least 1, got 0"),
        (lambda: NegativeControlTopKAddressing(strength=2.0), r"strength: must be in \[0, 1\], got 2.0"),
        (lambda: NegativeControlReinitialiseSlots(strength=2.0), r"strength: is a share, in \[0, 1\], got 2.0; use 1"),
        (lambda: NegativeControlReinitialiseSlots(final_strength=0.0), "final_strength: must be None"),
        (lambda: NegativeControlDiversity(strength=-1.0), "strength: must be at least 0"),
        (
            lambda: NegativeControlTopKAddressing().attach(nn.Linear(2, 2)),
            "announces no memory with a read point 'addr",
        ),
    ],
)
def test_what_cannot_be_is_refused(make: object, message: str):
    assert callable(make)
    with pytest.raises(ValueError, match=message):
        make()

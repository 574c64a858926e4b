"""The grokking phase: every phase from curves set by hand, the strict sense, and resuming."""

import pytest
import torch

from mnemoscope.training.metrics import PHASES, GrokkingPhase

RISING = [0.01 * i for i in range(10)]
FLAT = [0.9] * 10
FALLING = [0.9 - 0.01 * i for i in range(10)]


def after(accuracies: list[float], gate: float | None = None, dimensions: list[float] | None = None) -> GrokkingPhase:
    phase = GrokkingPhase()
    for index, accuracy in enumerate(accuracies):
        phase.observe(100 * (index + 1), accuracy, None, gate, dimensions[index] if dimensions else None)
    return phase


@pytest.mark.parametrize(
    ("accuracies", "gate", "dimensions", "expected"),
    [
        (FLAT[:9], 0.5, None, "insufficient_data"),
        (FLAT, 0.5, None, "grokked"),
        (FLAT, None, None, "grokked"),
        (FLAT, 0.02, None, "gate_collapse"),
        (RISING, 0.02, None, "gate_collapse"),
        ([0.6] * 10, 0.5, None, "cleanup"),
        ([0.5 + a for a in RISING], 0.5, None, "cleanup"),
        ([0.8 + a for a in RISING], 0.5, None, "cleanup"),
        (RISING, 0.5, None, "circuit_formation"),
        ([0.1] * 10, 0.5, FALLING, "circuit_formation"),
        ([0.1] * 10, 0.5, FLAT, "memorization"),
        ([0.1] * 10, None, None, "memorization"),
    ],
)
def test_phases(accuracies: list[float], gate: float | None, dimensions: list[float] | None, expected: str):
    assert after(accuracies, gate, dimensions).phase == expected
    assert expected in PHASES


def test_slopes_are_of_the_last_ten():
    phase = after([0.9] * 7 + RISING, dimensions=[0.1] * 7 + FALLING)
    assert phase.accuracy_slope == pytest.approx(0.01)
    assert phase.dimension_slope == pytest.approx(-0.01)
    bent = [0.0] * 9 + [1.0]
    assert after(bent).accuracy_slope == pytest.approx(4.5 / 82.5)


def strict(*evaluations: tuple[int, float, float]) -> bool:
    phase = GrokkingPhase()
    for step, train, held_out in evaluations:
        phase.observe(step, held_out, train)
    return phase.strict


def test_the_strict_sense():
    assert strict((50, 0.5, 0.0), (100, 0.99, 0.0), (350, 1.0, 0.2), (600, 1.0, 0.9))
    assert strict((100, 1.0, 0.0), (600, 1.0, 0.95), (700, 0.5, 0.1))
    assert not strict((100, 1.0, 0.0), (599, 1.0, 0.9))
    assert not strict((100, 1.0, 0.0), (600, 1.0, 0.89))
    assert not strict((100, 1.0, 0.0), (350, 0.9, 0.0), (400, 1.0, 0.0), (900, 1.0, 0.9))
    assert not strict((100, 1.0, 0.95), (600, 1.0, 1.0))


def test_training_accuracy_alone_is_not_grokking():
    """A table that is memorised: training accuracy 1, held-out accuracy at chance."""
    phase = GrokkingPhase()
    for step in range(1, 21):
        phase.observe(500 * step, 0.02, 1.0, 0.4, 0.8)
    assert phase.phase == "memorization"
    assert not phase.strict


def test_a_resumed_run_goes_on():
    curve = [(100 * i, min(0.1 * i, 0.95), 1.0, 0.3, 1 / i) for i in range(1, 16)]
    whole, first, second = GrokkingPhase(), GrokkingPhase(), GrokkingPhase()
    for evaluation in curve:
        whole.observe(*evaluation)
    for evaluation in curve[:6]:
        first.observe(*evaluation)
    second.load_state_dict(first.state_dict())
    for evaluation in curve[6:]:
        second.observe(*evaluation)
    assert (second.phase, second.strict) == (whole.phase, whole.strict)
    assert all(torch.equal(whole.state_dict()[name], values) for name, values in second.state_dict().items())
    with pytest.raises(ValueError, match=r"must hold accuracies, dimensions and marks, got \['slots'\]"):
        second.load_state_dict({"slots": torch.zeros(1)})

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mnemoscope.models import Stack, StackConfig, build
from mnemoscope.tasks import Text, TextConfig
from mnemoscope.training.batches import draw
from mnemoscope.training.lessons import Carried, lengths_to_try
from mnemoscope.training.lessons.carried import RESET, CarriedLesson
from tests.unit.training.lessons.courses import course, stack
from tests.unit.training.small import small_model

TASK = Text(TextConfig(length=11))
HYBRID = "gated_delta(n_heads=2), attention(n_heads=2, window=4, convolution=2)"


def begun(settings: Carried, model: Stack) -> CarriedLesson:
    return settings.begin(course(model, TASK, batch_size=5))


def whole(batch: int) -> Tensor:
    return draw(TASK, 0, "train", batch, 5)[0]


@pytest.mark.parametrize("layout", ["gated_delta(n_heads=2)", HYBRID, "attention(n_heads=2), lstm"])
def test_without_resets_the_pieces_are_the_whole(layout: str):
    model = stack(layout, TASK.vocab_size)
    lesson = begun(Carried(pieces=3), model)
    for batch in (1, 2):
        found = [lesson.forward(3 * (batch - 1) + piece) for piece in (1, 2, 3)]
        assert [part.inputs.shape[1] for part in found] == [4, 4, 3]
        assert torch.equal(torch.cat([part.inputs for part in found], dim=1), whole(batch))
        error = (torch.cat([part.logits for part in found], dim=1) - model(whole(batch))).abs().max()
        assert error.item() < 1e-9


@pytest.mark.parametrize("positions", ["none", "learned"])
@pytest.mark.parametrize("layout", ["gated_delta(n_heads=2)", HYBRID])
def test_every_row_is_carried_or_reset_by_itself(layout: str, positions: Any):
    at_most = 80 if positions == "learned" else None
    config = StackConfig.of(layout, vocab_size=TASK.vocab_size, d_model=8)
    config = StackConfig(
        vocab_size=TASK.vocab_size, d_model=8, mixers=config.mixers, positions=positions, max_tokens=at_most
    )
    model = build(config, 0).double()
    lesson = begun(Carried(pieces=2, reset=0.4, across=True), model)
    states: list[Any] = [None] * 5
    n_resets = 0
    for step in range(1, 8):
        computed = lesson.forward(step)
        piece = torch.tensor_split(whole(1 + (step - 1) // 2), 2, dim=1)[(step - 1) % 2]
        is_reset = np.random.default_rng([0, step, RESET]).random(5) < 0.4
        for row in range(5):
            n_resets += bool(is_reset[row]) and step > 1
            logits, states[row] = model.prefill(piece[row : row + 1], None if is_reset[row] else states[row])
            assert (computed.logits[row] - logits[0]).abs().max().item() < 1e-9
    assert 5 < n_resets < 25
    n_groups = lesson.figures(computed)["lesson.states"]
    assert n_groups == 1 if (layout, positions) == ("gated_delta(n_heads=2)", "none") else n_groups > 1


def test_the_past_gets_no_gradient_and_looking_again_changes_nothing():
    model = stack(HYBRID, TASK.vocab_size)
    lesson = begun(Carried(pieces=2), model)
    lesson.forward(1).loss.backward()
    before = lesson.state()
    computed = lesson.forward(2)
    after = lesson.state()
    assert computed.again().item() == computed.loss.item()
    computed.loss.backward()  # through a past that is freed, this would fail
    assert not torch.equal(before["state.000.000"], after["state.000.000"])
    assert all(torch.equal(lesson.state()[name], tensor) for name, tensor in after.items())
    assert not any(tensor.requires_grad for tensor in after.values())


def test_a_state_survives_a_checkpoint():
    model = stack("attention(n_heads=2), lstm", TASK.vocab_size)
    ours, theirs = (begun(Carried(pieces=3, reset=0.5), model) for _ in range(2))
    for step in (1, 2):
        ours.forward(step)
    assert len(ours.state()) > 10
    theirs.set_state({name: tensor.clone() for name, tensor in ours.state().items()})
    assert torch.equal(ours.forward(3).logits, theirs.forward(3).logits)
    other = begun(Carried(pieces=3), stack("gated_delta(n_heads=2)", TASK.vocab_size))
    with pytest.raises(ValueError, match="resume with the model of the run"):
        other.set_state(ours.state())
    with pytest.raises(ValueError, match="resume the run's own lesson"):
        other.set_state({"weights": torch.zeros(2)})


def test_lengths_by_hand():
    assert lengths_to_try(n_heads=2, key_width=16, value_width=16, d_model=32) == (4, 8, 16, 32, 64)
    assert lengths_to_try(n_heads=1, key_width=3, value_width=5, d_model=2) == (2, 4, 8, 15, 30)  # of 7.5
    assert lengths_to_try(n_heads=1, key_width=1, value_width=1, d_model=8) == (1,)
    with pytest.raises(ValueError, match="key_width must be at least 1, got 0"):
        lengths_to_try(n_heads=1, key_width=0, value_width=1, d_model=8)


def test_what_cannot_be_carried_is_refused():
    with pytest.raises(ValueError, match=r"Carried: needs a model with init_state\(batch\) and prefill"):
        Carried().begin(course(small_model()))
    with pytest.raises(ValueError, match=r"Carried.across: the model's state grows with every token"):
        begun(Carried(pieces=1, across=True, reset=0.5), stack("attention(n_heads=2)", TASK.vocab_size))
    with pytest.raises(ValueError, match=r"Carried.pieces: must be at most 11, the length of the task's sequences"):
        begun(Carried(pieces=12), stack(vocab_size=TASK.vocab_size))
    lesson = Carried(pieces=3).begin(course(stack()))  # of cued recall, two thirds of which are storage
    with pytest.raises(ValueError, match="piece 1 of 3 has no scored target"):
        lesson.forward(1)
    with pytest.raises(ValueError, match=r"Carried.pieces: must be at least 2, or 1 with across=True, got 1"):
        Carried(pieces=1)
    with pytest.raises(ValueError, match=r"Carried.reset: is a probability, in \[0, 1\], got 2"):
        Carried(reset=2)

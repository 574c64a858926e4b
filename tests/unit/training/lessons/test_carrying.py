from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mnemoscope.memories import MEMORIES
from mnemoscope.training.lessons.carrying import States, leaves, rebuilt
from tests.unit.training.lessons.courses import stack

FAST = ("attention", "dnc", "gated_delta", "lstm", "workspace")
LAYOUTS = (*MEMORIES, "gated_delta | attention(window=4)", "context(gated_delta)")


@pytest.mark.parametrize(
    "layout", [pytest.param(layout, marks=() if layout in FAST else pytest.mark.long) for layout in LAYOUTS]
)
@torch.no_grad()
def test_rows_go_on_however_their_states_are_divided(layout: str):
    model = stack(layout).eval()
    states, tokens = States(model, "test"), torch.randint(12, (3, 10), generator=torch.Generator().manual_seed(0))
    whole = model(tokens)[:, 6:]
    _, state = states.read(tokens[:, :6], states.start(3))
    kept = states.unpacked("kept", states.packed("kept", state))
    parts = [states.rows(kept, torch.tensor(rows)) for rows in ([1], [0, 2])]
    assert states.agree(*parts)
    assert not states.agree(parts[0], states.start(1))  # which has seen fewer tokens
    logits, _ = states.read(tokens[[1, 0, 2], 6:], states.joined(*parts))
    assert (logits - whole[[1, 0, 2]]).abs().max().item() < 1e-9


@pytest.mark.parametrize(
    ("layout", "grows"),
    [("gated_delta", False), ("attention(window=4)", False), ("attention", True), ("context(gated_delta)", False)],
)
def test_what_keeps_every_token_grows(layout: str, grows: bool):
    assert States(stack(layout), "test").grows() == grows


def test_a_state_of_anything_else_is_refused():
    class Listed(nn.Module):
        def init_state(self, batch: int) -> Any:
            return [torch.zeros(batch)]

        def prefill(self, tokens: Tensor, state: Any = None) -> Any:
            return tokens, state

    with pytest.raises(ValueError, match="must be made of tuples, tensors and integers, got a list"):
        States(Listed(), "test")


def test_a_state_is_rebuilt_from_its_leaves():
    state = stack("gated_delta, attention(window=4)").init_state(2)
    again = rebuilt(state, list(leaves(state)))
    assert type(again) is type(state)
    assert type(again.blocks[1]) is type(state.blocks[1])
    assert again.n_tokens == 0
    assert all(ours is theirs for ours, theirs in zip(leaves(again), leaves(state), strict=True))

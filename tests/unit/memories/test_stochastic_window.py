"""The window drawn for each training batch."""

import torch

from mnemoscope.memories import AttentionConfig, build_memory
from tests.tolerances import FLOAT64, assert_close
from tests.unit.memories.cases import inputs


def test_each_training_call_uses_one_window_of_the_doublings():
    torch.manual_seed(0)
    memory = build_memory(AttentionConfig(n_heads=2, window=20, smallest_window=3), 16).double()
    x = inputs(40)
    by_window = {window: memory.windowed(x, window) for window in (3, 6, 12)}
    seen = set()
    for _ in range(40):
        y = memory(x)[0]
        equal = [window for window, expected in by_window.items() if torch.allclose(y, expected, 1e-9, 1e-9)]
        assert len(equal) == 1
        seen.update(equal)
    assert seen == {3, 6, 12}


@torch.no_grad()
def test_out_of_training_it_is_the_whole_window():
    memory = build_memory(AttentionConfig(n_heads=2, window=20, smallest_window=3), 16).double().eval()
    x = inputs(40)
    assert_close(memory(x)[0], memory.windowed(x, 20), FLOAT64)


@torch.no_grad()
def test_a_drawn_window_reaches_into_the_state_no_further_than_itself():
    torch.manual_seed(0)
    memory = build_memory(AttentionConfig(n_heads=2, window=16, smallest_window=16), 16).double().train()
    shorter = build_memory(AttentionConfig(n_heads=2, window=16, smallest_window=4), 16).double().train()
    shorter.load_state_dict(memory.state_dict())
    x = inputs(40)
    _, state = memory(x[:, :20])
    outputs = [shorter(x[:, 20:], state)[0] for _ in range(20)]
    allowed = [memory.windowed(x, window)[:, 20:] for window in (4, 8, 16)]
    for y in outputs:
        assert sum(torch.allclose(y, expected, 1e-9, 1e-9) for expected in allowed) == 1

"""Slots that give up what they take: matrix forms against one token at a time."""

import pytest
import torch
from torch import Tensor

from mnemoscope.ops.slot_writes import slot_chunk_ends, slot_states, slot_states_recurrent, slot_states_windowed
from tests.tolerances import FLOAT32, FLOAT32_GRADIENT, FLOAT64, assert_close

B, M, V = 2, 3, 4
LENGTHS = (1, 2, 31, 32, 33, 64, 100)


def parts(n_tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    """Values, write strengths that reach both ends, and the slots before."""
    g = torch.Generator().manual_seed(0)
    v, w, s = (
        torch.randn(*shape, generator=g, dtype=torch.float64) for shape in ((n_tokens, V), (n_tokens, M), (M, V))
    )
    v, w, s = (part.expand(B, *part.shape) * torch.tensor([1.0, -0.7]).view(B, 1, 1) for part in (v, w, s))
    w = (4 * w).sigmoid()
    return v.requires_grad_(), w.requires_grad_(), s.requires_grad_()


def assert_same(fast: Tensor, slow: Tensor, given: tuple[Tensor, ...]) -> None:
    assert_close(fast, slow, FLOAT64)
    weigh = torch.randn(slow.shape, generator=torch.Generator().manual_seed(1), dtype=slow.dtype)
    ours, theirs = (torch.autograd.grad((y * weigh).sum(), given, allow_unused=True) for y in (fast, slow))
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a, b, FLOAT64)


@pytest.mark.parametrize("n_tokens", LENGTHS)
def test_all_at_once_is_one_at_a_time(n_tokens: int):
    given = parts(n_tokens)
    assert_same(slot_states(*given), slot_states_recurrent(*given), given)


@pytest.mark.parametrize(("n_chunks", "c"), [(1, 1), (1, 7), (5, 1), (4, 8), (40, 2)])
def test_chunk_ends_are_states(n_chunks: int, c: int):
    given = parts(n_chunks * c)
    v, w, s = given
    ends = slot_chunk_ends(v.unflatten(1, (n_chunks, c)), w.unflatten(1, (n_chunks, c)), s)
    assert_same(ends, slot_states_recurrent(*given)[:, c - 1 :: c], given)


@pytest.mark.parametrize("window", [1, 5, 32])
def test_a_window_starts_from_the_given_slots(window: int):
    given = parts(50)
    v, w, s = given
    alone = [slice(max(0, t - window + 1), t + 1) for t in range(50)]
    slow = torch.stack([slot_states_recurrent(v[:, seen], w[:, seen], s)[:, -1] for seen in alone], dim=1)
    assert_same(slot_states_windowed(*given, window), slow, given)


def test_float32_agrees():
    given = parts(100)
    single = [part.detach().float().requires_grad_() for part in given]
    exact, rough = slot_states(*given), slot_states(*single)
    assert_close(rough, exact, FLOAT32)
    ours, theirs = (torch.autograd.grad(y.square().mean(), x) for y, x in ((rough, single), (exact, given)))
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a, b, FLOAT32_GRADIENT)


@pytest.mark.parametrize("strength", [0.0, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_and_everything_written_stay_finite(strength: float, dtype: torch.dtype):
    v, _, s = (part.detach().to(dtype).requires_grad_() for part in parts(40))
    w = torch.full((B, 40, M), strength, dtype=dtype, requires_grad=True)
    states = slot_states(v, w, s)
    ends = slot_chunk_ends(v.unflatten(1, (5, 8)), w.unflatten(1, (5, 8)), s)
    assert states.dtype == ends.dtype == torch.promote_types(dtype, torch.float32)
    expected = v if strength else s
    if strength:
        assert (states - expected.unsqueeze(2)).abs().max() < 0.02
    else:
        assert torch.equal(states, expected.to(states.dtype).unsqueeze(1).expand_as(states))
    for y in (states, ends, slot_states_windowed(v, w, s, 3)):
        assert y.isfinite().all()
        gradients = torch.autograd.grad(y.float().square().sum(), [v, w, s], allow_unused=True)
        assert all(gradient.isfinite().all() for gradient in gradients if gradient is not None)

"""Addressing of external memories against loops over sequences, heads and slots, and closed forms."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mnemoscope.ops.addressing import (
    content_weights,
    content_weights_plain,
    sharpened,
    shifted,
    written,
)
from tests.oracle import controllers, dnc, ntm
from tests.tolerances import FLOAT32, FLOAT32_GRADIENT, FLOAT64, assert_close

B, M, WORD, H = 2, 7, 5, 3


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weighted_gradients(outputs: list[Tensor], inputs: list[Tensor]) -> list[Tensor]:
    loss = sum((output * draw(*output.shape, seed=9)).sum() for output in outputs)
    assert isinstance(loss, Tensor)
    return list(torch.autograd.grad(loss, inputs))


def lookup(*, masked: bool, strength: float = 1.0) -> list[Tensor]:
    """Memory, keys, strengths and perhaps a mask."""
    parts = [draw(B, M, WORD), draw(B, H, WORD, seed=1), strength * draw(B, H, seed=2).exp()]
    return [*parts, draw(B, H, WORD, seed=3).sigmoid()] if masked else parts


def content_by_loops(memory: Tensor, keys: Tensor, strengths: Tensor, mask: Tensor | None = None) -> Tensor:
    mask = torch.ones_like(keys) if mask is None else mask
    weights = [
        [dnc.content(list(memory[b]), keys[b, h], strengths[b, h], mask[b, h]) for h in range(keys.shape[1])]
        for b in range(keys.shape[0])
    ]
    return torch.stack([torch.stack([torch.stack(head) for head in sequence]) for sequence in weights])


@pytest.mark.parametrize("form", [content_weights, content_weights_plain])
@pytest.mark.parametrize("masked", [False, True])
def test_content_weights_and_gradients_are_those_of_the_loops(form, masked: bool):
    inputs = [part.requires_grad_() for part in lookup(masked=masked)]
    ours, theirs = form(*inputs), content_by_loops(*inputs)
    assert_close(ours, theirs, FLOAT64)
    for mine, exact in zip(weighted_gradients([ours], inputs), weighted_gradients([theirs], inputs), strict=True):
        assert_close(mine, exact, FLOAT64)


@pytest.mark.parametrize("masked", [False, True])
def test_float32_agrees_with_float64(masked: bool):
    results = {}
    for dtype in (torch.float32, torch.float64):
        inputs = [part.to(dtype).requires_grad_() for part in lookup(masked=masked)]
        weights = content_weights(*inputs)
        results[dtype] = weights, weighted_gradients([weights.double()], inputs)
    (weights, grads), (exact, exact_grads) = results.values()
    assert_close(weights, exact, FLOAT32)
    for mine, exact in zip(grads, exact_grads, strict=True):
        assert_close(mine, exact, FLOAT32_GRADIENT)


@pytest.mark.parametrize("masked", [False, True])
def test_the_gradient_of_content_weights_passes_a_numerical_check(masked: bool):
    inputs = [part.requires_grad_() for part in lookup(masked=masked)]
    assert torch.autograd.gradcheck(content_weights, inputs)


def test_a_full_mask_is_no_mask():
    memory, keys, strengths = lookup(masked=False)
    assert_close(
        content_weights(memory, keys, strengths, torch.ones_like(keys)),
        content_weights(memory, keys, strengths),
        FLOAT64,
    )


def test_a_mask_hides_what_it_covers():
    memory, keys, strengths, _ = lookup(masked=True)
    mask = torch.ones_like(keys)
    mask[..., 2] = 0
    other = memory.clone()
    other[..., 2] += 5
    assert_close(content_weights(other, keys, strengths, mask), content_weights(memory, keys, strengths, mask), FLOAT64)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("strength", [1.0, 1e4])
def test_empty_slots_and_keys_stay_finite(masked: bool, dtype: torch.dtype, strength: float):
    memory, keys, *rest = lookup(masked=masked, strength=strength)
    memory[:, :3], keys[:, 0] = 0, 0
    inputs = [part.to(dtype).requires_grad_() for part in (memory, keys, *rest)]
    weights = content_weights(*inputs)
    assert_close(weights.sum(-1), torch.ones(B, H), FLOAT32)
    assert_close(weights[:, 0], torch.full((B, M), 1 / M), FLOAT32)
    for gradient in weighted_gradients([weights.double()], inputs):
        assert gradient.isfinite().all()


@given(m=st.integers(1, 12), half=st.integers(0, 3), seed=st.integers(0, 1000))
def test_a_shift_is_a_circular_convolution(m: int, half: int, seed: int):
    weights, kernel = draw(B, H, m, seed=seed), draw(B, H, 2 * half + 1, seed=seed + 1)
    expected = torch.zeros_like(weights)
    for i in range(m):
        for offset in range(-half, half + 1):
            expected[..., i] += weights[..., (i - offset) % m] * kernel[..., offset + half]
    assert_close(shifted(weights, kernel), expected, FLOAT64)


def test_a_shift_by_one_moves_to_the_next_slot():
    place, kernel = torch.eye(M, dtype=torch.float64)[None], torch.tensor([0.0, 0.0, 1.0]).double()
    assert_close(shifted(place, kernel.expand(1, M, 3)), place.roll(1, -1), FLOAT64)


def test_sharpening_is_a_power_over_its_sum():
    weights, exponent = draw(B, H, M).softmax(-1).requires_grad_(), (1 + draw(B, H, seed=1).exp()).requires_grad_()
    powers = weights ** exponent.unsqueeze(-1)
    ours, theirs = sharpened(weights, exponent), powers / powers.sum(-1, keepdim=True)
    assert_close(ours, theirs, FLOAT64)
    inputs = [weights, exponent]
    for mine, exact in zip(weighted_gradients([ours], inputs), weighted_gradients([theirs], inputs), strict=True):
        assert_close(mine, exact, FLOAT64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("power", [1.0, 1.5, 21.0, 1e4])
def test_sharpening_at_the_edge_stays_finite(dtype: torch.dtype, power: float):
    """One-hot weights, and even weights over so many slots that a power of them is zero."""
    weights = torch.zeros(1, 2, 300, dtype=dtype)
    weights[0, 0, 4], weights[0, 1] = 1, 1 / 300
    inputs = [weights.requires_grad_(), torch.full((1, 2), power, dtype=dtype, requires_grad=True)]
    sharp = sharpened(*inputs)
    assert_close(sharp, weights.detach(), FLOAT32)
    for gradient in weighted_gradients([sharp.double()], inputs):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_all_heads_erase_and_then_all_heads_add(heads: int):
    inputs = [
        draw(B, M, WORD),
        draw(B, heads, M, seed=1).softmax(-1),
        draw(B, heads, WORD, seed=2).sigmoid(),
        draw(B, heads, WORD, seed=3),
    ]
    memory, places, erases, adds = (part.requires_grad_() for part in inputs)
    ours = written(memory, places, erases, adds)
    theirs = torch.stack(
        [
            torch.stack(ntm.write(list(memory[b]), [list(place) for place in places[b]], erases[b], adds[b]))
            for b in range(B)
        ]
    )
    assert_close(ours, theirs, FLOAT64)
    for mine, exact in zip(weighted_gradients([ours], inputs), weighted_gradients([theirs], inputs), strict=True):
        assert_close(mine, exact, FLOAT64)


def test_a_full_write_replaces_one_slot():
    memory, place = draw(1, M, WORD), torch.eye(M, dtype=torch.float64)[None, 3:4]
    added = draw(1, 1, WORD, seed=1)
    after = written(memory, place, torch.ones(1, 1, WORD, dtype=torch.float64), added)
    assert_close(after[0, 3], added[0, 0], FLOAT64)
    assert_close(after[0, :3], memory[0, :3], FLOAT64)


def test_a_whole_address_is_that_of_the_paper():
    """Equations 5 to 9 in one, for one head of one sequence."""
    memory, key, last, shift = (
        draw(M, WORD),
        draw(WORD, seed=1),
        draw(M, seed=2).softmax(-1),
        draw(3, seed=3).softmax(-1),
    )
    strength, gate, exponent = torch.tensor([2.0, 0.3, 1.7], dtype=torch.float64)
    expected = ntm.address(list(memory), list(last), key, strength, gate, list(shift), exponent)
    content = content_weights(memory[None], key[None, None], strength[None, None])
    mixed = torch.lerp(last[None, None], content, gate)
    ours = sharpened(shifted(mixed, shift[None, None]), exponent[None, None])
    assert_close(ours[0, 0], torch.stack(expected), FLOAT64)
    assert_close(controllers.cosine(key, key), torch.ones(()), FLOAT32)

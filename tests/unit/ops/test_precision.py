"""What is marked exact is computed wide, without autocast, and comes back as the mark says."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from mnemoscope.ops.precision import at_least_float32, exact, exact_read, read_states, widened


class Pair(NamedTuple):
    a: Tensor
    b: Tensor | None
    n: int


@exact
def product(x: Tensor, pair: Pair) -> Tensor:
    return x @ pair.a


@exact_read
def read(x: Tensor, pair: Pair) -> tuple[Tensor, Tensor]:
    return x @ pair.a, pair.a


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened_and_only_the_read_comes_back(dtype: torch.dtype):
    x, a = draw(8, 64).to(dtype), draw(64, 8, seed=1).to(dtype)
    wide = x.float() @ a.float()
    assert torch.equal(product(x, Pair(a, None, 3)), wide)
    found, state = read(x, Pair(a, None, 3))
    assert found.dtype == dtype
    assert torch.equal(found, wide.to(dtype))
    assert state.dtype == torch.float32


def test_a_wide_state_meets_a_narrow_query():
    q, states = draw(2, 3, 4, 5).bfloat16(), draw(2, 4, 5, 6)
    found = read_states("bthk,bhkv->bthv", q, states)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, torch.einsum("bthk,bhkv->bthv", q.float(), states).bfloat16())


def test_autocast_is_off_within_and_on_again_after():
    x, a = draw(8, 64), draw(64, 8, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        found = product(x, Pair(a, None, 3))
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, (x.double() @ a.double()).float(), rtol=1e-5, atol=1e-5)
        assert (x @ a).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_wide_numbers_are_left_alone(dtype: torch.dtype):
    x, a = draw(8, 64).to(dtype), draw(64, 8, seed=1).to(dtype)
    found, state = read(x, Pair(a, None, 3))
    assert found.dtype == dtype
    assert state is a
    assert at_least_float32(dtype) == dtype
    assert at_least_float32(torch.bfloat16) == at_least_float32(torch.float16) == torch.float32


def test_gradients_come_back_in_the_dtype_of_the_leaf():
    x = draw(8, 64).bfloat16().requires_grad_()
    a = draw(64, 8, seed=1).bfloat16().requires_grad_()
    read(x, Pair(a, None, 3))[0].float().sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == torch.bfloat16
    assert torch.equal(x.grad, a.detach().float().sum(1).expand(8, 64).bfloat16())


def test_what_is_nested_is_widened_and_what_is_no_float_is_kept():
    pair = widened(Pair(draw(2).half(), None, 3))
    assert pair.a.dtype == torch.float32
    assert pair[1:] == (None, 3)
    assert widened((torch.ones(1, dtype=torch.int64),))[0].dtype == torch.int64

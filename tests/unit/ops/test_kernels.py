"""Kernels are taken where they can be, and given what they ask for: tried with stand-ins that follow their conventions.

Their computation itself needs a CUDA device; see `tests/gpu`.
"""

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from mnemoscope.models import StackConfig, build
from mnemoscope.ops import diagonal_decay, kernels, rwkv7, ssd
from mnemoscope.ops.gated_delta import Writes, gated_delta_chunked
from tests.oracle import gated_delta as oracle
from tests.tolerances import FLOAT32, assert_close

B, T, H, K = 2, 37, 3, 8


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def chunk_gated_delta_rule(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, **options: Any):
    assert options.pop("scale") == 1.0
    assert options.pop("output_final_state")
    state = options.pop("initial_state")
    assert not options
    assert state.dtype == torch.float32
    q64, k64, v64, b64, a64, state64 = (part.double() for part in (q, k, v, beta, g.exp(), state))
    reads, last = oracle.rule_of_all_heads(q64, k64, v64, b64, a64, state64)
    return reads.to(q.dtype), last.float()


def chunk_simple_gla(q: Tensor, k: Tensor, v: Tensor, g: Tensor, **options: Any):
    assert options.pop("scale") == 1.0
    assert options.pop("output_final_state")
    state = options.pop("initial_state")
    assert not options
    ones = torch.ones(q.shape[:3], dtype=torch.float64)
    q64, k64, v64, a64, state64 = (part.double() for part in (q, k, v, g.exp(), state))
    reads, last = oracle.rule_of_all_heads(q64, k64, v64, ones, a64, state64, erase=False)
    return reads.to(q.dtype), last.float()


def taken(options: dict[str, Any]) -> Tensor:
    assert options.pop("scale") == 1.0
    assert options.pop("output_final_state")
    state = options.pop("initial_state")
    assert not options
    assert state.dtype == torch.float32
    return state.double()


def chunk_gla(q: Tensor, k: Tensor, v: Tensor, g: Tensor, **options: Any):
    assert g.shape == q.shape
    state, reads = taken(options), []
    for t in range(q.shape[1]):
        state = g[:, t, :, :, None].double().exp() * state + k[:, t, :, :, None].double() * v[:, t, :, None].double()
        reads.append((q[:, t, :, :, None].double() * state).sum(2))
    return torch.stack(reads, 1).to(q.dtype), state.float()


def chunk_rwkv6(r: Tensor, k: Tensor, v: Tensor, w: Tensor, u: Tensor, **options: Any):
    """What is read stands in the state before the write, and the present token under the bonus u (h k)."""
    assert u.shape == r.shape[2:]
    assert w.is_contiguous()
    state, reads = taken(options), []
    for t in range(r.shape[1]):
        written = k[:, t, :, :, None].double() * v[:, t, :, None].double()
        reads.append((r[:, t, :, :, None].double() * (state + u[..., None].double() * written)).sum(2))
        state = w[:, t, :, :, None].double().exp() * state + written
    return torch.stack(reads, 1).to(r.dtype), state.float()


def chunk_rwkv7(r: Tensor, w: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, **options: Any):
    """S <- exp(w) S + b (a . S) + k v, read after it."""
    state, reads = taken(options), []
    for t in range(r.shape[1]):
        r_t, w_t, k_t, a_t, b_t = (x[:, t, :, :, None].double() for x in (r, w, k, a, b))
        state = w_t.exp() * state + b_t * (a_t * state).sum(2, keepdim=True) + k_t * v[:, t, :, None].double()
        reads.append((r_t * state).sum(2))
    return torch.stack(reads, 1).to(r.dtype), state.float()


@pytest.fixture
def on_cuda(monkeypatch: pytest.MonkeyPatch):
    """Pretend that tensors are on CUDA and that the package is there."""
    stand_in = ModuleType("fla.ops")
    for function in (chunk_gated_delta_rule, chunk_simple_gla, chunk_gla, chunk_rwkv6, chunk_rwkv7):
        setattr(stand_in, function.__name__, function)
    monkeypatch.setitem(sys.modules, "fla", ModuleType("fla"))
    monkeypatch.setitem(sys.modules, "fla.ops", stand_in)
    monkeypatch.setattr(kernels, "on_cuda", lambda _: True)
    kernels._package.cache_clear()
    yield
    kernels._package.cache_clear()


@pytest.mark.parametrize("erase", [True, False])
def test_the_gated_delta_rule_is_handed_over_as_the_kernel_reads_it(on_cuda: None, erase: bool):
    q, k, v = draw(B, T, H, K), unit(draw(B, T, H, K) + 1), draw(B, T, H, 5)
    writes = Writes(k, v, draw(B, T, H).sigmoid(), -draw(B, T, H).exp(), erase)
    state = draw(B, H, K, 5)
    assert kernels.GATED_DELTA.path(q) == "flash-linear-attention"
    read, last = kernels.GATED_DELTA(q, writes, state)
    expected, expected_last = gated_delta_chunked(q, writes, state)
    assert_close(read, expected, FLOAT32)
    assert_close(last, expected_last, FLOAT32)


def unit(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x, dim=-1)


HANDED_OVER = {
    "a decay a head": (
        kernels.DIAGONAL,
        lambda: diagonal_decay.Writes(draw(B, T, H, K), draw(B, T, H, 5), -draw(B, T, H, 1).exp()),
    ),
    "a decay a channel": (
        kernels.DIAGONAL,
        lambda: diagonal_decay.Writes(draw(B, T, H, K), draw(B, T, H, 5), -draw(B, T, H, K).exp()),
    ),
    "longer chunks": (
        kernels.diagonal_in_chunks(16),
        lambda: diagonal_decay.Writes(draw(B, T, H, K), draw(B, T, H, 5), -draw(B, T, H, 1).exp()),
    ),
    "reads before writes": (
        kernels.DIAGONAL_BEFORE_WRITE,
        lambda: diagonal_decay.Writes(draw(B, T, H, K), draw(B, T, H, 5), -draw(B, T, H, K).exp()),
    ),
    "rwkv-7": (
        kernels.RWKV7,
        lambda: rwkv7.Writes(
            draw(B, T, H, K),
            draw(B, T, H, 5),
            unit(draw(B, T, H, K) + 1),
            draw(B, T, H, K).sigmoid(),
            -0.5 * draw(B, T, H, K).sigmoid(),
        ),
    ),
}


@pytest.mark.parametrize("name", HANDED_OVER)
def test_what_is_handed_over_gives_what_ours_gives(on_cuda: None, name: str):
    kernel, make = HANDED_OVER[name]
    q, writes, state = draw(B, T, H, K), make(), draw(B, H, K, 5)
    read, last = kernel(q, writes, state)
    expected, expected_last = kernel.ours(q, writes, state)
    assert_close(read, expected, FLOAT32)
    assert_close(last, expected_last, FLOAT32)


def test_groups_of_heads_are_handed_over_one_by_one(on_cuda: None):
    q, k, v = draw(B, T, 2, K), draw(B, T, 2, K) + 1, draw(B, T, 6, 5)
    writes, state = ssd.Writes(k, v, draw(B, T, 6).sigmoid(), -draw(B, T, 6).exp()), draw(B, 6, K, 5)
    for ours, theirs in zip(kernels.SSD(q, writes, state), kernels.SSD.ours(q, writes, state), strict=True):
        assert_close(ours, theirs, FLOAT32)


def test_a_cpu_never_imports_the_package(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kernels, "_package", lambda _: pytest.fail("imported"))
    assert kernels.GATED_DELTA.path(draw(1, K)) == "torch"
    assert "not on CUDA" in kernels.GATED_DELTA.obstacle(draw(1, K))


def test_what_the_kernels_cannot_do_is_ours(on_cuda: None, monkeypatch: pytest.MonkeyPatch):
    assert kernels.GATED_DELTA.obstacle(draw(1, 256)) == ""
    assert "257 key channels" in kernels.GATED_DELTA.obstacle(draw(1, 257))
    assert "float64" in kernels.GATED_DELTA.obstacle(draw(1, K).double())
    monkeypatch.setitem(sys.modules, "fla.ops", None)
    kernels._package.cache_clear()
    assert "pip install 'mnemoscope[gpu]'" in kernels.GATED_DELTA.obstacle(draw(1, K))


def test_a_stack_says_what_computes_its_scans(on_cuda: None):
    stack = build(StackConfig.of("attention, gated_delta, based, gla, mamba2, rwkv6, rwkv7", vocab_size=5), seed=0)
    found = stack.kernels()
    # The features of Based are wider than a kernel takes.
    assert found.pop("blocks.2.mixer.scan").startswith("torch (273 key channels a head")
    assert found == {f"blocks.{i}.mixer.scan": "flash-linear-attention" for i in (1, 3, 4, 5, 6)}
    assert "float64 is wanted" in stack.double().kernels()["blocks.1.mixer.scan"]


def test_on_a_cpu_a_stack_says_why_it_is_torch():
    stack = build(StackConfig.of("gated_delta | attention", vocab_size=5), seed=0)
    assert stack.kernels() == {"blocks.0.mixer.memory.inner.scan": "torch (the tensors are on cpu, not on CUDA)"}

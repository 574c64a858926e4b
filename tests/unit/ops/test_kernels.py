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
from mnemoscope.ops import kernels
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
    parts = [part.double() for part in (q, k, v, beta, g.exp(), state)]
    reads, last = oracle.rule_of_all_heads(*parts)
    return reads.to(q.dtype), last.float()


def chunk_simple_gla(q: Tensor, k: Tensor, v: Tensor, g: Tensor, **options: Any):
    assert options.pop("scale") == 1.0
    assert options.pop("output_final_state")
    state = options.pop("initial_state")
    assert not options
    ones = torch.ones(q.shape[:3], dtype=torch.float64)
    parts = [part.double() for part in (q, k, v, ones, g.exp(), state)]
    reads, last = oracle.rule_of_all_heads(*parts, erase=False)
    return reads.to(q.dtype), last.float()


@pytest.fixture
def on_cuda(monkeypatch: pytest.MonkeyPatch):
    """Pretend that tensors are on CUDA and that the package is there."""
    stand_in = ModuleType("fla.ops")
    for function in (chunk_gated_delta_rule, chunk_simple_gla):
        setattr(stand_in, function.__name__, function)
    monkeypatch.setitem(sys.modules, "fla", ModuleType("fla"))
    monkeypatch.setitem(sys.modules, "fla.ops", stand_in)
    monkeypatch.setattr(kernels, "on_cuda", lambda _: True)
    kernels._package.cache_clear()
    yield
    kernels._package.cache_clear()


@pytest.mark.parametrize("erase", [True, False])
def test_the_gated_delta_rule_is_handed_over_as_the_kernel_reads_it(on_cuda: None, erase: bool):
    q, k, v = draw(B, T, H, K), torch.nn.functional.normalize(draw(B, T, H, K + 0), dim=-1), draw(B, T, H, 5)
    writes = Writes(k, v, draw(B, T, H).sigmoid(), -draw(B, T, H).exp(), erase)
    state = draw(B, H, K, 5)
    assert kernels.GATED_DELTA.path(q) == "flash-linear-attention"
    read, last = kernels.GATED_DELTA(q, writes, state)
    expected, expected_last = gated_delta_chunked(q, writes, state)
    assert_close(read, expected, FLOAT32)
    assert_close(last, expected_last, FLOAT32)


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
    stack = build(StackConfig.of("attention, gated_delta", vocab_size=5), seed=0)
    assert stack.kernels() == {"blocks.1.mixer.scan": "flash-linear-attention"}
    assert "float64 is wanted" in stack.double().kernels()["blocks.1.mixer.scan"]


def test_on_a_cpu_a_stack_says_why_it_is_torch():
    stack = build(StackConfig.of("gated_delta | attention", vocab_size=5), seed=0)
    assert stack.kernels() == {"blocks.0.mixer.memory.inner.scan": "torch (the tensors are on cpu, not on CUDA)"}

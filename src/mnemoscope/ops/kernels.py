"""The one place that decides what computes a scan: flash-linear-attention's kernels on CUDA, our own forms elsewhere.

A kernel of flash-linear-attention is used if the tensors are on a CUDA device, in at most 32 bits, at most 256 channels
wide in the keys, and the package can be imported; it is never imported otherwise, since on a machine without CUDA its
import alone changes what other libraries select. Our own forms can be compiled by torch; its kernels break the graph.

The packages' conventions differ, and each adapter says how: what is passed with `scale=1` has been scaled by us, states
are float32 there as in our forms for half precision, decays are natural logarithms in both.
"""

import functools
import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor

from mnemoscope.ops import diagonal_decay, gated_delta, rwkv7, ssd

Path = Literal["flash-linear-attention", "torch"]
MAX_KEY_CHANNELS = 256


@dataclass(frozen=True)
class Kernel:
    """One scan and the two ways to compute it.

    Args:
        name: our name of the scan.
        ours: our form; the first argument is the tensor (b t h k) of queries, whose device and dtype decide.
        package: module of flash-linear-attention that has it.
        theirs: computes the same from that module and our arguments.
    """

    name: str
    ours: Callable[..., tuple[Tensor, Any]]
    package: str
    theirs: Callable[..., tuple[Tensor, Any]]

    def __call__(self, q: Tensor, *arguments: Any) -> tuple[Tensor, Any]:
        """Reads and the last state, by whichever way fits the queries."""
        if self.path(q) == "torch":
            return self.ours(q, *arguments)
        return self.theirs(_package(self.package), q, *arguments)

    def path(self, q: Tensor) -> Path:
        """Which way is taken for queries like these."""
        return "torch" if self.obstacle(q) else "flash-linear-attention"

    def obstacle(self, q: Tensor) -> str:
        """Why our own form is used, in words; empty where it is not."""
        if not on_cuda(q):
            return f"the tensors are on {q.device.type}, not on CUDA"
        if q.dtype == torch.float64:
            return "float64 is wanted, the kernels compute in float32"
        if q.shape[-1] > MAX_KEY_CHANNELS:
            return f"{q.shape[-1]} key channels a head, the kernels take at most {MAX_KEY_CHANNELS}"
        if _package(self.package) is None:
            return "flash-linear-attention is not installed; pip install 'mnemoscope[gpu]'"
        return ""


def on_cuda(tensor: Tensor) -> bool:
    """Whether a tensor is on a CUDA device."""
    return tensor.is_cuda


@functools.cache
def _package(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _options(state: Tensor) -> dict[str, Any]:
    return {"scale": 1.0, "initial_state": state.float(), "output_final_state": True}


def _gated_delta(fla: Any, q: Tensor, writes: gated_delta.Writes, state: Tensor) -> tuple[Tensor, Tensor]:
    """Without the erase term the write strength is a factor of the value."""
    k, v, strength, decay = *(tensor.to(q.dtype) for tensor in writes[:3]), writes.log_retention.float()
    if writes.erase:
        read, last = fla.chunk_gated_delta_rule(q, k, v, g=decay, beta=strength, **_options(state))
    else:
        read, last = fla.chunk_simple_gla(q, k, v * strength.unsqueeze(-1), g=decay, **_options(state))
    return read.to(q.dtype), last


def _diagonal(fla: Any, q: Tensor, writes: diagonal_decay.Writes, state: Tensor) -> tuple[Tensor, Tensor]:
    """Read after the write; the decays of heads and of channels are different kernels."""
    k, v, decay = writes.k.to(q.dtype), writes.v.to(q.dtype), writes.log_retention.float()
    if decay.shape[-1] == 1:
        read, last = fla.chunk_simple_gla(q, k, v, g=decay.squeeze(-1), **_options(state))
    else:
        read, last = fla.chunk_gla(q, k, v, g=decay, **_options(state))
    return read.to(q.dtype), last


def _diagonal_before_write(fla: Any, q: Tensor, writes: diagonal_decay.Writes, state: Tensor) -> tuple[Tensor, Tensor]:
    """RWKV-6 reads before the write and adds the present token by a bonus, which is ours to add."""
    k, v, decay = writes.k.to(q.dtype), writes.v.to(q.dtype), writes.log_retention.float().expand(q.shape)
    no_bonus = q.new_zeros(q.shape[2:])
    read, last = fla.chunk_rwkv6(q, k, v, decay.contiguous(), no_bonus, **_options(state))
    return read.to(q.dtype), last


def _rwkv7(fla: Any, q: Tensor, writes: rwkv7.Writes, state: Tensor) -> tuple[Tensor, Tensor]:
    """What is removed is the outer product of two vectors there: of the removal key and of what it takes out."""
    k, v, removal_key, rate, decay = (tensor.to(q.dtype) for tensor in writes)
    read, last = fla.chunk_rwkv7(q, decay.float(), k, v, removal_key, -rate * removal_key, **_options(state))
    return read.to(q.dtype), last


def _ssd(fla: Any, q: Tensor, writes: ssd.Writes, state: Tensor) -> tuple[Tensor, Tensor]:
    """The heads of a group share keys and queries here; there every head has its own."""
    n_shared = writes.v.shape[2] // q.shape[2]
    q, k = (tensor.to(q.dtype).repeat_interleave(n_shared, dim=2) for tensor in (q, writes.k))
    v = (writes.v * writes.write_strength.unsqueeze(-1)).to(q.dtype)
    read, last = fla.chunk_simple_gla(q, k, v, g=writes.log_retention.float(), **_options(state))
    return read.to(q.dtype), last


def _read_before_write(q: Tensor, writes: diagonal_decay.Writes, state: Tensor) -> tuple[Tensor, Tensor]:
    return diagonal_decay.diagonal_decay_chunked(q, writes, state, before_write=True)


def diagonal_in_chunks(chunk_tokens: int) -> Kernel:
    """The diagonal scan with chunks of another length in our own form, for speed alone."""
    ours = functools.partial(diagonal_decay.diagonal_decay_chunked, chunk_tokens=chunk_tokens)
    return Kernel("diagonal_decay", ours, "fla.ops", _diagonal)


GATED_DELTA = Kernel("gated_delta", gated_delta.gated_delta_chunked, "fla.ops", _gated_delta)
DIAGONAL = Kernel("diagonal_decay", diagonal_decay.diagonal_decay_chunked, "fla.ops", _diagonal)
DIAGONAL_BEFORE_WRITE = Kernel("diagonal_before_write", _read_before_write, "fla.ops", _diagonal_before_write)
RWKV7 = Kernel("rwkv7", rwkv7.rwkv7_chunked, "fla.ops", _rwkv7)
SSD = Kernel("ssd", ssd.ssd_chunked, "fla.ops", _ssd)
KERNELS = (GATED_DELTA, DIAGONAL, DIAGONAL_BEFORE_WRITE, RWKV7, SSD)
"""Every scan that flash-linear-attention has a kernel for."""

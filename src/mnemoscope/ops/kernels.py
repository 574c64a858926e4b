"""The one place that decides what computes a scan: flash-linear-attention's kernels on CUDA, our own forms elsewhere.

A kernel of flash-linear-attention is used if the tensors are on a CUDA device, in at most 32 bits, at most 256 channels
wide in the keys, and the package can be imported; it is never imported otherwise, since on a machine without CUDA its
import alone changes what other libraries select. Our own forms can be compiled by torch; its kernels break the graph.

The packages' conventions differ, and each adapter says how: what is passed with `scale=1` has been scaled by us, states
are float32 there, decays are natural logarithms in both.
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

from mnemoscope.ops.gated_delta import Writes, gated_delta_chunked

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


def _gated_delta(fla: Any, q: Tensor, writes: Writes, state: Tensor) -> tuple[Tensor, Tensor]:
    """Without the erase term the write strength is a factor of the value."""
    options = {"scale": 1.0, "initial_state": state.float(), "output_final_state": True}
    k, v, strength, log_retention = (tensor.to(q.dtype) for tensor in writes[:4])
    if writes.erase:
        read, last = fla.chunk_gated_delta_rule(q, k, v, g=log_retention.float(), beta=strength, **options)
    else:
        read, last = fla.chunk_simple_gla(q, k, v * strength.unsqueeze(-1), g=log_retention.float(), **options)
    return read.to(q.dtype), last.to(q.dtype)


GATED_DELTA = Kernel("gated_delta", gated_delta_chunked, "fla.ops", _gated_delta)

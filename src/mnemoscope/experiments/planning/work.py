"""What a piece of torch code does, operation by operation: FLOPs, bytes, operations, and the memory held at the peak.

Counted by listening to every operation that is dispatched, forward and backward, so that nothing depends on what a
model says of itself. On fake tensors nothing is computed, and a model of any size is counted on any machine.

FLOPs are those of `torch.utils.flop_counter` (matrix products, convolutions, fused attention; a multiply-add counts as
two). Bytes are what every operation reads and writes if nothing stays in a cache and nothing is fused, as eager code
is run; views read and write nothing. Memory is the sum of the live storages; what a kernel takes for itself while it
runs is not seen.
"""

import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

LARGE_BYTES = 2**20
"""An operation that touches more finds little of it in the cache of one core."""

_aten = torch.ops.aten
_UNWRITTEN = {_aten.empty, _aten.empty_like, _aten.empty_strided, _aten.new_empty, _aten.new_empty_strided}
_LOOK_UPS = {_aten.embedding, _aten.index, _aten.index_select, _aten.gather}


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is done.

    Args:
        n_ops: operations, views included.
        flops: of matrix products, convolutions and fused attention.
        attention_flops: those of fused attention, which also takes exponentials, and so are slower.
        small_bytes: read and written by operations that touch at most `LARGE_BYTES`.
        large_bytes: by all others.
    """

    n_ops: int = 0
    flops: int = 0
    attention_flops: int = 0
    small_bytes: int = 0
    large_bytes: int = 0

    @property
    def n_bytes(self) -> int:
        """Read and written."""
        return self.small_bytes + self.large_bytes

    def __add__(self, other: "Work") -> "Work":
        return Work(**{name: value + getattr(other, name) for name, value in vars(self).items()})

    def __sub__(self, other: "Work") -> "Work":
        return Work(**{name: value - getattr(other, name) for name, value in vars(self).items()})


class Counting(TorchDispatchMode):
    """Counts the operations of the block, and the bytes that live storages made in it hold.

    `work` is what was done so far, `held` what lives now, `peak` the most that lived at once, all in bytes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.work = Work()
        self.held = self.peak = 0
        self._seen: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        for tensor in made:
            self._hold(tensor.untyped_storage())
        self.work += _work_of(func, args, kwargs, out, given, made)
        return out

    def forget(self) -> None:
        """The peak is what lives now."""
        self.peak = self.held

    def hold(self, *tensors: Tensor) -> None:
        """Count storages that were there before."""
        for tensor in tensors:
            self._hold(tensor.untyped_storage())

    def _hold(self, storage: torch.UntypedStorage) -> None:
        if storage in self._seen:
            return
        self._seen.add(storage)
        n_bytes = storage.nbytes()
        self.held += n_bytes
        self.peak = max(self.peak, self.held)
        weakref.finalize(storage, self._free, n_bytes).atexit = False

    def _free(self, n_bytes: int) -> None:
        self.held -= n_bytes


def counted_flops(block: Callable[[], object]) -> float:
    """FLOPs of a block that is run."""
    with Counting() as counting:
        block()
    return float(counting.work.flops)


def _work_of(func: Any, args: Any, kwargs: Any, out: Any, given: list[Tensor], made: list[Tensor]) -> Work:
    packet = func.overloadpacket
    n_bytes = 0 if packet in _UNWRITTEN or _is_view(func, given, made) else sum(map(_touched, made))
    if n_bytes:
        n_bytes += n_bytes if packet in _LOOK_UPS else sum(map(_touched, given))
    large = n_bytes > LARGE_BYTES
    flops = _flops(packet, args, kwargs, out)
    return Work(
        n_ops=1,
        flops=flops,
        attention_flops=flops if "scaled_dot_product" in str(packet) else 0,
        small_bytes=0 if large else n_bytes,
        large_bytes=n_bytes if large else 0,
    )


def _flops(packet: Any, args: Any, kwargs: Any, out: Any) -> int:
    if packet in _ATTENTION_OF_CPU:
        return _ATTENTION_OF_CPU[packet](*args)
    if packet not in flop_registry:
        return 0
    return int(flop_registry[packet](*args, **kwargs, out_val=out))


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any) -> int:
    return sdpa_flop_count(query.shape, key.shape, value.shape)


def _attention_backward(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: Any) -> int:
    return sdpa_backward_flop_count(grad.shape, query.shape, key.shape, value.shape)


_ATTENTION_OF_CPU: dict[Any, Callable[..., int]] = {
    _aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}
"""What torch's registry has for CUDA alone."""


def _writes(func: Any) -> bool:
    return bool(func._schema.is_mutable)


def _is_view(func: Any, given: list[Tensor], made: list[Tensor]) -> bool:
    """Whether all that is made lies in what was given, and nothing of it is written."""
    if _writes(func):
        return False
    places = {tensor.untyped_storage()._cdata for tensor in given}
    return bool(made) and all(tensor.untyped_storage()._cdata in places for tensor in made)


def _touched(tensor: Tensor) -> int:
    """Bytes, each of a broadcast tensor once."""
    return min(math.prod(tensor.shape) * tensor.element_size(), tensor.untyped_storage().nbytes())

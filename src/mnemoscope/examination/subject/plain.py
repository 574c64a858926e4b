"""Models as they were written: without compilation and without gradient checkpointing while they are examined.

Compiled code does not run the modules that hooks sit on. Checkpointing runs modules again during the backward pass,
when no intervention is in place any more, and its reentrant kind cuts the gradient of a fitted constant.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils import checkpoint


def is_compiled(module: nn.Module) -> bool:
    """Whether a module wraps another that `torch.compile` was called on."""
    return any(cls.__name__ == "OptimizedModule" for cls in type(module).__mro__) and "_orig_mod" in module._modules


def original(model: nn.Module) -> nn.Module:
    """The module that was compiled, or that data-parallel training wraps; the module itself, if it was not."""
    while is_compiled(model) or isinstance(model, nn.parallel.DistributedDataParallel):
        model = model.get_submodule("_orig_mod" if is_compiled(model) else "module")
    return model


def remarks(model: nn.Module) -> list[str]:
    """What the user should know of a model that is not run as it is given."""
    compiled = [
        path or type(original(module)).__name__
        for path, module in model.named_modules()
        if is_compiled(module) or getattr(module, "_compiled_call_impl", None) is not None
    ]
    if not compiled:
        return []
    return [f"{', '.join(compiled)}: compiled; what is examined is the original, run without compilation"]


@contextmanager
def plainly(model: nn.Module) -> Iterator[None]:
    """Inside, compiled submodules give way to their originals, and nothing is compiled or checkpointed."""
    with ExitStack() as stack:
        for module in list(model.modules()):
            for name, child in list(module._modules.items()):
                if child is not None and is_compiled(child) and not is_compiled(module):
                    stack.callback(module._modules.__setitem__, name, child)
                    module._modules[name] = original(child)
        if "torch._dynamo" in sys.modules:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(_without_checkpoints())
        yield


class _Direct:
    """In place of the reentrant checkpoint."""

    @staticmethod
    def apply(function: Any, preserve_rng_state: bool, *args: Any) -> Any:
        """Call the function."""
        return function(*args)


def _nothing_saved(*args: Any, **kwargs: Any) -> Iterator[None]:
    """In place of what surrounds the function of a checkpoint that is not reentrant."""
    yield


@contextmanager
def _without_checkpoints() -> Iterator[None]:
    """`torch.utils.checkpoint.checkpoint` looks these two up whenever it is called, under whatever name it is known."""
    kinds = {"CheckpointFunction": _Direct, "_checkpoint_without_reentrant_generator": _nothing_saved}
    before = {name: getattr(checkpoint, name) for name in kinds if hasattr(checkpoint, name)}
    try:
        for name in before:
            setattr(checkpoint, name, kinds[name])
        yield
    finally:
        for name, found in before.items():
            setattr(checkpoint, name, found)

"""Options of a module that are other ones during its training calls."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle


def other_in_training(
    module: nn.Module, holder: nn.Module, changed: Mapping[str, object], active: Callable[[], bool]
) -> tuple[RemovableHandle, RemovableHandle]:
    """Attributes of a module (`holder`, the module or a part of it) that are changed while it is called in training.

    Args:
        module: whose calls are meant.
        holder: whose attributes they are; they must exist.
        changed: attributes by name.
        active: asked at every call.
    """
    usual = {name: getattr(holder, name) for name in changed}

    def before(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        if module.training and active():
            _set(holder, changed)

    def after(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        _set(holder, usual)

    return module.register_forward_pre_hook(before), module.register_forward_hook(after, always_call=True)


def _set(holder: nn.Module, attributes: Mapping[str, object]) -> None:
    for name, value in attributes.items():
        setattr(holder, name, value)

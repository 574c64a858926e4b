"""What modules keep from one forward to the next beside their parameters: buffers, and attributes with tensors in them.

A recurrent module may keep its state in `self.state`. Every pass of an examination must begin with the same state, as
it must with the same random numbers, or losses would depend on what was run before.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_OF_TORCH = frozenset(vars(nn.Module()))
_ABSENT = object()

Kept = Mapping[str, Any]


class Held:
    """A photograph of what the modules of a model keep, to which they can be put back.

    Attributes that hold tensors, numbers, flags or nothing, or lists and dictionaries of these, are put back, and the
    values of tensors that were written in place. Other objects stay as they are.
    """

    def __init__(self, model: nn.Module) -> None:
        self._modules = list(model.named_modules())
        self._raw = [dict(vars(module)) for _, module in self._modules]
        self._kept = [_kept(raw) for raw in self._raw]
        self._parameters = [(parameter, _version(parameter)) for parameter in model.parameters()]
        tensors = [*model.buffers(), *(tensor for kept in self._kept for tensor in _tensors(kept))]
        self._values = {
            id(tensor): (tensor, _version(tensor), tensor.detach().clone())
            for tensor in tensors
            if not isinstance(tensor, nn.Parameter)
        }

    def settled(self) -> "Held":
        """The same photograph, but as things are now for modules that have set themselves up since.

        These are the ones with an attribute or flag that was not there before: tables built at the first call.
        """
        now = Held.__new__(Held)
        now._modules, now._parameters = self._modules, self._parameters
        now._raw, now._kept, now._values = list(self._raw), list(self._kept), dict(self._values)
        for i, (_, module) in enumerate(self._modules):
            kept = _kept(vars(module))
            flags = [name for name, value in kept.items() if isinstance(value, bool)]
            if kept.keys() - self._kept[i].keys() or any(kept[name] != self._kept[i].get(name) for name in flags):
                now._raw[i], now._kept[i] = dict(vars(module)), kept
                for tensor in _tensors(kept):
                    if not isinstance(tensor, nn.Parameter):
                        now._values[id(tensor)] = (tensor, _version(tensor), tensor.detach().clone())
        return now

    def changed(self, within: nn.Module | None = None) -> list[str]:
        """The attributes with tensors that are no longer what they were, as dotted paths.

        Args:
            within: look at this module and its submodules only; None for all.
        """
        inside = None if within is None else set(within.modules())
        found: list[str] = []
        for i, (path, module) in enumerate(self._modules):
            if self._is_untouched(i) or (inside is not None and module not in inside):
                continue
            before, now = self._kept[i], _kept(vars(module))
            for name in {**before, **now}:
                one, other = before.get(name, _ABSENT), now.get(name, _ABSENT)
                has_tensors = bool(_tensors(one) or _tensors(other))
                if has_tensors and not (_same(one, other) and all(map(self._is_unwritten, _tensors(one)))):
                    found.append(f"{path}.{name}" if path else name)
        return found

    @torch.no_grad()
    def put_back(self) -> None:
        """Attributes and buffers as they were."""
        for i, (_, module) in enumerate(self._modules):
            if self._is_untouched(i):
                continue
            for name in _kept(vars(module)).keys() - self._kept[i].keys():
                delattr(module, name)
            for name, value in self._kept[i].items():
                if not _same(value, vars(module).get(name, _ABSENT)):
                    object.__setattr__(module, name, _copied(value))
        for identity, (tensor, version, value) in self._values.items():
            if _version(tensor) != version:
                tensor.copy_(value)
                self._values[identity] = (tensor, _version(tensor), value)

    @property
    def parameters_changed(self) -> bool:
        """Whether a parameter was written to since."""
        return any(_version(parameter) != version for parameter, version in self._parameters)

    def _is_untouched(self, i: int) -> bool:
        raw, now = self._raw[i], vars(self._modules[i][1])
        same = len(raw) == len(now) and all(now.get(name, _ABSENT) is value for name, value in raw.items())
        return same and not any(isinstance(value, (Tensor, list, tuple, dict)) for value in self._kept[i].values())

    def _is_unwritten(self, tensor: Tensor) -> bool:
        return id(tensor) not in self._values or self._values[id(tensor)][1] == _version(tensor)


@contextmanager
def held(module: nn.Module) -> Iterator[None]:
    """What a module keeps is afterwards as it was."""
    before = Held(module)
    try:
        yield
    finally:
        before.put_back()


def _version(tensor: Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version


def _kept(attributes: Mapping[str, Any]) -> Kept:
    return {name: _copied(value) for name, value in attributes.items() if name not in _OF_TORCH and _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain(item) for item in value)
    if isinstance(value, dict):
        return all(_is_plain(item) for item in value.values())
    return value is None or isinstance(value, (Tensor, int, float))


def _copied(value: Any) -> Any:
    """Containers anew, tensors themselves."""
    if isinstance(value, dict) and type(value) is dict:
        return {name: _copied(item) for name, item in value.items()}
    return [_copied(item) for item in value] if type(value) is list else value


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, (list, tuple)) and type(one) is type(other):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[name]) for name, value in one.items())
    return one is other or (isinstance(one, (int, float)) and type(one) is type(other) and one == other)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [tensor for item in items for tensor in _tensors(item)]

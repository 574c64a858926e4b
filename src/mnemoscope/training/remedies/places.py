"""Where a remedy acts: modules by path pattern, or the read points that a model announces."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mnemoscope.contracts import ReadPoint, Role, announced_role
from mnemoscope.contracts.outputs import PART, first_tensor, with_first_tensor
from mnemoscope.contracts.paths import matches


@dataclass(frozen=True, kw_only=True)
class Place:
    """One module of a model, and which tensor of its output is meant.

    Args:
        path: of the module.
        module: itself.
        part: of an output of several tensors: a name or a number; None for the first.
    """

    path: str
    module: nn.Module
    part: str | None = None

    def change(self, change: Callable[[Tensor], Tensor]) -> RemovableHandle:
        """Replace the tensor by a function of it in every training call; evaluation sees the module as it is."""

        def hook(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> Any:
            if not module.training:
                return None
            return with_first_tensor(output, change(first_tensor(output, self.part)), self.part)

        return self.module.register_forward_hook(hook)

    def watch(self, see: Callable[[Tensor], None]) -> RemovableHandle:
        """Show the tensor, with its graph, in every training call."""

        def hook(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
            if module.training:
                see(first_tensor(output, self.part))

        return self.module.register_forward_hook(hook)


def find_places(model: nn.Module, patterns: Sequence[str], role: Role, point: str) -> tuple[Place, ...]:
    """The places that a remedy acts on.

    Args:
        model: any module.
        patterns: paths with stars (`model.layers.*.mixer`), `path::part` for one of several tensors; none for every
            memory or route that the model announces; of points within each other (a memory's contribution, and that
            of the branch it is in) the outermost.
        role: what is looked for where there is no pattern.
        point: the read point that is meant of a module that announces it (`read`, `contribution`, `gate`, ...). Of
            any other module it is its output.

    Raises:
        ValueError: no such module, or a module that announces a role but not this point.
    """
    modules = {path: module for path, module in model.named_modules() if not isinstance(module, ReadPoint)}
    if not patterns:
        holders = [path for path, module in modules.items() if _role(module) == role and _holds(module, point)]
        found = [_at(path, modules[path], point) for path in holders if not _within(path, holders)]
        if not found:
            what = f"{role} with a read point {point!r}" if point else role
            raise ValueError(
                f"remedy: the model announces no {what}; name the modules by their paths, "
                f"for instance sites=({next(iter(_inner(modules)), 'blocks.0')!r},)"
            )
        return tuple(found)
    return tuple(place for pattern in patterns for place in _matching(modules, pattern, point))


def find_modules(model: nn.Module, patterns: Sequence[str], role: Role) -> dict[str, nn.Module]:
    """The modules themselves, by path: those that match, or every one that announces the role.

    Raises:
        ValueError: where there is none.
    """
    return {place.path: place.module for place in find_places(model, patterns, role, "")}


def _matching(modules: dict[str, nn.Module], pattern: str, point: str) -> list[Place]:
    path_pattern, _, part = pattern.partition(PART)
    fitting = {path: module for path, module in modules.items() if matches(path, path_pattern)}
    if not fitting:
        nearest = difflib.get_close_matches(path_pattern, list(modules), n=3, cutoff=0.0)
        raise ValueError(f"remedy: no module matches {path_pattern!r}; nearest: {', '.join(nearest) or 'none'}")
    if part:
        return [Place(path=path, module=module, part=part) for path, module in fitting.items()]
    return [_at(path, module, point) for path, module in fitting.items()]


def _at(path: str, module: nn.Module, point: str) -> Place:
    announced = _point(module, point) if point else None
    if announced is not None:
        return Place(path=f"{path}.{point}", module=announced)
    if point and announced_role(module) is not None:
        points = [name for name, child in module.named_children() if isinstance(child, ReadPoint)]
        raise ValueError(
            f"remedy: {path} announces {', '.join(points)}, and this remedy needs {point!r}; name other modules"
        )
    return Place(path=path, module=module)


def _holds(module: nn.Module, point: str) -> bool:
    return _point(module, point) is not None if point else announced_role(module) is not None


def _role(module: nn.Module) -> Role | None:
    """What a module announces, or else what all that it holds announces: a branch has the role of its mixer."""
    own = announced_role(module)
    if own is not None:
        return own
    inner = {announced_role(part) for part in module.modules()} - {None}
    if len(inner) != 1:
        return None
    return "memory" if "memory" in inner else "route"


def _within(path: str, others: Sequence[str]) -> bool:
    return any(path.startswith(f"{other}.") for other in others)


def _point(module: nn.Module, point: str) -> ReadPoint | None:
    child = dict(module.named_children()).get(point)
    return child if isinstance(child, ReadPoint) else None


def _inner(modules: dict[str, nn.Module]) -> list[str]:
    """Paths a user might mean: modules that have parts, below the root."""
    return [path for path, module in modules.items() if path and next(module.children(), None) is not None]

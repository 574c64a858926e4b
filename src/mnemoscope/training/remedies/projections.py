"""The linear layer through which a route reaches the residual stream, for remedies that act on weights.

What acts on weights holds in evaluation and after the remedy is gone: the trained function is the function.
"""

from collections.abc import Iterator

from torch import Tensor, nn

from mnemoscope.training.remedies.places import find_modules

OUTPUT = "out"
"""Name of that layer in the routes of this library."""


def find_projections(model: nn.Module, patterns: tuple[str, ...]) -> dict[str, nn.Module]:
    """Linear layers by path: those named, or the last layer of every route that the model announces.

    A layer is linear if it has a matrix `weight`, perhaps a `bias`, and nothing else.

    Raises:
        ValueError: a module that is neither linear nor has a linear layer called `out`.
    """
    found: dict[str, nn.Module] = {}
    for path, module in find_modules(model, patterns, "route").items():
        inner = dict(module.named_children()).get(OUTPUT)
        if is_linear(module):
            found[path] = module
        elif inner is not None and is_linear(inner):
            found[f"{path}.{OUTPUT}"] = inner
        else:
            inside = [f"{path}.{name}" for name, part in module.named_modules() if is_linear(part)]
            raise ValueError(
                f"remedy: {path} must be a linear layer, or have one called {OUTPUT!r}, got {type(module).__name__}; "
                f"name the layer that gives its output, one of: {', '.join(inside) or 'none'}"
            )
    return found


def is_linear(module: nn.Module) -> bool:
    """Whether a module is a matrix and perhaps a bias."""
    own = dict(module.named_parameters())
    matrix = own.get("weight")
    return matrix is not None and matrix.ndim == 2 and own.keys() <= {"weight", "bias"} and not _is_table(module)


def weights_of(module: nn.Module) -> Iterator[Tensor]:
    """Matrix and bias of a linear layer."""
    return iter(module.parameters(recurse=False))


def _is_table(module: nn.Module) -> bool:
    return isinstance(module, nn.Embedding)

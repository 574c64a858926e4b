"""When the loss is no longer a number: where it began."""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mnemoscope.contracts import ReadPoint


class NonFiniteLossError(ArithmeticError):
    """A training step whose loss or gradient is not finite; the parameters are those before the step.

    Args:
        step: the step that was not taken.
        loss: of its batch, in nats per token.
        origin: what became non-finite first.
        checkpoint: the last one that was written; None without any.
    """

    def __init__(self, step: int, loss: float, origin: str, checkpoint: Path | None) -> None:
        self.step, self.loss, self.origin, self.checkpoint = step, loss, origin, checkpoint
        super().__init__(
            f"step {step}: loss or gradient is not finite (loss {loss}); first: {origin}; "
            f"last checkpoint: {checkpoint or 'none'}; a resumed run would meet the same step again, so start a run "
            "with a smaller learning_rate or grad_clip, or a longer warm-up"
        )


def find_origin(model: nn.Module, inputs: Int[Tensor, "b t"] | Float[Tensor, "b t c"]) -> str:
    """Run a batch again and say what becomes non-finite first.

    The first module to finish with a non-finite output, or else the gradient nearest to the loss: gradients flow
    from the last parameters to the first.

    Args:
        model: with the gradients of the failed step; random generators must be as they were before it.
        inputs: the batch of the failed step.
    """
    with _watched(model) as found, torch.no_grad():
        model(inputs)
    if found:
        return f"the output of {found[0] or 'the whole model'}{_culprit(model.get_submodule(found[0]))}"
    for name, parameter in reversed(list(model.named_parameters())):
        if not _finite(parameter):
            return f"parameter {name} (every module's output is finite)"
        if parameter.grad is not None and not _finite(parameter.grad):
            return f"the gradient of parameter {name} (every module's output is finite)"
    return (
        "the loss itself, or the norm of the whole gradient (every module's output, parameter and gradient is finite)"
    )


def _culprit(module: nn.Module) -> str:
    names = [name for name, parameter in module.named_parameters() if not _finite(parameter)]
    return f", whose parameter {names[0]} is not finite" if names else ""


@contextmanager
def _watched(model: nn.Module) -> Iterator[list[str]]:
    """Collects the paths of modules with a non-finite output, in the order in which they finish."""
    found: list[str] = []

    def watcher(name: str):
        def watch(module: nn.Module, arguments: object, output: object) -> None:
            if not all(_finite(tensor) for tensor in _tensors(output)):
                found.append(name)

        return watch

    # A read point that is observed changes what is computed (fused paths), so its owner is watched instead.
    modules = [(name, module) for name, module in model.named_modules() if not isinstance(module, ReadPoint)]
    handles = [module.register_forward_hook(watcher(name)) for name, module in modules]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def _tensors(output: object) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, list | tuple):
        for value in output:
            yield from _tensors(value)
    elif dataclasses.is_dataclass(output):
        for field in dataclasses.fields(output):
            yield from _tensors(getattr(output, field.name))

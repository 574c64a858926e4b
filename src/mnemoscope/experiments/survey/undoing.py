"""What it costs to undo a structure in a trained network: what its modules look at is changed, and nothing else."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from mnemoscope.experiments.survey.arms import held_out
from mnemoscope.experiments.trained.truth import held_out_losses
from mnemoscope.memories import Attention, Experts
from mnemoscope.training import TrainedRun


def undone(run: TrainedRun, kind: type[Attention | Experts], change: Callable[[Tensor], Tensor], n_test: int) -> float:
    """What the loss rises by when the addressing of all modules of a kind is changed (nats a scored token).

    Args:
        run: a trained network.
        kind: of modules.
        change: their addressing -> what stands in its place, of that shape.
        n_test: sequences.
    """
    batches = held_out(run.task, n_test)
    whole = held_out_losses(run.model.eval(), batches)[0].mean()

    def answer(module: nn.Module, given: object, seen: Tensor) -> Tensor:
        return change(seen)

    places = [module.addressing for module in run.model.modules() if isinstance(module, kind)]
    handles = [place.register_forward_hook(answer) for place in places]
    changed = held_out_losses(run.model, batches)[0].mean()
    for handle in handles:
        handle.remove()
    return float(changed - whole)


def accuracy_within(run: TrainedRun, window: int, n_test: int) -> float:
    """Accuracy when all attention of a trained network sees only so many tokens, the present one included."""

    def narrowed(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**kwargs, "window": window}

    modules = [module for module in run.model.modules() if isinstance(module, Attention)]
    handles = [module.register_forward_pre_hook(narrowed, with_kwargs=True) for module in modules]
    right = held_out_losses(run.model.eval(), held_out(run.task, n_test))[1].mean()
    for handle in handles:
        handle.remove()
    return float(right)

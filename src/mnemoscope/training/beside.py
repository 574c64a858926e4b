"""What takes part in a training beside model and optimiser: its state in checkpoints, its figures in metrics."""

from collections.abc import Sequence

from torch import Tensor

from mnemoscope.training.callbacks import Callback
from mnemoscope.training.checkpoint import Checkpoint
from mnemoscope.training.lessons import Lesson
from mnemoscope.training.metrics import Metrics
from mnemoscope.training.remedies import Treatment


def states_of(
    treatments: Sequence[Treatment], lesson: Lesson, metrics: Metrics, callbacks: Sequence[Callback] = ()
) -> dict[str, Tensor]:
    """States by name, for `save_checkpoint`."""
    kept = {f"lesson/{name}": value for name, value in lesson.state().items()}
    if metrics.config.names:
        kept |= {f"metrics/{name}": value for name, value in metrics.state_dict().items()}
    for owner, treatment in _named(treatments):
        kept |= {f"{owner}/{name}": value for name, value in treatment.state_dict().items()}
    for callback in callbacks:
        kept |= {f"callback.{callback.name}/{name}": value for name, value in callback.state().items()}
    return kept


def restore_beside(
    checkpoint: Checkpoint,
    treatments: Sequence[Treatment],
    lesson: Lesson,
    metrics: Metrics,
    callbacks: Sequence[Callback] = (),
) -> None:
    """Put treatments, lesson, metrics and callbacks where they were when the checkpoint was written.

    A callback that the run did not have begins anew.

    Raises:
        ValueError: the checkpoint is of other remedies or of another lesson.
    """
    kept = checkpoint.beside
    lesson.set_state(_of("lesson", kept))
    if metrics.config.names:
        metrics.load_state_dict(_of("metrics", kept))
    for callback in callbacks:
        callback.set_state(_of(f"callback.{callback.name}", kept))
    for owner, treatment in _named(treatments):
        try:
            treatment.load_state_dict(_of(owner, kept))
        except RuntimeError as error:
            problem = " ".join(str(error).split()).rstrip(".")
            raise ValueError(
                f"{checkpoint.path}: does not fit the remedy {owner}: {problem}; use the remedies of the run"
            ) from None


def figures_of(treatments: Sequence[Treatment]) -> dict[str, float]:
    """What is logged of remedies, as `remedy.<kind>.<figure>`; of two of a kind, numbered."""
    figures: dict[str, float] = {}
    for owner, treatment in _named(treatments):
        figures |= {f"{owner}.{name}": value for name, value in treatment.figures().items()}
    return figures


def _named(treatments: Sequence[Treatment]) -> list[tuple[str, Treatment]]:
    kinds = [treatment.remedy.kind for treatment in treatments]
    numbers = [kinds[:index].count(kind) for index, kind in enumerate(kinds)]
    return [
        (f"remedy.{kind}" if kinds.count(kind) == 1 else f"remedy.{kind}.{number}", treatment)
        for kind, number, treatment in zip(kinds, numbers, treatments, strict=True)
    ]


def _of(owner: str, kept: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{owner}/"): value for name, value in kept.items() if name.startswith(f"{owner}/")}

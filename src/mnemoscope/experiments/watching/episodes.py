"""A live table of an episodic training: what the Atlas guide watches, with the controls that tell what it means.

One line for each evaluation, with the newest metrics beside it (of an earlier step, where none were due):

    step  loss kept/asked  acc. train/held  reset train/held  wrong        utility   gate  floored   dim   rank  update
     100      4.10 / 5.02    0.121 / 0.118     0.117 / 0.118  0.120  -0.000 ±0.009   0.13     0.96  0.41    3.2  0.0123

gate is before any floor and floored the share of gates that a floor lifts; dim is the effective dimension of the
embedding over its width, rank that of the memory's state, update what a token changes of it; utility is held-out
accuracy with the memory less after a reset, with two standard errors. What was not measured is "-".
"""

from collections.abc import Mapping
from typing import final

from torch import Tensor

from mnemoscope.training.callbacks import Moment

HEAD_EVERY = 20
"""Lines after which the heads are shown again."""

SHOWN = {
    "gate": ("raw_gate.mean", "remedy.gate_floor.raw_mean"),
    "floored": ("raw_gate.floored_fraction", "remedy.gate_floor.floored_fraction"),
    "dim": ("effective_dimension.share.embedding", "effective_dimension.share.tied"),
    "rank": ("memory_rank.mean",),
    "update": ("state_magnitude.relative_update",),
}
"""Figures of the state of things, and the names under which a training logs them."""

WIDTHS = {
    "step": 6,
    "loss kept/asked": 15,
    "acc. train/held": 15,
    "reset train/held": 16,
    "wrong": 5,
    "utility": 13,
    "gate": 5,
    "floored": 7,
    "dim": 4,
    "rank": 5,
    "update": 6,
}


@final
class EpisodeTable:
    """Shows a line of the table at every evaluation of an episodic training; a callback of `mnemoscope.training`."""

    name = "episode-table"

    def __init__(self) -> None:
        self._newest = dict[str, float]()
        self._lines = 0

    def after_step(self, moment: Moment) -> dict[str, float]:
        """Note the figures of the step, and show a line where it was evaluated."""
        self._newest |= moment.row
        if "validation_utility" in moment.row:
            if self._lines % HEAD_EVERY == 0:
                moment.say(joined({name: name for name in WIDTHS}))
            self._lines += 1
            moment.say(joined(cells(moment.step, self._newest)))
        return {}

    def state(self) -> dict[str, Tensor]:
        """Nothing: a resumed training begins a table of its own."""
        return {}

    def set_state(self, state: Mapping[str, Tensor]) -> None:
        """See `state`."""


def cells(step: int, figures: Mapping[str, float]) -> dict[str, str]:
    """A line of the table, by the heads of its columns.

    Args:
        step: finished steps.
        figures: the newest ones, as a training logs them.
    """
    pair = {
        "loss kept/asked": ("storage_loss", "retrieval_loss", ".2f"),
        "acc. train/held": ("train_accuracy_memory", "validation_accuracy_memory", ".3f"),
        "reset train/held": ("train_accuracy_reset", "validation_accuracy_reset", ".3f"),
    }
    utility, error = (figures.get(f"validation_utility{end}") for end in ("", "_se"))
    line = {"step": str(step)}
    line |= {
        head: f"{_number(figures.get(one), form)} / {_number(figures.get(other), form)}"
        for head, (one, other, form) in pair.items()
    }
    line["wrong"] = _number(figures.get("validation_accuracy_wrong"), ".3f")
    line["utility"] = "-" if utility is None or error is None else f"{utility:+.3f} ±{2 * error:.3f}"
    for head, names in SHOWN.items():
        value = next((figures[name] for name in names if name in figures), None)
        line[head] = _number(value, {"rank": ".1f", "update": ".4f"}.get(head, ".2f"))
    return line


def joined(line: Mapping[str, str]) -> str:
    """A line of the table as text."""
    return "  ".join(line[head].rjust(width) for head, width in WIDTHS.items())


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)

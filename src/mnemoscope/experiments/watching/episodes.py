"""A live table of an episodic training: what the Atlas guide watches, with the controls that tell what it means.

One line for each evaluation, with the newest metrics beside it (of an earlier step, where none were due):

    step kept/asked acc tr/held rst tr/held wrong       utility gate floor  dim  rank  norm update cosine   SC
     100  4.10/5.02 0.121/0.118 0.117/0.118 0.120 -0.000 ±0.009 0.13  0.96 0.41   3.2   8.1 0.0123 -0.031 0.00
    phase: memorization -> circuit_formation

kept and asked are the losses of storage and retrieval, acc and rst accuracy with the memory and after a reset, of words
that were trained on and of held-out ones; wrong is held-out accuracy with the memory of another row; utility is
held-out accuracy with the memory less after a reset, with two standard errors. gate is before any floor and floor the
share of gates below it; dim is the effective dimension of the embedding over its width; rank and norm are
those of the memory's state, update what a token changes of it; cosine is that of gradient and weights before any
projection, SC the share of softmaxes that have collapsed in float32. The phase of grokking is said when it changes.
What was not measured is "-".
"""

from collections.abc import Mapping
from typing import final

from torch import Tensor

from mnemoscope.training.callbacks import Moment
from mnemoscope.training.metrics.grokking_phase import PHASES

HEAD_EVERY = 20
"""Lines after which the heads are shown again."""

SHOWN = {
    "gate": ("raw_gate.mean", "remedy.gate_floor.raw_mean"),
    "floor": ("remedy.gate_floor.floored_fraction",),
    "dim": ("effective_dimension.share.embedding", "effective_dimension.share.tied"),
    "rank": ("memory_rank.mean",),
    "norm": ("state_magnitude.norm",),
    "update": ("state_magnitude.relative_update",),
    "cosine": ("gradient_weight_cosine.before",),
    "SC": ("softmax_collapse.share",),
}
"""Figures of the state of things, and the names under which a training logs them."""

FORMS = {"rank": ".1f", "norm": ".1f", "update": ".4f", "cosine": "+.3f"}
"""Of these figures; two places for the others."""

PHASE = "grokking_phase.phase"

WIDTHS = {
    "step": 6,
    "kept/asked": 10,
    "acc tr/held": 11,
    "rst tr/held": 11,
    "wrong": 5,
    "utility": 13,
    "gate": 4,
    "floor": 5,
    "dim": 4,
    "rank": 5,
    "norm": 5,
    "update": 6,
    "cosine": 6,
    "SC": 4,
}


@final
class EpisodeTable:
    """Shows a line of the table at every evaluation of an episodic training; a callback of `mnemoscope.training`."""

    name = "episode-table"

    def __init__(self) -> None:
        self._newest = dict[str, float]()
        self._lines = 0
        self._phase: str | None = None

    def after_step(self, moment: Moment) -> dict[str, float]:
        """Note the figures of the step, and show a line where it was evaluated."""
        self._newest |= moment.row
        if "validation_utility" in moment.row:
            if self._lines % HEAD_EVERY == 0:
                moment.say(joined({name: name for name in WIDTHS}))
            self._lines += 1
            moment.say(joined(cells(moment.step, self._newest)))
            self._say_phase(moment)
        return {}

    def _say_phase(self, moment: Moment) -> None:
        """The phase of grokking, where it is another than at the evaluation before."""
        if PHASE not in self._newest:
            return
        before, self._phase = self._phase, PHASES[int(self._newest[PHASE])]
        if self._phase != before:
            moment.say(f"phase: {f'{before} -> ' if before else ''}{self._phase}")

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
        "kept/asked": ("storage_loss", "retrieval_loss", ".2f"),
        "acc tr/held": ("train_accuracy_memory", "validation_accuracy_memory", ".3f"),
        "rst tr/held": ("train_accuracy_reset", "validation_accuracy_reset", ".3f"),
    }
    utility, error = (figures.get(f"validation_utility{end}") for end in ("", "_se"))
    line = {"step": str(step)}
    line |= {
        head: f"{_number(figures.get(one), form)}/{_number(figures.get(other), form)}"
        for head, (one, other, form) in pair.items()
    }
    line["wrong"] = _number(figures.get("validation_accuracy_wrong"), ".3f")
    line["utility"] = "-" if utility is None or error is None else f"{utility:+.3f} ±{2 * error:.3f}"
    for head, names in SHOWN.items():
        value = next((figures[name] for name in names if name in figures), None)
        line[head] = _number(value, FORMS.get(head, ".2f"))
    return line


def joined(line: Mapping[str, str]) -> str:
    """A line of the table as text."""
    return " ".join(line[head].rjust(width) for head, width in WIDTHS.items())


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)

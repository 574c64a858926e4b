"""What looking for a condition gives: it holds, it does not, or it cannot be told, and then what would tell."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Need: TypeAlias = Literal[
    "accuracy",
    "loss",
    "dimensions",
    "gate",
    "utility",
    "specificity",
    "use",
    "rank",
    "update",
    "cosine",
    "collapse",
    "task",
    "wish",
    "settings",
]
"""A kind of evidence that may be missing."""

NEEDS: dict[Need, str] = {
    "accuracy": "held-out accuracy at six steps or more: a task with an accuracy, eval_every at most a sixth of steps",
    "loss": "the loss at six steps or more: log_every at most a sixth of steps",
    "dimensions": "the metric effective_dimension",
    "gate": "the metric raw_gate of a memory that has a gate, or an examination",
    "utility": "accuracy with the memory and after a reset: the lesson episodic",
    "specificity": "accuracy with the memory of another sequence: the lesson episodic",
    "use": "an examination, or the utility of the lesson episodic",
    "rank": "the metric memory_rank of a memory that holds a matrix, or an examination",
    "update": "the metric state_magnitude of a memory that announces its state",
    "cosine": "the metric gradient_weight_cosine",
    "collapse": "the metric softmax_collapse, of a softmax (StableMax has none)",
    "task": "whether the task is one of language, of mathematics, or neither",
    "wish": "what you want, which no file says",
    "settings": "the recipe, which says whether StableMax and orthogonal gradients are on together",
}
"""What to log, or to say, so that it can be told."""


@dataclass(frozen=True)
class Finding:
    """The outcome of one look.

    Args:
        holds: whether the condition does; None where it cannot be told.
        says: the evidence in words; empty where there is none.
        needs: what is missing where it cannot be told.
    """

    holds: bool | None
    says: str = ""
    needs: tuple[Need, ...] = ()


def judged(holds: bool, says: str) -> Finding:
    """A condition on something that is known."""
    return Finding(holds, says)


def untold(*needs: Need, says: str = "") -> Finding:
    """Something that is not known."""
    return Finding(None, says, needs)


def all_of(findings: Iterable[Finding]) -> Finding:
    """Every condition: the first that fails decides, then what is missing, else the evidence of all."""
    found = list(findings)
    failed = next((each for each in found if each.holds is False), None)
    if failed is not None:
        return failed
    needs = _missing(found)
    says = ", ".join(each.says for each in found if each.says)
    return Finding(None if needs else True, says, needs)


def any_of(findings: Iterable[Finding]) -> Finding:
    """One condition is enough: the first that holds decides, then what is missing, else the evidence of all."""
    found = list(findings)
    held = next((each for each in found if each.holds), None)
    if held is not None:
        return held
    needs = _missing(found)
    says = ", ".join(each.says for each in found if each.says)
    return Finding(None if needs else False, says, needs)


def _missing(found: Iterable[Finding]) -> tuple[Need, ...]:
    """What would tell, each once."""
    missing: dict[Need, None] = {need: None for each in found if each.holds is None for need in each.needs}
    return tuple(missing)

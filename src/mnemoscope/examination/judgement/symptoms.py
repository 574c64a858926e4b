"""What the conditions of the decision framework look for: each gives a finding, with its evidence in words."""

import math
from collections.abc import Callable
from typing import TypeAlias

from mnemoscope.examination.judgement.findings import Finding, all_of, any_of, judged, untold
from mnemoscope.examination.judgement.signs import (
    DIMENSIONS_OF_WEIGHTS,
    MOVED,
    USED,
    Aim,
    Evidence,
    TaskKind,
    fell,
    first_step,
    risen_by,
)

Symptom: TypeAlias = Callable[[Evidence], Finding]

ACCURACY = "validation_accuracy"
SOLVED = 0.99
"""A plateau above is no plateau to leave."""

COUNTED = 0.12
"""What counting words gives; the guide's 10 to 12 %, of which the lower end says nothing."""

REMAINS = 0.1
"""Of a cosine after a projection: it took the component along the weights out."""

FULL_RANK = 0.8
"""Of the rank that a state can have; a Gaussian square matrix has about as much."""


def climbing(e: Evidence) -> Finding:
    """Held-out accuracy goes on rising."""
    change = e.change(ACCURACY)
    return (
        untold("accuracy") if change is None else judged(change > MOVED, f"held-out accuracy changes by {change:+.1%}")
    )


def plateau_between(e: Evidence, low: float, high: float) -> Finding:
    """Held-out accuracy stays at a level between two."""
    late, level = e.later_half(ACCURACY), e.plateau()
    if late is None:
        return untold("accuracy")
    if level is None:
        return judged(False, f"held-out accuracy moves between {min(late):.1%} and {max(late):.1%}")
    return judged(low <= level <= high, f"held-out accuracy stays at {level:.1%}")


def ratios(e: Evidence, holds: Callable[[list[float]], bool]) -> Finding:
    """Effective dimensions of which something holds."""
    measured = e.dimension_ratios
    says = ", ".join(f"{name.replace('_', ' ')} {value:.0%}" for name, value in measured.items())
    return judged(holds(list(measured.values())), says) if measured else untold("dimensions")


def used(e: Evidence, wanted: bool) -> Finding:
    """The memory does something, or does nothing."""
    if e.is_used is None:
        return untold("use")
    return judged(e.is_used is wanted, "the memory is used" if e.is_used else "the memory is not used")


def collapsed(e: Evidence) -> Finding:
    """A plateau at 12 % or less with an effective dimension that is nearly nothing."""
    return all_of([plateau_between(e, 0.0, COUNTED), ratios(e, lambda shares: min(shares) < 0.10)])


def utility_not_found(e: Evidence) -> Finding:
    """A plateau at 12 % or less with sound dimensions and a memory that does nothing."""
    sound = ratios(e, lambda shares: min(shares) >= 0.30)
    return all_of([plateau_between(e, 0.0, COUNTED), sound, used(e, False)])


def at_capacity(e: Evidence) -> Finding:
    """A plateau with a memory that is used and full."""
    logged = e.last("memory_rank_share")
    rank = e.measured("state_share") if logged is None else logged
    full = untold("rank") if rank is None else judged(rank >= FULL_RANK, f"the memory has {rank:.0%} of its rank")
    return all_of([plateau_between(e, 0.20, SOLVED), used(e, True), full])


def gate(low: float, high: float, objection: Callable[[Evidence], str] = lambda _: "") -> Symptom:
    """A raw gate between two values, unless something better is known, in words."""

    def found(e: Evidence) -> Finding:
        gate = e.raw_gate
        if gate is None:
            return untold("gate")
        objected = objection(e)
        within = low <= gate <= high
        says = f"raw gate {gate:.2f}, but {objected}" if within and objected else f"raw gate {gate:.2f}"
        return judged(within and not objected, says)

    return found


def unused(e: Evidence) -> str:
    """What speaks against calling an open gate healthy."""
    return "the memory is not used" if e.is_used is False else ""


def known_used(e: Evidence) -> str:
    """What speaks against calling a shut gate a bypass."""
    return f"the verdict is {e.verdict}" if e.verdict in USED else ""


def judged_already(e: Evidence) -> str:
    """What says more than an open gate."""
    return "" if e.verdict is None else f"the verdict is {e.verdict}"


def not_learning_when(e: Evidence) -> Finding:
    """A plateau with a healthy gate and a memory that does nothing, or nothing of its own."""
    healthy = gate(0.2, 0.6)(e)
    return all_of([plateau_between(e, 0.0, SOLVED), healthy, any_of([used(e, False), unspecific(e)])])


def unspecific(e: Evidence) -> Finding:
    """The memory of another sequence does as well."""
    return above_noise(e, "memory_specificity", "specificity", untold("specificity"))


def above_noise(e: Evidence, name: str, word: str, unknown: Finding) -> Finding:
    """Holds where a mean is not above two standard errors."""
    sure = e.surely_positive(name)
    if sure is None:
        return unknown
    return judged(not sure, f"{word} {'above' if sure else 'not above'} two standard errors ({e.last(name):.3f})")


def loss(low: float, high: float) -> Symptom:
    """A loss that changes by a fraction between two."""

    def found(e: Evidence) -> Finding:
        change = e.relative_change("loss")
        return untold("loss") if change is None else judged(low <= change <= high, f"loss changes by {change:+.1%}")

    return found


def unstable(e: Evidence) -> Finding:
    """A loss that rises or is not a number, or a memory that grows."""
    if any(not math.isfinite(row["loss"]) for row in e.metrics if "loss" in row):
        return judged(True, "the loss was not a number")
    growth = e.series("memory_norm")
    if len(growth) > 1 and growth[-1][1] > 2 * growth[len(growth) // 2][1] > 0:
        return judged(True, f"the memory's norm grew from {growth[len(growth) // 2][1]:.3g} to {growth[-1][1]:.3g}")
    return loss(MOVED, math.inf)(e)


def grokking(e: Evidence) -> Finding:
    """Dimensions that fall slowly once accuracy has risen: of all such falls of one, that which began last."""

    def found(name: str) -> Finding:
        falls = fell(e, name, 0.75, 0.35, over=10_000)
        return falling(e, name, max(falls, default=None), lambda steps: risen_by(e, steps[0]))

    return of_dimensions(e, found)


def collapsing(e: Evidence) -> Finding:
    """Dimensions that fall fast before accuracy has risen: of all such falls of one, that which ended first."""

    def unrisen(steps: tuple[float, float]) -> bool | None:
        risen = risen_by(e, steps[1])
        return None if risen is None else not risen

    def found(name: str) -> Finding:
        falls = fell(e, name, 0.5, 0.1, within=1_500)
        return falling(e, name, min(falls, key=lambda steps: steps[1], default=None), unrisen)

    return of_dimensions(e, found)


def of_dimensions(e: Evidence, found: Callable[[str], Finding]) -> Finding:
    """Embedding and head, each on its own; one is enough. Hidden states fall early in healthy trainings too."""
    logged = [name for name in DIMENSIONS_OF_WEIGHTS if len(e.series(name)) > 1]
    return any_of(found(name) for name in logged) if logged else untold("dimensions")


def falling(
    e: Evidence, name: str, steps: tuple[float, float] | None, timed: Callable[[tuple[float, float]], bool | None]
) -> Finding:
    """A fall of an effective dimension, at a time at which accuracy says what it must."""
    what = name.removesuffix("_dimension_ratio")
    if steps is None:
        return judged(False, f"no such fall of the dimension of the {what}, now {e.last(name):.0%} of the width")
    says, right = f"the dimension of the {what} fell from step {steps[0]:.0f} to {steps[1]:.0f}", timed(steps)
    if right is None:
        return untold("accuracy", says=says)
    return judged(right, says if right else f"{says}, but held-out accuracy does not fit")


def no_signal(e: Evidence) -> Finding:
    """Descent with no component along the weights: none at all, or next to nothing of what a projection found."""
    after, before = (e.late_size(f"gradient_weight_cosine{end}") for end in ("", "_before"))
    if after is None:
        return untold("cosine")
    nothing = after <= max(1e-6, REMAINS * (before or 0.0))
    return judged(nothing, f"cosine {after:.2g}" if before is None else f"cosine {before:.2g}, as used {after:.2g}")


def softmax_collapse(e: Evidence) -> Finding:
    """A softmax that is one everywhere, in mathematics."""
    share = e.last("softmax_collapse")
    seen = untold("collapse") if share is None else judged(share >= 0.99, f"{share:.0%} of positions")
    return all_of([seen, task("mathematics")(e)])


def inactive(e: Evidence) -> Finding:
    """A memory that hardly changes."""
    update = e.last("memory_relative_update")
    return untold("update") if update is None else judged(update < 1e-3, f"relative update {update:.2g}")


def wanted(aim: Aim) -> Symptom:
    """Somebody asked for it."""
    return lambda e: judged(True, f"asked for: {aim}") if aim in e.aims else untold("wish")


def task(kind: TaskKind) -> Symptom:
    """The task is of a kind."""

    def found(e: Evidence) -> Finding:
        said = "neither of language nor of mathematics" if e.task == "other" else e.task
        return untold("task") if e.task is None else judged(e.task == kind, f"the task is {said}")

    return found


def unlike_language(e: Evidence) -> Finding:
    """A task of language, trained with other settings than the guide's for it."""
    s = e.settings
    if s is None:
        return task("language")(e)
    others = {
        f"weight decay {s.weight_decay:g}": s.weight_decay != 0,
        f"learning rate {s.learning_rate:g}": not math.isclose(s.learning_rate, 3e-4),
        "StableMax": s.stablemax,
        f"orthogonal gradients {s.orthogonal_gradient:g}": s.orthogonal_gradient != 0,
    }
    differing = [name for name, differs in others.items() if differs]
    return all_of([task("language")(e), judged(bool(differing), ", ".join(differing) or "the settings are those")])


def unlike_mathematics(e: Evidence) -> Finding:
    """A task of mathematics, trained with nothing that makes it generalise."""
    s = e.settings
    if s is None:
        return task("mathematics")(e)
    helps = {
        f"weight decay {s.weight_decay:g}": s.weight_decay >= 0.1,
        "StableMax": s.stablemax,
        f"orthogonal gradients {s.orthogonal_gradient:g}": s.orthogonal_gradient == 1,
    }
    there = [name for name, is_there in helps.items() if is_there]
    says = ", ".join(there) or "neither weight decay of 0.1, nor StableMax, nor orthogonal gradients of strength 1"
    return all_of([task("mathematics")(e), judged(not there, says)])


def ignored(e: Evidence) -> Finding:
    """A memory whose utility is not above noise."""
    return above_noise(e, "memory_utility", "utility", untold("utility"))


def grokked(e: Evidence) -> Finding:
    """Held-out data learned long after the training data."""
    if not e.series("accuracy") or not e.series(ACCURACY):
        return untold("accuracy")
    fitted, general = first_step(e, "accuracy", 0.99), first_step(e, ACCURACY, 0.9)
    if fitted is None or general is None:
        return judged(False, f"accuracy has not reached {'99 % in training' if fitted is None else '90 % held out'}")
    return judged(general >= 5 * fitted, f"training fitted at step {fitted:.0f}, held-out data at {general:.0f}")


def early(e: Evidence) -> Finding:
    """A plateau before the step at which the guide saw plateaus end."""
    level, step = plateau_between(e, 0.0, SOLVED), e.last_step
    return level if step is None else all_of([level, judged(step < 13_000, f"at step {step:.0f}")])


def several(e: Evidence) -> Finding:
    """More than one change is proposed, or two that are easily taken for each other are on."""
    proposed = judged(e.n_suspects > 1, f"changes proposed: {e.n_suspects}")
    if e.settings is None:
        return proposed if proposed.holds else untold("settings", says=proposed.says)
    both = e.settings.stablemax and e.settings.orthogonal_gradient > 0
    return any_of([proposed, judged(both, "StableMax and orthogonal gradients are on together" if both else "")])

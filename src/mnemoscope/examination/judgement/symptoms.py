"""What the conditions of the decision framework look for: each gives its evidence in words, or nothing."""

from collections.abc import Callable

from mnemoscope.examination.judgement.signs import MOVED, Aim, Evidence, fell, first_step, risen_by

ACCURACY = "validation_accuracy"
SOLVED = 0.99
"""A plateau above is no plateau to leave."""


def climbing(e: Evidence) -> str:
    """Held-out accuracy goes on rising."""
    change = e.change(ACCURACY)
    return f"held-out accuracy still gains {change:.1%}" if change is not None and change > MOVED else ""


def plateau_between(e: Evidence, low: float, high: float) -> str:
    """Held-out accuracy stays at a level between two."""
    level = e.plateau()
    return f"held-out accuracy stays at {level:.1%}" if level is not None and low <= level <= high else ""


def ratios(e: Evidence) -> str:
    """Effective dimensions in words."""
    return ", ".join(f"{name.replace('_', ' ')} {value:.0%}" for name, value in e.dimension_ratios.items())


def collapsed(e: Evidence) -> str:
    """A plateau at 10 to 12 % with an effective dimension that is nearly nothing."""
    level = plateau_between(e, 0.10, 0.12)
    return f"{level}, {ratios(e)}" if level and any(r < 0.10 for r in e.dimension_ratios.values()) else ""


def utility_not_found(e: Evidence) -> str:
    """A plateau at 10 to 12 % with sound dimensions and a memory that does nothing."""
    level, measured = plateau_between(e, 0.10, 0.12), e.dimension_ratios
    holds = level and measured and min(measured.values()) >= 0.30 and e.is_used is False
    return f"{level}, {ratios(e)}, the memory is not used" if holds else ""


def at_capacity(e: Evidence) -> str:
    """A plateau with a memory that is used and full."""
    level, logged = plateau_between(e, 0.20, SOLVED), e.last("memory_rank_share")
    rank = e.measured("state_share") if logged is None else logged
    holds = level and rank is not None and rank >= 0.8 and e.is_used
    return f"{level}, the memory is used and has {rank:.0%} of its rank" if holds else ""


def gate(low: float, high: float, holds: Callable[[Evidence], bool]) -> Callable[[Evidence], str]:
    """A raw gate between two values, where the rest holds too."""

    def found(e: Evidence) -> str:
        gate = e.raw_gate
        return f"raw gate {gate:.2f}" if gate is not None and low <= gate <= high and holds(e) else ""

    return found


def not_learning_when(e: Evidence) -> str:
    """A plateau with a healthy gate and a memory that does nothing, or nothing of its own."""
    level, gate = plateau_between(e, 0.0, SOLVED), e.raw_gate
    idle = e.is_used is False or e.surely_positive("memory_specificity") is False
    holds = level and gate is not None and 0.2 <= gate <= 0.6 and idle
    return f"{level}, raw gate {gate:.2f}, utility or specificity not above two standard errors" if holds else ""


def loss(low: float, high: float) -> Callable[[Evidence], str]:
    """A loss that changes by a fraction between two."""

    def found(e: Evidence) -> str:
        change = e.relative_change("loss")
        return f"loss changes by {change:+.1%}" if change is not None and low <= change <= high else ""

    return found


def unstable(e: Evidence) -> str:
    """A loss that rises or is not a number, or a memory that grows."""
    logged = [row["loss"] for row in e.metrics if "loss" in row]
    growth = e.series("memory_norm")
    if len(logged) > len(e.series("loss")):
        return "the loss was not a number"
    if len(growth) > 1 and growth[-1][1] > 2 * growth[len(growth) // 2][1] > 0:
        return f"the memory's norm grew from {growth[len(growth) // 2][1]:.3g} to {growth[-1][1]:.3g}"
    return loss(MOVED, float("inf"))(e)


def grokking(e: Evidence) -> str:
    """Dimensions that fall slowly once accuracy has risen."""
    steps = fell(e, "embedding_dimension_ratio", 0.75, 0.35, over=10_000)
    return f"fell from step {steps[0]:.0f} to {steps[1]:.0f}" if steps and risen_by(e, steps[0]) else ""


def collapsing(e: Evidence) -> str:
    """Dimensions that fall fast before accuracy has risen."""
    steps = fell(e, "embedding_dimension_ratio", 0.5, 0.1, within=1_500)
    return f"fell from step {steps[0]:.0f} to {steps[1]:.0f}" if steps and risen_by(e, steps[1]) is False else ""


def no_signal(e: Evidence) -> str:
    """A gradient with no component along the weights."""
    cosine = e.last("gradient_weight_cosine")
    return f"cosine {cosine:.2g}" if cosine is not None and abs(cosine) < 1e-6 else ""


def softmax_collapse(e: Evidence) -> str:
    """A softmax that is one everywhere, in mathematics."""
    share = e.last("softmax_collapse")
    return f"{share:.0%} of positions" if share is not None and share >= 0.99 and e.task == "mathematics" else ""


def inactive(e: Evidence) -> str:
    """A memory that hardly changes."""
    update = e.last("memory_relative_update")
    return f"relative update {update:.2g}" if update is not None and update < 1e-3 else ""


def wanted(aim: Aim) -> Callable[[Evidence], str]:
    """Somebody asked for it."""
    return lambda e: f"asked for: {aim}" if aim in e.aims else ""


def task(task: str) -> Callable[[Evidence], str]:
    """The task is of a kind."""
    return lambda e: f"the task is {task}" if e.task == task else ""


def ignored(e: Evidence) -> str:
    """A memory whose utility is not above noise."""
    return "utility not above two standard errors" if e.surely_positive("memory_utility") is False else ""


def grokked(e: Evidence) -> str:
    """Held-out data learned long after the training data."""
    fitted, general = first_step(e, "accuracy", 0.99), first_step(e, ACCURACY, 0.9)
    holds = fitted is not None and general is not None and general >= 5 * fitted
    return f"training fitted at step {fitted:.0f}, held-out data at {general:.0f}" if holds else ""


def early(e: Evidence) -> str:
    """A plateau before the step at which the guide saw plateaus end."""
    level, step = plateau_between(e, 0.0, SOLVED), e.last_step
    return f"{level}, at step {step:.0f}" if level and step is not None and step < 13_000 else ""


def several(e: Evidence) -> str:
    """More than one change is proposed."""
    return f"{e.n_suspects} changes are proposed" if e.n_suspects > 1 else ""

"""The words and tables of a trial's page."""

from collections.abc import Sequence

from mnemoscope.reporting.numbers import ABSENT, confidence, nats, percent, percent_interval, plain
from mnemoscope.reporting.tables import Cell, Group, Table, estimate_cell, share_cell
from mnemoscope.runs.trial import ArmComparison, ArmRecord, SeedRecord, Trial

HOLDS = {True: "yes", False: "NO", None: "open: seeds are missing"}


def question(trial: Trial) -> str:
    """What was asked."""
    control, *others = trial.arms
    if not others:
        return f"How far do the seeds of {control.name} differ?"
    asked = f"{'does' if len(others) == 1 else 'do'} {_listed([arm.name for arm in others])}"
    return f"{trial.name}: {asked} make the memory useful, compared with {control.name}?"


def headline(trial: Trial) -> str:
    """The answer in a sentence."""
    accepted = [row.arm for row in trial.comparisons if row.outcome == "accepted"]
    if accepted:
        return f"{_listed(accepted)} {'is' if len(accepted) == 1 else 'are'} accepted."
    if len(trial.comparisons) == 1:
        return f"{trial.comparisons[0].arm}: {trial.comparisons[0].outcome}."
    if all(row.outcome == "too few seeds" for row in trial.comparisons):
        return "Too few seeds for a statement."
    return f"None of {len(trial.comparisons)} arms is accepted."


def because(row: ArmComparison) -> str:
    """Why an arm has its outcome, and how many seeds would decide it."""
    needs = f"; {row.required_seeds} seeds would decide at this spread" if row.required_seeds else ""
    return f"{row.because}{needs}."


def shares(row: ArmComparison, trial: Trial) -> str:
    """The mean shares of the control and of the arm; empty where either is unknown."""
    control = trial.arms[0]
    arm = next(arm for arm in trial.arms if arm.name == row.arm)
    if control.share is None or arm.share is None:
        return ""
    before, after = percent(control.share.value), percent(arm.share.value)
    return f"The memory's mean share of the headroom is {after}, in {control.name} {before}."


def totals(trial: Trial) -> list[tuple[str, str, str, str]]:
    """The numbers of the whole trial: name, value, unit, interval."""
    seeds = [seed for arm in trial.arms for seed in arm.seeds]
    finished = sum(seed.is_finished for seed in seeds)
    rows = [("Runs finished", f"{finished} of {len(seeds)}", "", "")]
    for arm in trial.arms:
        if arm.share is not None:
            rows.append((f"Share, {arm.name}", percent(arm.share.value), "of headroom", percent_interval(arm.share)))
    return [*rows, ("Time", f"{trial.seconds / 60:.0f}", "minutes", "")]


def comparisons_table(trial: Trial) -> Table | None:
    """Each arm against the control; None without one."""
    if not trial.comparisons:
        return None
    levels = dict.fromkeys(confidence(row.effect_gain.level) for row in trial.comparisons if row.effect_gain)
    told = f"{', '.join(levels)} intervals by Student's t over seeds" if levels else "intervals need three seeds"
    return Table(
        f"Each arm against {trial.arms[0].name}, seed by seed: differences in nats per scored token; {told}. The "
        "p-value is that of the effect's gain, by flipping the signs of the seeds' differences.",
        [
            "Arm",
            "Outcome",
            "Gain of effect",
            "Effect",
            "Gain of share",
            "Change of loss",
            "Gain where demanded",
            "p",
            "Margin",
            "Seeds",
        ],
        [Group("", [_compared(row) for row in trial.comparisons])],
        name="arms compared",
    )


def utilities_table(trial: Trial) -> Table | None:
    """What the memory is worth in held-out episodes; None of trainings without episodes."""
    gains = {row.arm: row.utility_gain for row in trial.comparisons}
    groups = [
        Group(
            arm.name,
            [[Cell(f"seed {seed.seed}"), estimate_cell(seed.utility)] for seed in arm.seeds if seed.utility is not None]
            + [[Cell("gain over the control"), estimate_cell(gain)] for gain in [gains.get(arm.name)] if gain],
        )
        for arm in trial.arms
    ]
    if not any(group.rows for group in groups):
        return None
    return Table(
        "Utility of the memory: accuracy in held-out episodes with what was stored, less accuracy after a reset; "
        "brackets are 1.96 standard errors, of a gain Student's t over seeds.",
        ["Seed", "Utility"],
        groups,
        name="utilities",
    )


def seeds_table(trial: Trial) -> Table:
    """Every seed of every arm, and their means."""
    return Table(
        "Every seed: losses and effects in nats per scored token, brackets are 95 % intervals over its test sequences; "
        "of a mean, over seeds and sequences, too narrow where seeds are few.",
        ["Seed", "Verdict", "Loss", "Loss where demanded", "Accuracy", "Effect", "Share", "Margin", "Training (s)"],
        [Group(f"{arm.name}: {arm.what}", [*map(_seed, arm.seeds), *_mean(arm)]) for arm in trial.arms],
        name="seeds",
    )


def claims_table(trial: Trial) -> Table | None:
    """What the trial was to show; None where it was to show nothing."""
    if not trial.claims:
        return None
    rows = [[Cell(claim.claim), Cell(HOLDS[claim.holds]), Cell(claim.seen)] for claim in trial.claims]
    return Table(
        "What the trial was to show, and what was seen.", ["Claim", "Holds", "Seen"], [Group("", rows)], "claims"
    )


def made_with(trial: Trial) -> list[tuple[str, str]]:
    """How the trial was made: pairs of a name and a value."""
    versions = ", ".join(f"{name} {version}" for name, version in trial.versions.items())
    arms = [(arm.name, arm.what + (" (the control)" if i == 0 else "")) for i, arm in enumerate(trial.arms)]
    return [*arms, ("Time", f"{trial.seconds:,.0f} s of all calls together"), ("Versions", versions or "not recorded")]


def _compared(row: ArmComparison) -> list[Cell]:
    return [
        Cell(row.arm),
        Cell(ABSENT, verdict=row.outcome),
        estimate_cell(row.effect_gain),
        estimate_cell(row.effect),
        share_cell(row.share_gain),
        estimate_cell(row.loss_change),
        estimate_cell(row.demanded_gain),
        Cell(nats(row.p_value)),
        Cell(nats(row.margin)),
        Cell(str(row.n_seeds)),
    ]


def _seed(seed: SeedRecord) -> list[Cell]:
    if not seed.is_finished:
        reason = "not finished" if seed.failure in ("", "not finished") else f"not finished: {seed.failure}"
        return [Cell(str(seed.seed), reason), *(Cell(ABSENT) for _ in range(8))]
    return [
        Cell(str(seed.seed)),
        Cell(ABSENT, verdict=seed.verdict),
        estimate_cell(seed.loss),
        estimate_cell(seed.demanded_loss),
        Cell(nats(seed.accuracy)),
        estimate_cell(seed.effect),
        share_cell(seed.share),
        Cell(nats(seed.margin)),
        Cell(plain(round(seed.seconds))),
    ]


def _mean(arm: ArmRecord) -> list[list[Cell]]:
    if arm.share is None and arm.effect is None:
        return []
    empty = [Cell("")] * 4
    return [[Cell("mean"), *empty, estimate_cell(arm.effect), share_cell(arm.share), Cell(""), Cell("")]]


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

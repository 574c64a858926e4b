"""What a trial prints: every seed of every arm, each arm against the control, and what it was to show.

Names, verdicts and outcomes are never cut; where there is little room, intervals go first and then whole columns.
"""

from mnemoscope.cli.rows import first_that_fits
from mnemoscope.cli.terminal import filled
from mnemoscope.reporting.numbers import printable
from mnemoscope.runs import Estimate
from mnemoscope.runs.trial import ArmComparison, ArmRecord, SeedRecord, Trial

ABSENT = "-"
SEEDS = ["seed", "loss", "accuracy", "effect", "share", "verdict"]
COMPARED = ["arm", "effect gain", "effect", "share gain", "loss change", "demanded gain", "p", "outcome"]
HOLDS = {True: "yes", False: "NO", None: "open"}


def trial_lines(trial: Trial, width: int) -> list[str]:
    """All that is printed of a trial, in so many columns, a blank line between the parts."""
    compared = comparisons_table(trial, width)
    parts = [seeds_table(trial, width), compared, utilities_table(trial, width), claims_table(trial, width)]
    return [printable(line) for part in parts if part for line in (*part, "")]


def seeds_table(trial: Trial, width: int) -> list[str]:
    """The seeds of each arm below its name, then their mean; why a run is not finished stands in its row's place."""
    rows = [[_seeds(arm, shortened) for arm in trial.arms] for shortened in (0, 1, 2)]
    whole, short, shorter = ([SEEDS, *(row for arm in arms for row in arm)] for arms in rows)
    tables = [whole, short, shorter, _columns(shorter, "seed", "share", "verdict")]
    head, *left = ["  " + line for line in first_that_fits(tables, width - 2)]
    lines = [head]
    for arm, finished in zip(trial.arms, rows[0], strict=True):
        lines += [*_paragraph(f"{arm.name}: {arm.what}", width), *left[: len(finished)]]
        lines += [
            line for seed in arm.seeds if not seed.is_finished for line in _paragraph(_unfinished(seed), width, 2)
        ]
        left = left[len(finished) :]
    return lines


def comparisons_table(trial: Trial, width: int) -> list[str]:
    """A row for each arm, then why its outcome is what it is."""
    if not trial.comparisons:
        return []
    two_lines, one_line = ([_compared(row, cut) for row in trial.comparisons] for cut in (False, True))
    lines = first_that_fits(
        [
            [COMPARED, *two_lines],
            _columns([COMPARED, *two_lines], "arm", "effect gain", "loss change", "demanded gain", "p", "outcome"),
            _columns([COMPARED, *one_line], "arm", "effect gain", "loss change", "demanded gain", "p", "outcome"),
            _columns([COMPARED, *one_line], "arm", "effect gain", "loss change", "outcome"),
        ],
        width,
    )
    return [*lines, *(line for row in trial.comparisons for line in _paragraph(f"{row.arm}: {_because(row)}", width))]


def utilities_table(trial: Trial, width: int) -> list[str]:
    """Of trainings in episodes: what the memory is worth on held-out ones, by arm and seed, and the gain over seeds."""
    gains = {row.arm: row.utility_gain for row in trial.comparisons}
    rows = [
        [arm.name, ABSENT if seed is None else str(seed.seed), _estimate(utility, True), _estimate(utility, False)]
        for arm in trial.arms
        for seed, utility in [*((seed, seed.utility) for seed in arm.seeds), (None, gains.get(arm.name))]
        if utility is not None
    ]
    named = [[arm, "gain" if seed == ABSENT else seed, short, whole] for arm, seed, short, whole in rows]
    head = ["arm", "seed", "utility"]
    tables = [[head, *([arm, seed, whole] for arm, seed, _, whole in named)]]
    tables.append([head, *([arm, seed, short] for arm, seed, short, _ in named)])
    return first_that_fits(tables, width) if rows else []


def claims_table(trial: Trial, width: int) -> list[str]:
    """Whether each claim holds, what it says, and what was seen."""
    if not trial.claims:
        return []
    lines = ["holds  claim"]
    for claim in trial.claims:
        text = f"{HOLDS[claim.holds]:<5}  {claim.claim}; seen: {claim.seen}"
        lines += filled(text, width, hanging=7).splitlines()
    return lines


def _seeds(arm: ArmRecord, shortened: int) -> list[list[str]]:
    """The finished seeds and their mean, without the intervals of loss and share (1), and of the effect (2)."""
    rows = [
        [
            str(seed.seed),
            _estimate(seed.loss, shortened > 0),
            ABSENT if seed.accuracy is None else f"{seed.accuracy:.3f}",
            _estimate(seed.effect, shortened > 1),
            _share(seed.share, shortened > 0),
            seed.verdict or ABSENT,
        ]
        for seed in arm.seeds
        if seed.is_finished
    ]
    if arm.share is None and arm.effect is None:
        return rows
    return [*rows, ["mean", "", "", _estimate(arm.effect, shortened > 1), _share(arm.share, shortened > 0), ""]]


def _unfinished(seed: SeedRecord) -> str:
    return f"seed {seed.seed}: not finished" + ("" if seed.failure == "not finished" else f": {seed.failure}")


def _compared(row: ArmComparison, cut: bool) -> list[str]:
    """A row, the intervals below the values, or without them."""
    return [
        row.arm,
        _below(row.effect_gain, cut),
        _below(row.effect, cut),
        _share(row.share_gain, cut, least=-1).replace(" [", "\n["),
        _below(row.loss_change, cut),
        _below(row.demanded_gain, cut),
        ABSENT if row.p_value is None else f"{row.p_value:.3f}",
        row.outcome,
    ]


def _because(row: ArmComparison) -> str:
    needs = f" ({row.required_seeds} seeds would decide)" if row.required_seeds else ""
    return row.because + needs


def _below(estimate: Estimate | None, cut: bool) -> str:
    return _estimate(estimate, cut).replace(" [", "\n[")


def _estimate(estimate: Estimate | None, cut: bool) -> str:
    text = ABSENT if estimate is None else str(estimate)
    return text.split(" [")[0] if cut else text


def _share(share: Estimate | None, cut: bool, least: float = 0.0) -> str:
    """In per cent; estimates of a share below `least` are shown as that."""
    if share is None:
        return ABSENT
    value, low, high = (f"{round(max(number, least), 2) + 0.0:.0%}" for number in (share.value, share.low, share.high))
    return value if cut else f"{value} [{low}, {high}]"


def _columns(rows: list[list[str]], *names: str) -> list[list[str]]:
    """Of a table whose first row is the head."""
    shown = [rows[0].index(name) for name in names]
    return [[row[i] for i in shown] for row in rows]


def _paragraph(text: str, width: int, indent: int = 0) -> list[str]:
    return [" " * indent + line for line in filled(text, width - indent, 2).splitlines()]

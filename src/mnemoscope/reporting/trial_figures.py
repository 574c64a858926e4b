"""Figures of a trial: the memory's share of every seed, and what each arm gained beside what it cost."""

import math

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mnemoscope.reporting.canvas import (
    FOREGROUND,
    GRID,
    MARKERS,
    MUTED,
    SERIES,
    Drawing,
    blank,
    drawing_style,
    inline_svg,
    legend,
    shortened,
)
from mnemoscope.reporting.forest import label_rows
from mnemoscope.reporting.numbers import confidence, increase, interval, nats, percent, percent_interval
from mnemoscope.runs import Estimate
from mnemoscope.runs.trial import ArmComparison, ArmRecord, Trial

SEED_ROWS = 0.55
"""Height of a seed's row, in rows of the axis."""
ROW_INCHES = 0.19
LEGEND_ROW_INCHES = 0.15
TALL_INCHES = 4.0


def trial_figures(trial: Trial) -> list[Drawing]:
    """Those that the trial has numbers for: shares, then effect and loss."""
    drawings = [shares_figure(trial, "shares"), exchange_figure(trial, "exchange")]
    return [drawing for drawing in drawings if drawing is not None]


def shares_figure(trial: Trial, key: str) -> Drawing | None:
    """Every seed's share with its interval, below the mean of its arm; None before any seed has one."""
    arms = [(i, arm) for i, arm in enumerate(trial.arms) if _shares(arm)]
    if not arms:
        return None
    n_rows = sum(1.4 + SEED_ROWS * len(_shares(arm)) for _, arm in arms)
    with drawing_style(key):
        figure, (axes,) = blank(0.75 + ROW_INCHES * n_rows)
        y, labels = 0.0, []
        for i, arm in arms:
            labels.append((y, shortened(arm.name), True))
            y = _strip(axes, y, arm, i)
        axes.set_xlabel("the memory's share of the headroom (%)")
        low, high = axes.get_xlim()
        axes.set_xlim(min(low, -3), max(high, 103))
        label_rows(axes, labels)
        axes.set_ylim(y - 0.7, -0.6)
        described = "; ".join(f"{arm.name}: {', '.join(percent(s.value) for _, s in _shares(arm))}" for _, arm in arms)
        svg = inline_svg(figure, key, f"The memory's share in every seed. {described}.")
    return Drawing(
        title="The memory's share, seed by seed",
        caption="Shapley share of the headroom. Small: a seed, the first on top, with the interval over its test "
        "sequences; diamond: the arm's mean, with an interval over seeds and sequences.",
        svg=svg,
        tall=figure.get_figheight() > TALL_INCHES,
        columns=["Arm", "Seed", "Share of the headroom", "Interval"],
        rows=[row for _, arm in arms for row in _share_rows(arm)],
    )


def exchange_figure(trial: Trial, key: str) -> Drawing | None:
    """Each arm's gain of effect over its change of loss; None before any seed is finished in an arm and the control."""
    control, *others = trial.arms
    pairs = [_pairs(control, arm) for arm in others]
    if not any(pairs):
        return None
    margin = max((row.margin for row in trial.comparisons if math.isfinite(row.margin)), default=0.0)
    with drawing_style(key):
        figure, (axes,) = blank(2.7 + LEGEND_ROW_INCHES * len(others))
        axes.axvspan(-margin, margin, color=GRID, alpha=0.8, linewidth=0)
        axes.axhspan(-margin, margin, color=GRID, alpha=0.8, linewidth=0)
        axes.axvline(0, color=MUTED, linewidth=0.7)
        axes.axhline(0, color=MUTED, linewidth=0.7)
        for i, (row, points) in enumerate(zip(trial.comparisons, pairs, strict=True), start=1):
            _cross(axes, row, points, i)
        _beyond(axes, margin)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set(xlabel="change of the loss (nats): left is better", ylabel="gain of effect (nats)")
        legend(figure, axes)
        described = "; ".join(_exchange(row) for row in trial.comparisons)
        svg = inline_svg(figure, key, f"Gain of effect over change of loss; margin {nats(margin)} nats. {described}.")
    return Drawing(
        title="What the memory gained, and what it cost",
        caption="Differences from the control: small, each seed; large, the mean over seeds with its intervals. Inside "
        f"the grey bands, the margin of {nats(margin)} nats, a change counts as nothing.",
        svg=svg,
        columns=["Arm", "Seed", "Gain of effect (nats)", "Change of loss (nats)"],
        rows=[
            line
            for row, points in zip(trial.comparisons, pairs, strict=True)
            for line in [
                *([row.arm, str(seed), increase(y), increase(x)] for seed, x, y in points),
                [row.arm, "mean", _with_interval(row.effect_gain), _with_interval(row.loss_change)],
            ]
        ],
    )


def _strip(axes: Axes, y: float, arm: ArmRecord, style: int) -> float:
    """The mean at `y`, the seeds below it; returns where the next arm begins."""
    if arm.share is not None and math.isfinite(arm.share.value):
        _bar(axes, y, arm.share, FOREGROUND, 2.2)
        axes.plot([100 * arm.share.value], [y], "D", color=FOREGROUND, markersize=5.5)
    y += 0.2
    for _, share in _shares(arm):
        y += SEED_ROWS
        _bar(axes, y, share, _colour(style), 1.0)
        axes.plot([100 * share.value], [y], _marker(style), color=_colour(style), markersize=3.6)
    return y + 1.2


def _bar(axes: Axes, y: float, share: Estimate, colour: str, linewidth: float) -> None:
    if math.isfinite(share.low) and math.isfinite(share.high):
        ends = [100 * share.low, 100 * share.high]
        axes.plot(ends, [y, y], color=colour, linewidth=linewidth, solid_capstyle="butt")


def _cross(axes: Axes, row: ArmComparison, points: list[tuple[int, float, float]], style: int) -> None:
    colour, marker, name = _colour(style), _marker(style), shortened(row.arm, 40)
    small = {"linestyle": "none", "marker": marker, "color": colour, "markersize": 3.2, "fillstyle": "none"}
    gain, change = row.effect_gain, row.loss_change
    axes.plot([x for _, x, _ in points], [y for *_, y in points], label="_nolegend_" if gain else name, **small)
    if gain is None or change is None:
        return
    axes.plot([change.low, change.high], [gain.value, gain.value], color=colour, linewidth=1.3)
    axes.plot([change.value, change.value], [gain.low, gain.high], color=colour, linewidth=1.3)
    axes.plot([change.value], [gain.value], marker, color=colour, markersize=6, label=name)


def _beyond(axes: Axes, margin: float) -> None:
    """The axes never zoom into changes that count as nothing."""
    for limits, limit in ((axes.get_xlim, axes.set_xlim), (axes.get_ylim, axes.set_ylim)):
        low, high = limits()
        limit(min(low, -2 * margin), max(high, 2 * margin))


def _pairs(control: ArmRecord, arm: ArmRecord) -> list[tuple[int, float, float]]:
    """Of every seed that both have finished: the seed, the change of the loss, the gain of effect."""
    before = {seed.seed: seed for seed in control.seeds}
    found = []
    for after in arm.seeds:
        other = before.get(after.seed)
        if other and other.loss and other.effect and after.loss and after.effect:
            change, gain = after.loss.value - other.loss.value, after.effect.value - other.effect.value
            if math.isfinite(change) and math.isfinite(gain):
                found.append((after.seed, change, gain))
    return found


def _shares(arm: ArmRecord) -> list[tuple[int, Estimate]]:
    """Of the seeds that have a share."""
    return [(seed.seed, seed.share) for seed in arm.seeds if seed.share and math.isfinite(seed.share.value)]


def _share_rows(arm: ArmRecord) -> list[list[str]]:
    rows = [(str(seed), share) for seed, share in _shares(arm)]
    if arm.share is not None:
        rows.append(("mean", arm.share))
    return [[arm.name, name, percent(share.value), percent_interval(share)] for name, share in rows]


def _exchange(row: ArmComparison) -> str:
    return f"{row.arm}: effect {_with_interval(row.effect_gain)}, loss {_with_interval(row.loss_change)}"


def _with_interval(change: Estimate | None) -> str:
    """A change with its sign; without an interval where there are too few seeds."""
    if change is None:
        return "too few seeds"
    return f"{increase(change.value)} {interval(change)} ({confidence(change.level)})"


def _colour(style: int) -> str:
    return SERIES[style % len(SERIES)]


def _marker(style: int) -> str:
    """Another one for the same colour."""
    return MARKERS[(style + style // len(SERIES)) % len(MARKERS)]

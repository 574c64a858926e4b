"""What a geometry examination prints: the verdict, what it rests on, every measure beside its null, every step."""

from mnemoscope.cli.rows import first_that_fits
from mnemoscope.cli.terminal import filled
from mnemoscope.reporting.geometry_tables import headline, null_text, over_text, p_text, snapshots_of, z_text
from mnemoscope.reporting.numbers import nats, printable
from mnemoscope.runs.geometry import GeometryExamination, GeometryMetric

MEASURES = ["measure", "value", "null", "z", "p", "over"]
STEPS = ("smoothness", "two_sided_smoothness", "far_distance_correlation", "edge_recall")


def geometry_lines(examination: GeometryExamination, width: int) -> list[str]:
    """All that is printed of an examination, in so many columns."""
    parts = [_verdict(examination, width), _measures(examination, width), _steps(examination, width)]
    return [printable(line) for part in parts if part for line in (*part, "")]


def _verdict(examination: GeometryExamination, width: int) -> list[str]:
    e, verdict = examination, examination.verdict
    form = f" ({verdict.form})" if verdict.form else ""
    sizes = f"{e.n_nodes:,} nodes, {e.n_edges:,} edges, {e.n_shuffles:,} shuffles"
    lines = filled(f"{e.subject}: {verdict.kind}{form}. {headline(e)} {sizes}", width, 2).splitlines()
    for reason in verdict.reasons:
        lines += filled(f"  {reason}", width, 4).splitlines()
    for caveat in verdict.caveats:
        lines += filled(f"  but: {caveat}", width, 4).splitlines()
    return lines


def _measures(examination: GeometryExamination, width: int) -> list[str]:
    if not examination.metrics:
        return []
    rows = [MEASURES, *(_row(metric) for metric in examination.metrics)]
    tables = [[[row[i] for i in shown] for row in rows] for shown in ((0, 1, 2, 3, 4, 5), (0, 1, 2, 3, 4), (0, 1, 3))]
    missing = [metric for metric in examination.metrics if metric.missing]
    said = [f"  {metric.name} is not there: {metric.missing}" for metric in missing]
    return [*first_that_fits(tables, width), *(line for text in said for line in filled(text, width, 4).splitlines())]


def _row(metric: GeometryMetric) -> list[str]:
    cells = [nats(metric.value), null_text(metric), z_text(metric.z), p_text(metric.p), over_text(metric)]
    return [metric.name, *(cell.replace("–", "-") for cell in cells)]


def _steps(examination: GeometryExamination, width: int) -> list[str]:
    """A row for each step; fewer measures where there is little room."""
    snapshots = snapshots_of(examination)
    if len(snapshots) < 2:
        return []
    names = [name for name in STEPS if any(name in snapshot.metrics for snapshot in snapshots)]
    rows = [["step", *names, "verdict"]]
    for one in snapshots:
        values = [_with_z(one.metrics.get(name), one.z_scores.get(name)) for name in names]
        rows.append([str(one.step), *values, f"{one.kind} ({one.form})" if one.form else one.kind])
    return first_that_fits([rows, [[row[0], row[-1]] for row in rows]], width)


def _with_z(value: float | None, z: float | None) -> str:
    shown = nats(value).replace("–", "-")
    return shown if z is None else f"{shown} (z {z_text(z)})"

"""The words and tables of a geometry examination's page."""

import math
from collections.abc import Sequence

from mnemoscope.reporting.geometry_glossary import GEOMETRY_FORMS, GEOMETRY_KINDS, GEOMETRY_METRICS
from mnemoscope.reporting.numbers import ABSENT, nats, percent
from mnemoscope.reporting.tables import Cell, Group, Table
from mnemoscope.runs.geometry import GeometryExamination, GeometryMetric, GeometrySnapshot

ANSWERS = {
    "geometric": "The table is a map of the graph.",
    "associative": "The table does not know the graph.",
    "mixed": "Neither a map nor a mere list is shown.",
    "not memorised": "The edges are not memorised.",
}
METHODS = {"pca": "principal axes", "umap": "UMAP", "laplacian": "the graph's own eigenvectors"}

CENTRED = "centred_"
ENDINGS = {
    "_trained": (", trained paths", " Here over paths that were trained."),
    "_held_out": (", held-out paths", " Here over paths that were not trained."),
}


def headline(examination: GeometryExamination) -> str:
    """The answer in a sentence."""
    return ANSWERS[examination.verdict.kind]


def kind_and_form(examination: GeometryExamination) -> str:
    """What kind and form mean."""
    verdict = examination.verdict
    meaning = GEOMETRY_KINDS[verdict.kind].text
    return f"{meaning} {GEOMETRY_FORMS.get(verdict.form, '')}".rstrip()


def totals(examination: GeometryExamination) -> list[tuple[str, str, str, str]]:
    """Sizes: name, value, unit, note."""
    e = examination
    rows = [("Nodes", f"{e.n_nodes:,}", "", ""), ("Edges", f"{e.n_edges:,}", "", "")]
    rows += [("Components", f"{e.n_components:,}", "", "")] if e.n_components > 1 else []
    rows += [("Width", f"{e.width:,}", "numbers a node", "")]
    rows += [("Step", f"{e.step:,}", "", "")] if e.step is not None else []
    return [*rows, ("Shuffles", f"{e.n_shuffles:,}", "", "")]


def metric_name(name: str) -> str:
    """Its heading; a measure that this version does not know keeps its name."""
    plain, variant, _ = _variant(name)
    return f"{GEOMETRY_METRICS[plain][0]}{variant}" if plain in GEOMETRY_METRICS else name


def metric_meaning(name: str) -> str:
    """What it says in a line; empty where this version does not know it."""
    plain, _, more = _variant(name)
    return f"{GEOMETRY_METRICS[plain][1]}{more}" if plain in GEOMETRY_METRICS else ""


def snapshots_of(examination: GeometryExamination) -> list[GeometrySnapshot]:
    """Every step that was measured, in order, the examined one included; empty without earlier ones."""
    e = examination
    found = {snapshot.step: snapshot for snapshot in e.snapshots}
    if found and e.step is not None and e.step not in found:
        followed = {name for snapshot in e.snapshots for name in snapshot.metrics}
        metrics = [metric for metric in e.metrics if metric.name in followed]
        found[e.step] = GeometrySnapshot(
            step=e.step,
            metrics={metric.name: metric.value for metric in metrics},
            z_scores={metric.name: metric.z for metric in metrics if metric.z is not None},
            kind=e.verdict.kind,
            form=e.verdict.form,
        )
    return [found[step] for step in sorted(found)]


def metrics_table(examination: GeometryExamination) -> Table:
    """Each measure beside its null, with what it says."""
    return Table(
        "Each measure beside its null, the same measure with the nodes of the table shuffled, mean ± standard "
        "deviation; z in standard deviations of the null.",
        ["Measure", "Value", "Null", "z", "p", "Over"],
        [Group("", [_metric_row(metric) for metric in examination.metrics])],
        name="measures",
    )


def comparison_table(examinations: Sequence[GeometryExamination]) -> Table:
    """The examinations side by side: verdicts, then every measure with its z."""
    names = dict.fromkeys(metric.name for e in examinations for metric in e.metrics)
    return Table(
        "The tables side by side; below each value its z against the null.",
        ["", *(e.subject for e in examinations)],
        [
            Group(
                "",
                [
                    [
                        Cell("Verdict"),
                        *(Cell(ABSENT, note=e.verdict.form, verdict=e.verdict.kind) for e in examinations),
                    ],
                    *([Cell(metric_name(name)), *(_compared(e, name) for e in examinations)] for name in names),
                ],
            )
        ],
    )


def snapshots_table(examination: GeometryExamination) -> Table | None:
    """The verdict at every step with what it rests on; None with fewer than two snapshots."""
    snapshots = snapshots_of(examination)
    if len(snapshots) < 2:
        return None
    names = _names(snapshots)
    rows = [
        [
            Cell(f"{snapshot.step:,}"),
            Cell(ABSENT, note=snapshot.form, verdict=snapshot.kind),
            *(_snapshot_cell(snapshot, name) for name in names),
        ]
        for snapshot in snapshots
    ]
    heads = ["Step", "Verdict", *map(metric_name, names)]
    return Table("The verdict at each step; below each value its z.", heads, [Group("", rows)], "through training")


def steps_of(snapshots: Sequence[GeometrySnapshot]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the numbers over training."""
    names = _names(snapshots)
    heads = ["Step", *(metric_name(name) for name in names), *(f"z, {metric_name(name)}" for name in names)]
    rows = [
        [
            f"{snapshot.step:,}",
            *(nats(snapshot.metrics.get(name)) for name in names),
            *(z_text(snapshot.z_scores.get(name)) for name in names),
        ]
        for snapshot in snapshots
    ]
    return heads, rows


def made_with(examination: GeometryExamination) -> list[tuple[str, str]]:
    """How the examination was made: pairs of a name and a value."""
    e = examination
    return [
        ("Subject", e.subject),
        ("Null", f"{e.n_shuffles:,} orders of the nodes, seed {e.seed}"),
        ("Spectrum", "whole" if e.spectrum.is_whole else "both ends"),
        ("Pictures", _pictures(e) or "none"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in e.versions.items()) or "not recorded"),
    ]


def null_text(metric: GeometryMetric) -> str:
    """Mean ± standard deviation of the null."""
    if metric.null_mean is None or metric.null_sd is None:
        return ABSENT
    return f"{nats(metric.null_mean)} ± {nats(metric.null_sd)}"


def z_text(z: float | None) -> str:
    """With its sign; no decimals where there is no need of any."""
    if z is None or not math.isfinite(z):
        return nats(z)
    return f"{z:+.{0 if abs(z) >= 99.5 else 1}f}"


def p_text(p: float | None) -> str:
    """Two significant digits."""
    return ABSENT if p is None or math.isnan(p) else f"{p:.2g}"


def over_text(metric: GeometryMetric) -> str:
    """What the measure is over, and how many of them."""
    return f"{metric.n:,} {metric.over}".strip() if metric.n else metric.over


def _variant(name: str) -> tuple[str, str, str]:
    """A measure's plain name, and what its heading and its meaning add for the form that was taken of it."""
    for ending, (heading, meaning) in ENDINGS.items():
        if name.endswith(ending):
            return name.removesuffix(ending), heading, meaning
    if name.startswith(CENTRED):
        return name.removeprefix(CENTRED), ", centred", " Here of embeddings less their mean."
    return name, "", ""


def _metric_row(metric: GeometryMetric) -> list[Cell]:
    meaning = metric_meaning(metric.name)
    return [
        Cell(metric_name(metric.name), f"{meaning} Not measured: {metric.missing}." if metric.missing else meaning),
        Cell(nats(metric.value)),
        Cell(null_text(metric)),
        Cell(z_text(metric.z)),
        Cell(p_text(metric.p)),
        Cell(over_text(metric) or ABSENT),
    ]


def _compared(examination: GeometryExamination, name: str) -> Cell:
    metric = next((metric for metric in examination.metrics if metric.name == name), None)
    if metric is None:
        return Cell(ABSENT)
    return Cell(nats(metric.value), "" if metric.z is None else f"z {z_text(metric.z)}")


def _snapshot_cell(snapshot: GeometrySnapshot, name: str) -> Cell:
    z = snapshot.z_scores.get(name)
    return Cell(nats(snapshot.metrics.get(name)), "" if z is None else f"z {z_text(z)}")


def _names(snapshots: Sequence[GeometrySnapshot]) -> list[str]:
    return list(dict.fromkeys(name for snapshot in snapshots for name in snapshot.metrics))


def _pictures(examination: GeometryExamination) -> str:
    """Methods, how many nodes are drawn, and the share of the variance where a method has one."""
    said = []
    for method, words in METHODS.items():
        pictures = [picture for picture in examination.pictures if picture.method == method]
        if pictures:
            last = pictures[-1]
            shares = f", {percent(math.fsum(last.explained))} of the variance" if last.explained else ""
            said.append(f"{words} of {len(last.nodes):,} nodes{shares}")
    return "; ".join(said)

"""Which settings give a geometric memory: start of the embeddings, learning rate and weight decay of TinyNN.

A large start and a small learning rate leave the table as it was drawn; the matrix learns the edges: an association.
A small start, a larger learning rate or weight decay let the table follow the graph. The two views differ: a table with
a positive skewed margin may lie along the zigzag end of the spectrum alone, so margin, z-score, distances and verdict
are shown side by side. A table that diverged is counted as diverged and has no verdict.

Source: the knobs of Shahriarnz14/Geometric_Memory on the cycle (width 512, 10,000 steps) are the reference points;
dropout is left out. The grid is an addition.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from mnemoscope.examination.geometry.scores import margins
from mnemoscope.experiments.geometry.measuring import (
    DIVERGED,
    KINDS,
    graph_of,
    kind_of,
    metrics_of,
    shuffled,
    strongest,
)
from mnemoscope.experiments.geometry.memorising import EdgeTraining, Memorised, memorise_network
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured
from mnemoscope.runs.geometry import HeatMap
from mnemoscope.tasks.graphs import GraphName
from mnemoscope.tasks.tiny_graphs import TinyGraphs, TinyGraphsConfig

SEEN = (
    "kind",
    "z",
    "recall",
    "fiedler_alignment",
    "far_distance_correlation",
    "bottom_share",
    "skewed_margin",
    "skewed_accuracy",
)
"""What is known of a point; kind is a place in `measuring.KINDS`, or -1 for one that diverged."""


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """A point.

    Args:
        initial_std: of the embeddings.
        learning_rate: of AdamW, constant.
        weight_decay: of AdamW, decoupled.
    """

    initial_std: float
    learning_rate: float
    weight_decay: float = 0.0

    @property
    def name(self) -> str:
        """For instance "start 1, rate 0.0001, decay 10"."""
        return f"start {self.initial_std:g}, rate {self.learning_rate:g}, decay {self.weight_decay:g}"


@dataclass(frozen=True, kw_only=True)
class PhaseStudy:
    """A grid of points on some graphs, and the reference points on the cycle.

    Args:
        width: of the networks of the grid.
        steps: of them.
        graphs: names of tiny graphs.
        initial_stds: of the grid.
        learning_rates: of the grid.
        weight_decays: of the grid.
        reference_width: of the networks at the reference points.
        reference_steps: of them.
        n_shuffles: of the nulls.
    """

    width: int = 64
    steps: int = 2000
    graphs: tuple[GraphName, ...] = ("cycle", "path_star")
    initial_stds: tuple[float, ...] = (0.02, 0.1, 0.3, 1.0)
    learning_rates: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1)
    weight_decays: tuple[float, ...] = (0.0, 1.0, 10.0)
    reference_width: int = 512
    reference_steps: int = 10_000
    n_shuffles: int = 200

    @property
    def points(self) -> list[Knobs]:
        """The grid: decays outermost, then starts, then learning rates."""
        return [
            Knobs(initial_std=std, learning_rate=rate, weight_decay=decay)
            for decay, std, rate in product(self.weight_decays, self.initial_stds, self.learning_rates)
        ]


REFERENCES: Mapping[Knobs, tuple[str, str, str]] = {
    Knobs(initial_std=0.02, learning_rate=1e-2): ("7.87", "0.99", "0.90"),
    Knobs(initial_std=0.02, learning_rate=1e-4): ("3.42", "0.45", "0.27"),
    Knobs(initial_std=1.0, learning_rate=1e-4): ("-0.75", "0.05", "-0.17"),
    Knobs(initial_std=1.0, learning_rate=1e-1): ("11.99", "0.01", "0.30"),
    Knobs(initial_std=1.0, learning_rate=1e-4, weight_decay=10.0): ("2.97", "0.95", "0.79"),
}
"""Released points, and what their checkpoints give: skewed margin, Fiedler alignment, far distance correlation."""


def geometry_phase(settings: PhaseStudy, seed: int) -> Measured:
    """Every point of the grid on every graph, and every reference point on the cycle."""
    grid: dict[GraphName, list[dict[str, float]]] = {
        graph: [point_seen(settings, graph, knobs, seed) for knobs in settings.points] for graph in settings.graphs
    }
    references = {knobs: reference_seen(settings, knobs, seed) for knobs in REFERENCES}
    every = [seen for points in grid.values() for seen in points] + list(references.values())
    figures = {
        f"{knobs.name}: {name}": seen[name]
        for knobs, seen in references.items()
        for name in ("skewed_margin", "fiedler_alignment", "far_distance_correlation", "z", "kind")
    }
    figures |= {kind: float(sum(seen["kind"] == code for seen in every)) for code, kind in enumerate(KINDS)}
    lost = [seen for seen in every if not np.isfinite(seen["z"])]
    figures |= {
        "diverged": float(sum(seen["kind"] == DIVERGED for seen in every)),
        "diverged geometric": float(sum(seen["kind"] == KINDS.index("geometric") for seen in lost)),
    }
    return Measured(figures=figures, series=_series(settings, grid))


def point_seen(settings: PhaseStudy, graph: GraphName, knobs: Knobs, seed: int) -> dict[str, float]:
    """A point of the grid."""
    return _seen(_trained(graph, knobs, settings.width, settings.steps, seed), settings.n_shuffles, seed)


def reference_seen(settings: PhaseStudy, knobs: Knobs, seed: int) -> dict[str, float]:
    """A reference point, on the cycle."""
    found = _trained("cycle", knobs, settings.reference_width, settings.reference_steps, seed)
    return _seen(found, settings.n_shuffles, seed)


def phase_maps(settings: PhaseStudy, series: Mapping[str, Sequence[float]], name: str) -> list[HeatMap]:
    """One map for each graph and weight decay, starts by learning rates, of one of `SEEN`."""
    shape = (len(settings.weight_decays), len(settings.initial_stds), len(settings.learning_rates))
    return [
        HeatMap(
            title=f"{graph}, weight decay {decay:g}: {name.replace('_', ' ')}",
            rows=[f"start {std:g}" for std in settings.initial_stds],
            columns=[f"rate {rate:g}" for rate in settings.learning_rates],
            values=values.tolist(),
            unit="0 not memorised, 1 associative, 2 mixed, 3 geometric, -1 diverged" if name == "kind" else "",
        )
        for graph in settings.graphs
        for decay, values in zip(settings.weight_decays, np.reshape(series[f"{graph}: {name}"], shape), strict=True)
    ]


def _maps(settings: PhaseStudy, series: Mapping[str, Sequence[float]]) -> list[HeatMap]:
    return [heat_map for name in ("kind", "z") for heat_map in phase_maps(settings, series, name)]


def _trained(graph: GraphName, knobs: Knobs, width: int, steps: int, seed: int) -> Memorised:
    training = EdgeTraining(
        width=width,
        steps=steps,
        learning_rate=knobs.learning_rate,
        schedule="constant",
        weight_decay=knobs.weight_decay,
        initial_std=knobs.initial_std,
    )
    return memorise_network(TinyGraphs(TinyGraphsConfig(graph=graph)), training, seed)


def _seen(found: Memorised, n_shuffles: int, seed: int) -> dict[str, float]:
    if not found.end.is_finite:
        return dict.fromkeys(SEEN, np.nan) | {"kind": float(DIVERGED)}
    assert found.matrix is not None
    graph = graph_of(found.task)
    metrics = metrics_of(found.end, graph, shuffled(found.task, n_shuffles, seed))
    skewed = {metric.name: metric.value for metric in margins(found.end.table, found.matrix, graph)}
    values = {name: metric.value for name, metric in metrics.items()} | skewed
    values |= {"kind": float(kind_of(metrics)), "z": strongest(metrics), "recall": found.end.recall}
    return {name: values[name] for name in SEEN}


def _series(
    settings: PhaseStudy, grid: Mapping[GraphName, Sequence[Mapping[str, float]]]
) -> Mapping[str, Sequence[float]]:
    points = settings.points
    axes = {
        "initial_std": [knobs.initial_std for knobs in points],
        "learning_rate": [knobs.learning_rate for knobs in points],
        "weight_decay": [knobs.weight_decay for knobs in points],
    }
    return axes | {
        f"{graph}: {name}": [seen[name] for seen in grid[graph]] for graph in settings.graphs for name in SEEN
    }


def _reference_claims() -> list[Claim]:
    claims = list[Claim]()
    for knobs, (margin, fiedler, far) in REFERENCES.items():
        is_drawn = knobs == Knobs(initial_std=1.0, learning_rate=1e-4)
        claims += [
            Claim(
                figure=f"{knobs.name}: skewed_margin",
                what=f"{knobs.name}: skewed margin",
                published=margin,
                least=None if is_drawn else 0.0,
                most=0.0 if is_drawn else None,
            ),
            Claim(
                figure=f"{knobs.name}: fiedler_alignment", what=f"{knobs.name}: Fiedler alignment", published=fiedler
            ),
            Claim(
                figure=f"{knobs.name}: far_distance_correlation",
                what=f"{knobs.name}: far distance correlation",
                published=far,
            ),
            Claim(figure=f"{knobs.name}: z", what=f"{knobs.name}: larger z-score of R and R2"),
            Claim(
                figure=f"{knobs.name}: kind",
                what=f"{knobs.name}: verdict (1 associative, 2 mixed, 3 geometric)",
                most=1.0 if is_drawn else None,
            ),
        ]
    return claims


GEOMETRY_PHASE = Experiment(
    name="geometry-phase",
    what="A large start and a small learning rate leave an association; weight decay brings the geometry back",
    source="Shahriarnz14/Geometric_Memory (reference points); the grid is an addition",
    claims=(
        *_reference_claims(),
        *(Claim(figure=kind, what=f"points that are {kind}") for kind in KINDS),
        Claim(figure="diverged", what="points that diverged"),
        Claim(figure="diverged geometric", what="points that diverged and are called geometric", published="-", most=0),
    ),
    sizes={"small": PhaseStudy(), "paper": PhaseStudy(width=512, steps=10_000)},
    measure=geometry_phase,
    heat_maps=_maps,
)

"""Tiny graphs: which models learn the edges of four small graphs as geometry, and what self-edges change.

A model that never has to answer with the node itself can put neighbours on opposite sides, a zigzag: eigenvectors of
the graph at the lower end of its spectrum. Asked for the node itself as well, it cannot, and moves to the smooth end.
Loss stays at the entropy of the targets, frozen tables know nothing of the graph, and every measure is followed over
the training, since an early geometry may be gone at the end.

Source: Noroozizadeh et al. 2025 (arXiv 2510.26745), tiny graphs, and the notebooks and checkpoints of
Shahriarnz14/Geometric_Memory. Published margins are those of its checkpoints; published shares are what this project's
measures gave on them. What differs from the notebooks: see `tiny_models`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from mnemoscope.examination.geometry.scores import margins
from mnemoscope.experiments.geometry.measuring import (
    KINDS,
    graph_of,
    kind_of,
    metrics_of,
    shuffled,
    strongest,
    values_of,
)
from mnemoscope.experiments.geometry.memorising import Memorised
from mnemoscope.experiments.geometry.tiny_models import (
    ARMS,
    GRAPHS,
    PUBLISHED,
    RELEASED,
    Arm,
    ModelName,
    TinyModels,
    memorised,
)
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Plot
from mnemoscope.runs.geometry import GeometryMetric
from mnemoscope.tasks.graphs import GraphName

SOURCE = "Noroozizadeh et al. 2025, arXiv 2510.26745, and the checkpoints of Shahriarnz14/Geometric_Memory"
WITH_AND_WITHOUT: tuple[ModelName, ...] = ("TinyGPT", "TinyNN", "TinySSM", "TinySSM bare", "Node2Vec")
"""Models that are trained with self-edges and without."""


@dataclass(frozen=True, kw_only=True)
class TinyStudy:
    """Models, graphs and how finely they are examined.

    Args:
        models: how each is trained.
        graphs: names of tiny graphs.
        n_shuffles: of the null of the last look.
        n_shuffles_meanwhile: of all looks before.
    """

    models: TinyModels
    graphs: tuple[GraphName, ...] = GRAPHS
    n_shuffles: int = 500
    n_shuffles_meanwhile: int = 50


Metrics: TypeAlias = Mapping[str, GeometryMetric]
Key: TypeAlias = tuple[Arm, GraphName]


def tiny_graphs(settings: TinyStudy, seed: int) -> Measured:
    """All models on all graphs."""
    ends, trained, series = dict[Key, Metrics](), dict[Key, Memorised](), dict[str, Sequence[float]]()
    for arm in ARMS:
        for graph in settings.graphs:
            found = memorised(arm, graph, settings.models, seed)
            track, ends[arm, graph] = followed(found, settings, seed)
            trained[arm, graph] = found
            series |= {f"{arm.name} {graph}: {name}": values for name, values in track.items()}
    return Measured(figures=figures(ends, trained, settings.graphs), series=series)


def followed(found: Memorised, settings: TinyStudy, seed: int) -> tuple[dict[str, list[float]], Metrics]:
    """The measures of every look, and those of the last with all shuffles."""
    graph = graph_of(found.task)
    few = shuffled(found.task, settings.n_shuffles_meanwhile, seed)
    looks = [metrics_of(look, graph, few) for look in found.looks[:-1]]
    looks.append(metrics_of(found.end, graph, shuffled(found.task, settings.n_shuffles, seed)))
    track: dict[str, list[float]] = {
        "step": [float(look.step) for look in found.looks],
        "loss": [look.loss for look in found.looks],
        "edge_recall": [look.recall for look in found.looks],
        "z": [strongest(metrics) for metrics in looks],
        "kind": [float(kind_of(metrics)) for metrics in looks],
    }
    values = [values_of(metrics) for metrics in looks]
    return track | {name: [one[name] for one in values] for name in values[-1]}, looks[-1]


def figures(
    ends: Mapping[Key, Metrics], trained: Mapping[Key, Memorised], graphs: Sequence[GraphName]
) -> dict[str, float]:
    """What is claimed of one seed."""
    found = _memories(trained) | _verdicts(ends)
    for model in WITH_AND_WITHOUT:
        for name in ("smooth_share", "bottom_share"):
            found |= _moved_shares(model, name, ends, graphs)
    for model in ("TinyNN", "frozen"):
        for graph in graphs:
            found |= _margins(model, graph, trained[Arm(model), graph])
    return found


def _memories(trained: Mapping[Key, Memorised]) -> dict[str, float]:
    """How well and how soon edges are known, and how far losses are from the entropy of the targets."""
    recalls = [(arm.model == "Node2Vec", found.end.recall) for (arm, _), found in trained.items()]
    # Tied products cannot rule out the node itself, so that Node2Vec stays far above; frozen tables may be too small.
    exact = [found for (arm, _), found in trained.items() if not arm.is_frozen and arm.model != "Node2Vec"]
    excess = [found.end.loss - found.task.floor_loss for found in exact]
    return {
        "least recall": min(recall for is_node2vec, recall in recalls if not is_node2vec),
        "least recall Node2Vec": min(recall for is_node2vec, recall in recalls if is_node2vec),
        "below floor": -min(excess),
        "above floor": max(excess),
        "fast step": max(found.known_since for (arm, _), found in trained.items() if arm.model == "frozen fast"),
    }


def _verdicts(ends: Mapping[Key, Metrics]) -> dict[str, float]:
    """How many tables of either kind are called what."""
    moving, frozen = (
        [KINDS[kind_of(metrics)] for (arm, _), metrics in ends.items() if arm.is_frozen is truth]
        for truth in (False, True)
    )
    return {
        "trained associative": float(moving.count("associative")),
        "trained geometric": moving.count("geometric") / len(moving),
        "frozen geometric": float(frozen.count("geometric")),
        "frozen associative": frozen.count("associative") / len(frozen),
    }


def _moved_shares(
    model: ModelName, name: str, ends: Mapping[Key, Metrics], graphs: Sequence[GraphName]
) -> dict[str, float]:
    """A share without self-edges and with them on each graph, and on how many it went where it should."""
    found, moved = dict[str, float](), 0
    for graph in graphs:
        before, after = (ends[Arm(model, self_edges=asked), graph][name].value for asked in (False, True))
        found |= {f"{model} {graph} {name}": before, f"{model} {graph} {name} +self": after}
        moved += after > before if name == "smooth_share" else after < before
    return found | {f"{model} {name} moved": float(moved)}


def _margins(model: str, graph: GraphName, found: Memorised) -> dict[str, float]:
    assert found.matrix is not None
    both = {metric.name: metric.value for metric in margins(found.end.table, found.matrix, graph_of(found.task))}
    return {f"{model} {graph} {name}": both[name] for name in ("margin", "skewed_margin", "skewed_accuracy")}


_RELEASED_SHARES: dict[str, tuple[str, ...]] = {
    "TinyGPT smooth_share": ("0.69", "0.67", "0.73", "0.60"),
    "TinyGPT smooth_share +self": ("0.93", "0.85", "0.90", "0.83"),
    "TinyNN smooth_share": ("0.46", "0.40", "0.52", "0.46"),
    "TinyNN smooth_share +self": ("0.86", "0.82", "0.84", "0.83"),
    "Node2Vec smooth_share": ("0.97", "0.99", "1.00", "0.98"),
    "TinyGPT bottom_share": ("0.25 to 0.31",) * 4,
    "TinyGPT bottom_share +self": ("0.03 to 0.12",) * 4,
    "TinyNN bottom_share": ("0.36 to 0.58",) * 4,
    "TinyNN bottom_share +self": ("0.07 to 0.16",) * 4,
    "Node2Vec bottom_share": ("at most 0.01",) * 4,
}
_RELEASED_MARGINS: dict[str, tuple[str, ...]] = {
    "TinyNN margin": ("9.13", "10.45", "8.82", "9.33"),
    "TinyNN skewed_margin": ("4.08", "2.51", "7.87", "8.13"),
    "TinyNN skewed_accuracy": ("0.824", "0.563", "1.000", "0.875"),
    "frozen margin": ("1.35", "0.96", "-0.17", "1.20"),
    "frozen skewed_margin": ("-0.24", "-0.15", "-1.15", "-0.10"),
    "frozen skewed_accuracy": ("0.118", "0.188", "0.133", "0.313"),
}


def _moved() -> list[Claim]:
    claims = list[Claim]()
    for model in WITH_AND_WITHOUT:
        bar = 3.0 if model in ("TinyGPT", "TinyNN") else None
        published = "4 of 4" if bar else "-"
        for name, verb in (("smooth_share", "raise the smooth share"), ("bottom_share", "cut the bottom share")):
            what = f"{model}: graphs, of 4, on which self-edges {verb}"
            claims.append(Claim(figure=f"{model} {name} moved", what=what, published=published, least=bar))
    return claims


def _shown() -> list[Claim]:
    """Beside released checkpoints, each of one seed; the sign of a skewed margin is not the same for all seeds."""
    claims = list[Claim]()
    for key, published in (_RELEASED_SHARES | _RELEASED_MARGINS).items():
        model, name, *suffix = key.split(" ")
        for graph, number in zip(GRAPHS, published, strict=True):
            what = f"{' '.join((model, *suffix))}, {graph}: {name.replace('_', ' ')}"
            claims.append(Claim(figure=" ".join((model, graph, name, *suffix)), what=what, published=number))
    return claims


DRAWN = ("TinyNN", "TinyNN +self", "TinyGPT", "TinyGPT +self", "frozen")

TINY_GRAPHS = Experiment(
    name="tiny-graphs",
    what="Models memorise tiny graphs as geometry, which self-edges make smooth; frozen tables have none",
    source=SOURCE,
    claims=(
        *_moved(),
        Claim(figure="least recall", what="least edge recall of all but Node2Vec", published="1", least=0.99),
        Claim(figure="least recall Node2Vec", what="least edge recall of Node2Vec", published="1", least=0.99),
        Claim(
            figure="below floor",
            what="largest fall of a loss below the entropy of the targets, nats",
            published="none",
            most=2e-3,
        ),
        Claim(
            figure="above floor", what="largest excess of a trained loss over it, nats", published="0.004", most=0.02
        ),
        Claim(
            figure="trained associative",
            what="tables that learned and are called associative",
            published="0",
            most=0,
        ),
        Claim(figure="trained geometric", what="share of the tables that learned that are called geometric"),
        Claim(figure="frozen geometric", what="frozen tables called geometric", published="0", most=0),
        Claim(
            figure="frozen associative",
            what="share of the frozen tables that are called associative",
            published="1",
            least=0.75,
        ),
        Claim(
            figure="fast step",
            what="frozen, width 512: step at which every edge of every graph is known",
            published="2",
            most=2,
        ),
        *_shown(),
    ),
    sizes={"small": TinyStudy(models=RELEASED), "paper": TinyStudy(models=PUBLISHED)},
    measure=tiny_graphs,
    plots=tuple(
        Plot(
            title=f"{what}, {graph.replace('_', ' ')}",
            caption=caption,
            y_label=label,
            lines={arm: f"{arm} {graph}: step -> {arm} {graph}: {name}" for arm in DRAWN},
            log_x=True,
        )
        for graph in ("path_star", "cycle")
        for what, caption, label, name in (
            (
                "Smooth share",
                "Variance along smooth eigenvectors of the graph; early geometry comes and goes.",
                "share of the variance",
                "smooth_share",
            ),
            (
                "Distance from shuffled tables",
                "The larger z of R and R2; the verdict asks for 3.5.",
                "standard deviations",
                "z",
            ),
        )
    ),
)

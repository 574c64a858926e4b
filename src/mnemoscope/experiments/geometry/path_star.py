"""Paths through a graph that was learned by heart: what makes a network find them, and what does not.

A network learns the edges of a path-star and the paths to three quarters of its leaves, and is asked for the others.
Arms of one experiment differ in one setting; each has the same figures:

    ARM: path          held-out paths with every node right, greedy                 ARM: v1   their hardest node
    ARM: train path    trained paths, likewise                                      ARM: edges   edge recall
    ARM: R, R z        smoothness of the embeddings, and its z-score                ARM: zigzag
    ARM: R2, R2 z      two-sided smoothness: high where neighbours are alike, or neighbours of neighbours
    ARM: leaf to hop   leaves whose nearest first hop is that of their arm; and "held out"          ARM: AUC
    ARM: learned at    first evaluated step with held-out paths of 0.95             ARM: peak   of held-out paths
    ARM: excess        edge loss above its floor, nats per pair

Source: Noroozizadeh et al. (2025), arXiv 2510.26745, sections 2 and 3, appendices C to E; the rows say which.
Published bars have no numbers: "up to 100 %" is what the text says. What differs from the source in the small size: a
graph of 200 arms, three layers of width 64, the expected edge loss, and batches of which 3 % are paths instead of 9 %:
paths that are seen more often are learned by heart before the embedding has the graph, and fewer are found.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from mnemoscope.experiments.geometry.examined import examined
from mnemoscope.experiments.geometry.in_weights import LEARNED, InWeights, InWeightsRun, train_in_weights
from mnemoscope.experiments.geometry.path_star_models import Network
from mnemoscope.experiments.geometry.plots import paths_and_geometry
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Plot
from mnemoscope.memories import AttentionConfig
from mnemoscope.tasks.path_star import PathStarConfig

PAPER = "Noroozizadeh et al. 2025, arXiv 2510.26745"
HARDEST, FAILS, MEMORISED, SMOOTH_Z, TRANSPLANTED = 0.85, 0.02, 1.0, 20.0, 0.8
"""Bars: the hardest node alone; a failure, where chance is 0.005; paths that were trained; the z-score of R; the first
hop on a transplanted embedding."""

OF_PATHS = {"path": "path", "v1": "v1", "train path": "train path"}
OF_TABLES = {
    "edges": "edge recall",
    "R": "smoothness",
    "R z": "smoothness z",
    "R2": "two_sided_smoothness",
    "R2 z": "two_sided_smoothness z",
    "zigzag": "zigzag",
    "leaf to hop": "first_hop_top1",
    "leaf to hop held out": "first_hop_top1_held_out",
    "AUC": "first_hop_auc",
}


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One training of an experiment.

    Args:
        name: begins the names of its figures.
        config: of the training; the seed of the graph is that of the experiment.
    """

    name: str
    config: InWeights


@dataclass(frozen=True, kw_only=True)
class Arms:
    """Trainings that are compared.

    Args:
        arms: in the order of training.

    Raises:
        ValueError: two of one name.
    """

    arms: tuple[Arm, ...]

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError(f"Arms.arms: must have a name of their own each, got {', '.join(names)}")


def seeded(config: InWeights, seed: int) -> InWeights:
    """The same on the graph of another seed."""
    return replace(config, task=replace(config.task, graph_seed=seed))


def compare(settings: Arms, seed: int, examine: Sequence[str] = ()) -> Measured:
    """Train every arm, on one graph wherever their settings allow it.

    Args:
        settings: the arms.
        seed: of graph, weights and order.
        examine: arms whose embeddings are examined, at every evaluation; their pages stand beside the figures.
    """
    runs = dict[str, InWeightsRun]()
    for arm in settings.arms:
        kept = replace(seeded(arm.config, seed), keep_tables=arm.name in examine)
        runs[arm.name] = train_in_weights(kept, seed)
    figures = {f"{name}: {what}": value for name, run in runs.items() for what, value in figures_of(run).items()}
    series = {f"{name}: {what}": run.curve(what) for name, run in runs.items() for what in drawn_of(run)}
    return Measured(figures=figures, series=series, geometry=examined(runs, examine, seed))


def edges_only(config: InWeights) -> InWeights:
    """The same without paths."""
    return replace(config, task=replace(config.task, stage="edges"), path_share=None, stop_at=None)


def figures_of(run: InWeightsRun) -> dict[str, float]:
    """The figures of an arm, see the head of the file."""
    found = {short: run.end(name) for short, name in OF_TABLES.items()}
    found["steps"] = run.end("step")
    if run.config.task.stage != "paths":
        found["excess"] = run.end("edge loss") - run.end("edge floor")
    if run.config.task.stage == "edges":
        return found
    found |= {short: run.end(name) for short, name in OF_PATHS.items()}
    found |= {"peak": run.peak("path"), "peak v1": run.peak("v1"), "learned at": run.first("path", LEARNED)}
    if run.config.task.target == "reverse":
        found["path after the copy"] = run.end("path after the copy")
    return found


def drawn_of(run: InWeightsRun) -> list[str]:
    """The names of the curves that are kept."""
    kept = ("step", "path", "v1", "train path", "edge recall", "edge loss", "path loss", "smoothness", "smoothness z")
    return [name for name in run.rows[0] if name in kept or name.startswith(("forced ", "free ")) or name == "zigzag"]


def bar(arm: str, figure: str, *, published: str = "-", least: float | None = None, most: float | None = None) -> Claim:
    """A claim about a figure of an arm."""
    return Claim(figure=f"{arm}: {figure}", what=f"{arm}: {WORDS[figure]}", published=published, least=least, most=most)


def shown(arm: str, *figures: str) -> list[Claim]:
    """Figures without bounds."""
    return [bar(arm, figure) for figure in figures]


def each(arms: Iterable[str], *figures: str) -> list[Claim]:
    """The same figures of several arms, without bounds."""
    return [claim for arm in arms for claim in shown(arm, *figures)]


WORDS = {
    "path": "held-out paths with every node right",
    "path after the copy": "held-out reverse paths with every node after the first right",
    "v1": "held-out paths with v1 right",
    "train path": "trained paths with every node right",
    "edges": "edge recall",
    "R": "smoothness R of the embeddings",
    "R z": "z-score of R among shuffled nodes",
    "R2": "two-sided smoothness R2 of the embeddings",
    "R2 z": "z-score of R2 among shuffled nodes",
    "zigzag": "zigzag, cosine at 2 hops less that at 1",
    "leaf to hop": "leaves whose nearest first hop is their own",
    "leaf to hop held out": "the same, of leaves whose paths are held out",
    "AUC": "AUC of a leaf's own first hop by cosine",
    "peak": "held-out paths, best evaluation",
    "peak v1": "held-out v1, best evaluation",
    "learned at": f"first evaluated step with {LEARNED:g} of held-out paths",
    "steps": "steps until it stopped",
    "excess": "edge loss above its floor, nats per pair",
}


SMALL = InWeights(path_share=0.03, learning_rate=2e-3, steps=600)
"""G(200,5)."""

PUBLISHED = InWeights(
    task=PathStarConfig(n_arms=5000, path_length=5, n_pauses=5),
    network=Network(
        mixer=AttentionConfig(n_heads=8, positions="none"),
        layers=12,
        width=384,
        positions="sinusoidal",
    ),
    steps=42_000,
    batch_size=2048,
    edge_loss="sampled",
    learning_rate=5e-5,
    warmup_steps=1000,
    every=1000,
    stop_at=LEARNED,
    device="auto",
    bfloat16=True,
)
"""G(5000,5) as the paper has it, 2,000 passes; the standard deviation of tokens and the warm-up are the code's."""

OFFICIAL = replace(
    PUBLISHED,
    task=replace(PUBLISHED.task, n_pauses=1),
    network=replace(PUBLISHED.network, positions="learned", position_std=50.0),
    learning_rate=5e-4,
)
"""The same with what the official code has instead: learned positions of standard deviation 1, one pause, a larger
learning rate."""


def _arms(base: InWeights) -> Arms:
    """The rows 1a, 1c, 3 and 4 of the findings, and the transplant."""
    endless = replace(base, stop_at=None)
    network, task = base.network, base.task
    return Arms(
        arms=(
            Arm(name="full path", config=replace(base, stop_at=LEARNED)),
            Arm(name="hardest", config=replace(base, task=replace(task, target="hardest"), stop_at=LEARNED)),
            Arm(name="frozen", config=replace(endless, network=replace(network, freeze=True))),
            Arm(name="forward only", config=replace(endless, task=replace(task, directions="forward"))),
            Arm(name="backward only", config=replace(endless, task=replace(task, directions="backward"))),
            Arm(name="edges only", config=edges_only(base)),
            Arm(
                name="transplant", config=replace(endless, network=replace(network, freeze=True, transplant="node2vec"))
            ),
        )
    )


def _claims() -> Sequence[Claim]:
    return (
        bar("full path", "path", published="up to 100 % (Obs 1a)", least=LEARNED),
        bar("hardest", "v1", published="high (Obs 1c)", least=HARDEST),
        bar("frozen", "v1", published="not learned (E.1)", most=FAILS),
        bar("frozen", "train path", published="fits", least=MEMORISED),
        bar("forward only", "path", published="fails (D.1)", most=FAILS),
        bar("backward only", "path", published="fails (D.1)", most=FAILS),
        bar("edges only", "R z", published="geometric (Obs 2)", least=SMOOTH_Z),
        bar("transplant", "v1", least=TRANSPLANTED),
        *shown("full path", "steps", "edges", "R", "R z", "zigzag", "leaf to hop", "leaf to hop held out", "AUC"),
        *shown("hardest", "steps", "edges"),
        *shown("frozen", "path", "edges", "steps"),
        *shown("forward only", "v1", "train path", "edges", "AUC"),
        *shown("backward only", "v1", "train path", "edges", "AUC"),
        *shown("edges only", "R", "zigzag", "edges", "leaf to hop", "AUC", "excess"),
        *shown("transplant", "path", "train path", "edges"),
    )


PATH_STAR = Experiment(
    name="path-star",
    what="Held-out paths of a memorised path-star: with learned and frozen embeddings, and edges of one direction",
    source=f"{PAPER}, observations 1 and 2, appendices D.1 and E.1; the transplant is an addition",
    claims=_claims(),
    sizes={"small": _arms(SMALL), "paper": _arms(PUBLISHED)},
    measure=partial(compare, examine=("full path", "frozen", "edges only")),
    plots=(
        *paths_and_geometry(
            ("full path", "frozen", "forward only", "edges only", "transplant"),
            ("full path", "frozen", "forward only", "backward only", "transplant"),
        ),
        Plot(
            title="Which nodes are learned when",
            caption="Held-out full paths, the right answers given: a cascade would begin at the leaf and end at v1.",
            y_label="accuracy (fraction)",
            lines={node: f"full path: forced {node}" for node in ("v1", "v2", "v3", "leaf")},
            x="full path: step",
        ),
    ),
)

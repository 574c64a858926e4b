"""Path-star under other conditions: pauses, stages, directions asked in reverse, trees, and other mixers.

    path-star-pauses        findings, row 5: more pauses speed learning up and do not change its outcome
    path-star-staged        row 6: edges, then paths alone: a peak, then forgetting
    path-star-directions    row 4: full and reverse paths after edges of one direction
    tree-star               row 7: below the root every inner node has two children; held-out leaves or whole subtrees
    path-star-mamba         row 2: the embeddings of Mamba after edges alone; is it the missing residual connection?
    path-star-memories      do test-time memories keep the geometry?

Source: Noroozizadeh et al. (2025), arXiv 2510.26745, observation 2 and appendices C.2, D.1 to D.3; the official code,
whose Mamba block has no residual connection. The last two experiments are additions. What differs: as in `path_star`;
a Mamba stack has a norm before its head.
"""

from dataclasses import dataclass, replace

from mnemoscope.experiments.geometry.in_weights import LEARNED, InWeights, train_in_weights
from mnemoscope.experiments.geometry.path_star import (
    FAILS,
    PAPER,
    PUBLISHED,
    SMALL,
    SMOOTH_Z,
    Arm,
    Arms,
    bar,
    compare,
    each,
    edges_only,
    figures_of,
    seeded,
    shown,
)
from mnemoscope.experiments.geometry.plots import paths_and_geometry
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Plot
from mnemoscope.memories import GatedDeltaConfig, MambaConfig, OmegaConfig
from mnemoscope.models.mixers import MixerConfig
from mnemoscope.tasks.path_star import PathStarConfig

PAUSES = (0, 1, 2, 5)
PEAK, FORGOTTEN = 0.5, 0.5
"""Held-out first hops at the best evaluation of the paths, and how much of that is left where it is forgotten."""
TREE_CHANCE_TIMES = 10
"""Held-out leaves of a tree are found well above chance where they are found so many times as often."""

MEMORIES: dict[str, MixerConfig] = {
    "gated delta": GatedDeltaConfig(n_heads=4),
    "delta": GatedDeltaConfig(n_heads=4, retains=False),
    "omega": OmegaConfig(n_heads=4),
}


def with_mixer(config: InWeights, mixer: MixerConfig, *, residual: bool = True, mlp_ratio: float = 4.0) -> InWeights:
    """The same with a mixer that sees to order by itself."""
    network = replace(
        config.network, mixer=mixer, positions="none", position_std=1.0, residual=residual, mlp_ratio=mlp_ratio
    )
    return replace(config, network=network)


def _with_pauses(base: InWeights, pauses: tuple[int, ...]) -> Arms:
    asked = [replace(base, task=replace(base.task, n_pauses=n), stop_at=LEARNED) for n in pauses]
    return Arms(arms=tuple(Arm(name=f"{n} pauses", config=config) for n, config in zip(pauses, asked, strict=True)))


PAUSED = Experiment(
    name="path-star-pauses",
    what="Pauses before the answer: do they change how fast a path-star is learned, or whether?",
    source=f"{PAPER}, appendix D.2",
    claims=tuple(
        claim
        for n in PAUSES
        for claim in (
            bar(f"{n} pauses", "path", published="learned" if n else "learned, later", least=LEARNED),
            *shown(f"{n} pauses", "steps"),
        )
    ),
    sizes={"small": _with_pauses(SMALL, PAUSES)},
    measure=compare,
    plots=paths_and_geometry(tuple(f"{n} pauses" for n in PAUSES)),
)


@dataclass(frozen=True, kw_only=True)
class Staged:
    """Edges first, then paths alone.

    Args:
        edges: the first training, of stage "edges".
        paths: the second, of stage "paths", which goes on with the network of the first.
    """

    edges: InWeights
    paths: InWeights

    def __post_init__(self) -> None:
        got = self.edges.task.stage, self.paths.task.stage
        if got != ("edges", "paths"):
            raise ValueError(f"Staged: edges and paths must have the stages 'edges' and 'paths', got {got}")


def staged(settings: Staged, seed: int) -> Measured:
    """The figures of both stages; those of the second at its best evaluation and at its end."""
    first = train_in_weights(seeded(settings.edges, seed), seed)
    second = train_in_weights(seeded(settings.paths, seed), seed, start=first.model)
    best = second.peak("v1")
    figures = {f"edges first: {name}": value for name, value in figures_of(first).items()}
    figures |= {f"then paths: {name}": value for name, value in figures_of(second).items()}
    figures |= {"peak at": second.first("v1", best), "left": second.end("v1") / best if best else float("nan")}
    names = ("step", "path", "v1", "train path", "edge recall", "smoothness")
    return Measured(figures=figures, series={f"then paths: {name}": second.curve(name) for name in names})


def _stages(base: InWeights, edge_rate: float, path_steps: int, path_rate: float, every: int) -> Staged:
    paths = replace(base.task, stage="paths")
    return Staged(
        edges=replace(edges_only(base), learning_rate=edge_rate),
        paths=replace(
            base,
            task=paths,
            path_share=None,
            batch_size=None if base.batch_size and base.batch_size < 1024 else base.batch_size,
            steps=path_steps,
            learning_rate=path_rate,
            warmup_steps=min(base.warmup_steps, path_steps // 20),
            every=every,
            stop_at=None,
        ),
    )


STAGED = Experiment(
    name="path-star-staged",
    what="Edges first and then paths alone: held-out paths are found for a while, and forgotten",
    source=f"{PAPER}, appendix D.3",
    claims=(
        bar("then paths", "peak v1", published="high (D.3)", least=PEAK),
        Claim(
            figure="left",
            what="then paths: held-out v1 at the end, of the best evaluation",
            published="collapses",
            most=FORGOTTEN,
        ),
        Claim(figure="peak at", what="then paths: step of the best evaluation"),
        *shown("then paths", "v1", "train path", "peak", "edges", "R"),
        *shown("edges first", "edges", "R", "leaf to hop"),
    ),
    sizes={
        "small": _stages(SMALL, SMALL.learning_rate, 800, 1e-4, 20),
        "paper": _stages(PUBLISHED, 1e-2, 42_000, 5e-5, 500),
    },
    measure=staged,
    plots=(
        Plot(
            title="Paths alone, after edges alone",
            caption="Held-out first hops rise and fall again, while trained paths are learned and edges forgotten.",
            y_label="accuracy or recall (fraction)",
            lines={
                "held-out v1": "then paths: v1",
                "trained paths": "then paths: train path",
                "edge recall": "then paths: edge recall",
            },
            x="then paths: step",
        ),
    ),
)


def _asked_both_ways(base: InWeights) -> Arms:
    free = replace(base, stop_at=None)
    options = [(d, t) for d in ("both", "forward", "backward") for t in ("full", "reverse")]
    return Arms(
        arms=tuple(
            Arm(name=f"{d} edges, {t} paths", config=replace(free, task=replace(base.task, directions=d, target=t)))
            for d, t in options
            if (d, t) != ("both", "full")
        )
    )


DIRECTIONS = Experiment(
    name="path-star-directions",
    what="Full and reverse paths after edges of one direction",
    source=f"{PAPER}, appendix D.1",
    claims=(
        bar("forward edges, full paths", "path", published="fails", most=FAILS),
        bar("forward edges, reverse paths", "path after the copy", published="fails", most=10 * FAILS),
        bar("backward edges, full paths", "path", published="fails", most=FAILS),
        bar("backward edges, reverse paths", "path after the copy", published="partly"),
        bar("both edges, reverse paths", "path after the copy", published="works"),
        *each(("backward edges, reverse paths", "both edges, reverse paths"), "path", "train path", "edges"),
    ),
    sizes={"small": _asked_both_ways(SMALL)},
    measure=compare,
    plots=paths_and_geometry(tuple(arm.name for arm in _asked_both_ways(SMALL).arms)),
)


def _trees(base: InWeights, n_arms: int, path_length: int) -> Arms:
    tree = PathStarConfig(n_arms=n_arms, path_length=path_length, branching=2, n_pauses=base.task.n_pauses)
    return Arms(
        arms=(
            Arm(name="held-out leaves", config=replace(base, task=tree, stop_at=None)),
            Arm(name="held-out subtrees", config=replace(base, task=replace(tree, hold_out="first_hop"), stop_at=None)),
        )
    )


TREE = Experiment(
    name="tree-star",
    what="Paths through a tree, to held-out leaves and into held-out subtrees",
    source=f"{PAPER}, appendix C.2",
    claims=(
        bar("held-out leaves", "path", published="above chance", least=TREE_CHANCE_TIMES / 400),
        bar("held-out subtrees", "path", published="much lower"),
        *each(("held-out leaves", "held-out subtrees"), "v1", "train path", "edges", "R", "R z", "zigzag"),
    ),
    sizes={"small": _trees(SMALL, 50, 5), "paper": _trees(PUBLISHED, 1000, 5)},
    measure=compare,
    plots=paths_and_geometry(("held-out leaves", "held-out subtrees")),
)


def _mamba_and_transformer(base: InWeights) -> Arms:
    edges, mamba = edges_only(base), MambaConfig()
    plain = replace(edges.network, residual=False)
    return Arms(
        arms=(
            Arm(name="Transformer", config=edges),
            Arm(name="Transformer without residual", config=replace(edges, network=plain)),
            Arm(name="Mamba", config=with_mixer(edges, mamba, mlp_ratio=0.0)),
            Arm(name="Mamba without residual", config=with_mixer(edges, mamba, residual=False, mlp_ratio=0.0)),
        )
    )


MAMBA = Experiment(
    name="path-star-mamba",
    what="Embeddings after edges alone: is Mamba's geometry that of its missing residual connection?",
    source=f"{PAPER}, observation 2; the official code, whose Mamba block has no residual connection",
    claims=(
        bar("Transformer", "R z", published="geometric, weaker", least=SMOOTH_Z),
        bar("Mamba", "R z", published="geometric, strong", least=SMOOTH_Z),
        bar("Mamba without residual", "R z"),
        bar("Mamba without residual", "R2 z"),
        *each(
            ("Transformer", "Transformer without residual", "Mamba", "Mamba without residual"),
            *("R", "R2", "zigzag", "leaf to hop", "AUC", "edges", "excess"),
        ),
    ),
    sizes={"small": _mamba_and_transformer(SMALL), "paper": _mamba_and_transformer(PUBLISHED)},
    measure=compare,
    plots=paths_and_geometry(tuple(arm.name for arm in _mamba_and_transformer(SMALL).arms), ()),
)


def _memories(base: InWeights) -> Arms:
    trained = {name: with_mixer(replace(base, stop_at=LEARNED), mixer) for name, mixer in MEMORIES.items()}
    return Arms(
        arms=(
            *(Arm(name=name, config=config) for name, config in trained.items()),
            *(Arm(name=f"{name}, edges only", config=edges_only(config)) for name, config in trained.items()),
        )
    )


REMEMBERED = Experiment(
    name="path-star-memories",
    what="Do delta-rule and test-time memories keep the geometry, and find held-out paths?",
    source="a question of this project; the task is that of " + PAPER,
    claims=tuple(
        claim
        for name in MEMORIES
        for claim in (
            bar(name, "path"),
            *shown(name, "steps", "edges", "R", "R z", "leaf to hop"),
            bar(f"{name}, edges only", "R z"),
            *shown(f"{name}, edges only", "R", "edges", "leaf to hop"),
        )
    ),
    sizes={"small": _memories(SMALL)},
    measure=compare,
    plots=paths_and_geometry(tuple(MEMORIES)),
)

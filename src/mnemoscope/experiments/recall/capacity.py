"""What feature maps of keys let a memory hold: recall by load, beside the directions that the features span.

    map            features of d = 16 channels     rank
    identity                 16                      16
    elementwise 2            33                      33        powers channel by channel, the guide's map
    monomial 2              153                     153        with the products of different channels
    sketch 2                 64                      64        random projections of the monomials

One memory for each map, 16 channels wide, trained on sequences of 16 pairs, then of 16, 24, 32, 48 and 64 pairs in
turn, and asked at each of these loads. Degree 1 of the monomials is degree 1 of the elementwise powers, and is not
trained twice.

Source: capacity O(d^p) of polynomial keys, Behrouz et al. 2025, "ATLAS" (arXiv 2505.23735); degree 2 as a knob,
r3d91ll/Todd_Atlas, docs/MEMORY_TUNING_GUIDE.md, whose map is elementwise; the ranks, a pilot of this project.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from mnemoscope.experiments.kept_arms import ArmResult, kept_arm
from mnemoscope.experiments.recall.recaller import (
    TAPS,
    Recaller,
    Recalling,
    curve_steps,
    held_out,
    recalled,
    trained,
)
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Plot, Result
from mnemoscope.memories.feature_maps import FeatureMap, FeatureOptions, Features
from mnemoscope.memories.omega import OmegaConfig
from mnemoscope.runs.reproduction import TextTable
from mnemoscope.tasks.cued_recall import CuedRecallConfig
from mnemoscope.training.metrics.memory_rank import memory_rank

FOLDER = "recall-arms"
RECALLED = 0.97
"""Accuracy that counts as recall, as in `detached-writes`."""
MORE = 0.02
"""A difference of accuracies that counts: beyond two standard errors, over 256 sequences."""
N_RANDOM = 400
"""Random keys whose features the rank is taken of."""


ENTRIES, EARLY = 20, 4
"""Entries of a training curve, and the one that ends with a quarter of the training."""


class Map(NamedTuple):
    """A feature map and its degree."""

    features: Features
    degree: int | None = None

    @property
    def name(self) -> str:
        """Features and degree: "monomial 2"."""
        return self.features if self.degree is None else f"{self.features} {self.degree}"


MAPS = (
    Map("identity"),
    *(Map("elementwise", degree) for degree in (1, 2, 3)),
    *(Map("monomial", degree) for degree in (2, 3)),
    *(Map("sketch", degree) for degree in (1, 2, 3)),
)


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """The memories, their loads and their training.

    Args:
        loads: pairs of a sequence, ascending; each of them is trained on and tested.
        n_keys: tokens that are keys.
        n_values: tokens that are values.
        width: channels of a key.
        sketch_width: features of a sketch.
        chunk_tokens: tokens whose gradients are taken at the same memory.
        steps: of training, a multiple of 20.
        alone: steps at the beginning with the smallest load only, from which recall is learned sooner.
        batch_size: sequences of a step.
        learning_rate: of Adam, constant.
        test_sequences: held-out sequences of each accuracy.
    """

    loads: tuple[int, ...] = (16, 24, 32, 48, 64)
    n_keys: int = 64
    n_values: int = 64
    width: int = 16
    sketch_width: int = 64
    chunk_tokens: int = 8
    steps: int = 1000
    alone: int = 400
    batch_size: int = 32
    learning_rate: float = 1e-2
    test_sequences: int = 256

    def __post_init__(self) -> None:
        if self.steps % ENTRIES or self.steps < ENTRIES:
            raise ValueError(f"Capacity.steps: must be a multiple of {ENTRIES}, got {self.steps}; use 1000")
        if list(self.loads) != sorted(set(self.loads)) or not self.loads:
            raise ValueError(f"Capacity.loads: must be at least one, ascending, got {self.loads}; use (16, 32, 64)")

    def options(self, a_map: Map) -> FeatureOptions:
        """A map as the memory takes it."""
        sketch_width = self.sketch_width if a_map.features == "sketch" else None
        return FeatureOptions(a_map.features, a_map.degree, sketch_width)

    def recalling(self, a_map: Map) -> Recalling:
        """The memory with a map, and its training."""
        options = self.options(a_map)
        return Recalling(
            memory=OmegaConfig(
                n_heads=1,
                chunk_tokens=self.chunk_tokens,
                window=1,
                convolution=TAPS,
                features=options.features,
                degree=options.degree,
                sketch_width=options.sketch_width,
            ),
            tasks=tuple(self.task(load) for load in self.loads),
            width=self.width,
            alone=self.alone,
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            every=self.steps // ENTRIES,
        )

    def task(self, load: int) -> CuedRecallConfig:
        """The task at a load."""
        return CuedRecallConfig(n_keys=self.n_keys, n_values=self.n_values, n_pairs=load)


@dataclass(frozen=True, kw_only=True)
class CapacityArm:
    """Everything that one map is measured with."""

    recalling: Recalling
    test_sequences: int


def memory_capacity(settings: Capacity, seed: int, out: Path) -> Measured:
    """Recall at every load, and ranks, of every map."""
    figures, series = dict[str, float](), dict[str, Sequence[float]]()
    series["pairs"] = [float(load) for load in settings.loads]
    for a_map in MAPS:
        kept = _kept(settings, a_map, seed, out)
        figures |= {f"{a_map.name} {key}": value for key, value in kept.figures.items()}
        series[a_map.name] = kept.series["recalled"]
        series |= {f"{a_map.name}: step": kept.series["step"], f"{a_map.name}: train": kept.series["train"]}
    return Measured(figures=figures | _compared(figures, settings), series=series)


def _compared(figures: Mapping[str, float], settings: Capacity) -> dict[str, float]:
    """Differences at the greatest load, and between trainings that are young."""
    most = f"at {max(settings.loads)}"
    return {
        "elementwise gain": figures[f"elementwise 2 {most}"] - figures[f"identity {most}"],
        "monomial gain": figures[f"monomial 2 {most}"] - figures[f"identity {most}"],
        "products gain": figures[f"monomial 2 {most}"] - figures[f"elementwise 2 {most}"],
        "third gain": figures[f"elementwise 3 {most}"] - figures[f"elementwise 2 {most}"],
        "behind": figures["identity early"] - figures["elementwise 2 early"],
    }


def _kept(settings: Capacity, a_map: Map, seed: int, out: Path) -> ArmResult:
    arm = CapacityArm(recalling=settings.recalling(a_map), test_sequences=settings.test_sequences)
    name = f"capacity-{a_map.name.replace(' ', '-')}"
    return kept_arm(out / FOLDER, name, arm, seed, lambda: _measured(settings, a_map, seed))


def _measured(settings: Capacity, a_map: Map, seed: int) -> Measured:
    recalling = settings.recalling(a_map)
    model, curve = trained(recalling, seed)
    episodes = [held_out(task, settings.test_sequences, seed) for task in recalling.tasks]
    right = [float(np.mean(recalled(model, episode))) for episode in episodes]
    by_load = {f"at {load}": share for load, share in zip(settings.loads, right, strict=True)}
    figures = by_load | {
        "rank": float(rank_of(settings.options(a_map), settings.width)),
        "rank of keys": _rank_of_keys(model, settings.n_keys),
        "early": curve[EARLY],
    }
    return Measured(figures=figures, series={"recalled": right, "step": curve_steps(recalling), "train": curve})


def rank_of(options: FeatureOptions, width: int) -> int:
    """Directions that the features of random keys span, which follows from the map alone.

    Of keys of length 1 degrees 2 and 3 have one fewer: their squares add up to the constant.
    """
    keys = torch.randn(N_RANDOM, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return int(torch.linalg.matrix_rank(FeatureMap(options, width)(keys)))


@torch.no_grad()
def _rank_of_keys(model: Recaller, n_keys: int) -> float:
    """Effective rank of the features of all keys of the task, as the trained model writes them."""
    projected = model.memory.qkv(model.embedding(torch.arange(n_keys))).chunk(3, dim=-1)[1]
    features = model.memory.features(F.normalize(F.silu(projected), dim=-1))
    return memory_rank(features.unsqueeze(0)) or 0.0


def by_map(settings: Capacity, found: Sequence[Result]) -> list[TextTable]:
    """Every map: ranks and recall at every load, means over the seeds."""

    def mean(figure: str) -> float:
        return float(np.mean([result.figures[figure] for result in found]))

    rows = list[list[str]]()
    for a_map in MAPS:
        n_features = FeatureMap(settings.options(a_map), settings.width).n_features
        ranks = [f"{mean(f'{a_map.name} rank'):.0f}", f"{mean(f'{a_map.name} rank of keys'):.1f}"]
        right = [f"{mean(f'{a_map.name} at {load}'):.3f}" for load in settings.loads]
        rows.append([a_map.name, str(n_features), *ranks, *right])
    return [
        TextTable(
            title="Maps",
            caption=f"Rank: of the features of {N_RANDOM} random keys; of the keys: effective rank (exponential of the "
            "entropy of the singular values) of the keys that were learned; then the share of pairs recalled, mean "
            f"over {len(found)} seeds. Monomials of degree 1 are elementwise 1.",
            columns=["Map", "Features", "Rank", "Of the keys", *(f"{load} pairs" for load in settings.loads)],
            rows=rows,
        )
    ]


def _claims(settings: Capacity) -> tuple[Claim, ...]:
    fewest, most = min(settings.loads), max(settings.loads)
    guide, atlas = "guide: ", "ATLAS: "
    ranks = {"identity": 16, "elementwise 2": 33, "monomial 2": 153}
    return (
        *(
            Claim(figure=f"{name} rank", what=f"{name}: rank of its features", published=str(n), least=n, most=n)
            for name, n in ranks.items()
        ),
        Claim(
            figure=f"identity at {fewest}",
            what=f"identity: recall of {fewest} pairs, as many as channels",
            published=f"{atlas}a matrix holds O(d)",
            least=RECALLED,
        ),
        Claim(
            figure=f"monomial 2 at {most}",
            what=f"monomial 2: recall of {most} pairs",
            published=f"{atlas}degree p holds O(d^p)",
            least=RECALLED,
        ),
        Claim(
            figure="monomial gain",
            what=f"{most} pairs: monomial 2 less identity (accuracy)",
            published=f"{atlas}degree p holds O(d^p)",
            least=MORE,
        ),
        Claim(
            figure="elementwise gain",
            what=f"{most} pairs: elementwise 2, the guide's map, less identity (accuracy)",
            published=f"{guide}more expressive",
            least=MORE,
        ),
        Claim(
            figure="products gain",
            what=f"{most} pairs: monomial 2 less elementwise 2 (accuracy)",
            published="rank 153 against 33",
            least=MORE,
        ),
        Claim(
            figure="third gain",
            what=f"{most} pairs: elementwise 3 less elementwise 2 (accuracy)",
            published=f"{guide}keep poly_degree at 2",
            most=MORE,
        ),
        Claim(
            figure="behind",
            what="a quarter of the training: identity less elementwise 2 (training accuracy)",
            published=f"{guide}harder to train",
            least=MORE,
        ),
    )


def _plot(title: str, maps: Sequence[Map]) -> Plot:
    return Plot(
        title=title,
        caption="Share of pairs that are recalled, by how many were stored; chance is 1 / 64.",
        y_label="accuracy (fraction)",
        lines={a_map.name: a_map.name for a_map in maps},
        x="pairs",
        x_label="pairs stored",
    )


SMALL = Capacity()
MEMORY_CAPACITY = Experiment(
    name="memory-capacity",
    what="what do feature maps of keys let a memory hold, and does it follow from their rank?",
    source="Behrouz et al. 2025, arXiv 2505.23735 (capacity); r3d91ll/Todd_Atlas, docs/MEMORY_TUNING_GUIDE.md (degree)",
    claims=_claims(SMALL),
    sizes={"small": SMALL},
    minutes={"small": 5},
    measure_in=memory_capacity,
    tables=by_map,
    plots=(
        _plot("Recall by load: degree 2", [a_map for a_map in MAPS if a_map.degree in (None, 2)]),
        _plot("Recall by load: degree 3", [a_map for a_map in MAPS if a_map.degree in (None, 3)]),
        _plot("Recall by load: degree 1", [a_map for a_map in MAPS if a_map.degree in (None, 1)]),
        Plot(
            title="Recall over training",
            caption="Accuracy on training batches, whose loads alternate.",
            y_label="accuracy (fraction)",
            lines={
                name: f"{name}: step -> {name}: train"
                for name in ("identity", "elementwise 2", "monomial 2", "sketch 2")
            },
            x="identity: step",
        ),
    ),
)

"""Training on a path-star in weights: its edges and three quarters of its paths, each sequence as often as another.

    read         what a step reads is in `path_star_lessons`
    AdamW, warm-up, cosine, clipping
    every so many steps: losses beside their floor, edge recall, path accuracies, geometry of the embeddings

Training may stop at the first evaluation whose held-out accuracy reaches `stop_at`; the rest of the schedule is then
not run, and what is measured at the end is measured there.

Source: Noroozizadeh et al. (2025), arXiv 2510.26745, appendix A (AdamW, weight decay 0.01, linear warm-up, cosine);
Shahriarnz14/Geometric_Memory (cosine to a tenth, epochs over edges and paths together). What differs: by default the
edge loss is that of the expected target (`edge_loss="sampled"` is the published one), gradients are clipped, and
weights that are no matrices are not decayed, nor is the embedding.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mnemoscope.contracts.devices import Device, chosen_device
from mnemoscope.examination.geometry.graph import SparseGraph, as_graph
from mnemoscope.examination.geometry.shuffling import orders
from mnemoscope.experiments.geometry.path_star_lessons import (
    EdgeBatch,
    EdgeLoss,
    Lessons,
    Losses,
    PathBatch,
    Targets,
    edge_floor,
    lessons_of,
    losses,
    passes,
)
from mnemoscope.experiments.geometry.path_star_measures import (
    Figures,
    edge_scores,
    geometry_figures,
    pair_recall,
    path_figures,
)
from mnemoscope.experiments.geometry.path_star_models import Network, build_network, node_table
from mnemoscope.models import Stack
from mnemoscope.tasks.path_star import PathStar, PathStarConfig
from mnemoscope.training.config import TrainConfig
from mnemoscope.training.optimiser import build_optimiser, learning_rate, set_learning_rate

LEARNED = 0.95
"""Held-out accuracy at which a path-star counts as learned."""


@dataclass(frozen=True, kw_only=True)
class InWeights:
    """A path-star, a network, and the training of one on the other.

    Args:
        task: graph, and what is asked of it.
        network: the model.
        steps: of AdamW, unless it stops before.
        batch_size: sequences of a step; None for all there are.
        path_share: share of paths in a batch; None for their share among all sequences.
        edge_loss: "expected" or "sampled", see `path_star_lessons`.
        hops: of the walk whose end an edge asks for; above 1 with expected edges only.
        learning_rate: the largest, after `warmup_steps`.
        warmup_steps: of the linear rise, at most `steps`.
        weight_decay: of weight matrices but the embedding.
        beta2: of AdamW.
        clip: largest norm of the gradient; None for no clipping.
        every: steps between evaluations; the last step has one.
        stop_at: held-out accuracy at which to stop; None for never.
        n_shuffles: permutations of the nodes behind a z-score.
        keep_tables: keep the embeddings of every evaluation.
        device: "auto" is CUDA where there is a device.
        bfloat16: run products in bfloat16, as autocast does; losses stay in float32.

    Raises:
        ValueError: a value out of its range.
    """

    task: PathStarConfig = field(default_factory=PathStarConfig)
    network: Network = field(default_factory=Network)
    steps: int = 800
    batch_size: int | None = 512
    path_share: float | None = None
    edge_loss: EdgeLoss = "expected"
    hops: int = 1
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    weight_decay: float = 0.01
    beta2: float = 0.95
    clip: float | None = 1.0
    every: int = 40
    stop_at: float | None = None
    n_shuffles: int = 20
    keep_tables: bool = False
    device: Device = "cpu"
    bfloat16: bool = False

    def __post_init__(self) -> None:
        _require("batch_size", self.batch_size is None or self.batch_size >= 2, "at least 2, or None", self.batch_size)
        _require("every", self.every >= 1, "at least 1", self.every)
        _require("hops", self.hops >= 1, "at least 1", self.hops)
        expected = self.hops == 1 or self.edge_loss == "expected"
        _require("hops", expected, "1 where edges are sampled, which have one target each", self.hops)
        share = self.path_share
        mixed = share is None or (self.task.stage == "mixed" and 0 < share < 1 and self.batch_size is not None)
        _require("path_share", mixed, "between 0 and 1 with stage='mixed' and a batch_size, or None", share)
        stops = self.stop_at is None or self.task.stage != "edges"
        _require("stop_at", stops, "None with stage='edges', which trains no paths", self.stop_at)
        _ = self.schedule

    @property
    def schedule(self) -> TrainConfig:
        """The settings of the optimiser."""
        return TrainConfig(
            steps=self.steps,
            learning_rate=self.learning_rate,
            warmup_steps=self.warmup_steps,
            final_lr_fraction=0.1,
            weight_decay=self.weight_decay,
            beta2=self.beta2,
            grad_clip=self.clip,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class InWeightsRun:
    """A network that was trained, and what was measured meanwhile.

    Args:
        config: settings.
        task: the graph.
        model: after the last step, on the device it was trained on.
        table: embeddings of the nodes, float64.
        rows: one for each evaluation: "step"; the losses since the one before, in nats per target, of what is trained
            ("edge loss", beside "edge floor", and "path loss", whose floor is 0); "edge recall"; and the figures of
            `path_star_measures`.
        tables: embeddings by step, if they were kept.
        seconds: of training and measuring.
    """

    config: InWeights
    task: PathStar
    model: Stack
    table: Float[np.ndarray, "n m"]
    rows: Sequence[Mapping[str, float]]
    tables: Mapping[int, Float[np.ndarray, "n m"]]
    seconds: float

    def end(self, name: str) -> float:
        """A figure at the last evaluation."""
        return self.rows[-1][name]

    def peak(self, name: str) -> float:
        """The largest value of a figure."""
        return max(row[name] for row in self.rows)

    def curve(self, name: str) -> list[float]:
        """A figure at every evaluation."""
        return [row[name] for row in self.rows]

    def first(self, name: str, least: float) -> float:
        """The first evaluated step at which a figure is at least so large; infinite without any."""
        return next((row["step"] for row in self.rows if row[name] >= least), float("inf"))


def train_in_weights(config: InWeights, seed: int, start: Stack | None = None) -> InWeightsRun:
    """Train and measure; a pure function of its arguments.

    Args:
        config: settings.
        seed: of initial weights and of the order of sequences; the graph has a seed of its own, `task.graph_seed`.
        start: a network to go on from, trained in place; None for a new one, as `config.network` says.
    """
    began = time.perf_counter()
    device = chosen_device(config.device)
    task = PathStar(config.task)
    model = (build_network(config.network, task, seed) if start is None else start).to(device).train()
    lessons = lessons_of(task, config.hops, device)
    drawn = batches(lessons, config, seed)
    observer = Observer(config, task, lessons)
    rows, tables = list[Figures](), dict[int, Float[np.ndarray, "n m"]]()
    optimiser, schedule = build_optimiser(model, config.schedule), config.schedule
    for step in range(1, config.steps + 1):
        set_learning_rate(optimiser, learning_rate(step, schedule))
        observer.add(_updated(model, optimiser, *next(drawn), config))
        if step % config.every and step < config.steps:
            continue
        rows.append(observer.row(model, step))
        if config.keep_tables:
            tables[step] = node_table(model, config.task.n_nodes)
        if config.stop_at is not None and rows[-1]["path"] >= config.stop_at:
            break
    return InWeightsRun(
        config=config,
        task=task,
        model=model.eval(),
        table=node_table(model, config.task.n_nodes),
        rows=rows,
        tables=tables,
        seconds=time.perf_counter() - began,
    )


def batches(lessons: Lessons, config: InWeights, seed: int) -> Iterator[tuple[EdgeBatch, PathBatch]]:
    """What each step reads: in passes over all sequences, or with `path_share` over edges and over paths apart."""
    n_edges, n_paths = len(lessons.sources), len(lessons.paths.inputs)
    generator, device = torch.Generator().manual_seed(seed), lessons.sources.device

    def batch(edges: Int[Tensor, "e"], paths: Int[Tensor, "p"]) -> tuple[EdgeBatch, PathBatch]:
        return lessons.edges(edges.to(device), config.edge_loss), lessons.chosen_paths(paths.to(device))

    size = config.batch_size or n_edges + n_paths
    if config.path_share is None:
        every = passes(n_edges + n_paths, size, generator)
        yield from (batch(chosen[chosen < n_edges], chosen[chosen >= n_edges] - n_edges) for chosen in every)
    else:
        of_paths = max(1, min(size - 1, round(size * config.path_share)))
        yield from map(batch, passes(n_edges, size - of_paths, generator), passes(n_paths, of_paths, generator))


class Observer:
    """Gathers losses, and measures a network when asked."""

    def __init__(self, config: InWeights, task: PathStar, lessons: Lessons) -> None:
        self._task, self._stage = task, config.task.stage
        self._graph: SparseGraph = as_graph(task.edges, config.task.n_nodes)
        self._orders = orders(config.task.n_nodes, config.n_shuffles, 0)
        on_cpu = Targets(*(part.cpu() for part in lessons.targets))
        self._floor = edge_floor(task.pairs, on_cpu) if self._stage != "paths" else float("nan")
        self._sums: list[Losses] = []

    def add(self, found: Losses) -> None:
        """Count the losses of a step."""
        self._sums.append(found)

    def row(self, model: Stack, step: int) -> Figures:
        """All figures; the losses begin anew."""
        was_training = model.training
        model.eval()
        figures: Figures = {"step": float(step), **self._losses()}
        figures["edge recall"] = pair_recall(edge_scores(model, self._task), self._task.pairs)
        if self._stage != "edges":
            figures |= path_figures(model, self._task)
        table = node_table(model, self._task.config.n_nodes)
        figures |= geometry_figures(table, self._graph, self._task, self._orders)
        model.train(was_training)
        return figures

    def _losses(self) -> Figures:
        sums, self._sums = self._sums, []
        figures = Figures()
        if self._stage != "paths":
            edges = float(sum(found.edges for found in sums))
            figures |= {"edge loss": edges / sum(found.n_edges for found in sums), "edge floor": self._floor}
        if self._stage != "edges":
            paths = float(sum(found.paths for found in sums))
            figures["path loss"] = paths / (sum(found.n_paths for found in sums) or float("nan"))
        return figures


def _updated(
    model: Stack, optimiser: torch.optim.Optimizer, edges: EdgeBatch, paths: PathBatch, config: InWeights
) -> Losses:
    """One step; its losses, without their graph."""
    with torch.autocast(edges.weight.device.type, torch.bfloat16, enabled=config.bfloat16):
        found = losses(model, edges, paths)
    optimiser.zero_grad(set_to_none=True)
    found.mean().backward()
    if config.clip is not None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
    optimiser.step()
    return Losses(found.edges.detach(), found.paths.detach(), found.n_edges, found.n_paths)


def _require(name: str, valid: bool, rule: str, got: object) -> None:
    if not valid:
        raise ValueError(f"InWeights.{name}: must be {rule}, got {got}")

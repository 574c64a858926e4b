"""What a network knows of a path-star: its edges, its paths, and how its embeddings lie on the graph.

Paths are measured by the node that is asked for. *Free* accuracies are those of greedy decoding, *forced* ones those
with the right answers as inputs. Held-out paths are those of validation and test together.

Source: Noroozizadeh et al. (2025), arXiv 2510.26745, sections 2 and 3.
"""

from collections.abc import Callable, Iterable
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mnemoscope.examination.geometry.distances import distance_metrics
from mnemoscope.examination.geometry.graph import SparseGraph
from mnemoscope.examination.geometry.paths import path_metrics
from mnemoscope.examination.geometry.smoothness import smoothness
from mnemoscope.experiments.geometry.path_star_lessons import PathBatch, edge_prefix, path_sequences
from mnemoscope.models import Stack
from mnemoscope.runs.geometry import GeometryMetric
from mnemoscope.tasks.graphs import Nodes, exact_path_accuracy, node_accuracies
from mnemoscope.tasks.path_star import PathStar

Figures: TypeAlias = dict[str, float]
ScoreRows: TypeAlias = Callable[[Int[Tensor, "r"]], Float[Tensor, "r n"]]
"""The scores of every target for some sources."""

ROWS = 1024
"""Sources or paths that are scored at once, which bounds the memory of large graphs."""


def path_figures(model: Stack, task: PathStar) -> Figures:
    """Accuracies on held-out and trained paths; chance is about 1 / d.

    Returns:
        "path" and "v1", free, of held-out paths; "free NODE" and "forced NODE" of the nodes asked for; "train path";
        of reverse paths "path after the copy" as well, which leaves out the first answer.
    """
    target = task.config.target
    held_out, trained = path_sequences(task, "validation", "test"), path_sequences(task, "train")
    expected = held_out.targets.numpy()
    free = _on_cpu(decoded(model, task, held_out))
    by_node = node_accuracies(free, expected, target)
    figures = {"path": exact_path_accuracy(free, expected), "v1": by_node["v1"]}
    if target == "reverse":
        figures["path after the copy"] = exact_path_accuracy(free, expected, skip=1)
    figures["train path"] = exact_path_accuracy(_on_cpu(decoded(model, task, trained)), trained.targets.numpy())
    for name, found in (("free", free), ("forced", _on_cpu(forced(model, held_out)))):
        figures |= {f"{name} {node}": value for node, value in node_accuracies(found, expected, target).items()}
    return figures


@torch.no_grad()
def decoded(model: Stack, task: PathStar, paths: PathBatch) -> Int[Tensor, "p a"]:
    """Greedy answers, each of which is the next input."""
    said = [_decoded(model, part.inputs[:, : task.answers.start + 1], part.targets.shape[1]) for part in _parts(paths)]
    return torch.cat(said)


@torch.no_grad()
def forced(model: Stack, paths: PathBatch) -> Int[Tensor, "p a"]:
    """The most likely answers, given the right ones before."""
    device = model.head.weight.device
    n = paths.targets.shape[1]
    return torch.cat([model.head(model.hidden(part.inputs.to(device))[:, -n:]).argmax(-1) for part in _parts(paths)])


def edge_scores(model: Stack, task: PathStar) -> ScoreRows:
    """The logits of all nodes after EDGE u, for sources u."""
    device, prefix = model.head.weight.device, edge_prefix(task)

    @torch.no_grad()
    def rows(sources: Int[Tensor, "r"]) -> Float[Tensor, "r n"]:
        inputs = torch.cat([prefix.expand(len(sources), -1), sources[:, None]], dim=1).to(device)
        return model.head(model.hidden(inputs)[:, -1])[:, : task.config.n_nodes]

    return rows


def pair_recall(scores: ScoreRows, pairs: Nodes, only: Nodes | None = None) -> float:
    """`mnemoscope.tasks.graphs.edge_recall` of some sources, without a matrix of all scores or a sort.

    Args:
        scores: of every target for given sources.
        pairs: training pairs.
        only: sources to average over; None for all that have targets.

    Cost: one comparison of every pair with all targets.
    """
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    sources, targets = pairs[order].T
    asked, n_targets = np.unique(sources, return_counts=True)
    self_edges = bool((pairs[:, 0] == pairs[:, 1]).any())
    recalls, first = list[Tensor](), 0
    for start in range(0, len(asked), ROWS):
        nodes, sizes = asked[start : start + ROWS], n_targets[start : start + ROWS]
        stop = first + int(sizes.sum())
        row = torch.from_numpy(np.repeat(np.arange(len(nodes)), sizes))
        recalls.append(
            _recalled(scores, torch.from_numpy(nodes), row, torch.from_numpy(targets[first:stop]), self_edges)
        )
        first = stop
    found = torch.cat(recalls).numpy()
    return float(found.mean() if only is None else found[np.isin(asked, only)].mean())


def geometry_figures(
    table: Float[np.ndarray, "n m"], graph: SparseGraph, task: PathStar, orders: Int[np.ndarray, "k n"]
) -> Figures:
    """How embeddings lie on the graph: R, R2 and zigzag, and whether leaves find their first hops; with z-scores.

    Args:
        table: of the nodes.
        graph: undirected.
        task: whose leaves and first hops are paired; "_held_out" ends the names of figures over held-out paths.
        orders: permutations of the nodes, see `mnemoscope.examination.geometry.shuffling`.
    """
    paths = np.concatenate([task.paths["train"], task.paths["validation"], task.paths["test"]])
    held_out = np.arange(len(paths)) >= len(task.paths["train"])
    figures = _named(smoothness(table, graph, orders))
    figures |= _named(path_metrics(table, paths[:, 1], paths[:, -1], orders, held_out))
    # Ranks of all distances are taken as well, so it goes without shuffles.
    zigzag = next(m for m in distance_metrics(table, graph, orders[:0]) if m.name == "zigzag")
    return figures | {zigzag.name: zigzag.value}


def _named(metrics: Iterable[GeometryMetric]) -> Figures:
    """Values, and z-scores, NaN without any."""
    figures = Figures()
    for metric in metrics:
        figures[metric.name] = metric.value
        figures[f"{metric.name} z"] = float("nan") if metric.z is None else metric.z
    return figures


def _decoded(model: Stack, tokens: Int[Tensor, "p t"], n: int) -> Int[Tensor, "p a"]:
    tokens, start = tokens.to(model.head.weight.device), tokens.shape[1]
    for _ in range(n):
        answer = model.head(model.hidden(tokens)[:, -1]).argmax(-1)
        tokens = torch.cat([tokens, answer[:, None]], dim=1)
    return tokens[:, start:]


def _recalled(
    scores: ScoreRows, nodes: Int[Tensor, "r"], row: Int[Tensor, "z"], target: Int[Tensor, "z"], self_edges: bool
) -> Float[Tensor, "r"]:
    """For each source with k targets, the share of them among its k best scores; ties and NaN count as misses.

    The j-th best target of a source stands at place j + (others that score at least as high).
    """
    found = torch.nan_to_num(scores(nodes).double(), nan=-torch.inf)
    row, target = row.to(found.device), target.to(found.device)
    score = found[row, target]
    others = found.index_put((row, target), torch.full_like(score, -torch.inf))
    if not self_edges:
        others[torch.arange(len(nodes)), nodes.to(found.device)] = -torch.inf
    n_targets = torch.bincount(row, minlength=len(nodes))
    ahead = torch.cat(
        [(others[r] >= s[:, None]).sum(1) for r, s in zip(row.split(ROWS), score.split(ROWS), strict=True)]
    )
    place = ahead + _place_in_row(row, score) + 1
    hits = (place <= n_targets[row]) & (score > -torch.inf)
    return (torch.zeros_like(n_targets).index_add_(0, row, hits.long()) / n_targets).cpu().double()


def _place_in_row(row: Int[Tensor, "z"], score: Float[Tensor, "z"]) -> Int[Tensor, "z"]:
    """How many entries of the same row come before, best first; rows rise."""
    order = torch.argsort(score, descending=True, stable=True)
    order = order[torch.argsort(row[order], stable=True)]
    place = torch.empty_like(order)
    first = torch.searchsorted(row, row)
    place[order] = torch.arange(len(row), device=row.device) - first
    return place


def _parts(paths: PathBatch) -> list[PathBatch]:
    pieces = zip(paths.inputs.split(ROWS), paths.targets.split(ROWS), strict=True)
    return [PathBatch(*piece) for piece in pieces]


def _on_cpu(tokens: Int[Tensor, "p a"]) -> Int[np.ndarray, "p a"]:
    return tokens.cpu().numpy()

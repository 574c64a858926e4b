"""What a network reads of a path-star in a step, and the loss of it: edges and paths apart, nothing padded.

    edges     EDGE u              -> a neighbour of u                         2 tokens
    paths     PATH leaf PAUSE ... -> the nodes that the task asks for         l + pauses + 1 tokens

The edge loss of source u, drawn c_u times, is c_u times the cross-entropy with a distribution over its targets:

    sampled     the targets that were drawn: the cross-entropy of the pairs, as published
    expected    all targets of u in equal shares: what the former is on average, without the noise of which were drawn

Both have the same full-batch gradient, since the mean over the pairs of u is the cross-entropy with the uniform
distribution over its targets. Equal sources are one row. With `hops` T the distribution is that of where a walker from
u is after 1 ... T steps, averaged over the number of steps.

Source: sequences and loss, Noroozizadeh et al. (2025), arXiv 2510.26745; a uniform distribution over neighbours as
the target, sooham/pathstar-geometric-learning.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from torch import Tensor
from torch.nn import functional as F

from mnemoscope.models import Stack
from mnemoscope.tasks.graphs import Nodes
from mnemoscope.tasks.path_star import PathStar
from mnemoscope.tasks.streams import Split

EdgeLoss: TypeAlias = Literal["expected", "sampled"]


class Targets(NamedTuple):
    """A distribution over targets for every node, as sparse rows: entries `start[u]` ... `start[u + 1]` are those of u.

    A node without targets has an empty row.
    """

    start: Int[Tensor, "n1"]
    target: Int[Tensor, "z"]
    share: Float[Tensor, "z"]


class EdgeBatch(NamedTuple):
    """Sources and what is asked of them; entry i says that `row[i]` should give `target[i]` the weight `share[i]`.

    `weight` is how often a source was drawn; the shares of a row add up to it, and weights to `n`; both in float64.
    """

    inputs: Int[Tensor, "r t"]
    weight: Float[Tensor, "r"]
    row: Int[Tensor, "z"]
    target: Int[Tensor, "z"]
    share: Float[Tensor, "z"]
    n: int


class PathBatch(NamedTuple):
    """Path sequences, without the last answer, and all answers."""

    inputs: Int[Tensor, "p t"]
    targets: Int[Tensor, "p a"]


class Losses(NamedTuple):
    """Sums over what is asked, and how much that is."""

    edges: Float[Tensor, ""]
    paths: Float[Tensor, ""]
    n_edges: int
    n_paths: int

    def mean(self) -> Float[Tensor, ""]:
        """Nats per target."""
        return (self.edges + self.paths) / (self.n_edges + self.n_paths)


def targets_of(pairs: Nodes, n_nodes: int, hops: int = 1) -> Targets:
    """Where a walker along training pairs is after 1 ... `hops` steps, averaged over the number of steps."""
    counts = sparse.csr_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n_nodes, n_nodes))
    out = np.asarray(counts.sum(axis=1)).ravel()
    step = sparse.csr_array(sparse.diags_array(1 / np.maximum(out, 1)) @ counts)
    power = mean = step
    for _ in range(hops - 1):
        power = power @ step
        mean = mean + power
    mean = sparse.csr_array(mean / hops)
    return Targets(
        start=torch.from_numpy(mean.indptr.astype(np.int64)),
        target=torch.from_numpy(mean.indices.astype(np.int64)),
        share=torch.from_numpy(mean.data),
    )


def edge_floor(pairs: Nodes, targets: Targets) -> float:
    """Nats per pair of one who gives every source the distribution it is asked for: the mean entropy of the rows.

    With one hop it is `mnemoscope.tasks.graphs.conditional_entropy` of the pairs.
    """
    share = targets.share
    row = torch.repeat_interleave(torch.arange(len(targets.start) - 1), targets.start.diff())
    entropy = torch.zeros(len(targets.start) - 1, dtype=torch.float64).index_add_(0, row, -torch.xlogy(share, share))
    return float(entropy[torch.from_numpy(pairs[:, 0])].mean())


@dataclass(frozen=True, kw_only=True, eq=False)
class Lessons:
    """All sequences of a training, on one device.

    Args:
        sources: the first node of every training pair.
        drawn: the second node of every training pair.
        targets: what expected edges ask for.
        prefix: the tokens before a source: the tag EDGE, or none.
        paths: every trained path.
    """

    sources: Int[Tensor, "e"]
    drawn: Int[Tensor, "e"]
    targets: Targets
    prefix: Int[Tensor, "tag"]
    paths: PathBatch

    def edges(self, chosen: Int[Tensor, "k"], loss: EdgeLoss) -> EdgeBatch:
        """The batch of the chosen training pairs."""
        sources, row, count = torch.unique(self.sources[chosen], return_inverse=True, return_counts=True)
        inputs = torch.cat([self.prefix.expand(len(sources), -1), sources[:, None]], dim=1)
        weight, n = count.double(), len(chosen)
        if loss == "sampled":
            return EdgeBatch(inputs, weight, row, self.drawn[chosen], torch.ones_like(weight[row]), n)
        row, entry = spread(self.targets, sources)
        share = self.targets.share[entry] * weight[row]
        return EdgeBatch(inputs, weight, row, self.targets.target[entry], share, n)

    def chosen_paths(self, chosen: Int[Tensor, "k"]) -> PathBatch:
        """The batch of the chosen trained paths."""
        return PathBatch(self.paths.inputs[chosen], self.paths.targets[chosen])


def spread(targets: Targets, sources: Int[Tensor, "r"]) -> tuple[Int[Tensor, "z"], Int[Tensor, "z"]]:
    """For each entry of the sources' rows: which source it is of, and where it stands."""
    size = targets.start[sources + 1] - targets.start[sources]
    row = torch.repeat_interleave(torch.arange(len(sources), device=size.device), size)
    first = size.cumsum(0) - size
    within = torch.arange(len(row), device=size.device) - first[row]
    return row, targets.start[sources][row] + within


def lessons_of(task: PathStar, hops: int, device: torch.device) -> Lessons:
    """The sequences of a task; its `stage` decides whether edges, paths or both are among them."""
    pairs = task.pairs[:0] if task.config.stage == "paths" else task.pairs
    paths = path_sequences(task, "train")
    if task.config.stage == "edges":
        paths = PathBatch(paths.inputs[:0], paths.targets[:0])
    sources, drawn = torch.from_numpy(np.ascontiguousarray(pairs.T)).to(device)
    return Lessons(
        sources=sources,
        drawn=drawn,
        targets=Targets(*(part.to(device) for part in targets_of(pairs, task.config.n_nodes, hops))),
        prefix=edge_prefix(task).to(device),
        paths=PathBatch(*(part.to(device) for part in paths)),
    )


def edge_prefix(task: PathStar) -> Int[Tensor, "tag"]:
    """What an edge sequence begins with."""
    return torch.from_numpy(task.edge_batch().inputs[0, : int(task.config.tags)])


def path_sequences(task: PathStar, *splits: Split) -> PathBatch:
    """Every path of some splits, and its answers."""
    batches = [task.path_batch(split) for split in splits]
    inputs = np.concatenate([batch.inputs for batch in batches])
    targets = np.concatenate([batch.targets[:, task.answers] for batch in batches])
    return PathBatch(torch.from_numpy(inputs), torch.from_numpy(targets))


def losses(model: Stack, edges: EdgeBatch, paths: PathBatch) -> Losses:
    """Cross-entropies of a batch; logits are formed only where something is asked."""
    zero = torch.zeros((), device=edges.weight.device)
    return Losses(
        edge_loss(model, edges) if len(edges.inputs) else zero,
        path_loss(model, paths) if len(paths.inputs) else zero,
        edges.n,
        paths.targets.numel(),
    )


def edge_loss(model: Stack, batch: EdgeBatch) -> Float[Tensor, ""]:
    """sum_r w_r logsumexp(z_r) - sum_i s_i z[row_i, target_i]: the cross-entropy with each row's distribution."""
    logits = _wide(model.head(model.hidden(batch.inputs)[:, -1]))
    weight, share = batch.weight.to(logits), batch.share.to(logits)
    return weight @ logits.logsumexp(dim=1) - share @ logits[batch.row, batch.target]


def path_loss(model: Stack, batch: PathBatch) -> Float[Tensor, ""]:
    """The cross-entropy of all answers, with the right answers as inputs."""
    logits = _wide(model.head(model.hidden(batch.inputs)[:, -batch.targets.shape[1] :]))
    return F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), reduction="sum")


def passes(n: int, size: int, generator: torch.Generator) -> Iterator[Int[Tensor, "size"]]:
    """Numbers 0 ... n - 1 in random order, again and again, in pieces of `size`: no number twice in a pass."""
    left = torch.zeros(0, dtype=torch.int64)
    while True:
        while len(left) < size:
            left = torch.cat([left, torch.randperm(n, generator=generator)])
        yield left[:size]
        left = left[size:]


def _wide(logits: Float[Tensor, "*n v"]) -> Float[Tensor, "*n v"]:
    """At least float32, which sums over a large vocabulary need."""
    return logits.float() if logits.dtype == torch.bfloat16 else logits

"""Node2Vec on all nodes at once: exact full-batch steps in closed form, without sampling and without autograd.

With W = D^-1 A (row i: the law of the neighbours of i), P = the softmax of each row of V V^T, and R = W - P, gradient
ascent on J = sum_ij W_ij log P_ij is

    tied      V  += step_size (R V + R^T V)
    untied    V1 += step_size R V2,   V2 += step_size R^T V1,   P being the softmax of V1 V2^T

`C = R + R^T` says where a step leads: a direction e of the nodes with C e = 0 stands still. With `hops` T the targets
are W_T = (W + W^2 + ... + W^T) / T, with `self_edges` w those of A + w I.

Source: Noroozizadeh et al. (2025), arXiv 2510.26745, equation 1 and lemma 5. Differs: the untied form, several hops and
weighted self-edges are additions; a node without neighbours has no term in J.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from torch import Tensor

from mnemoscope.examination.geometry.graph import Edges, SparseGraph, as_graph

Optimiser: TypeAlias = Literal["gd", "adamw"]
Precision: TypeAlias = Literal["float32", "float64"]
MOST_MODES = 5000
"""Nodes up to which the eigenvectors of W + W^T are computed for a trajectory."""
_LOSS_ROWS = 1024


@dataclass(frozen=True, kw_only=True)
class Node2VecConfig:
    """How embeddings are made.

    Args:
        width: columns of a table, m.
        steps: over all nodes.
        step_size: of gradient ascent on J, a sum over nodes; of AdamW its learning rate. Gradient steps are stable
            below 2 / |lowest eigenvalue of W + W^T - 2 I|, which a hub of degree d puts at about sqrt(d) / 2 + 2.
        hops: T of the targets W_T.
        self_edges: w, the weight of a node among its own neighbours.
        tied: one table; False for a table of sources and one of targets.
        initial_std: of the normal draws that tables begin with.
        optimiser: "gd", plain gradient ascent, or "adamw", AdamW without weight decay.
        seed: of the draws, which are the same in both precisions.
        dtype: "float32" or "float64".
        block_rows: rows of the softmax that are held at once, 256 or so for large graphs; None for all of them, which
            is faster on small ones.

    Raises:
        ValueError: a number out of range, or an unknown optimiser or dtype.
    """

    width: int = 100
    steps: int = 1000
    step_size: float = 0.01
    hops: int = 1
    self_edges: float = 0.0
    tied: bool = True
    initial_std: float = 1.0
    optimiser: Optimiser = "gd"
    seed: int = 0
    dtype: Precision = "float64"
    block_rows: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("width", 1), ("steps", 0), ("hops", 1), ("block_rows", 1)):
            got = getattr(self, name)
            if got is not None and got < least:
                raise ValueError(f"Node2VecConfig.{name}: must be at least {least}, got {got}; nearest valid: {least}")
        for name in ("step_size", "initial_std"):
            if not getattr(self, name) > 0:
                raise ValueError(f"Node2VecConfig.{name}: must be above 0, got {getattr(self, name)}; use the default")
        if not self.self_edges >= 0:
            raise ValueError(f"Node2VecConfig.self_edges: must be at least 0, got {self.self_edges}; use 0 for none")
        for name, known in (("optimiser", get_args(Optimiser)), ("dtype", get_args(Precision))):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"Node2VecConfig.{name}: must be one of {', '.join(known)}, got {getattr(self, name)!r}; nearest "
                    f"valid: {known[0]!r}"
                )


@dataclass(frozen=True, kw_only=True, eq=False)
class Trajectory:
    """What was seen at the recorded steps, r of them.

    Args:
        tables: of sources at every recorded step.
        eigenvalues: of W_T + W_T^T, falling; the paper's -L has 2 less. None (k = 0) for graphs of more than
            `MOST_MODES` nodes.
        eigenvectors: e_i, as columns.
        projections: ||V^T e_i|| at every recorded step.
        dynamics: ||C e_i|| at every recorded step.
    """

    tables: Float[np.ndarray, "r n m"]
    eigenvalues: Float[np.ndarray, "k"]
    eigenvectors: Float[np.ndarray, "n k"]
    projections: Float[np.ndarray, "r k"]
    dynamics: Float[np.ndarray, "r k"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Node2Vec:
    """Embeddings.

    Args:
        config: what they were made with.
        source: of a node that is asked for its neighbours; scores of edges are source @ target.T.
        target: of a node as an answer; the same array where the tables are tied.
        steps: those recorded; the last one always is.
        loss: -J / n at each recorded step, nats per node.
        trajectory: None unless steps were to be recorded.
    """

    config: Node2VecConfig
    source: Float[np.ndarray, "n m"]
    target: Float[np.ndarray, "n m"]
    steps: Int[np.ndarray, "r"]
    loss: Float[np.ndarray, "r"]
    trajectory: Trajectory | None = None


def node2vec(
    edges: Edges, config: Node2VecConfig, n_nodes: int | None = None, record_every: int | None = None
) -> Node2Vec:
    """Embed the nodes of a graph.

    Args:
        edges: of an undirected graph; see `graph.Edges`.
        config: the settings.
        n_nodes: rows of a table; None for one more than the largest node.
        record_every: record step 0, every so many steps, and the last one; None for the last loss alone.

    Raises:
        ValueError: edges that are none, record_every below 1, or tables that diverged.

    Cost: O(n^2 width) a step; memory of 4 n^2 numbers, or of 2 block_rows n with `block_rows`.
    """
    if record_every is not None and record_every < 1:
        raise ValueError(f"node2vec: record_every must be at least 1 step, got {record_every}; use None for no record")
    with torch.inference_mode():
        return _embedded(as_graph(edges, n_nodes), config, record_every)


def _embedded(graph: SparseGraph, config: Node2VecConfig, record_every: int | None) -> Node2Vec:
    dtype = torch.float64 if config.dtype == "float64" else torch.float32
    walk = Walk(graph, config.hops, config.self_edges, dtype)
    tables = _initial(graph.n_nodes, config, dtype)
    residual = DenseResidual(walk) if config.block_rows is None else BlockedResidual(walk, config.block_rows)
    ascent = (_GradientAscent if config.optimiser == "gd" else _AdamWAscent)(residual, config)
    record = _Record(walk, residual, config, record_every)
    for step in range(config.steps + 1):
        if record.is_due(step):
            record.take(step, tables)
        if step < config.steps:
            ascent.step(tables)
    return record.result(tables)


class Walk:
    """W_T of a graph, applied to tables; it is held as W alone, which is as sparse as the graph.

    Args:
        graph: n nodes.
        hops: T.
        self_edges: weight of a node among its own neighbours.
        dtype: of the tables.
    """

    def __init__(self, graph: SparseGraph, hops: int, self_edges: float, dtype: torch.dtype) -> None:
        weights = graph.adjacency + self_edges * sparse.eye_array(graph.n_nodes)
        total = weights.sum(axis=1)
        each = sparse.csr_array(sparse.diags_array(1 / np.where(total > 0, total, 1)) @ weights)
        self.n_nodes, self.hops = graph.n_nodes, hops
        self.asks: Float[Tensor, "n 1"] = torch.from_numpy(total > 0).to(dtype)[:, None]
        """1 for a node with neighbours, whose row of W_T is a law; else 0."""
        self.all_ask = bool((total > 0).all())
        self._forward = _as_tensor(each, dtype)
        self._backward = _as_tensor(each.T, dtype)

    def forward(self, table: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """W_T times the table."""
        return self._mean(self._forward, table)

    def backward(self, table: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """W_T^T times the table."""
        return self._mean(self._backward, table)

    def dense(self) -> Float[Tensor, "n n"]:
        """W_T itself."""
        return self.forward(torch.eye(self.n_nodes, dtype=self.asks.dtype))

    def _mean(self, matrix: Tensor, table: Tensor) -> Tensor:
        power = total = matrix @ table
        for _ in range(self.hops - 1):
            power = matrix @ power
            total = total + power
        return total / self.hops


class DenseResidual:
    """R = W_T - P with all of its n^2 entries, in buffers that every step uses again."""

    def __init__(self, walk: Walk) -> None:
        self._targets, self._asks, self._all_ask = walk.dense(), walk.asks, walk.all_ask
        self._scores, self._residual = torch.empty_like(self._targets), torch.empty_like(self._targets)
        self._both, self._transposed = torch.empty_like(self._targets), self._residual.T

    def tied(self, table: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
        """(R + R^T) V."""
        residual = self._of(table, table)
        return torch.mm(torch.add(residual, self._transposed, out=self._both), table)

    def products(
        self, tables: tuple[Tensor, Tensor], right: Float[Tensor, "n k"], left: Float[Tensor, "n k"]
    ) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n k"]]:
        """R `right` and R^T `left`, of tables (source, target)."""
        residual = self._of(*tables)
        return residual @ right, residual.T @ left

    def _of(self, source: Tensor, target: Tensor) -> Tensor:
        torch.mm(source, target.T, out=self._scores)
        torch.softmax(self._scores, 1, out=self._residual)
        if not self._all_ask:
            self._residual.mul_(self._asks)
        return torch.sub(self._targets, self._residual, out=self._residual)


class BlockedResidual:
    """R = W_T - P a block of rows at a time: W_T stays sparse, and of P only the block is ever there."""

    def __init__(self, walk: Walk, block_rows: int) -> None:
        self._walk, rows = walk, min(block_rows, walk.n_nodes)
        self._scores = torch.empty(rows, walk.n_nodes, dtype=walk.asks.dtype)
        self._softmax = torch.empty_like(self._scores)

    def tied(self, table: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
        """(R + R^T) V."""
        right, left = self.products((table, table), table, table)
        return right.add_(left)

    def products(
        self, tables: tuple[Tensor, Tensor], right: Float[Tensor, "n k"], left: Float[Tensor, "n k"]
    ) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n k"]]:
        """R `right` and R^T `left`, of tables (source, target)."""
        source, target = tables
        of_right, of_left = self._walk.forward(right), self._walk.backward(left)
        for start in range(0, len(source), len(self._scores)):
            rows = slice(start, min(start + len(self._scores), len(source)))
            softmax = self._rows(source[rows], target)
            if not self._walk.all_ask:
                softmax.mul_(self._walk.asks[rows])
            of_right[rows].addmm_(softmax, right, alpha=-1)
            of_left.addmm_(softmax.T, left[rows], alpha=-1)
        return of_right, of_left

    def _rows(self, source: Tensor, target: Tensor) -> Tensor:
        scores, softmax = self._scores[: len(source)], self._softmax[: len(source)]
        torch.mm(source, target.T, out=scores)
        return torch.softmax(scores, 1, out=softmax)


Residual: TypeAlias = DenseResidual | BlockedResidual


class _GradientAscent:
    def __init__(self, residual: Residual, config: Node2VecConfig) -> None:
        self._residual, self._tied, self._step_size = residual, config.tied, config.step_size

    def step(self, tables: tuple[Tensor, ...]) -> None:
        for table, gradient in zip(tables, _gradients(self._residual, tables, self._tied), strict=True):
            table.add_(gradient, alpha=self._step_size)


class _AdamWAscent:
    def __init__(self, residual: Residual, config: Node2VecConfig) -> None:
        self._residual, self._config = residual, config
        self._optimiser: torch.optim.AdamW | None = None

    def step(self, tables: tuple[Tensor, ...]) -> None:
        if self._optimiser is None:
            step_size = self._config.step_size
            self._optimiser = torch.optim.AdamW(list(tables), lr=step_size, weight_decay=0.0, maximize=True)
        for table, gradient in zip(tables, _gradients(self._residual, tables, self._config.tied), strict=True):
            table.grad = gradient
        self._optimiser.step()


class _Record:
    """Losses and, where asked, tables and modes at the steps that are due."""

    def __init__(self, walk: Walk, residual: Residual, config: Node2VecConfig, every: int | None) -> None:
        self._walk, self._residual, self._config, self._every = walk, residual, config, every
        self._steps: list[int] = []
        self._losses: list[float] = []
        self._tables: list[np.ndarray] = []
        self._modes: list[tuple[np.ndarray, np.ndarray]] = []
        if every is not None:
            self._values, self._vectors = walk_modes(walk) if walk.n_nodes <= MOST_MODES else _no_modes(walk)

    def is_due(self, step: int) -> bool:
        return step == self._config.steps or (self._every is not None and step % self._every == 0)

    def take(self, step: int, tables: tuple[Tensor, ...]) -> None:
        both = (tables[0], tables[-1])
        loss = loss_per_node(self._walk, *both)
        if not np.isfinite(loss):
            raise ValueError(
                f"node2vec: tables must stay finite, got a loss of {loss} by step {step}; use a step_size below "
                f"{self._config.step_size}"
            )
        self._steps.append(step)
        self._losses.append(loss)
        if self._every is None:
            return
        self._tables.append(tables[0].numpy().copy())
        vectors = torch.from_numpy(self._vectors).to(tables[0].dtype)
        right, left = self._residual.products(both, vectors, vectors)
        lengths = [(tables[0].T @ vectors).norm(dim=0), (right + left).norm(dim=0)]
        self._modes.append((lengths[0].double().numpy(), lengths[1].double().numpy()))

    def result(self, tables: tuple[Tensor, ...]) -> Node2Vec:
        trajectory = None
        if self._every is not None:
            projections, dynamics = zip(*self._modes, strict=True)
            trajectory = Trajectory(
                tables=np.stack(self._tables),
                eigenvalues=self._values,
                eigenvectors=self._vectors,
                projections=np.stack(projections),
                dynamics=np.stack(dynamics),
            )
        source = tables[0].numpy()
        return Node2Vec(
            config=self._config,
            source=source,
            target=source if self._config.tied else tables[1].numpy(),
            steps=np.array(self._steps),
            loss=np.array(self._losses),
            trajectory=trajectory,
        )


def walk_modes(walk: Walk) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n n"]]:
    """Eigenvalues of W_T + W_T^T, falling, and its eigenvectors as columns. Cost: O(n^3)."""
    dense = walk.dense().double().numpy()
    values, vectors = np.linalg.eigh(dense + dense.T)
    return values[::-1].copy(), vectors[:, ::-1].copy()


def loss_per_node(walk: Walk, source: Float[Tensor, "n m"], target: Float[Tensor, "n m"]) -> float:
    """-J / n in nats, without holding more than a block of scores."""
    said = (source.double() * walk.forward(target).double()).sum()
    parts = (torch.logsumexp(rows @ target.T, dim=1).double() for rows in source.split(_LOSS_ROWS))
    asked = walk.asks.split(_LOSS_ROWS)
    total = sum((float(part @ ask[:, 0].double()) for part, ask in zip(parts, asked, strict=True)), start=0.0)
    return (total - float(said)) / walk.n_nodes


def _as_tensor(matrix: sparse.sparray, dtype: torch.dtype) -> Tensor:
    found = sparse.coo_array(matrix)
    places = torch.from_numpy(np.stack(found.coords).astype(np.int64))
    entries = torch.from_numpy(found.data).to(dtype)
    return torch.sparse_coo_tensor(places, entries, found.shape, check_invariants=True).coalesce()


def _initial(n_nodes: int, config: Node2VecConfig, dtype: torch.dtype) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(config.seed)
    shape = (n_nodes, config.width)
    drawn = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(1 if config.tied else 2)]
    return tuple(config.initial_std * one.to(dtype) for one in drawn)


def _gradients(residual: Residual, tables: tuple[Tensor, ...], tied: bool) -> tuple[Tensor, ...]:
    if tied:
        return (residual.tied(tables[0]),)
    source, target = tables
    return residual.products((source, target), target, source)


def _no_modes(walk: Walk) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(0), np.zeros((walk.n_nodes, 0))

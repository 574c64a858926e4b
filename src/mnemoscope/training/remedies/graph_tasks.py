"""Tasks of graphs learned by heart, as remedies that steer towards geometry see them."""

from typing import Annotated, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mnemoscope.tasks import PathStar, PathStarConfig, TinyGraphs, TinyGraphsConfig
from mnemoscope.tasks.graphs import Graph, Nodes

GraphTask: TypeAlias = Annotated[PathStarConfig | TinyGraphsConfig, Field(discriminator="kind")]
"""The config of the task that is trained; give a remedy the same one."""

MOST_NODES = 5000
"""Of a graph whose spectrum is computed densely."""


def build_graph_task(config: GraphTask) -> PathStar | TinyGraphs:
    """The task, for its graph and its tokens."""
    return PathStar(config) if isinstance(config, PathStarConfig) else TinyGraphs(config)


def edge_tag(task: PathStar | TinyGraphs) -> int | None:
    """The token that begins an edge sequence; None without tags, where the source begins it."""
    if not task.config.tags:
        return None
    return next(token for token in reversed(range(task.vocab_size)) if task.words([token]) == ["EDGE"])


def walk_weights(pairs: Nodes, n_nodes: int) -> NDArray[np.float64]:
    """The probability of each pair (source, target) in a walk that takes all pairs of its source equally often."""
    return 1 / np.bincount(pairs[:, 0], minlength=n_nodes)[pairs[:, 0]]


def spectral_table(graph: Graph, width: int, hops: int) -> NDArray[np.float64]:
    """Embeddings of nodes by the smooth eigenvectors of their graph, shape (n_nodes, width).

    With S = D^-1/2 A D^-1/2 = sum_k s_k u_k u_k^T (1 - s_k are the eigenvalues of the normalised Laplacian), the k-th
    column is ((1 + s_k) / 2)^(hops / 2) u_k, by falling s_k and without the one trivial vector (s = 1) of each
    component. So that products of rows are those of ((I + S) / 2)^hops, a lazy walk of so many steps, without its
    trivial part. Rows are then scaled to length 1, and missing columns are 0.

    Raises:
        ValueError: a graph of too many nodes.
    """
    if graph.n_nodes > MOST_NODES:
        raise ValueError(
            f"spectral embeddings are computed for at most {MOST_NODES} nodes, got {graph.n_nodes}; make them "
            "elsewhere and give them as a table"
        )
    root = np.sqrt(np.maximum(graph.degrees(), 1))
    values, vectors = np.linalg.eigh(graph.adjacency() / root[:, None] / root)
    smooth = np.flatnonzero(values < 1 - 1e-9)[::-1][:width]
    table = vectors[:, smooth] * ((1 + values[smooth].clip(-1)) / 2) ** (hops / 2)
    length = np.linalg.norm(table, axis=1, keepdims=True)
    table = np.divide(table, length, out=np.zeros_like(table), where=length > 1e-9)
    return np.pad(table, ((0, 0), (0, width - table.shape[1])))

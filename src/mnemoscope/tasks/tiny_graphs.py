"""Tiny graphs: learn the edges of one small graph by heart, and nothing else.

Some sequences of `TinyGraphsConfig(graph="cycle")`, in which node 4 has neighbours 3 and 5:

    inputs     EDGE   4       EDGE   4       EDGE   3
    targets       .   5          .   3          .   4      (. = IGNORE)

Each sequence is one pair (source, target): every edge forward and backward, or one way only, and with `self_edges` each
node with itself. Nodes 0 ... n - 1 are tokens 0 ... n - 1, EDGE is token n; with `tags=False` the source stands alone.
The graphs are those of `mnemoscope.tasks.graphs.named_graph`; `task.edges` and `task.node_tokens` hand them to an
examination of embeddings.

A source with several targets is asked for each equally often, so loss stays above the floor, and argmax accuracy below
`graphs.argmax_ceiling`; `graphs.edge_recall` goes up to 1. A batch goes through the pairs in passes: one of as many
sequences as there are pairs is a full batch.

There is nothing to generalise to: what is measured is memorisation. So validation and test are the pairs of training,
each at most once per batch, and no split is disjoint from another.

Why: the smallest graphs on which memorised edges show as geometry.

Known limits: nothing is held out, so only the embedding tells geometry from association.

Source: Noroozizadeh et al., "Deep sequence models tend to memorize geometrically; it is unclear why" (2025, arXiv
2510.26745); Shahriarnz14/Geometric_Memory. What differs: the nodes of the path-star keep the order of
construction, where released data shuffle them; the vocabulary has no unused tokens; a self-edge counts as much as an
edge in one direction, where released files of both directions list it twice.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final, get_args

import numpy as np
from pydantic import ConfigDict

from mnemoscope.contracts.batch import IGNORE, Batch
from mnemoscope.tasks.finite import draw_rows
from mnemoscope.tasks.graphs import (
    Directions,
    Graph,
    GraphName,
    Nodes,
    conditional_entropy,
    named_graph,
    training_pairs,
)
from mnemoscope.tasks.streams import Split, split_index, split_stream


@dataclass(frozen=True, kw_only=True)
class TinyGraphsConfig:
    """Which graph is to be memorised, and how its edges are asked.

    Args:
        kind: names the task in a stored config.
        graph: "path_star", "grid", "cycle" or "irregular".
        directions: "both", "forward" or "backward".
        self_edges: ask every node for itself as well.
        tags: begin sequences with the token EDGE.

    Raises:
        ValueError: an unknown graph or direction.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["tiny_graphs"] = "tiny_graphs"
    graph: GraphName = "path_star"
    directions: Directions = "both"
    self_edges: bool = False
    tags: bool = True

    def __post_init__(self) -> None:
        for name, known in (("graph", get_args(GraphName)), ("directions", get_args(Directions))):
            got = getattr(self, name)
            if got not in known:
                raise ValueError(
                    f"TinyGraphsConfig.{name}: must be one of {', '.join(known)}, got {got!r}; "
                    f"nearest valid: {known[0]!r}"
                )


@final
class TinyGraphs:
    """Batches of edges; the attributes are those of `mnemoscope.tasks.Task`, and the graph."""

    unit: str = "accuracy"

    def __init__(self, config: TinyGraphsConfig) -> None:
        self.config = config
        self.graph: Graph = named_graph(config.graph)
        self.edges: Nodes = self.graph.edges
        """Every edge once, as node tokens, shape (edges, 2)."""
        self.node_tokens: Nodes = np.arange(self.graph.n_nodes)
        """The token of every node."""
        self.pairs: Nodes = training_pairs(self.graph, config.directions, config.self_edges)
        """What is trained: (source, target), shape (pairs, 2)."""
        self.vocab_size: int = self.graph.n_nodes + int(config.tags)
        self.length: int = 1 + int(config.tags)
        self.chance_loss: float = math.log(self.graph.n_nodes)
        """Nats per pair of guessing uniformly among all nodes."""
        self.floor_loss: float = conditional_entropy(self.pairs[:, 0], self.pairs[:, 1])
        """A source with k targets leaves ln k open: sum_u k_u ln k_u / sum_u k_u over sources u."""
        self.memoryless_loss: float = self.floor_loss
        """The present token is the source, which is all there is to see."""

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        """Draw `size` pairs; all splits have the same, in validation and test each at most once per batch.

        Raises:
            ValueError: size below 1 or above the number of pairs of a held-out split, or an unknown split.
        """
        pairs = self.pairs[draw_rows("TinyGraphs", split_stream(rng, split), size, split, len(self.pairs))]
        inputs = np.full((size, self.length), self.graph.n_nodes, dtype=np.int64)
        targets = np.full_like(inputs, IGNORE)
        inputs[:, -1], targets[:, -1] = pairs.T
        about = {name: np.full_like(inputs, -1) for name in ("distance", "query")}
        for values in about.values():
            values[:, -1] = 0
        return Batch(inputs=inputs, targets=targets, about=about)

    def words(self, tokens: Sequence[int]) -> list[str]:
        """Nodes as numbers, and EDGE."""
        return ["EDGE" if token == self.graph.n_nodes else str(token) for token in tokens]

    def n_sequences(self, split: Split) -> int | None:
        """The pairs; training goes through them again and again, so there is no end to its sequences."""
        split_index(split)
        return None if split == "train" else len(self.pairs)

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step: NumPy, whose streams change with releases."""
        return {"name": "tiny_graphs", "numpy": np.__version__}

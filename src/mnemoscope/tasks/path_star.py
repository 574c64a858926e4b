"""In-weights path-star and tree-star: from edges learned by heart, find the path to a leaf.

The graph of `PathStarConfig(n_arms=8, path_length=3)`, and some sequences:

               root   v1   leaf
                  6 - 12 - 5                  one arm of eight; the others are 6 - 13 - 0, 6 - 8 - 16, ...

    path       PATH    5  PAUSE   6   12      edge     EDGE   12    .    .    .
    targets       .    .      6  12    5      targets     .    6    .    .    .      (. = padding, IGNORE)

One graph per config, drawn from `graph_seed`: a root with `n_arms` subtrees, d, and paths of `path_length` nodes, l,
root and leaf included. With `branching=1` a subtree is a chain (path-star), otherwise each of its inner nodes has so
many children (tree-star). Nodes carry the tokens 0 ... n - 1 in random order; then come PAUSE, PAD, EDGE, PATH.
`task.edges`, `task.node_tokens` and `task.paths` hand the graph to an examination of embeddings.

An edge sequence asks a node for a neighbour: a child (forward), the parent (backward), or the node itself
(`self_edges`). A path sequence shows a leaf and `n_pauses` pauses, and asks for the path from the root ("full"), the
first node after the root alone ("hardest"), or the path from the leaf ("reverse", whose first token is a copy).

Training draws from edges and paths together ("mixed"), each sequence equally often, or from one of them: `stages` makes
two configs of one, edges first and paths after, for staged training on one graph.

Splits: edges belong to no split and all are trained, those to held-out leaves as well; what is held out are paths. A
share `held_out` of the leaves, drawn from `graph_seed`, is divided between validation and test, whose sequences are the
paths to their leaves, each at most once per batch. With `hold_out="first_hop"` whole subtrees are held out, so that no
trained path begins as a held-out one does. With stage "edges" there is nothing to hold out: then validation and test
are the edges of training, and tell how well they are memorised.

Why: a graph learned in the weights: finding a path needs more than recalling edges one by one.

Known limits: results depend on how often paths are shown beside edges.

Source: Noroozizadeh et al., "Deep sequence models tend to memorize geometrically; it is unclear why" (2025, arXiv
2510.26745), with 5,000 or 10,000 arms and as many pauses as a path has nodes; Shahriarnz14/Geometric_Memory, whose
format this is, with one pause. What differs: the held-out quarter is halved into validation and test; batches are drawn
anew instead of in epochs, in passes within a batch; no unused tokens, direction tokens or teacherless training; a
self-edge counts once. `in_context_path_star` is the control.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, final, get_args

import numpy as np
from pydantic import ConfigDict

from mnemoscope.contracts.batch import IGNORE, Batch
from mnemoscope.tasks.finite import check_seed, draw_rows, fixed_stream
from mnemoscope.tasks.graphs import (
    Directions,
    Graph,
    Nodes,
    PathTarget,
    conditional_entropy,
    star_paths,
    training_pairs,
    tree_edges,
)
from mnemoscope.tasks.streams import SPLITS, Split, split_index, split_stream

Stage: TypeAlias = Literal["mixed", "edges", "paths"]
HoldOut: TypeAlias = Literal["leaf", "first_hop"]

_MOST_NODES = 10_000_000


@dataclass(frozen=True, kw_only=True)
class PathStarConfig:
    """Which graph is to be memorised, and what is asked of it.

    Args:
        kind: names the task in a stored config.
        n_arms: subtrees of the root, d, at least 3.
        path_length: nodes of a path, root and leaf included, l, at least 3.
        branching: children of every inner node but the root; 1: path-star, 2 or more: tree-star.
        graph_seed: what tokens and held-out leaves are drawn from, at least 0 and below 2**64.
        directions: how edges are asked, "both", "forward" or "backward".
        self_edges: ask every node for itself as well.
        target: of paths, "full", "hardest" or "reverse".
        n_pauses: pauses between the leaf and the answer, at least 0; at least 1 without tags.
        tags: begin sequences with EDGE or PATH.
        stage: what is trained, "mixed", "edges" or "paths".
        held_out: share of the leaves, or of the subtrees, whose paths are not trained; at least 2 of them.
        hold_out: "leaf" or "first_hop"; of a path-star they are the same.

    Raises:
        ValueError: a value out of its range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["path_star"] = "path_star"
    n_arms: int = 200
    path_length: int = 5
    branching: int = 1
    graph_seed: int = 0
    directions: Directions = "both"
    self_edges: bool = False
    target: PathTarget = "full"
    n_pauses: int = 1
    tags: bool = True
    stage: Stage = "mixed"
    held_out: float = 0.25
    hold_out: HoldOut = "leaf"

    def __post_init__(self) -> None:
        known = {"directions": Directions, "target": PathTarget, "stage": Stage, "hold_out": HoldOut}
        for name, values in known.items():
            valid, got = get_args(values), getattr(self, name)
            _require(name, got in valid, f"one of {', '.join(valid)}", repr(got), repr(valid[0]))
        lowest = {"n_arms": 3, "path_length": 3, "branching": 1, "n_pauses": 0 if self.tags else 1}
        for name, low in lowest.items():
            got = getattr(self, name)
            why = " without tags, which alone tell edges from paths" if name == "n_pauses" and low else ""
            _require(name, got >= low, f"at least {low}{why}", got, low)
        check_seed("PathStarConfig.graph_seed", self.graph_seed)
        self._check_nodes()
        self._check_held_out()

    @property
    def n_nodes(self) -> int:
        """1 + d (1 + b + ... + b^(l - 2)), the root and all below it."""
        return 1 + self.n_arms * _arm_size(self.path_length, self.branching)

    @property
    def n_leaves(self) -> int:
        """d b^(l - 2)."""
        return self.n_arms * self.branching ** (self.path_length - 2)

    def _check_nodes(self) -> None:
        # Sizes grow as b^(l - 2), so they are computed only as far as they are needed.
        most_arms = max(3, (_MOST_NODES - 1) // _arm_size(3, self.branching))
        few = f"at most {most_arms}, for a graph of {_MOST_NODES:,} nodes with branching {self.branching}"
        _require("n_arms", self.n_arms <= most_arms, few, self.n_arms, most_arms)
        longest = 3
        while longest < self.path_length and 1 + self.n_arms * _arm_size(longest + 1, self.branching) <= _MOST_NODES:
            longest += 1
        _require(
            "path_length",
            self.path_length <= longest,
            f"at most {longest}, for a graph of {_MOST_NODES:,} nodes with n_arms {self.n_arms} and branching "
            f"{self.branching}",
            self.path_length,
            longest,
        )

    def _check_held_out(self) -> None:
        what, n = ("leaves", self.n_leaves) if self.hold_out == "leaf" else ("subtrees", self.n_arms)
        most = (n - 1) / n
        valid = math.isfinite(self.held_out) and 2 <= round(self.held_out * n) <= n - 1
        rule = f"between {2 / n:.4g} and {most:.4g}: of {n} {what}, 2 at least are held out and 1 is trained"
        _require("held_out", valid, rule, self.held_out, f"{most if self.held_out > most else 2 / n:.4g}")


def stages(config: PathStarConfig) -> tuple[PathStarConfig, PathStarConfig]:
    """The configs of staged training on one graph: the edges, and then the paths."""
    return replace(config, stage="edges"), replace(config, stage="paths")


@final
class PathStar:
    """Batches of edges and paths; the attributes are those of `mnemoscope.tasks.Task`, and the graph.

    The three losses are those of the training split. Of held-out paths nothing is left open, so their floor is 0.
    """

    unit: str = "accuracy"

    def __init__(self, config: PathStarConfig) -> None:
        self.config = config
        of_graph = fixed_stream(config.graph_seed)
        paths, tokens = star_paths(config.n_arms, config.path_length, config.branching), config.n_nodes
        label = of_graph.permutation(tokens)
        self.graph: Graph = Graph(n_nodes=tokens, edges=label[tree_edges(paths)])
        self.edges: Nodes = self.graph.edges
        """Every edge (parent, child) once, as node tokens, shape (edges, 2)."""
        self.node_tokens: Nodes = np.arange(tokens)
        """The token of every node."""
        self.pairs: Nodes = training_pairs(self.graph, config.directions, config.self_edges)
        """The edge sequences, (source, target), shape (pairs, 2)."""
        owner = _owners(config, of_graph)
        self.paths: dict[Split, Nodes] = {split: label[paths[owner == i]] for i, split in enumerate(SPLITS)}
        """Paths from root to leaf, as node tokens, by the split that owns their leaf; shape (paths, l)."""
        self._pause, self._pad, self._edge, self._path = range(tokens, tokens + 4)
        self.vocab_size: int = tokens + 4
        n_answers = 1 if config.target == "hardest" else config.path_length
        self._leaf_at: int = int(config.tags)
        start = self._leaf_at + config.n_pauses
        self.length: int = start + n_answers
        self.answers: slice = slice(start, None)
        """The positions at which path sequences are scored."""
        self.chance_loss: float = math.log(tokens)
        """Nats per target of guessing uniformly among all nodes."""
        self.memoryless_loss: float = self._memoryless()
        """H(target | present token), from the counts of all training sequences.

        For instance of a path-star's full paths (d arms, P trained) without edges: ln(P) / l, since only the first node
        after the root is open.
        """
        self.floor_loss: float = self._floor()
        """Only edges leave something open: a source with k targets costs ln k.

        sum_u k_u ln k_u / (sum_u k_u + P n), with P trained paths of n targets. For a path-star with both directions
        sum_u k_u ln k_u is d ln d + 2 d (l - 2) ln 2.
        """

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        """Draw `size` sequences; training mixes edges and paths as `stage` says.

        Raises:
            ValueError: size below 1 or above the sequences of a held-out split, or an unknown split.
        """
        stream = split_stream(rng, split)
        pairs, paths = self._examples(split)
        return self._rows(pairs, paths, draw_rows("PathStar", stream, size, split, len(pairs) + len(paths)))

    def edge_batch(self) -> Batch:
        """Every training pair once, in order."""
        return self._rows(self.pairs, self.paths["train"][:0], np.arange(len(self.pairs)))

    def path_batch(self, split: Split) -> Batch:
        """Every path of a split once, in order, whatever the stage.

        Raises:
            ValueError: an unknown split.
        """
        split_index(split)
        return self._rows(self.pairs[:0], self.paths[split], np.arange(len(self.paths[split])))

    def words(self, tokens: Sequence[int]) -> list[str]:
        """Nodes as numbers, padding as a dot, PAUSE, EDGE, PATH."""
        names = {self._pause: "PAUSE", self._pad: ".", self._edge: "EDGE", self._path: "PATH"}
        return [names.get(token, str(token)) for token in tokens]

    def n_sequences(self, split: Split) -> int | None:
        """The paths (stage "edges": the pairs) of a held-out split; training has no end."""
        split_index(split)
        return None if split == "train" else sum(map(len, self._examples(split)))

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step, and a digest of the graph and the held-out paths."""
        parts = [self.edges, *(self.paths[split] for split in SPLITS)]
        digest = hashlib.sha256(b"".join(part.astype("<i8").tobytes() for part in parts)).hexdigest()
        return {"name": "path_star", "numpy": np.__version__, "sha256": digest}

    def _examples(self, split: Split) -> tuple[Nodes, Nodes]:
        pairs, paths, stage = self.pairs, self.paths[split], self.config.stage
        if stage == "edges":
            return pairs, paths[:0]
        return (pairs if stage == "mixed" and split == "train" else pairs[:0]), paths

    def _said(self, paths: Nodes) -> Nodes:
        """What path sequences ask for."""
        return {"full": paths, "hardest": paths[:, 1:2], "reverse": paths[:, ::-1]}[self.config.target]

    def _rows(self, pairs: Nodes, paths: Nodes, chosen: Nodes) -> Batch:
        """The chosen of the pairs and, after them, of the paths."""
        leaf_at, start, is_path = self._leaf_at, self.answers.start, chosen >= len(pairs)
        inputs = np.full((chosen.size, self.length), self._pad, dtype=np.int64)
        targets = np.full_like(inputs, IGNORE)
        about = {name: np.full_like(inputs, -1) for name in ("distance", "query")}
        if leaf_at:
            inputs[:, 0] = np.where(is_path, self._path, self._edge)
        asked, pair = np.flatnonzero(~is_path), pairs[chosen[~is_path]]
        inputs[asked, leaf_at], targets[asked, leaf_at] = pair.T
        asked, path = np.flatnonzero(is_path), paths[chosen[is_path] - len(pairs)]
        said = self._said(path)
        inputs[asked, leaf_at] = path[:, -1]
        inputs[asked, leaf_at + 1 : start + 1] = self._pause
        inputs[asked, start + 1 :] = said[:, :-1]
        targets[asked, self.answers] = said
        for name, values in (("distance", self._distances()), ("query", np.arange(said.shape[1]))):
            about[name][~is_path, leaf_at] = 0
            about[name][asked, self.answers] = values
        return Batch(inputs=inputs, targets=targets, about=about)

    def _distances(self) -> Nodes:
        """How far back the leaf stands where it must be known; 0 where the present token is enough for the graph."""
        distance = np.arange(self.length)[self.answers] - self._leaf_at
        needs_leaf = np.ones(distance.size, dtype=np.bool_)
        if self.config.target == "full":
            needs_leaf[0] = False
            needs_leaf[2:] = self.config.branching > 1
        elif self.config.target == "reverse":
            needs_leaf[1:] = False
        return np.where(needs_leaf, distance, 0)

    def _memoryless(self) -> float:
        pairs, paths = self._examples("train")
        said = self._said(paths)
        present = np.concatenate([paths[:, -1:], said[:, :-1]], axis=1)
        if self.config.n_pauses:
            present[:, 0] = self._pause
        contexts, targets = np.append(pairs[:, 0], present), np.append(pairs[:, 1], said)
        return conditional_entropy(contexts, targets)

    def _floor(self) -> float:
        pairs, paths = self._examples("train")
        if not len(pairs):
            return 0.0
        open_nats = len(pairs) * conditional_entropy(pairs[:, 0], pairs[:, 1])
        return open_nats / (len(pairs) + self._said(paths).size)


def _owners(config: PathStarConfig, rng: np.random.Generator) -> Nodes:
    """The position in `SPLITS` of the owner of every path."""
    by_arm = config.hold_out == "first_hop"
    n = config.n_arms if by_arm else config.n_leaves
    n_held = round(config.held_out * n)
    owner = np.zeros(n, dtype=np.int64)
    order = rng.permutation(n)
    owner[order[:n_held]] = 2
    owner[order[: n_held // 2]] = 1
    return np.repeat(owner, config.n_leaves // n) if by_arm else owner


def _arm_size(path_length: int, branching: int) -> int:
    return sum(branching**level for level in range(path_length - 1))


def _require(name: str, valid: bool, rule: str, got: object, nearest: object) -> None:
    if not valid:
        raise ValueError(f"PathStarConfig.{name}: must be {rule}, got {got}; nearest valid: {nearest}")

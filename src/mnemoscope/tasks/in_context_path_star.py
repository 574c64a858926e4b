"""In-context path-star: a new graph is written out in every sequence, and a path through it is asked.

One sequence of `InContextPathStarConfig(n_arms=2, path_length=3, n_nodes=8)`:

    graph       1 - 4 - 3 - 7 - 0        root 3, goal 1

               edges                  root, goal
    inputs     3 4 | 7 0 | 4 1 | 3 7 / 3 1 = 3 4
    targets    . . . . . . . . . . . . . . 3 4 1      (. = IGNORE)

A root with `n_arms` arms, d, and paths of `path_length` nodes, l, root and goal included; its labels are drawn without
replacement from `n_nodes`, N. Edges (parent, child) come in random order, then root and goal, a random leaf. Asked is
the path from root to goal ("full"), or from goal to root ("reverse"). With `teacherless` every answer that would be
read is replaced by the token $, so that all are predicted at once. Tokens 0 ... N - 1 are labels, then come | = / $.

Each answer of a full path after v1, the first after the root, is the only child of the answer before it, which
teacher forcing shows: a model that learns this gets no signal of looking ahead, and must guess v1, with accuracy 1 / d
(the Clever Hans cheat). `clever_hans` tells the two accuracies apart and `is_clever_hans` says whether this happened;
such a model has the loss `task.clever_hans_loss`. A reverse path has no such step. That training on all answers fails
is a matter of too much supervision, and not of next-token prediction as such: other representations, masked answers
or scratchpads solve the task (Frydenlund 2024, arXiv 2410.13779; 2025, arXiv 2503.10542).

The graph decides which split owns a sequence, whatever its goal and the order of its edges.

Why: the control of the in-weights path-star: the same graph, fresh in every sequence.

Known limits: next-token training fails on it for reasons of the training, not of memory.

Source: Bachmann and Nagarajan, "The Pitfalls of Next-Token Prediction" (2024, arXiv 2403.06963);
gregorbachmann/Next-Token-Failures, commit 41ae94b, whose tokens these are. What differs: an own generator, without
global random state; splits by graph; training draws from its fixed set with replacement, not in epochs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, final, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from mnemoscope.contracts.batch import IGNORE, Batch
from mnemoscope.tasks.graphs import node_accuracies
from mnemoscope.tasks.mad_parts import Examples, check_n_train, check_size
from mnemoscope.tasks.mqar import draw_distinct
from mnemoscope.tasks.streams import Split

InContextTarget: TypeAlias = Literal["full", "reverse"]


@dataclass(frozen=True, kw_only=True)
class InContextPathStarConfig:
    """What graphs look like, and what is asked of them.

    Args:
        kind: names the task in a stored config.
        n_arms: arms of the root, d, at least 2.
        path_length: nodes of a path, root and goal included, l, at least 3.
        n_nodes: labels to draw from, N, at least d (l - 1) + 1.
        target: "full": from root to goal; "reverse": from goal to root.
        teacherless: show none of the answers.
        n_train: sequences of the training split, at least 1; None: new ones for every batch.

    Raises:
        ValueError: a value out of its range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["in_context_path_star"] = "in_context_path_star"
    n_arms: int = 2
    path_length: int = 5
    n_nodes: int = 50
    target: InContextTarget = "full"
    teacherless: bool = False
    n_train: int | None = 200_000

    def __post_init__(self) -> None:
        where = "InContextPathStarConfig"
        for name, low in (("n_arms", 2), ("path_length", 3)):
            got = getattr(self, name)
            if got < low:
                raise ValueError(f"{where}.{name}: must be at least {low}, got {got}; nearest valid: {low}")
        fewest = self.n_arms * (self.path_length - 1) + 1
        if self.n_nodes < fewest:
            raise ValueError(
                f"{where}.n_nodes: must be at least n_arms * (path_length - 1) + 1 = {fewest}, the nodes of a graph, "
                f"got {self.n_nodes}; nearest valid: {fewest}"
            )
        if self.target not in get_args(InContextTarget):
            raise ValueError(
                f"{where}.target: must be one of {', '.join(get_args(InContextTarget))}, got {self.target!r}; "
                "nearest valid: 'full'"
            )
        check_n_train(where, self.n_train)


@final
class InContextPathStar:
    """Batches of written-out graphs; the attributes are those of `mnemoscope.tasks.Task`, and `clever_hans_loss`."""

    unit: str = "accuracy"

    def __init__(self, config: InContextPathStarConfig) -> None:
        self.config = config
        d, steps, n = config.n_arms, config.path_length - 1, config.n_nodes
        self._n_edges: int = d * steps
        self._equals_at: int = 3 * self._n_edges + 2
        self.vocab_size: int = n + 4
        self.length: int = self._equals_at + config.path_length
        self.answers: slice = slice(self._equals_at, None)
        """The positions that are scored."""
        self._examples = Examples(self._graphs, config.n_train, self._with_goals_and_orders)
        self.chance_loss: float = math.log(n)
        """Nats per answer of guessing uniformly among all labels."""
        shown = 0 if config.teacherless else steps
        self.memoryless_loss: float = (math.log(n) * (config.path_length - shown) + math.log(n - 1) * shown) / (
            config.path_length
        )
        """At "=" and at "$" every label is as likely, ln N; at a label every other, ln(N - 1), by symmetry.

        That is [ln N + (l - 1) ln(N - 1)] / l, and ln N if teacherless.
        """
        self.floor_loss: float = 0.0
        """Every answer stands in its sequence."""
        self.clever_hans_loss: float | None = (
            math.log(d) / config.path_length if config.target == "full" and not config.teacherless else None
        )
        """Nats per answer of one who guesses v1 among the d arms and makes no other mistake: ln(d) / l.

        None where the answers that are shown give nothing away.
        """

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        """Draw `size` sequences; the same state of `rng` gives different ones for different splits.

        Raises:
            ValueError: size below 1, or an unknown split.
        """
        check_size("InContextPathStar", size)
        graphs, goals, order = self._examples.rows(rng, size, split)
        arms = graphs[:, 1:].reshape(size, self.config.n_arms, -1)
        roots = graphs[:, :1]
        path = np.concatenate([roots, np.take_along_axis(arms, goals[:, :, None], axis=1)[:, 0]], axis=1)
        said = path[:, ::-1] if self.config.target == "reverse" else path
        inputs = self._written(roots, arms, order)
        inputs[:, self._equals_at - 2 : self._equals_at] = path[:, [0, -1]]
        inputs[:, self._equals_at + 1 :] = self.config.n_nodes + 3 if self.config.teacherless else said[:, :-1]
        targets = np.full_like(inputs, IGNORE)
        targets[:, self.answers] = said
        known = {
            "distance": self._distances(goals, order),
            "load": self._n_edges,
            "query": np.arange(self.config.path_length),
        }
        about = {name: np.full_like(inputs, -1) for name in known}
        for name, values in known.items():
            about[name][:, self.answers] = values
        return Batch(inputs=inputs, targets=targets, about=about)

    def _graphs(self, rng: np.random.Generator, rows: int, split: Split) -> tuple[NDArray[np.int64]]:
        """The root, then arm after arm, ordered by their first labels, so that a graph has one form."""
        d, steps = self.config.n_arms, self.config.path_length - 1
        labels = draw_distinct(rng, rows, d * steps + 1, self.config.n_nodes)
        arms = labels[:, 1:].reshape(rows, d, steps)
        arms = np.take_along_axis(arms, np.argsort(arms[:, :, :1], axis=1), axis=1)
        return (np.concatenate([labels[:, :1], arms.reshape(rows, -1)], axis=1),)

    def _with_goals_and_orders(
        self, rng: np.random.Generator, graphs: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], ...]:
        """The arm of the goal, and which edge (numbered arm by arm) stands at each place of the list."""
        rows = len(graphs)
        goals = rng.integers(self.config.n_arms, size=(rows, 1))
        return graphs, goals, np.argsort(rng.random((rows, self._n_edges)), axis=1)

    def _written(
        self, roots: NDArray[np.int64], arms: NDArray[np.int64], order: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """The list of edges, and separators everywhere else."""
        n, size = self.config.n_nodes, len(roots)
        above = np.concatenate([np.broadcast_to(roots[:, :, None], (*arms.shape[:2], 1)), arms[:, :, :-1]], axis=2)
        inputs = np.full((size, self.length), n, dtype=np.int64)
        listed = 3 * self._n_edges
        inputs[:, 0:listed:3] = np.take_along_axis(above.reshape(size, -1), order, axis=1)
        inputs[:, 1:listed:3] = np.take_along_axis(arms.reshape(size, -1), order, axis=1)
        inputs[:, listed - 1] = n + 2
        inputs[:, self._equals_at] = n + 1
        return inputs

    def _distances(self, goals: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.int64]:
        """To the newest token that is needed: root or goal after "/", or the child of the edge that is followed.

        The root needs itself, v1 and the goal need the goal, every other answer the edge between it and the answer
        before; if teacherless, all but the root need the goal.
        """
        last, reverse = self.config.path_length - 1, self.config.target == "reverse"
        at = np.broadcast_to(self._equals_at + np.arange(last + 1), (len(goals), last + 1))
        needed = np.full(at.shape, self._equals_at - 1)
        needed[:, last if reverse else 0] = self._equals_at - 2
        if not self.config.teacherless:
            edge = np.arange(1, last - 1) if not reverse else np.arange(last - 1, 0, -1)
            place = np.take_along_axis(np.argsort(order, axis=1), goals * last + edge, axis=1)
            needed[:, slice(1, last) if reverse else slice(2, last)] = 3 * place + 1
        return at - needed

    def words(self, tokens: Sequence[int]) -> list[str]:
        """Labels as numbers, and | = / $."""
        n = self.config.n_nodes
        return [str(token) if token < n else "|=/$"[token - n] for token in tokens]

    def n_sequences(self, split: Split) -> None:
        """No end: sequences are generated, or drawn from the training set with replacement."""
        return None

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step: NumPy, whose streams change with releases."""
        return {"name": "in_context_path_star", "numpy": np.__version__}


@dataclass(frozen=True, kw_only=True)
class CleverHans:
    """How a model does with the answers before the present one shown to it.

    Args:
        first_hop: accuracy on v1, the first node after the root.
        later: mean accuracy on the nodes after v1.
    """

    first_hop: float
    later: float


def clever_hans(predicted: NDArray[np.int64], expected: NDArray[np.int64]) -> CleverHans:
    """Teacher-forced accuracy on v1 and on the nodes after it.

    Args:
        predicted: tokens predicted at `task.answers` of full paths, with the right answers as inputs, (rows, l).
        expected: the targets there.

    Raises:
        ValueError: shapes that differ.

    Source: arXiv 2403.06963.
    """
    _, first_hop, *later = node_accuracies(predicted, expected).values()
    return CleverHans(first_hop=first_hop, later=sum(later) / len(later))


def is_clever_hans(measured: CleverHans, n_arms: int, tolerance: float = 0.05) -> bool:
    """Whether later nodes are right and v1 is guessed: 1 and 1 / d, each within the tolerance."""
    return measured.later >= 1 - tolerance and abs(measured.first_hop - 1 / n_arms) <= tolerance

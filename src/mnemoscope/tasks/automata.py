"""Random automata as arrays, many at once: the languages that RegBench is drawn from.

One automaton of 3 states over the letters a, c and f:

    state 0:  a -> 1,  f -> 2        symbols[0]  1 6 0        targets[0]  1 2 0        out_degree[0]  2
    state 1:  c -> 2                 symbols[1]  3 0 0        targets[1]  2 0 0        out_degree[1]  1
    state 2:  a -> 0,  c -> 1        symbols[2]  1 3 0        targets[2]  0 1 0        out_degree[2]  2

The law of one automaton: 4 to 12 states and 4 to 18 letters, both uniform; for each state 1 to 3 edges (uniform), whose
letters are distinct, and so are their targets, never the state itself. State 0 is initial, every state accepts. Then
states with the same language are merged and those out of reach are left out. Merging changes no string's probability
(merged states have the same letters), but it may make a state its own successor.

The stream: `draw_automata` draws, for all automata at once and in this order, the numbers of states, the numbers of
letters, an order of the 18 letters of which the first are the alphabet, the out-degrees, three letters for every state
and three targets for every state (of which the out-degree says how many count).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PAD, SEPARATOR, N_LETTERS = 0, 19, 18
"""Token ids: letters a ... r are 1 ... 18."""

MIN_STATES, MAX_STATES, MIN_LETTERS, MAX_OUT_DEGREE = 4, 12, 4, 3


@dataclass(frozen=True, kw_only=True)
class Automata:
    """n automata, minimal, states numbered from the initial one in order of first reach, letters in ascending order.

    Two of them accept the same language exactly if their rows are equal.

    Args:
        symbols: letters of the edges, ascending, shape (n, 12, 3); 0 where there is no edge.
        targets: states that the edges lead to, shape (n, 12, 3); 0 where there is no edge.
        n_states: shape (n,).
    """

    symbols: NDArray[np.int8]
    targets: NDArray[np.int8]
    n_states: NDArray[np.int8]

    @classmethod
    def of(cls, content: NDArray[np.int64]) -> "Automata":
        """The automata that `content` tells apart."""
        edges = content.reshape(-1, MAX_STATES, 2 * MAX_OUT_DEGREE).astype(np.int8)
        symbols, targets = edges[..., :MAX_OUT_DEGREE], edges[..., MAX_OUT_DEGREE:]
        return cls(symbols=symbols, targets=targets, n_states=(symbols[..., 0] > 0).sum(-1, dtype=np.int8))

    @property
    def size(self) -> int:
        """Number of automata."""
        return self.symbols.shape[0]

    @property
    def out_degree(self) -> NDArray[np.int64]:
        """Edges of every state, shape (n, 12); 0 beyond the last state."""
        return (self.symbols > 0).sum(-1)

    def content(self) -> NDArray[np.int64]:
        """Integers of shape (n, 72) that tell automata apart."""
        edges = np.concatenate([self.symbols, self.targets], axis=-1)
        return edges.reshape(self.size, 2 * MAX_STATES * MAX_OUT_DEGREE).astype(np.int64)

    def take(self, rows: NDArray[np.int64]) -> "Automata":
        """The automata of these rows."""
        return Automata(symbols=self.symbols[rows], targets=self.targets[rows], n_states=self.n_states[rows])

    def distributions(self, states: NDArray[np.int8]) -> NDArray[np.float64]:
        """Probability of every token after every position.

        Args:
            states: the state that automaton i is in at position t, shape (n, t); -1: none, past the end.

        Returns:
            shape (n, t, 20): the same probability for each letter that the state has an edge for, 0 for all else.
        """
        of_state = np.zeros((self.size, MAX_STATES, SEPARATOR + 1))
        degree = np.maximum(self.out_degree, 1)[..., None]
        np.put_along_axis(of_state, self.symbols.astype(np.int64), 1 / degree, axis=-1)
        of_state[..., PAD] = 0
        return np.where((states >= 0)[..., None], of_state[np.arange(self.size)[:, None], states], 0.0)


def draw_automata(rng: np.random.Generator, n: int) -> Automata:
    """Draw n automata; the law and the order of the draws stand above.

    Cost: about 20 microseconds for each.
    """
    n_states = rng.integers(MIN_STATES, MAX_STATES + 1, size=(n, 1))
    n_letters = rng.integers(MIN_LETTERS, N_LETTERS + 1, size=(n, 1))
    alphabets = rng.permuted(np.tile(np.arange(1, N_LETTERS + 1), (n, 1)), axis=1)
    out_degree = rng.integers(1, MAX_OUT_DEGREE + 1, size=(n, MAX_STATES))
    letters = _draw_three(rng, np.broadcast_to(n_letters, (n, MAX_STATES)))
    targets = _draw_three(rng, np.broadcast_to(n_states - 1, (n, MAX_STATES)))
    targets += targets >= np.arange(MAX_STATES)[:, None]
    exists = np.arange(MAX_OUT_DEGREE) < out_degree[..., None]
    symbols = np.take_along_axis(alphabets[:, None, :], letters, axis=-1)
    ascending = np.argsort(np.where(exists, symbols, SEPARATOR), axis=-1)
    symbols = np.take_along_axis(np.where(exists, symbols, 0), ascending, axis=-1)
    targets = np.take_along_axis(np.where(exists, targets, 0), ascending, axis=-1)
    return minimised(symbols, targets)


def minimised(symbols: NDArray[np.int64], targets: NDArray[np.int64]) -> Automata:
    """The minimal automata with the languages of these, from state 0.

    Args:
        symbols: letters of the edges, shape (n, 12, 3), ascending over the edges of a state; 0 after the last.
        targets: states that they lead to, shape (n, 12, 3); 0 where there is no edge.
    """
    rows = np.arange(len(symbols))
    same = _merged(symbols, targets)
    targets = np.take_along_axis(same, targets.reshape(len(same), -1), axis=1).reshape(targets.shape)
    order, number, n_states = _reached(symbols, targets, same[:, 0])
    exists = (np.arange(MAX_STATES) < n_states[:, None])[..., None] & (symbols[rows[:, None], order] > 0)
    leads_to = number[rows[:, None, None], targets[rows[:, None], order]]
    return Automata(
        symbols=np.where(exists, symbols[rows[:, None], order], 0).astype(np.int8),
        targets=np.where(exists, leads_to, 0).astype(np.int8),
        n_states=n_states.astype(np.int8),
    )


def walk(
    automata: Automata, separators: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Walk through every automaton, each edge of a state as likely as the others, back to state 0 at every separator.

    Args:
        automata: n of them.
        separators: where the strings of each end, shape (n, t).
        rng: draws one edge for every automaton, position by position.

    Returns:
        tokens and the states after them, both of shape (n, t).
    """
    n, n_tokens = separators.shape
    degree, symbols, targets = (part.reshape(-1) for part in (automata.out_degree, automata.symbols, automata.targets))
    tokens, states = np.empty((n_tokens, n), dtype=np.int8), np.empty((n_tokens, n), dtype=np.int8)
    base = MAX_STATES * np.arange(n)
    state, ends = np.zeros(n, dtype=np.int8), np.ascontiguousarray(separators.T)
    for t in range(n_tokens):
        place = base + state
        edge = MAX_OUT_DEGREE * place + rng.integers(degree[place])
        tokens[t] = np.where(ends[t], SEPARATOR, symbols[edge])
        states[t] = state = np.where(ends[t], 0, targets[edge]).astype(np.int8)
    return np.ascontiguousarray(tokens.T), np.ascontiguousarray(states.T)


def _draw_three(rng: np.random.Generator, pool: NDArray[np.int64]) -> NDArray[np.int64]:
    """Three distinct integers of [0, pool) for every entry of pool >= 3, every ordered choice equally likely."""
    first, second, third = (rng.integers(pool - taken) for taken in range(3))
    second += second >= first
    third += third >= np.minimum(first, second)
    third += third >= np.maximum(first, second)
    return np.stack([first, second, third], axis=-1)


def _merged(symbols: NDArray[np.int64], targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """For every state the first state with the same language: Moore's refinement, on all automata at once."""
    first, second, third = np.moveaxis(symbols, -1, 0)
    same = _first_equal((first * (N_LETTERS + 1) + second) * (N_LETTERS + 1) + third)
    while True:
        parts = np.take_along_axis(same, targets.reshape(len(same), -1), axis=1).reshape(targets.shape)
        first, second, third = np.moveaxis(parts, -1, 0)
        finer = _first_equal(((same * MAX_STATES + first) * MAX_STATES + second) * MAX_STATES + third)
        if np.array_equal(finer, same):
            return same
        same = finer


def _first_equal(marks: NDArray[np.int64]) -> NDArray[np.int64]:
    """For every entry the place in its row of the first entry that equals it."""
    return (marks[:, :, None] == marks[:, None, :]).argmax(-1)


def _reached(
    symbols: NDArray[np.int64], targets: NDArray[np.int64], start: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Breadth-first numbers of the states: states by number, numbers by state, and how many are reached."""
    rows = np.arange(len(start))
    order, number = np.zeros((len(start), MAX_STATES), dtype=np.int64), np.full((len(start), MAX_STATES), -1)
    order[:, 0], number[rows, start], n_states = start, 0, np.ones(len(start), dtype=np.int64)
    for place in range(MAX_STATES):
        state = order[:, place]
        for edge in range(MAX_OUT_DEGREE):
            target = targets[rows, state, edge]
            unseen = (place < n_states) & (symbols[rows, state, edge] > 0) & (number[rows, target] < 0)
            found = np.flatnonzero(unseen)
            number[found, target[found]] = n_states[found]
            order[found, n_states[found]] = target[found]
            n_states[found] += 1
    return order, number, n_states

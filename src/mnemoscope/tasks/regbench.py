"""RegBench: read strings of an unknown language, and predict how they go on.

The end of one sequence, whose automaton has the edges 0: a -> 1, f -> 2;  1: c -> 2;  2: a -> 0, c -> 1:

    inputs    a  c  a  f  |  f  a  a  |  a  c  c        | separates strings
    state     1  2  0  2  0  2  0  1  0  1  2  1        after the token above
    targets   c  a  f  .  f  a  a  .  a  c  c  c        . = IGNORE: the ends of strings are never scored

Token 0 pads (no target), 1 ... 18 are the letters a ... r, 19 is the separator. Every sequence comes from an automaton
of its own (law and stream: `mnemoscope.tasks.automata`): 10 to 19 strings, each of 1 to 49 letters, both uniform; each
edge of a state is as likely as the others. The first letter is not predicted, and nothing follows the last string.

The data set is fixed: `data_seed` decides it, the `rng` of a batch only which rows are read. Each split draws from a
stream of its own, first its automata, then how long its strings are, then the walks. The minimal automaton decides
which split owns it, so a held-out language is a new one (OOD); with `held_out="training"` the held-out rows are new
strings of the training automata (IID). The lengths of all strings of a row have an owner too, so no split shows a row
of another either way.

`RegBench.draw` gives the exact distributions too; `mnemoscope.tasks.regbench_metrics` compares predictions with them.

Why: learning a new language within the sequence, which neither weights nor recall of one pair can supply.

Known limits: accuracy asks whether the likeliest letter is allowed, which a rough guess often satisfies; read TVD
beside it.

Source: Akyürek, Wang, Kim, Andreas, "In-Context Language Learning" (2024); berlino/seq_icl, commit 9b9223d, `dfa.py`
and `ngram.py`; sizes and figures also from "Memory Mosaics" (2024), figure 11. What differs: an own generator, free of
the order of hashes and of an automata library (the same law, other draws); automata are disjoint between splits.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from mnemoscope.contracts.batch import IGNORE, Batch
from mnemoscope.tasks.automata import N_LETTERS, PAD, SEPARATOR, Automata, draw_automata, walk
from mnemoscope.tasks.streams import SPLITS, Split, draw_owned, split_index, split_stream, task_rng

MOSAIC_ENVIRONMENTS = (100, 500, 1000, 2500, 40_000)
"""Training automata in "Memory Mosaics", figure 11."""

PUBLISHED_ENVIRONMENTS = (1000, 2500, 5000, 10_000, 20_000, 40_000)
"""Training automata in "In-Context Language Learning"; 500 more for validation and 500 for the test."""


@dataclass(frozen=True, kw_only=True)
class RegBenchConfig:
    """How many languages, and how much of each is shown.

    Args:
        kind: names the task in a stored config.
        n_environments: training automata, and so training sequences, at least 1.
        n_held_out: sequences of the validation split, and as many of the test split, at least 1.
        held_out: "new": of automata of their own; "training": of the training automata, in turn.
        min_strings: fewest strings of a sequence, at least 2 (so that one begins with a letter to predict).
        max_strings: most strings of a sequence, at least min_strings.
        max_string_length: most letters of a string, at least 1; the fewest is 1.
        data_seed: decides the data set, at least 0 and below 2**64; not the seed of a run.

    Raises:
        ValueError: a value out of its range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["regbench"] = "regbench"
    n_environments: int = 1000
    n_held_out: int = 500
    held_out: Literal["new", "training"] = "new"
    min_strings: int = 10
    max_strings: int = 19
    max_string_length: int = 49
    data_seed: int = 0

    def __post_init__(self) -> None:
        lowest = {"n_environments": 1, "n_held_out": 1, "min_strings": 2, "max_string_length": 1, "data_seed": 0}
        for name, least in {**lowest, "max_strings": self.min_strings}.items():
            got, why = getattr(self, name), " (min_strings)" if name == "max_strings" else ""
            if got < least:
                raise ValueError(
                    f"RegBenchConfig.{name}: must be at least {least}{why}, got {got}; nearest valid: {least}"
                )
        if self.held_out not in ("new", "training"):
            raise ValueError(
                f"RegBenchConfig.held_out: must be 'new' or 'training', got {self.held_out!r}; nearest valid: 'new'"
            )
        if self.data_seed >= 2**64:
            raise ValueError(
                f"RegBenchConfig.data_seed: must be below 2**64, got {self.data_seed}; nearest valid: {2**64 - 1}"
            )


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """The sequences of a split: tokens, padded with PAD, and the states after them, (n, t).

    The last token of a sequence is only predicted: the state after it is -1, as is that after padding.
    """

    automata: Automata
    tokens: NDArray[np.int8]
    states: NDArray[np.int8]


@final
class RegBench:
    """Batches of a fixed set of sequences; the attributes are those of `mnemoscope.tasks.Task`.

    Raises:
        ValueError: so few sequences exist that a split owns hardly any.
    """

    unit: str = "accuracy"
    vocab_size: int = SEPARATOR + 1
    chance_loss: float = math.log(N_LETTERS)
    """Nats of guessing uniformly among the letters, ln 18: no letter is more common over all automata."""

    def __init__(self, config: RegBenchConfig) -> None:
        self.config = config
        train = _rows(config, "train", None)
        reused = train.automata if config.held_out == "training" else None
        self._splits = {"train": train, **{split: _rows(config, split, reused) for split in SPLITS[1:]}}
        width = max(rows.tokens.shape[1] for rows in self._splits.values())
        self._splits = {split: _padded(rows, width) for split, rows in self._splits.items()}
        self.length: int = width - 1
        """Tokens of the longest sequence of any split, less the last, which is only predicted."""
        self.memoryless_loss, self.floor_loss = self._losses()

    def _losses(self) -> tuple[float, float]:
        """Over the held-out sequences, in nats per scored token.

        Memoryless: letters are exchangeable, so after letter x the best is some q for x and an equal share of 1 - q for
        the 17 others, and after a separator all 18 are equally likely; q is counted. Floor: the entropy of the true
        distribution, ln of the out-degree, averaged over the states that were visited; exact for these sequences, and
        an estimate for the law. A model that has memorised the fixed training sequences goes below it on those.
        """
        inputs, targets, degrees = [], [], []
        for split in SPLITS[1:]:
            rows = self._splits[split]
            shown, next_token = rows.tokens[:, :-1], rows.tokens[:, 1:]
            scored = (next_token != PAD) & (next_token != SEPARATOR)
            out_degree = rows.automata.out_degree[np.arange(len(shown))[:, None], rows.states[:, :-1]]
            for kept, values in ((inputs, shown), (targets, next_token), (degrees, out_degree)):
                kept.append(values[scored])
        before, after, degree = (np.concatenate(part) for part in (inputs, targets, degrees))
        letters = before != SEPARATOR
        memoryless = letters.mean() * _repeat_entropy(float((before == after)[letters].mean() if letters.any() else 0))
        return float(memoryless + (1 - letters.mean()) * self.chance_loss), float(np.log(degree).mean())

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        """Read `size` rows of a split; none twice, unless more training rows are asked for than there are.

        Raises:
            ValueError: size below 1 or above the held-out rows, or an unknown split.
        """
        return self._batch(self._chosen(rng, size, split))

    def draw(self, rng: np.random.Generator, size: int, split: Split) -> tuple[Batch, NDArray[np.float64]]:
        """What `batch` gives, and the true distribution of the token after every position.

        Returns:
            the batch, and probabilities of shape (size, length, 20): what the automaton may emit after every letter
            and separator, at the ends of strings too, though nothing is scored there; all 0 at padding.
        """
        rows = self._chosen(rng, size, split)
        return self._batch(rows), rows.automata.distributions(rows.states[:, :-1])

    def _chosen(self, rng: np.random.Generator, size: int, split: Split) -> _Rows:
        if size < 1:
            raise ValueError(f"RegBench.batch: size must be at least 1, got {size}; nearest valid: 1")
        split_index(split)
        rows, most = self._splits[split], self.n_sequences(split)
        if most is not None and size > most:
            raise ValueError(
                f"RegBench.batch: size must be at most {most}, the sequences of the {split} split, got {size}; "
                f"use size <= {most}, or n_held_out >= {size}"
            )
        n = len(rows.tokens)
        chosen = np.concatenate([rng.permutation(n) for _ in range(-(-size // n))])[:size]
        return _Rows(automata=rows.automata.take(chosen), tokens=rows.tokens[chosen], states=rows.states[chosen])

    def _batch(self, rows: _Rows) -> Batch:
        """`item` is the state, `load` how many there are, `distance` to what followed the state when last scored.

        In a state that is scored for the first time no token of the past tells what may follow: its distance is 0.
        """
        tokens = rows.tokens.astype(np.int64)
        targets = tokens[:, 1:]
        inputs = np.where(targets == PAD, PAD, tokens[:, :-1])
        scored = (targets != PAD) & (targets != SEPARATOR)
        states = rows.states[:, :-1].astype(np.int64)
        known = {
            "distance": _since_last_visit(np.where(scored, states, -1)),
            "item": states,
            "load": np.broadcast_to(rows.automata.n_states[:, None].astype(np.int64), states.shape),
            "query": np.cumsum(scored, axis=1) - 1,
        }
        about = {name: np.where(scored, values, -1) for name, values in known.items()}
        return Batch(inputs=inputs, targets=np.where(scored, targets, IGNORE), about=about)

    def words(self, tokens: Sequence[int]) -> list[str]:
        """Padding as a dot, letters a ... r, the separator as a bar."""
        return [".abcdefghijklmnopqr|"[token] for token in tokens]

    def n_sequences(self, split: Split) -> int | None:
        """The rows of a held-out split; training rows are read again and again, so there is no end to them."""
        split_index(split)
        return None if split == "train" else len(self._splits[split].tokens)

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step, and a digest of the training rows."""
        digest = hashlib.sha256(self._splits["train"].tokens.tobytes()).hexdigest()
        return {"name": "regbench", "numpy": np.__version__, "sha256": digest}


def _rows(config: RegBenchConfig, split: Split, reused: Automata | None) -> _Rows:
    """Draw the sequences of a split; `reused` automata in turn, or new ones that the split owns."""
    stream = split_stream(task_rng(config.data_seed, split, 0), split)
    n = config.n_environments if split == "train" else config.n_held_out
    automata = _owned_automata(stream, n, split) if reused is None else reused.take(np.arange(n) % reused.size)
    (lengths,) = draw_owned(lambda rng, rows: (_string_lengths(config, rng, rows),), stream, n, split)
    tokens_of = lengths + (lengths > 0)
    last = tokens_of.cumsum(1) - 1
    n_tokens = last[:, -1]
    separators = np.zeros((n, int(n_tokens.max())), dtype=np.bool_)
    row, string = np.nonzero((lengths > 0) & (last < n_tokens[:, None]))
    separators[row, last[row, string]] = True
    tokens, states = walk(automata, separators, stream)
    place = np.arange(separators.shape[1])
    tokens[place >= n_tokens[:, None]] = PAD
    states[place >= n_tokens[:, None] - 1] = -1
    return _Rows(automata=automata, tokens=tokens, states=states)


def _owned_automata(rng: np.random.Generator, n: int, split: Split) -> Automata:
    def draw(rng: np.random.Generator, rows: int) -> tuple[NDArray[np.int64]]:
        return (draw_automata(rng, rows).content(),)

    (content,) = draw_owned(draw, rng, n, split)
    return Automata.of(content)


def _string_lengths(config: RegBenchConfig, rng: np.random.Generator, rows: int) -> NDArray[np.int64]:
    """Letters of every string, shape (rows, max_strings); 0: there is no such string."""
    n_strings = rng.integers(config.min_strings, config.max_strings + 1, size=(rows, 1))
    lengths = rng.integers(1, config.max_string_length + 1, size=(rows, config.max_strings))
    return np.where(np.arange(config.max_strings) < n_strings, lengths, 0)


def _padded(rows: _Rows, width: int) -> _Rows:
    missing = ((0, 0), (0, width - rows.tokens.shape[1]))
    return _Rows(
        automata=rows.automata,
        tokens=np.pad(rows.tokens, missing, constant_values=PAD),
        states=np.pad(rows.states, missing, constant_values=-1),
    )


def _since_last_visit(states: NDArray[np.int64]) -> NDArray[np.int64]:
    """Tokens between every position and the one after the last with the same state in its row; 0: there is none."""
    order = np.argsort(states, axis=1, kind="stable")
    ordered = np.take_along_axis(states, order, axis=1)
    since = np.zeros(states.shape, dtype=np.int64)
    since[:, 1:] = np.where(ordered[:, 1:] == ordered[:, :-1], np.diff(order, axis=1) - 1, 0)
    found = np.empty_like(since)
    np.put_along_axis(found, order, since, axis=1)
    return found


def _repeat_entropy(q: float) -> float:
    """Entropy of a letter that equals a given one with probability q and is else any of the others alike."""
    return -sum(p * math.log(p / share) for p, share in ((q, 1), (1 - q, N_LETTERS - 1)) if p > 0)

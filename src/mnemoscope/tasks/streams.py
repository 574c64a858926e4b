"""Where the randomness of a batch comes from: one independent stream for every (seed, split, step).

    task_rng(seed=0, split="train", step=7)  ->  the Generator of the eighth training batch of run 0

The streams are counter-based (Philox): the seed is the key, split and step are the upper words of the
counter. So a batch depends on (seed, split, step) alone, a resumed run sees the data of an uninterrupted one,
and the streams of two triples never meet.

Streams that never meet can still draw the same sequence twice. So that no test sequence is ever trained on, the content
of a sequence decides, through a hash, which split owns it, and each split keeps drawing until it has its own:

    hash of the content modulo 20      0 ... 17 train      18 validation      19 test
"""

import difflib
from collections.abc import Callable
from operator import index
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
"""Every split; the position of a split in this tuple is part of its stream."""

_WORD = 64
_SHARES = 20
_ODD = np.uint64(0x9E3779B97F4A7C15)
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))
_FACTORS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def task_rng(seed: int, split: Split, step: int) -> np.random.Generator:
    """The generator of the batch of one step.

    Args:
        seed: of the run, at least 0 and below 2**64.
        split: what the batch is for.
        step: index of the batch within its split, at least 0 and below 2**64.

    Raises:
        ValueError: a seed or step out of range, or an unknown split.
    """
    for name, number in (("seed", seed), ("step", step)):
        if not 0 <= number < 2**_WORD:
            nearest = 0 if number < 0 else 2**_WORD - 1
            raise ValueError(
                f"task_rng: {name} must be at least 0 and below 2**64, got {number}; nearest valid: {nearest}"
            )
    return _stream(seed, split, step)


def split_stream(rng: np.random.Generator, split: Split) -> np.random.Generator:
    """A generator drawn from `rng` that differs between splits even where `rng` does not.

    For tasks that generate their data: nothing else keeps a test batch apart from a training batch. Advances
    `rng` by 128 bits.

    Raises:
        ValueError: an unknown split.
    """
    return _stream(int.from_bytes(rng.bytes(16), "little"), split, step=0)


def split_index(split: str) -> int:
    """The position of a split in `SPLITS`.

    Raises:
        ValueError: an unknown split, with the nearest valid one.
    """
    if split not in SPLITS:
        nearest = difflib.get_close_matches(split, SPLITS, n=1, cutoff=0.0)[0]
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}; nearest valid: {nearest!r}")
    return SPLITS.index(split)


def owners(content: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which split owns each row, as its position in `SPLITS`; equal rows have one owner on any machine.

    Args:
        content: integers of shape (rows, columns) that tell sequences apart: all that must not recur.
    """
    state = np.full(content.shape[0], content.shape[1], dtype=np.uint64)
    for column in _mixed(np.ascontiguousarray(content.T).astype(np.uint64) + _ODD):
        state = _mixed(state ^ column)
    return np.maximum((state % _SHARES).astype(np.int64) - (_SHARES - 3), 0)


def draw_owned(
    draw: Callable[[np.random.Generator, int], tuple[NDArray[np.int64], ...]],
    rng: np.random.Generator,
    size: int,
    split: Split,
) -> tuple[NDArray[np.int64], ...]:
    """Rows that the split owns, drawn until there are enough of them.

    Args:
        draw: from a generator and a number of rows, arrays with one row for each; the first is the content.
        rng: of the split, from `split_stream`.
        size: rows wanted.
        split: whose rows.

    Raises:
        ValueError: so few sequences exist that hardly any is the split's.

    Cost: 10/9 of the draws for training, 20 times them for validation and test.
    """
    kept, n_kept, n_drawn, wanted = [], 0, 0, split_index(split)
    at_once = max(16, size + size // 8) if split == "train" else 22 * size + 16
    while n_kept < size:
        if n_drawn > 400 * at_once and n_kept * 10 < size:
            raise ValueError(
                f"so few different sequences exist that the {split} split owns {n_kept} of {n_drawn} drawn; "
                "use a larger vocabulary, more items or longer sequences"
            )
        rows = draw(rng, at_once)
        own = owners(rows[0]) == wanted
        kept.append(tuple(part[own] for part in rows))
        n_kept, n_drawn = n_kept + int(own.sum()), n_drawn + at_once
    return tuple(np.concatenate(parts)[:size] for parts in zip(*kept, strict=True))


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every bit of the result depends on every bit of x."""
    x = (x ^ (x >> _SHIFTS[0])) * _FACTORS[0]
    x = (x ^ (x >> _SHIFTS[1])) * _FACTORS[1]
    return x ^ (x >> _SHIFTS[2])


def _stream(key: int, split: Split, step: int) -> np.random.Generator:
    # Philox counts in the lowest words, so streams that differ in an upper word never meet. A NumPy integer, shifted
    # beyond its width, would silently become 0.
    counter = (index(step) << 2 * _WORD) | (split_index(split) << 3 * _WORD)
    return np.random.Generator(np.random.Philox(key=index(key), counter=counter))

"""Bit vectors: what the tasks share whose inputs and targets are vectors of zeros and ones.

One vector of four bits is drawn as an integer below 2^4, its code; the first channel is the most significant bit:

    code 6   ->   0 1 1 0

Data are drawn and compared as codes and become vectors when a batch is built. Behind the bits of an input stand control
channels (delimiters). A target is NaN where nothing is scored, and sequences shorter than the longest of their config
end in zero vectors that nobody asks about.

How well is it done? `bit_errors` counts the wrong bits of a sequence. Losses are binary cross-entropies in nats per
scored number, so one bit that nobody can know costs ln 2.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

LN_2 = math.log(2)
"""Nats of one bit that is 0 or 1 with equal probability."""

MAX_BITS = 31
"""Widest vector: two of them fit into one int64."""

_ODD = 0x9E3779B97F4A7C15


def bit_errors(predicted: NDArray[np.floating], targets: NDArray[np.floating]) -> NDArray[np.int64]:
    """How many scored bits of each sequence are predicted wrongly.

    A number of at least 0.5 is read as a 1, a smaller one as a 0; a prediction of NaN is wrong. A model is said to have
    converged when the mean over sequences is below 0.1.

    Args:
        predicted: probabilities that the bit is 1, shape (b, t, outputs); not logits.
        targets: bits, NaN where nothing is scored, of that shape.

    Returns:
        counts, shape (b,).

    Raises:
        ValueError: shapes that differ.

    Source: Collier and Beel, "Implementing Neural Turing Machines" (2018); MarkPKCollier/NeuralTuringMachine, commit
    1783271, `error_per_seq`, which returns the mean over sequences.
    """
    if predicted.shape != targets.shape or targets.ndim != 3:
        raise ValueError(
            f"bit_errors: predicted and targets must have one shape (b, t, outputs), got {predicted.shape} and "
            f"{targets.shape}"
        )
    wrong = ((predicted >= 0.5) != (targets >= 0.5)) | np.isnan(predicted)
    return (wrong & ~np.isnan(targets)).sum(axis=(1, 2))


def vectors_of(codes: NDArray[np.int64], n_bits: int) -> NDArray[np.float32]:
    """The bits of every code along a new last axis, most significant first."""
    return ((codes[..., None] >> np.arange(n_bits)[::-1]) & 1).astype(np.float32)


def up_to(counts: NDArray[np.int64], most: int) -> NDArray[np.bool_]:
    """Which of `most` places the first counts[i] of row i are, shape (rows, most)."""
    return np.arange(most) < counts[:, None]


def fingerprints(codes: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """One integer for the first counts[i] codes of row i, whatever stands behind them.

    A list has the same fingerprint, and so the same owner among the splits, however long the longest list of its config
    is. So a test sequence of one config is no training sequence of another.

    Returns:
        shape (rows, 1), as `owners` takes it.
    """
    powers = np.cumprod(np.full(codes.shape[1], _ODD, dtype=np.uint64))
    terms = np.where(up_to(counts, codes.shape[1]), codes + 1, 0).astype(np.uint64)
    return (terms * powers).sum(axis=1, keepdims=True).view(np.int64)


def unscored(size: int, length: int, n_outputs: int) -> NDArray[np.float32]:
    """Targets of which none is scored."""
    return np.full((size, length, n_outputs), np.nan, dtype=np.float32)


def about_scored(
    shape: tuple[int, int],
    rows: NDArray[np.int64],
    positions: NDArray[np.int64],
    known: Mapping[str, NDArray[np.int64]],
) -> dict[str, NDArray[np.int64]]:
    """Arrays of `shape` that hold what is known of the scored positions, and -1 elsewhere."""
    about = {name: np.full(shape, -1, dtype=np.int64) for name in known}
    for name, values in known.items():
        about[name][rows, positions] = values
    return about


def bit_words(
    vectors: Sequence[float] | Sequence[Sequence[float]], n_bits: int, marks: Sequence[str], n_parts: int = 1
) -> list[str]:
    """One word for every vector: its bits as digits, or the names of the control channels that are not 0.

    A number that is not scored is a dot; where none of a vector is, so is the whole vector.

    Args:
        vectors: numbers of shape (n, channels): bits first, then control channels. Targets may have less of both.
        n_bits: of one part.
        marks: names of the control channels.
        n_parts: groups of bits; a colon stands between them.
    """
    words = []
    for vector in (np.atleast_1d(numbers).tolist() for numbers in vectors):
        digits = ["." if math.isnan(number) else str(int(number >= 0.5)) for number in vector[: n_parts * n_bits]]
        parts = ["".join(digits[start : start + n_bits]) for start in range(0, len(digits), n_bits)]
        named = [mark for mark, number in zip(marks, vector[n_parts * n_bits :], strict=False) if _is_set(number)]
        words.append("+".join(named) or ("." if set(digits) == {"."} else ":".join(parts)))
    return words


def _is_set(number: float) -> bool:
    return not math.isnan(number) and number != 0


def check_between(where: str, value: int, least: int, most: int | None = None, why: str = "") -> None:
    """Refuse a number out of its range.

    Args:
        where: config and field.
        value: the number.
        least: smallest valid one.
        most: largest valid one; None for no end.
        why: what the range comes from, as it stands behind it.

    Raises:
        ValueError: with the nearest valid number.
    """
    if value < least or (most is not None and value > most):
        rule = f"at least {least}" if most is None else f"between {least} and {most}"
        nearest = least if value < least or most is None else most
        raise ValueError(f"{where}: must be {rule}{why}, got {value}; nearest valid: {nearest}")

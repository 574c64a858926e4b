"""What tasks share whose sequences are fixed by their config: streams of a seed of their own, and rows of a split.

draw_rows("Task", rng, size=4, split="validation", n_rows=6)  ->  for instance 3 0 5 2
"""

import numpy as np
from numpy.typing import NDArray

from mnemoscope.tasks.streams import Split, split_index

_MOST = 2**64 - 1


def fixed_stream(seed: int) -> np.random.Generator:
    """The generator that a seed of a config decides; no run, split or step does."""
    return np.random.Generator(np.random.Philox(key=seed))


def check_seed(where: str, seed: int) -> None:
    """Refuse what is no key of a stream.

    Raises:
        ValueError: a seed out of range; `where` names the config and its field.
    """
    if not 0 <= seed <= _MOST:
        raise ValueError(
            f"{where}: must be at least 0 and below 2**64, got {seed}; nearest valid: {min(max(seed, 0), _MOST)}"
        )


def draw_rows(where: str, rng: np.random.Generator, size: int, split: Split, n_rows: int) -> NDArray[np.int64]:
    """Which rows of a split a batch reads: none twice, unless more training rows are asked for than there are.

    A training batch of all rows is a full batch. A larger one holds every row as often as the others, but for one.

    Args:
        where: names the task.
        rng: of the batch.
        size: rows wanted.
        split: whose rows.
        n_rows: rows of that split.

    Raises:
        ValueError: size below 1 or above the held-out rows, or an unknown split.
    """
    split_index(split)
    if size < 1:
        raise ValueError(f"{where}.batch: size must be at least 1, got {size}; nearest valid: 1")
    if size <= n_rows:
        return rng.choice(n_rows, size=size, replace=False)
    if split != "train":
        raise ValueError(
            f"{where}.batch: size must be at most {n_rows}, the sequences of the {split} split, got {size}; "
            f"nearest valid: {n_rows}"
        )
    return np.concatenate([rng.permutation(n_rows) for _ in range(-(-size // n_rows))])[:size]

"""Sequential digits: read a small picture of a digit pixel by pixel, and at the last one tell which digit it is.

One sequence of `SequentialDigitsConfig()`, a picture of a four:

                first row                      last row
    inputs      0  0  3 15  2  0  0  0  ...    0   0   5  16   1   0   0     0
    targets     .  .  .  .  .  .  .  .  ...    .   .   .   .   .   .   .  four      (. = IGNORE)

Tokens 0 ... 16 are grey levels, 16 is full ink; 17 ... 26 are the digits 0 ... 9 and are never fed. With `order_seed`
the pixels of all pictures come in one random order, so that neighbours stand far apart. With `scale` every pixel is
drawn `scale` x `scale` times, which makes sequences longer and nothing harder to see.

`train_on="all"` scores every next pixel of the training split as well: prediction as an auxiliary loss. Validation and
test score the digit alone either way, and `Batch.about` speaks of it alone. (Reconstruction, the other auxiliary loss,
needs no target: it decodes inputs that were read.)

The pictures are the 1797 that scikit-learn carries (13 writers; nothing is downloaded), no two of them equal. An order
of them that `split_seed` decides puts the first `n_held_out` into validation, the next into the test, and the rest into
training; so a held-out picture is new, and its writer is not.

Why: a picture read pixel by pixel: evidence must be carried for a whole sequence.

Known limits: 1797 small pictures, so held-out accuracy is uncertain by a percent or more.

Source: Trinh, Dai, Luong, Le, "Learning Longer-term Dependencies in RNNs with Auxiliary Losses" (2018): classification
pixel by pixel of MNIST (784 pixels), permuted MNIST and larger pictures. Alpaydin and Kaynak, "Optical Recognition of
Handwritten Digits", UCI (1998), of which `sklearn.datasets.load_digits` is the test part. What differs: 8 x 8 pictures
of 17 grey levels that are tokens, where the first feeds numbers.
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
from mnemoscope.tasks.finite import check_seed, draw_rows, fixed_stream
from mnemoscope.tasks.mad_parts import TrainOn
from mnemoscope.tasks.streams import Split, split_index

WIDTH, N_GREYS, N_DIGITS, N_PICTURES = 8, 17, 10, 1797

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

_MOST_HELD_OUT, _LARGEST_SCALE = 800, 16


@dataclass(frozen=True, kw_only=True)
class SequentialDigitsConfig:
    """In what order pixels come, and which pictures are trained on.

    Args:
        kind: names the task in a stored config.
        order_seed: decides the order of the pixels, at least 0 and below 2**64; None: row by row.
        scale: how many times a pixel is repeated to the right and downwards, between 1 and 16.
        n_held_out: pictures of the validation split, and as many of the test split, between 1 and 800.
        split_seed: decides which pictures these are, at least 0 and below 2**64; not the seed of a run.
        train_on: what the training split scores, "answers" (the digit) or "all" (each next pixel too).

    Raises:
        ValueError: a value out of its range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["sequential_digits"] = "sequential_digits"
    order_seed: int | None = None
    scale: int = 1
    n_held_out: int = 180
    split_seed: int = 0
    train_on: TrainOn = "answers"

    def __post_init__(self) -> None:
        where = "SequentialDigitsConfig"
        for name, most in (("scale", _LARGEST_SCALE), ("n_held_out", _MOST_HELD_OUT)):
            got = getattr(self, name)
            if not 1 <= got <= most:
                raise ValueError(
                    f"{where}.{name}: must be between 1 and {most}, got {got}; nearest valid: {min(max(got, 1), most)}"
                )
        if self.train_on not in ("answers", "all"):
            raise ValueError(
                f"{where}.train_on: must be 'answers' or 'all', got {self.train_on!r}; nearest valid: 'answers'"
            )
        if self.order_seed is not None:
            check_seed(f"{where}.order_seed", self.order_seed)
        check_seed(f"{where}.split_seed", self.split_seed)


@final
class SequentialDigits:
    """Batches of pictures; the attributes are those of `mnemoscope.tasks.Task`.

    With `train_on="all"` the losses are those of the training split; on held-out splits, which score digits alone, they
    are those of `train_on="answers"`.

    Raises:
        ValueError: scikit-learn is not installed, or carries other pictures.
    """

    unit: str = "accuracy"
    vocab_size: int = N_GREYS + N_DIGITS
    floor_loss: None = None
    """Nobody knows how surely a picture tells its digit."""

    def __init__(self, config: SequentialDigitsConfig) -> None:
        self.config = config
        pixels, digits = load_pictures()
        self.pixel_at: NDArray[np.int64] = _pixel_at(config)
        """Which of the 64 pixels stands at each position, shape (length,)."""
        self.length: int = self.pixel_at.size
        n, order = config.n_held_out, fixed_stream(config.split_seed).permutation(N_PICTURES)
        parts: dict[Split, NDArray[np.int64]] = {
            "train": order[2 * n :],
            "validation": order[:n],
            "test": order[n : 2 * n],
        }
        self._splits = {split: (pixels[rows], digits[rows]) for split, rows in parts.items()}
        self._sha256 = hashlib.sha256(pixels.tobytes() + digits.tobytes()).hexdigest()
        self.chance_loss: float = self._chance()
        self.memoryless_loss: float = self._memoryless()

    def _chance(self) -> float:
        """Nats per scored token of guessing uniformly among the ten digits, and among the 17 grey levels, ln 10.

        With `train_on="all"`, where `length - 1` grey levels are guessed and one digit,
        ((length - 1) ln 17 + ln 10) / length.
        """
        if self.config.train_on == "answers":
            return math.log(N_DIGITS)
        return ((self.length - 1) * math.log(N_GREYS) + math.log(N_DIGITS)) / self.length

    def _memoryless(self) -> float:
        """Entropy of a scored target given the token at its position, in nats, counted over the training pictures.

        With `train_on="all"` over all positions together: the present token does not tell whether it is the last.
        """
        pixels, digits = self._splits["train"]
        shown, targets = pixels[:, self.pixel_at[-1:]], N_GREYS + digits[:, None]
        if self.config.train_on == "all":
            shown = pixels[:, self.pixel_at]
            targets = np.concatenate([shown[:, 1:], targets], axis=1)
        joint = np.bincount((shown * self.vocab_size + targets).ravel(), minlength=N_GREYS * self.vocab_size)
        return _conditional_entropy(joint.reshape(N_GREYS, self.vocab_size))

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        """Read `size` pictures of a split; none twice, unless more training pictures are asked for than there are.

        Raises:
            ValueError: size below 1 or above the held-out pictures, or an unknown split.
        """
        split_index(split)
        pixels, digits = self._splits[split]
        rows = draw_rows("SequentialDigits", rng, size, split, len(digits))
        inputs = pixels[rows[:, None], self.pixel_at]
        targets = np.full_like(inputs, IGNORE)
        if split == "train" and self.config.train_on == "all":
            targets[:, :-1] = inputs[:, 1:]
        targets[:, -1] = N_GREYS + digits[rows]
        query = np.full_like(inputs, -1)
        query[:, -1] = 0
        return Batch(inputs=inputs, targets=targets, about={"query": query})

    def words(self, tokens: Sequence[int]) -> list[str]:
        """Grey levels as numbers, digits as words."""
        return [str(token) if token < N_GREYS else NAMES[token - N_GREYS] for token in tokens]

    def n_sequences(self, split: Split) -> int | None:
        """The pictures of a held-out split; training pictures are read again and again, without end."""
        split_index(split)
        return None if split == "train" else self.config.n_held_out

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step: the pictures, and NumPy, which orders them."""
        return {"name": "sequential_digits", "sha256": self._sha256, "numpy": np.__version__}


def load_pictures() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The pictures that scikit-learn carries: grey levels of shape (1797, 64), row by row, and their digits (1797,).

    Raises:
        ValueError: scikit-learn is not installed, or carries other pictures.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ValueError(
            "sequential_digits: needs scikit-learn, whose pictures it reads, and it is not installed; "
            "pip install 'mnemoscope[images]', or pip install scikit-learn"
        ) from error
    data, target = load_digits(return_X_y=True)
    pixels, digits = np.asarray(data).astype(np.int64), np.asarray(target).astype(np.int64)
    if pixels.shape != (N_PICTURES, WIDTH * WIDTH) or pixels.min() < 0 or pixels.max() >= N_GREYS:
        raise ValueError(
            f"sequential_digits: scikit-learn must carry {N_PICTURES} pictures of {WIDTH} x {WIDTH} grey levels below "
            f"{N_GREYS}, got {pixels.shape} up to {pixels.max()}; pip install 'scikit-learn>=1.5'"
        )
    return pixels, digits


def _pixel_at(config: SequentialDigitsConfig) -> NDArray[np.int64]:
    picture = np.arange(WIDTH * WIDTH).reshape(WIDTH, WIDTH)
    pixels = picture.repeat(config.scale, axis=0).repeat(config.scale, axis=1).ravel()
    return pixels if config.order_seed is None else fixed_stream(config.order_seed).permutation(pixels)


def _conditional_entropy(joint: NDArray[np.int64]) -> float:
    """Entropy of the column given the row, in nats, of counts."""
    rows, columns = np.nonzero(joint)
    counts = joint[rows, columns]
    return float((counts * np.log(joint.sum(axis=1)[rows] / counts)).sum() / joint.sum())

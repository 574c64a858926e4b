"""Three moons: watch three moons of different periods, and foresee where they stand next.

Two positions of one sequence, periods (1, 2, 3), start 0:

               moon 1          moon 2          moon 3
               sin     cos     sin     cos     sin     cos
    inputs      .296    .955    .296    .955    .296    .955      position 0
    targets     .427    .904    .362    .932    .340    .940      and the inputs of position 1

A task of vectors: six numbers at every position, and every position is scored against the next observation. The angle
of a moon with period p at sample n is 2 pi n dt / p + 0.3, with dt = 6 / (800 / 3) = 0.0225, so that periods are not
whole numbers of samples (period 1 is 44.4) and nothing repeats exactly. Sequences begin at a sample that is uniform in
[0, 8399); the periods are one of the split's triples, uniformly. The whole system repeats after the least common
multiple of the three periods, which is 267 samples for most triples; a memory that keeps the moons apart foresees each
after one period of its own. With `observer="planet"` the third moon is subtracted from the first two.

Splits are disjoint by triple. Training has the eight published ones, validation is the published (1, 2, 3); a test
split is not published: it is the two triples that repeat after 6 as well and were passed over.

How well is it done? `rollout_errors` lets a predictor continue a context on its own predictions, by two protocols:

    exact      25 predictions are held against the 25 observations that they predict, and each prediction is stored as
               what followed the one before
    official   as the published code measured: predictions 2 ... 26 are held against observations 1 ... 25, and what
               follows the last observation and every generated one is stored as zero

A predictor that repeats the last observation errs by about .606 for (1, 2, 3), whatever the context.

Why: three independent movements: does a memory of several heads take them apart?

Known limits: three numbers a step, and periods that fit the sequence; figures are prediction errors, not nats.

Source: "Memory Mosaics" (2024), section 3; facebookresearch/MemoryMosaics, commit 1fff63b, `ThreeMoons`. What differs:
the triples are listed, since the published choice depends on how a sort breaks ties; the test split; `exact`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, final, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from mnemoscope.contracts.batch import Batch
from mnemoscope.tasks.streams import Split, split_index, split_stream

Triple: TypeAlias = tuple[float, float, float]

TRIPLES: dict[Split, tuple[Triple, ...]] = {
    "train": (
        (0.5, 1.0, 2.0),
        (0.5, 1.0, 1.5),
        (0.5, 1.0, 3.0),
        (0.5, 1.5, 3.0),
        (1.0, 1.5, 3.0),
        (0.5, 1.0, 2.5),
        (1.0, 1.5, 2.0),
        (0.5, 1.5, 2.0),
    ),
    "validation": ((1.0, 2.0, 3.0),),
    "test": ((0.5, 2.0, 3.0), (1.5, 2.0, 3.0)),
}
"""Periods of the moons by split; the published figures are of training triple 5 and of the validation triple."""

DT = 6 / (800 / 3)
"""Time between samples: the longest full period, 6, fits three times into 800."""

OFFSET = 0.3
"""Phase of every moon at sample 0, in radians."""

N_STARTS = 8399
N_MOONS = 3

Observer = Literal["sun", "planet"]
RolloutProtocol = Literal["exact", "official"]


@dataclass(frozen=True, kw_only=True)
class ThreeMoonsConfig:
    """How long the moons are watched, and from where.

    Args:
        kind: names the task in a stored config.
        length: observations of a sequence, at least 1; 800 is published.
        observer: "sun": every moon as it stands; "planet": the first two relative to the third.

    Raises:
        ValueError: a value out of its range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["three_moons"] = "three_moons"
    length: int = 800
    observer: Observer = "sun"

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"ThreeMoonsConfig.length: must be at least 1, got {self.length}; nearest valid: 1")
        if self.observer not in get_args(Observer):
            raise ValueError(
                f"ThreeMoonsConfig.observer: must be 'sun' or 'planet', got {self.observer!r}; nearest valid: 'sun'"
            )


@final
class ThreeMoons:
    """Batches of moons; the attributes are those of `mnemoscope.tasks.Task`, and `n_channels`.

    There are no tokens: the vocabulary is empty, and no loss is one in nats.
    """

    unit: str = "mean absolute error"
    vocab_size: int = 0
    chance_loss: None = None
    memoryless_loss: None = None
    floor_loss: None = None
    n_channels: int = 2 * N_MOONS
    """Numbers at every position, of inputs and of targets."""

    def __init__(self, config: ThreeMoonsConfig) -> None:
        self.config = config
        self.length: int = config.length

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        """Draw `size` sequences: float32 inputs and targets of shape (size, length, 6).

        Raises:
            ValueError: size below 1, or an unknown split.
        """
        if size < 1:
            raise ValueError(f"ThreeMoons.batch: size must be at least 1, got {size}; nearest valid: 1")
        stream, triples = split_stream(rng, split), np.array(TRIPLES[split])
        periods = triples[stream.integers(len(triples), size=size)]
        seen = observations(periods, stream.integers(N_STARTS, size=size), self.length + 1, self.config.observer)
        return Batch(inputs=seen[:, :-1].copy(), targets=seen[:, 1:].copy())

    def words(self, tokens: Sequence[float] | Sequence[Sequence[float]]) -> list[str]:
        """One word for every position: its numbers with two decimals, between slashes."""
        return vector_words(tokens)

    def n_sequences(self, split: Split) -> None:
        """No end: sequences are generated."""
        split_index(split)

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step: NumPy, whose streams change with releases."""
        return {"name": "three_moons", "numpy": np.__version__}


def observations(
    periods: NDArray[np.float64], starts: NDArray[np.int64], n: int, observer: Observer = "sun"
) -> NDArray[np.float32]:
    """What is seen of moons with these periods.

    Computed in float64; rounding to float32 then hides how sines differ in their last digit between machines.

    Args:
        periods: shape (b, 3), in units of time.
        starts: sample of the first observation, shape (b,).
        n: observations.
        observer: see `ThreeMoonsConfig`.

    Returns:
        sine and cosine of every moon in turn, shape (b, n, 6).
    """
    time = (starts[:, None] + np.arange(n)) * DT
    angle = 2 * math.pi * time[..., None] / periods[:, None, :] + OFFSET
    seen = np.stack([np.sin(angle), np.cos(angle)], axis=-1)
    if observer == "planet":
        seen[..., :-1, :] -= seen[..., -1:, :]
    return seen.reshape(*time.shape, 2 * periods.shape[1]).astype(np.float32)


class Predictor(Protocol):
    """What `rollout` asks of a model."""

    def __call__(self, seen: NDArray[np.float32], n_known: int, /) -> NDArray[np.float32]:
        """Predict the observation after the last.

        Args:
            seen: observations, or predictions that stand for them, shape (b, n, channels).
            n_known: the first so many of them may be stored as what followed the one before. A memory of pairs
                (observation i, observation i + 1) has the value 0 in pair i where i + 1 >= n_known. A model without
                such pairs takes no notice.

        Returns:
            shape (b, channels).
        """
        ...


def repeat_last(seen: NDArray[np.float32], n_known: int, /) -> NDArray[np.float32]:
    """The predictor that expects the last observation again."""
    return seen[:, -1]


def rollout(
    predict: Predictor, context: NDArray[np.float32], n_steps: int, protocol: RolloutProtocol = "exact"
) -> NDArray[np.float32]:
    """Let a predictor continue a context on its own predictions.

    Args:
        predict: the model.
        context: observations, shape (b, n, channels), n at least 1.
        n_steps: predictions wanted, at least 1.
        protocol: "exact": predictions 1 ... n_steps, each stored as what followed; "official": predictions
            2 ... n_steps + 1, and nothing is stored as following the last observation or a prediction.

    Returns:
        shape (b, n_steps, channels).

    Raises:
        ValueError: an unknown protocol.
    """
    if protocol not in get_args(RolloutProtocol):
        raise ValueError(f"rollout: protocol must be 'exact' or 'official', got {protocol!r}; nearest valid: 'exact'")
    n_context = context.shape[1]
    late = int(protocol == "official")
    seen = np.concatenate([context, np.zeros_like(context[:, :1]).repeat(n_steps + late, axis=1)], axis=1)
    for n in range(n_context, seen.shape[1]):
        seen[:, n] = predict(seen[:, :n], n_context if late else n)
    return seen[:, n_context + late :]


def rollout_errors(
    predict: Predictor,
    seen: NDArray[np.float32],
    contexts: Sequence[int],
    n_steps: int = 25,
    protocol: RolloutProtocol = "exact",
) -> NDArray[np.float64]:
    """Mean absolute deviation of rollouts, by length of the context.

    Args:
        predict: the model.
        seen: observations, shape (b, n, channels).
        contexts: lengths of context, from 1 to n - n_steps; the published figures have 1 ... 774.
        n_steps: predictions of each rollout; 25 is published.
        protocol: see `rollout`.

    Returns:
        the mean over sequences, steps and channels for each of `contexts`.

    Raises:
        ValueError: an unknown protocol, or a context that is empty or leaves too few observations.
    """
    most = seen.shape[1] - n_steps
    for n in contexts:
        if not 1 <= n <= most:
            raise ValueError(
                f"rollout_errors: a context must have between 1 and {most} of the {seen.shape[1]} observations, so "
                f"that {n_steps} follow, got {n}; nearest valid: {min(max(n, 1), most)}"
            )
    found = [rollout(predict, seen[:, :n], n_steps, protocol) - seen[:, n : n + n_steps] for n in contexts]
    return np.array([np.abs(error, dtype=np.float64).mean() for error in found])


def vector_words(vectors: Sequence[float] | Sequence[Sequence[float]]) -> list[str]:
    """Numbers with two decimals; those of one vector are one word, between slashes."""
    return ["/".join(f"{number:.2f}" for number in np.atleast_1d(vector)) for vector in vectors]

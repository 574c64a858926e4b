"""Modular arithmetic: complete the table of an operation modulo p, of which only a part is ever shown.

One sequence of `ModularArithmeticConfig(modulus=11)`:

                a  op  b  =
    inputs      7  +   9  =
    targets     .  .   .  5      (. = IGNORE)

Tokens 0 ... p - 1 are numbers, p is the operation, p + 1 the equals sign, at which the answer c is the target:

    add           c = a + b               multiply          c = a b
    subtract      c = a - b               divide            c = a / b, that is b c = a; p prime, b not 0
    sum_squares   c = a^2 + b^2           cubic             c = a^3 + a b^2 + b

all modulo p. No sequence shows the table: what is measured is memory in the weights, and whether it turns into the rule
("grokking"). `cubic`, which is not symmetric in a and b, is meant as a control that stays a table.

All equations, p^2 of them or p (p - 1) for `divide`, are put in an order that `split_seed` decides: the first
`train_fraction` of them (rounded down) are the training split, half of the rest (rounded down) validation, the others
the test. So the splits are fixed and share no equation. Where the operation commutes, a held-out a + b may still have
been trained on as b + a; `join_mirrors` puts both in one split.

Why: whether a rule is found behind a table, long after the table is known by heart.

Known limits: there is no demand for memory of the sequence; it is a task of training, not of recall.

Source: Power et al., "Grokking: Generalization Beyond Overfitting on Small Algorithmic Datasets" (2022): the format
a op b = c, p = 97. Prieto et al., "Grokking at the Edge of Numerical Stability" (2025): p = 113, 40 % for training, in
full batches; LucasPrietoAl/grokking-at-the-edge-of-numerical-stability, `datasets.py`, commit 0cc9e8d. What differs:
their networks read a and b alone, columns 0 and 2 of the inputs here; what is not trained on is halved, not all test.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, final, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from mnemoscope.contracts.batch import IGNORE, Batch
from mnemoscope.tasks.finite import check_seed, draw_rows, fixed_stream
from mnemoscope.tasks.mad_parts import entropy
from mnemoscope.tasks.streams import SPLITS, Split, split_index

Operation: TypeAlias = Literal["add", "subtract", "multiply", "divide", "sum_squares", "cubic"]
"""What is done to a and b; the formulas stand above."""

SMALLEST, LARGEST = 11, 2048
"""Bounds of the modulus: no split of a table may be empty, and the whole of it is held in memory."""

LEAST_TRAINED, MOST_TRAINED = 0.01, 0.95
"""Bounds of the share of the equations that is trained on."""


class _Rule(NamedTuple):
    sign: str
    commutes: bool
    answer: Callable[[NDArray[np.int64], NDArray[np.int64], int], NDArray[np.int64]]


_RULES: dict[Operation, _Rule] = {
    "add": _Rule("+", True, lambda a, b, p: (a + b) % p),
    "subtract": _Rule("-", False, lambda a, b, p: (a - b) % p),
    "multiply": _Rule("*", True, lambda a, b, p: a * b % p),
    "divide": _Rule("/", False, lambda a, b, p: a * _inverses(p)[b] % p),
    "sum_squares": _Rule("o", True, lambda a, b, p: (a * a + b * b) % p),
    "cubic": _Rule("o", False, lambda a, b, p: (a**3 + a * b * b + b) % p),
}


@dataclass(frozen=True, kw_only=True)
class ModularArithmeticConfig:
    """Which table, and how much of it is trained on.

    Args:
        kind: names the task in a stored config.
        modulus: p, between 11 and 2048; a prime number for `divide`. Published: 97 and 113.
        operation: one of `Operation`.
        train_fraction: share of the equations that is trained on, between 0.01 and 0.95.
        join_mirrors: put a op b and b op a in one split; for operations that commute.
        split_seed: decides which equations these are, at least 0 and below 2**64; not the seed of a run.

    Raises:
        ValueError: a value out of its range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["modular_arithmetic"] = "modular_arithmetic"
    modulus: int = 113
    operation: Operation = "add"
    train_fraction: float = 0.4
    join_mirrors: bool = False
    split_seed: int = 0

    def __post_init__(self) -> None:
        where = "ModularArithmeticConfig"
        if self.operation not in _RULES:
            raise ValueError(
                f"{where}.operation: must be one of {', '.join(get_args(Operation))}, got {self.operation!r}; "
                "nearest valid: 'add'"
            )
        if not SMALLEST <= self.modulus <= LARGEST:
            raise ValueError(
                f"{where}.modulus: must be between {SMALLEST} and {LARGEST}, got {self.modulus}; "
                f"nearest valid: {min(max(self.modulus, SMALLEST), LARGEST)}"
            )
        if self.operation == "divide" and not _is_prime(self.modulus):
            raise ValueError(
                f"{where}.modulus: must be prime for operation 'divide' (else some numbers have no inverse), got "
                f"{self.modulus}; nearest valid: {_nearest_prime(self.modulus)}"
            )
        if not LEAST_TRAINED <= self.train_fraction <= MOST_TRAINED:
            nearest = MOST_TRAINED if self.train_fraction > MOST_TRAINED else LEAST_TRAINED
            raise ValueError(
                f"{where}.train_fraction: must be between {LEAST_TRAINED} and {MOST_TRAINED}, got "
                f"{self.train_fraction}; nearest valid: {nearest}"
            )
        if self.join_mirrors and not _RULES[self.operation].commutes:
            raise ValueError(
                f"{where}.join_mirrors: must be False for operation {self.operation!r}, which does not commute, got "
                "True; nearest valid: False"
            )
        check_seed(f"{where}.split_seed", self.split_seed)


@final
class ModularArithmetic:
    """Batches of equations of a fixed table; the attributes are those of `mnemoscope.tasks.Task`."""

    unit: str = "accuracy"
    length: int = 4
    floor_loss: float = 0.0
    """One who knows the rule makes no mistake."""

    def __init__(self, config: ModularArithmeticConfig) -> None:
        self.config = config
        self.vocab_size: int = config.modulus + 2
        table = _table(config.modulus, config.operation)
        self._splits: dict[Split, NDArray[np.int64]] = dict(zip(SPLITS, _divided(table, config), strict=True))
        self.chance_loss: float = math.log(config.modulus)
        """Nats per answer of guessing uniformly among all numbers, ln p."""
        self.memoryless_loss: float = entropy(np.bincount(table[:, 2]).astype(np.float64))
        """Entropy of the answers of the whole table, in nats: the present token is the equals sign, always.

        It is ln p for `add`, `subtract` and `divide`. A product is 0 in 2 p - 1 equations and any other number in p - 1
        (p prime), and sums of squares are uneven too, so that ln p is missed by a little.
        """

    def equations(self, split: Split) -> NDArray[np.int64]:
        """All equations of a split: rows of a, b and c, in the order of the split.

        Raises:
            ValueError: an unknown split.
        """
        split_index(split)
        return self._splits[split].copy()

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        """Read `size` equations of a split; none twice, unless more training equations are asked for than there are.

        As many as `equations("train")` has are a full batch.

        Raises:
            ValueError: size below 1 or above the held-out equations, or an unknown split.
        """
        split_index(split)
        equations = self._splits[split]
        a, b, c = equations[draw_rows("ModularArithmetic", rng, size, split, len(equations))].T
        p = self.config.modulus
        inputs = np.stack([a, np.full_like(a, p), b, np.full_like(a, p + 1)], axis=1)
        targets = np.full_like(inputs, IGNORE)
        targets[:, 3] = c
        about = {name: np.full_like(inputs, -1) for name in ("distance", "query")}
        about["distance"][:, 3] = 1
        about["query"][:, 3] = 0
        return Batch(inputs=inputs, targets=targets, about=about)

    def words(self, tokens: Sequence[int]) -> list[str]:
        """Numbers as numbers, the operation as its sign ("o" where it has none), and the equals sign."""
        p, sign = self.config.modulus, _RULES[self.config.operation].sign
        return [str(token) if token < p else sign if token == p else "=" for token in tokens]

    def n_sequences(self, split: Split) -> int | None:
        """The equations of a held-out split; training equations are read again and again, without end."""
        split_index(split)
        return None if split == "train" else len(self._splits[split])

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step: NumPy, whose streams change with releases."""
        counts = {f"{split}_equations": len(rows) for split, rows in self._splits.items()}
        return {"name": "modular_arithmetic", **counts, "numpy": np.__version__}


def _table(p: int, operation: Operation) -> NDArray[np.int64]:
    """All equations: rows of a, b and c, ordered by a and then b."""
    a, b = np.divmod(np.arange(p * p), p)
    if operation == "divide":
        a, b = a[b > 0], b[b > 0]
    return np.stack([a, b, _RULES[operation].answer(a, b, p)], axis=1)


def _divided(table: NDArray[np.int64], config: ModularArithmeticConfig) -> list[NDArray[np.int64]]:
    """The equations of every split."""
    n = len(table)
    order = fixed_stream(config.split_seed).permutation(n)
    groups = np.arange(n)
    if config.join_mirrors:
        # A pair stands where the first of its two equations does.
        rank = np.argsort(order)
        first = np.minimum(rank, rank[table[:, 1] * config.modulus + table[:, 0]])
        order = np.argsort(first, kind="stable")
        groups = first[order]
    n_train = _between(groups, int(config.train_fraction * n))
    n_shown = _between(groups, n_train + (n - n_train) // 2)
    return np.split(table[order], [n_train, n_shown])


def _between(groups: NDArray[np.int64], cut: int) -> int:
    """The first cut from `cut` on that parts no group; a group has at most two members."""
    return cut + int(groups[cut - 1] == groups[cut])


def _inverses(p: int) -> NDArray[np.int64]:
    """b with b b' = 1 modulo a prime p, by b'; 0 for 0."""
    return np.array([0, *(pow(b, -1, p) for b in range(1, p))])


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, math.isqrt(number) + 1))


def _nearest_prime(number: int) -> int:
    return min(filter(_is_prime, range(SMALLEST, LARGEST)), key=lambda prime: abs(prime - number))

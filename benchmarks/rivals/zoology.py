"""MQAR and its relatives in Zoology's way: `choice` without replacement row by row, loops over rows and slots.

Own code for the steps of HazyResearch/zoology, commit d88d6f5: `multiquery_ar`, `forgetting_mqar` and
`compositional_mqar`. `RandomState.choice` is the function behind NumPy's global `choice`, which Zoology calls.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.rivals.generators import Generator, Sequences, demand
from mnemoscope.contracts import IGNORE
from mnemoscope.tasks import CompositionalConfig, ForgettingConfig, MqarConfig

Rows = NDArray[np.int64]
SMALL = ("vocab_size=64", "length=64", "power_a=1.0")


def row_choices(rng: np.random.RandomState, pool: Rows, rows: int, n: int, law: Any = None) -> Rows:
    """`n` of the pool without replacement for every row, a call a row."""
    return np.apply_along_axis(rng.choice, 1, np.tile(pool, (rows, 1)), replace=False, p=law, size=n)


def asked(
    config: Any, rng: np.random.RandomState, context: Rows, keys: list[Rows], values: Rows, fill: bool
) -> Sequences:
    """The context, then each query in a gap of its own, and random tokens in what is left."""
    rows, start = context.shape
    width = len(keys) + 1
    space = (config.length - start) // width
    law = np.arange(1, space + 1) ** (config.power_a - 1.0)
    gaps = start + width * row_choices(rng, np.arange(space), rows, values.shape[1], law / law.sum())
    inputs = np.concatenate([context, np.zeros((rows, config.length - start), np.int64)], axis=1)
    targets = np.full_like(inputs, IGNORE)
    for offset, part in enumerate(keys):
        np.put_along_axis(inputs, gaps + offset, part, axis=1)
    np.put_along_axis(targets, gaps + len(keys) - 1, values, axis=1)
    if fill:
        inputs[inputs == 0] = rng.randint(config.vocab_size, size=inputs.shape)[inputs == 0]
    return inputs, targets


def mqar(config: MqarConfig, rows: int, seed: int) -> Sequences:
    rng, half = np.random.RandomState(seed), config.vocab_size // 2
    keys = row_choices(rng, np.arange(1, half), rows, config.n_pairs)
    values = row_choices(rng, np.arange(half, config.vocab_size), rows, config.n_pairs)
    context = np.stack([keys, values], axis=2).reshape(rows, -1)
    return asked(config, rng, context, [keys], values, config.random_non_queries)


def forgetting(config: ForgettingConfig, rows: int, seed: int) -> Sequences:
    rng, half = np.random.RandomState(seed), config.vocab_size // 2
    pool = np.arange(half, config.vocab_size)
    keys = row_choices(rng, np.arange(1, half), rows, config.n_pairs)
    first = row_choices(rng, pool, rows, config.n_pairs)
    second = np.zeros((rows, config.n_updates), np.int64)
    for row in range(rows):
        for slot in range(config.n_updates):
            second[row, slot] = rng.choice(pool[pool != first[row, slot]])
    updated = np.stack([rng.choice(config.n_pairs, size=config.n_updates, replace=False) for _ in range(rows)])
    last = first.copy()
    for row in range(rows):
        for slot, pair in enumerate(updated[row]):
            last[row, pair] = second[row, slot]
    pairs = [(keys, first), (np.take_along_axis(keys, updated, axis=1), second)]
    context = np.concatenate([np.stack(pair, axis=2).reshape(rows, -1) for pair in pairs], axis=1)
    return asked(config, rng, context, [keys], last, config.random_non_queries)


def compositional(config: CompositionalConfig, rows: int, seed: int) -> Sequences:
    rng, third = np.random.RandomState(seed), config.vocab_size // 3
    first = np.repeat(row_choices(rng, np.arange(1, third), rows, config.n_first), config.n_second, axis=1)
    second = np.tile(row_choices(rng, np.arange(third, 2 * third), rows, config.n_second), (1, config.n_first))
    for row in range(rows):
        order = rng.permutation(first.shape[1])
        first[row], second[row] = first[row, order], second[row, order]
    values = row_choices(rng, np.arange(2 * third, config.vocab_size), rows, first.shape[1])
    context = np.stack([first, second, values], axis=2).reshape(rows, -1)
    return asked(config, rng, context, [first, second], values, config.random_non_queries)


def check_last_value(width: int, n_writes: Any, n_keys: Any) -> Any:
    """Every query is a key that was written, in a gap of its own; its target is the value written last."""

    def check(config: Any, inputs: Rows, targets: Rows) -> None:
        for row, wanted in zip(inputs.tolist(), targets.tolist(), strict=True):
            end = width * n_writes(config)
            cells = [tuple(row[at : at + width]) for at in range(0, end, width)]
            value_of = {cell[:-1]: cell[-1] for cell in cells}
            scored = [at for at, target in enumerate(wanted) if target >= 0]
            queries = [tuple(row[at - width + 2 : at + 1]) for at in scored]
            demand(len(value_of) == n_keys(config), f"{len(value_of)} keys")
            demand(sorted(queries) == sorted(value_of), "the queries are not the keys, each once")
            demand(all((at - width + 2 - end) % width == 0 for at in scored), "a query stands between two gaps")
            demand([value_of[query] for query in queries] == [wanted[at] for at in scored], "an answer is wrong")

    return check


def generators() -> Iterator[Generator]:
    """Small and large vocabularies: what a row costs grows with the pool that is permuted for it."""
    pairs = check_last_value(2, lambda c: c.n_pairs, lambda c: c.n_pairs)
    rewrites = check_last_value(2, lambda c: c.n_pairs + c.n_updates, lambda c: c.n_pairs)
    grid = check_last_value(3, lambda c: c.n_first * c.n_second, lambda c: c.n_first * c.n_second)
    ways = (
        ("mqar", mqar, pairs),
        ("forgetting_mqar", forgetting, rewrites),
        ("compositional_mqar", compositional, grid),
    )
    for options in (SMALL, ()):
        for kind, generate, check in ways:
            yield Generator(kind=kind, options=options, source="Zoology's way", generate=generate, check=check)

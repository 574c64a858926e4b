"""The MAD tasks in mad-lab's way: one sequence after the other, pair by pair, in Python lists.

Own code for the steps of athms/mad-lab, commit 0f49a45, `instances.py`, with targets as its test sets have them
(answers alone, multi-query). Training targets cost it the same.
"""

from collections.abc import Callable, Iterator
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.rivals.generators import Generator, Sequences, demand
from mnemoscope.contracts import IGNORE

Rows = NDArray[np.int64]
Instance = Callable[[Any, np.random.Generator], tuple[list[int], list[int]]]


def stacked(instance: Instance) -> Callable[[Any, int, int], Sequences]:
    """Many sequences from a function of one."""

    def generate(config: Any, rows: int, seed: int) -> Sequences:
        rng = np.random.default_rng(seed)
        inputs, targets = zip(*(instance(config, rng) for _ in range(rows)), strict=True)
        return np.stack([np.array(row) for row in inputs]), np.stack([np.array(row) for row in targets])

    return generate


def recall(config: Any, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    noisy = config.kind == "mad_noisy_recall"
    n_noise, share = (config.noise_vocab_size, config.frac_noise) if noisy else (0, 0.0)
    ordinary, n_pairs = config.vocab_size - n_noise, config.length // 2
    keys, values = np.arange(ordinary // 2), np.arange(ordinary // 2, ordinary)
    noise = np.arange(ordinary, config.vocab_size)
    value_of: dict[int, int] = {}
    inputs: list[int] = []
    targets: list[int] = []
    spared = rng.choice(n_pairs)
    for pair in range(n_pairs - 1):
        if share > 0 and pair != spared and rng.random() < share:
            inputs += list(rng.choice(noise, size=2, replace=True))
            targets += [IGNORE, IGNORE]
            continue
        key = rng.choice(keys)
        seen = key in value_of
        if not seen:
            value_of[key] = rng.choice(values)
        inputs += [key, value_of[key]]
        targets += [IGNORE, value_of[key] if seen else IGNORE]
    probe = rng.choice(list(value_of)) if value_of else rng.choice(keys)
    inputs += [probe, value_of.get(probe, values[0])]
    targets += [IGNORE, value_of.get(probe, values[0])]
    return inputs[:-1], targets[1:]


def fuzzy_recall(config: Any, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """Keys have the largest size, as in its test sets; it makes and shuffles all motifs anew for every sequence.

    Now and then it asks for a pair that found no room before; such an answer is not scored here.
    """
    pad, half = config.vocab_size - 1, (config.vocab_size - 1) // 2
    keys = list(permutations(range(half), config.max_key))
    rng.shuffle(keys)
    motifs = {size: list(permutations(range(half, pad), size)) for size in range(1, config.max_value + 1)}
    for size in motifs:
        rng.shuffle(motifs[size])
    probe = tuple(rng.choice(keys))
    answer = tuple(rng.choice(motifs[rng.choice(list(motifs))]))
    pair_size = len(probe) + len(answer)
    probe_at, shown = rng.choice(config.length - 2 * pair_size), False
    value_of: dict[tuple[int, ...], tuple[int, ...]] = {}
    inputs: list[int] = []
    targets: list[int] = []
    while len(inputs) < config.length - pair_size - (config.max_key + config.max_value):
        size = rng.choice(list(motifs))
        due = len(inputs) >= probe_at and not shown
        key = probe if due else tuple(rng.choice(keys))
        shown = shown or key == probe
        seen = key in value_of
        if not seen:
            value_of[key] = answer if key == probe else tuple(rng.choice(motifs[size]))
        inputs += [*key, *value_of[key]]
        targets += [IGNORE] * len(key) + (list(value_of[key]) if seen else [IGNORE] * len(value_of[key]))
    inputs += [*probe, *answer]
    targets += [IGNORE] * len(probe) + (list(answer) if shown else [IGNORE] * len(answer))
    missing = config.length + 1 - len(inputs)
    return ([pad] * missing + inputs)[:-1], ([IGNORE] * missing + targets)[1:]


def memorisation(config: Any, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """It makes the map once for a data set where it is given, and so does this."""
    ask = config.vocab_size - 1
    value_of = _map(config.vocab_size, config.map_seed)
    keys = list(value_of)
    inputs: list[int] = []
    targets: list[int] = []
    for _ in range(config.length // 2):
        key = tuple(rng.choice(keys))
        inputs += [*key, ask]
        targets += [IGNORE, *value_of[key]]
    return inputs, targets


_MAPS: dict[tuple[int, int], dict[tuple[int, ...], tuple[int, ...]]] = {}


def _map(vocab_size: int, seed: int) -> dict[tuple[int, ...], tuple[int, ...]]:
    if (vocab_size, seed) not in _MAPS:
        rng, half = np.random.default_rng(seed), (vocab_size - 1) // 2
        keys, values = list(permutations(range(half), 1)), list(permutations(range(half, vocab_size - 1), 1))
        rng.shuffle(keys)
        rng.shuffle(values)
        _MAPS[vocab_size, seed] = dict(zip(map(tuple, keys), map(tuple, values), strict=False))
    return _MAPS[vocab_size, seed]


def compression(config: Any, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    tokens = rng.choice(np.arange(config.vocab_size - 1), size=(config.length - 1,), replace=True).tolist()
    return [*tokens, config.vocab_size - 1], [*tokens, IGNORE]


def selective_copying(config: Any, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    blank, copy, n = config.vocab_size - 2, config.vocab_size - 1, config.n_tokens
    n_blanks = config.length - 2 * n - 1
    tokens = rng.choice(np.arange(blank), size=(n,), replace=True)
    among = np.insert(tokens, rng.integers(0, n, n_blanks), [blank] * n_blanks).tolist()
    return [*among, copy, *[blank] * n], [IGNORE] * (n + n_blanks + 1) + tokens.tolist()


def check_recall(config: Any, inputs: Rows, targets: Rows) -> None:
    """A scored key was followed by the target before; a key is scored where it was seen."""
    n_keys = (config.vocab_size - (config.noise_vocab_size if config.kind == "mad_noisy_recall" else 0)) // 2
    for row, wanted in zip(inputs.tolist(), targets.tolist(), strict=True):
        value_of: dict[int, int] = {}
        for at in range(0, len(row), 2):
            key = row[at]
            if key >= n_keys:
                demand(wanted[at] < 0, "noise is scored")
                continue
            value = value_of.get(key, IGNORE)
            demand(wanted[at] == value, f"key {key} must be answered {value}, not {wanted[at]}")
            value_of.setdefault(key, row[at + 1] if at + 1 < len(row) else IGNORE)


def check_fuzzy_recall(config: Any, inputs: Rows, targets: Rows) -> None:
    """Before every answer stands a key of the largest size that an earlier place shows with the answer after it."""
    size = config.max_key
    demand(bool((targets >= 0).any()), "nothing is asked")
    for row, wanted in zip(inputs.tolist(), targets.tolist(), strict=True):
        starts = [at for at, token in enumerate(wanted) if token >= 0 and wanted[at - 1] < 0]
        for at in starts:
            end = next((stop for stop in range(at, len(row)) if wanted[stop] < 0), len(row))
            pair = [*row[at - size + 1 : at + 1], *wanted[at:end]]
            earlier = range(at - size + 1)
            demand(any(row[i : i + len(pair)] == pair for i in earlier), f"{pair} was not seen before")


def check_memorisation(config: Any, inputs: Rows, targets: Rows) -> None:
    """Every key of all sequences has one value, asked at the next place."""
    keys, asked, answers = inputs[:, ::2], inputs[:, 1::2], targets[:, 1::2]
    demand(bool((asked == config.vocab_size - 1).all()), "a key is not followed by the asking token")
    pairs = set(zip(keys.flat, answers.flat, strict=True))
    demand(len(pairs) == np.unique(keys).size == np.unique(answers).size, "the map is not one to one")


def check_compression(config: Any, inputs: Rows, targets: Rows) -> None:
    """Everything but the last token is to be rebuilt."""
    demand(bool((inputs[:, :-1] == targets[:, :-1]).all()), "a target is not its input")
    demand(bool((inputs[:, -1] == config.vocab_size - 1).all()), "the aggregation token is not last")


def check_selective_copying(config: Any, inputs: Rows, targets: Rows) -> None:
    """What is not blank before the copy token is asked for after it, in order."""
    n = config.n_tokens
    demand(bool((inputs[:, -n - 1] == config.vocab_size - 1).all()), "the copy token has another place")
    for row, wanted in zip(inputs[:, : -n - 1].tolist(), targets[:, -n:].tolist(), strict=True):
        demand([token for token in row if token != config.vocab_size - 2] == wanted, "an answer is wrong")


def generators() -> Iterator[Generator]:
    """New sequences each time, where a training set would be generated once and read again and again."""
    new = ("n_train=None",)
    ways: dict[str, tuple[tuple[str, ...], Instance, Any]] = {
        "mad_compression": ((*new, "layout=autoencoder"), compression, check_compression),
        "mad_fuzzy_recall": (new, fuzzy_recall, check_fuzzy_recall),
        "mad_memorisation": (new, memorisation, check_memorisation),
        "mad_noisy_recall": (new, recall, check_recall),
        "mad_recall": (new, recall, check_recall),
        "mad_selective_copying": (new, selective_copying, check_selective_copying),
    }
    for kind, (options, instance, check) in ways.items():
        split = "test" if kind == "mad_fuzzy_recall" else "train"
        yield Generator(
            kind=kind, options=options, source="mad-lab's way", generate=stacked(instance), check=check, split=split
        )

"""MAD fuzzy recall: motifs of keys and values, answered token by token, and the losses of an enumerated law."""

import itertools
import math
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnemoscope.contracts.batch import IGNORE
from mnemoscope.tasks import SPLITS, MadFuzzyRecall, MadFuzzyRecallConfig, task_rng


@st.composite
def configs(draw):
    vocab_size = draw(st.integers(8, 40))
    n_keys = (vocab_size - 1) // 2
    max_key, max_value = draw(st.integers(1, min(n_keys, 4))), draw(st.integers(1, 4))
    return MadFuzzyRecallConfig(
        vocab_size=vocab_size,
        length=4 * (max_key + max_value) + 1 + draw(st.integers(0, 60)),
        max_key=max_key,
        max_value=max_value,
        n_train=draw(st.sampled_from([None, 5])),
        train_on=draw(st.sampled_from(["answers", "all"])),
    )


def motifs_of(tokens, n_keys, padding):
    """The alternating runs of key and value tokens, each with where it begins."""
    place, runs = 0, []
    for name, run in itertools.groupby(tokens, lambda token: "." if token == padding else token < n_keys):
        motif = tuple(run)
        if name != ".":
            runs.append((place, motif))
        place += len(motif)
    return list(zip(runs[0::2], runs[1::2], strict=True))


@settings(deadline=None, max_examples=80)
@given(config=configs(), seed=st.integers(0, 2**32), split=st.sampled_from(SPLITS))
@example(config=MadFuzzyRecallConfig(), seed=0, split="train")
@example(config=MadFuzzyRecallConfig(), seed=0, split="test")
def test_a_reader_of_motifs_answers_every_token(config, seed, split):
    n_keys, padding = (config.vocab_size - 1) // 2, config.vocab_size - 1
    batch = MadFuzzyRecall(config).batch(task_rng(seed, split, 0), 4, split)
    for row, inputs in enumerate(batch.inputs.tolist()):
        n_padding = inputs.index(next(token for token in inputs if token != padding))
        assert n_padding >= 1
        assert padding not in inputs[n_padding:]
        pairs = motifs_of(inputs, n_keys, padding)
        assert len(pairs) == (config.length - 1) // (config.max_key + config.max_value)
        known, place_of, expected, n_asked = {}, {}, {}, 0
        for (start, key), (value_start, value) in pairs:
            assert len(set(key)) == len(key) <= config.max_key
            assert len(set(value)) == len(value) <= config.max_value
            assert split == "train" or len(key) == config.max_key
            if key in known:
                assert known[key] == value
                for offset, token in enumerate(value):
                    position, item = start + len(key) - 1 + offset, list(known).index(key)
                    expected[position] = (token, position - place_of[key] - offset, item, n_asked)
                n_asked += 1
            known[key], place_of[key] = value, value_start
        assert config.length - 2 in expected
        names = ("distance", "item", "query")
        found = {
            position: (inputs[position + 1], *(int(batch.about[name][row, position]) for name in names))
            for position in np.flatnonzero(batch.about["item"][row] >= 0).tolist()
        }
        assert found == expected
        assert {int(batch.about["load"][row, position]) for position in found} == {len(known)}
        if config.train_on == "all" and split == "train":
            assert batch.targets[row].tolist() == [*inputs[1:], IGNORE]
        else:
            targets = {place: int(target) for place, target in enumerate(batch.targets[row]) if target != IGNORE}
            assert targets == {position: token for position, (token, *_) in expected.items()}


def law_of(config):
    """Every training sequence with its probability, by the rules one after the other."""
    n_keys = (config.vocab_size - 1) // 2
    n = (config.length - 1) // (config.max_key + config.max_value)

    def motifs(tokens, longest):
        sized = [list(itertools.permutations(tokens, size)) for size in range(1, longest + 1)]
        return {motif: 1 / (longest * len(same)) for same in sized for motif in same}

    keys = motifs(range(n_keys), config.max_key)
    values = motifs(range(n_keys, config.vocab_size - 1), config.max_value)
    law = defaultdict(float)
    for drawn in itertools.product(keys, repeat=n - 1):
        distinct = list(dict.fromkeys(drawn))
        of_keys = math.prod(keys[key] for key in drawn)
        for chosen in itertools.product(values, repeat=len(distinct)):
            value_of = dict(zip(distinct, chosen, strict=True))
            p = of_keys * math.prod(values[value] for value in chosen) / (n - 1)
            for last in drawn:
                tokens = [token for key in (*drawn, last) for token in key + value_of[key]]
                law[(*[config.vocab_size - 1] * (config.length - len(tokens)), *tokens)] += p
    return law


def entropy(law):
    return -sum(p * math.log(p) for p in law.values() if p)


SMALL = (
    MadFuzzyRecallConfig(vocab_size=5, length=13, max_key=2, max_value=2, n_train=None),
    MadFuzzyRecallConfig(vocab_size=6, length=12, max_key=2, max_value=3, n_train=None),
    MadFuzzyRecallConfig(vocab_size=7, length=8, max_key=1, max_value=1, n_train=None),
    MadFuzzyRecallConfig(vocab_size=7, length=10, max_key=1, max_value=2, n_train=None),
)


@pytest.mark.parametrize("config", SMALL, ids=repr)
def test_losses_of_all_next_tokens_are_those_of_the_enumerated_law(config):
    law, scored = law_of(config), config.length - 1
    assert math.isclose(sum(law.values()), 1)
    moves, present, following = defaultdict(float), defaultdict(float), defaultdict(float)
    for tokens, p in law.items():
        for now, then in itertools.pairwise(tokens):
            moves[now, then] += p / scored
    for (now, then), p in moves.items():
        present[now] += p
        following[then] += p
    task = MadFuzzyRecall(replace(config, train_on="all"))
    assert math.isclose(task.floor_loss, entropy(law) / scored)
    assert math.isclose(task.memoryless_loss, entropy(moves) - entropy(present))
    assert math.isclose(task.chance_loss, entropy(following))


@pytest.mark.parametrize("config", SMALL, ids=repr)
def test_losses_of_answers_are_those_of_the_enumerated_law(config):
    task, joint = MadFuzzyRecall(config), defaultdict(float)
    n_keys = (config.vocab_size - 1) // 2
    for tokens, p in law_of(config).items():
        seen = set()
        for (_, key), (place, value) in motifs_of(tokens, n_keys, config.vocab_size - 1):
            for offset in range(len(value) if key in seen else 0):
                joint[tokens[place + offset - 1], tokens[place + offset]] += p
            seen.add(key)
    total, present = sum(joint.values()), defaultdict(float)
    for (now, _), p in joint.items():
        present[now] += p / total
    conditional = entropy({move: p / total for move, p in joint.items()}) - entropy(present)
    assert math.isclose(task.memoryless_loss, conditional)
    assert task.chance_loss == math.log(config.vocab_size - 1 - n_keys)
    assert task.floor_loss == 0


def test_draws_follow_the_enumerated_law():
    law, n, task = law_of(SMALL[3]), 60_000, MadFuzzyRecall(SMALL[3])
    rng = np.random.default_rng(0)
    counts = Counter(map(tuple, task._complete(rng, *task._draw(rng, n, "train"))[0].tolist()))
    assert set(counts) <= set(law)
    # Pearson's statistic has about as many degrees of freedom as there are sequences.
    statistic = sum((counts[tokens] - n * p) ** 2 / (n * p) for tokens, p in law.items())
    assert abs(statistic - len(law)) < 6 * math.sqrt(2 * len(law)) + 6


def test_a_third_of_training_and_a_sixth_of_test_is_padding():
    task = MadFuzzyRecall(MadFuzzyRecallConfig())
    shares = [
        (task.batch(task_rng(0, split, 0), 2000, split).inputs == 15).mean()
        for split in ("train", "validation", "test")
    ]
    assert np.allclose(shares, [0.34, 0.18, 0.18], atol=0.01)


def test_the_sequence_of_the_first_release():
    task = MadFuzzyRecall(MadFuzzyRecallConfig(vocab_size=10, length=13, max_key=2, max_value=2))
    batch = task.batch(task_rng(0, "train", 0), 1, "train")
    assert batch.inputs[0].tolist() == [9, 9, 9, 9, 9, 9, 1, 6, 1, 3, 7, 1, 6]
    assert task.words([9, 3, 4]) == [".", "k3", "v0"]


@pytest.mark.parametrize("n_train", [None, 100])
def test_splits_share_no_keys(n_train):
    task = MadFuzzyRecall(MadFuzzyRecallConfig(vocab_size=6, length=30, max_key=1, max_value=1, n_train=n_train))
    seen = {
        split: set(map(tuple, task.batch(np.random.default_rng(0), 800, split).inputs[:, 2::2].tolist()))
        for split in SPLITS
    }
    assert all(seen.values())
    assert sum(map(len, seen.values())) == len(set().union(*seen.values()))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"vocab_size": 4}, "vocab_size: must be between 5 .* got 4; nearest valid: 5"),
        ({"vocab_size": 70_000}, "got 70000; nearest valid: 65536"),
        ({"vocab_size": 6}, "max_key: must be between 1 and 2 .* got 3; nearest valid: 2"),
        ({"max_key": 5}, "max_key: must be between 1 and 4 .* got 5; nearest valid: 4"),
        ({"max_value": 0}, "max_value: must be between 1 and 8 .* got 0; nearest valid: 1"),
        ({"length": 12}, r"length: must be at least 2 \* \(max_key \+ max_value\) \+ 1 = 13 .* nearest valid: 13"),
        ({"n_train": -1}, "n_train: must be at least 1"),
    ],
)
def test_config_refuses(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        MadFuzzyRecallConfig(**options)

"""MAD recall: repeated keys alone are scored, noise is never asked for, and the losses are those of the law."""

import itertools
import math
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnemoscope.contracts.batch import IGNORE
from mnemoscope.tasks import SPLITS, MadNoisyRecallConfig, MadRecall, MadRecallConfig, task_rng


@st.composite
def configs(draw):
    length, n_train = 2 * draw(st.integers(4, 40)), draw(st.sampled_from([None, 5]))
    train_on = draw(st.sampled_from(["answers", "all"]))
    if draw(st.booleans()):
        vocab_size = draw(st.integers(8, 60))
        return MadRecallConfig(vocab_size=vocab_size, length=length, n_train=n_train, train_on=train_on)
    noise = draw(st.integers(1, 20))
    return MadNoisyRecallConfig(
        vocab_size=noise + draw(st.integers(8, 40)),
        length=length,
        noise_vocab_size=noise,
        frac_noise=draw(st.sampled_from([0.0, 0.2, 0.9])),
        n_train=n_train,
        train_on=train_on,
    )


@settings(deadline=None, max_examples=80)
@given(config=configs(), seed=st.integers(0, 2**32), split=st.sampled_from(SPLITS))
@example(config=MadRecallConfig(), seed=0, split="train")
@example(config=MadNoisyRecallConfig(frac_noise=0.8), seed=0, split="test")
def test_a_reader_of_pairs_answers_every_repeated_key(config, seed, split):
    n_noise = getattr(config, "noise_vocab_size", 0)
    n_keys, first_noise = (config.vocab_size - n_noise) // 2, config.vocab_size - n_noise
    batch = MadRecall(config).batch(task_rng(seed, split, 0), 4, split)
    for row, inputs in enumerate(batch.inputs.tolist()):
        value_of, value_at, expected, n_noisy = {}, {}, {}, 0
        for position in range(0, config.length, 2):
            key, value = inputs[position : position + 2]
            if key >= first_noise:
                assert value >= first_noise
                n_noisy += 1
                continue
            assert key < n_keys <= value < first_noise
            if key in value_of:
                assert value_of[key] == value
                item = list(value_of).index(key)
                expected[position] = (value, position - value_at[key], item, len(expected))
            value_of[key], value_at[key] = value, position + 1
        assert config.length - 2 in expected
        assert n_noisy < config.length // 2 - 1
        asked = np.flatnonzero(batch.about["item"][row] >= 0).tolist()
        names = ("distance", "item", "query")
        found = {
            position: (inputs[position + 1], *(int(batch.about[name][row, position]) for name in names))
            for position in asked
        }
        assert found == expected
        assert {int(batch.about["load"][row, position]) for position in asked} == {len(value_of)}
        if config.train_on == "all" and split == "train":
            assert batch.targets[row].tolist() == [*inputs[1:], IGNORE]
        else:
            targets = {place: int(target) for place, target in enumerate(batch.targets[row]) if target != IGNORE}
            assert targets == {position: value for position, (value, *_) in expected.items()}


def test_the_sequences_of_the_first_release():
    task = MadRecall(MadNoisyRecallConfig(vocab_size=12, length=12, noise_vocab_size=4))
    batch = task.batch(task_rng(0, "train", 0), 1, "train")
    assert batch.inputs[0].tolist() == [2, 7, 1, 4, 9, 9, 2, 7, 0, 6, 0, 6]
    assert {i: int(t) for i, t in enumerate(batch.targets[0]) if t != IGNORE} == {6: 7, 10: 6}
    assert task.words([2, 7, 9]) == ["k2", "v3", "n1"]


def law_of(config):
    """Every sequence with its probability, by the rules one after the other."""
    n_noise = getattr(config, "noise_vocab_size", 0)
    share = getattr(config, "frac_noise", 0.0)
    n_keys = (config.vocab_size - n_noise) // 2
    n_values, m = config.vocab_size - n_noise - n_keys, config.length // 2 - 1
    law = defaultdict(float)
    maps = list(itertools.product(range(n_keys, n_keys + n_values), repeat=n_keys))
    noise = list(itertools.product(range(config.vocab_size - n_noise, config.vocab_size), repeat=2))
    for guaranteed in range(m):
        for flags in itertools.product((False, True), repeat=m):
            if flags[guaranteed]:
                continue
            odds = math.prod(share if flag else 1 - share for place, flag in enumerate(flags) if place != guaranteed)
            parts = [noise if flag else [(key,) for key in range(n_keys)] for flag in flags]
            for drawn in itertools.product(*parts) if odds else ():
                seen = sorted({pair[0] for pair in drawn if len(pair) == 1})
                for values, last in itertools.product(maps, seen):
                    pairs = [pair if len(pair) == 2 else (pair[0], values[pair[0]]) for pair in (*drawn, (last,))]
                    p = odds / (m * len(maps) * len(seen) * math.prod(map(len, parts)))
                    law[tuple(token for pair in pairs for token in pair)] += p
    return law


def entropy(law):
    return -sum(p * math.log(p) for p in law.values() if p)


SMALL = (
    MadRecallConfig(vocab_size=4, length=8, n_train=None),
    MadRecallConfig(vocab_size=5, length=6, n_train=None),
    MadRecallConfig(vocab_size=6, length=4, n_train=None),
    MadNoisyRecallConfig(vocab_size=6, length=8, noise_vocab_size=2, frac_noise=0.3, n_train=None),
    MadNoisyRecallConfig(vocab_size=6, length=6, noise_vocab_size=1, frac_noise=0.8, n_train=None),
    MadNoisyRecallConfig(vocab_size=6, length=4, noise_vocab_size=2, frac_noise=0.5, n_train=None),
)


@pytest.mark.parametrize("config", SMALL, ids=repr)
def test_losses_of_all_next_tokens_are_those_of_the_enumerated_law(config):
    law, scored = law_of(config), config.length - 1
    assert math.isclose(sum(law.values()), 1)
    start, moves = defaultdict(float), defaultdict(float)
    for tokens, p in law.items():
        start[tokens[0]] += p
        for move in itertools.pairwise(tokens):
            moves[move] += p / scored
    present, following = defaultdict(float), defaultdict(float)
    for (now, then), p in moves.items():
        present[now] += p
        following[then] += p
    task = MadRecall(replace(config, train_on="all"))
    assert math.isclose(task.floor_loss, (entropy(law) - entropy(start)) / scored)
    assert math.isclose(task.memoryless_loss, entropy(moves) - entropy(present))
    assert math.isclose(task.chance_loss, entropy(following))


@pytest.mark.parametrize("config", SMALL, ids=repr)
def test_the_key_alone_says_nothing_and_answers_cost_nothing(config):
    task, joint = MadRecall(config), defaultdict(float)
    for tokens, p in law_of(config).items():
        seen = set()
        for key, value in zip(tokens[0::2], tokens[1::2], strict=True):
            if key in seen and key < task._n_keys:
                joint[key, value] += p
            seen.add(key)
    total, of_key = sum(joint.values()), defaultdict(float)
    for (key, _), p in joint.items():
        of_key[key] += p / total
    conditional = entropy({pair: p / total for pair, p in joint.items()}) - entropy(of_key)
    assert math.isclose(task.memoryless_loss, conditional)
    assert task.chance_loss == task.memoryless_loss == math.log(task._n_values)
    assert task.floor_loss == 0


@pytest.mark.parametrize("config", SMALL[1:4:2], ids=repr)
def test_draws_follow_the_enumerated_law(config):
    law, n = law_of(config), 60_000
    (drawn,) = MadRecall(config)._draw(np.random.default_rng(0), n, "train")
    counts = defaultdict(int)
    for tokens in drawn.tolist():
        counts[tuple(tokens)] += 1
    assert set(counts) <= set(law)
    # Pearson's statistic has about as many degrees of freedom as there are sequences.
    statistic = sum((counts[tokens] - n * p) ** 2 / (n * p) for tokens, p in law.items() if p)
    assert abs(statistic - len(law)) < 6 * math.sqrt(2 * len(law)) + 6


def test_the_training_set_has_the_size_asked_for_and_is_the_same_in_every_run():
    config = MadRecallConfig(n_train=20)
    seen = [
        set(map(tuple, MadRecall(config).batch(task_rng(seed, "train", 0), 1000, "train").inputs.tolist()))
        for seed in (0, 1)
    ]
    assert len(seen[0]) == 20
    assert seen[0] == seen[1]
    held_out = MadRecall(config).batch(task_rng(0, "test", 0), 1000, "test").inputs.tolist()
    assert len(set(map(tuple, held_out))) == 1000
    endless = MadRecall(MadRecallConfig(n_train=None)).batch(task_rng(0, "train", 0), 1000, "train").inputs.tolist()
    assert len(set(map(tuple, endless))) == 1000


@pytest.mark.parametrize("n_train", [None, 300])
def test_splits_share_no_sequence(n_train):
    task = MadRecall(MadRecallConfig(vocab_size=6, length=10, n_train=n_train))
    seen = {
        split: set(map(tuple, task.batch(np.random.default_rng(0), 800, split).inputs.tolist())) for split in SPLITS
    }
    assert all(seen.values())
    assert sum(map(len, seen.values())) == len(set().union(*seen.values()))


@pytest.mark.parametrize(
    ("config", "options", "complaint"),
    [
        (MadRecallConfig, {"vocab_size": 3}, "MadRecallConfig.vocab_size: must be at least 4, .* nearest valid: 4"),
        (MadRecallConfig, {"length": 127}, "length: must be even and at least 4 .* got 127; nearest valid: 128"),
        (MadRecallConfig, {"length": 2}, "got 2; nearest valid: 4"),
        (MadRecallConfig, {"n_train": 0}, "n_train: must be at least 1, or None .* got 0; nearest valid: 1"),
        (MadNoisyRecallConfig, {"vocab_size": 19}, "two values beside the noise, got 19; nearest valid: 20"),
        (MadNoisyRecallConfig, {"noise_vocab_size": 0}, "noise_vocab_size: must be at least 1, got 0"),
        (MadNoisyRecallConfig, {"frac_noise": 1.0}, "frac_noise: must be at least 0 and below 1, got 1.0"),
    ],
)
def test_config_refuses(config, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        config(**options)

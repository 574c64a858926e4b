"""RegBench: rows obey their automata, splits are disjoint, the metrics and baselines are those of the literature."""

import math
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoscope.contracts.batch import IGNORE
from mnemoscope.tasks.automata import PAD, SEPARATOR
from mnemoscope.tasks.regbench import RegBench, RegBenchConfig
from mnemoscope.tasks.regbench_metrics import accuracy, inside_strings, kl, ngram_predictions, tvd, visited

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def published():
    """The published law; training rows are few, none is looked at."""
    return RegBench(RegBenchConfig(n_environments=60, n_held_out=200))


@pytest.fixture(scope="module")
def held_out(published):
    return published.draw(np.random.default_rng(0), 200, "test")


@st.composite
def configs(draw):
    fewest = draw(st.integers(2, 4))
    return RegBenchConfig(
        n_environments=draw(st.integers(1, 6)),
        n_held_out=draw(st.integers(1, 4)),
        held_out=draw(st.sampled_from(["new", "training"])),
        min_strings=fewest,
        max_strings=fewest + draw(st.integers(0, 3)),
        max_string_length=draw(st.integers(10, 14)),
        data_seed=draw(st.integers(0, 2**64 - 1)),
    )


@settings(deadline=None, max_examples=20)
@given(config=configs(), split=st.sampled_from(SPLITS))
def test_every_row_obeys_the_format(config, split):
    task = RegBench(config)
    size = config.n_environments if split == "train" else config.n_held_out
    batch, truth = task.draw(np.random.default_rng(0), size, split)
    assert batch.inputs.shape == batch.targets.shape == (size, task.length)
    for row in range(size):
        inputs, targets = batch.inputs[row].tolist(), batch.targets[row].tolist()
        n = len(inputs) if PAD not in inputs else inputs.index(PAD)
        assert set(inputs[n:]) <= {PAD}
        # Where no target is scored the next input is a separator, or there is none.
        following = [*inputs[1:n], PAD]
        for position in range(n - 1):
            letter = following[position] != SEPARATOR
            assert targets[position] == (following[position] if letter else IGNORE)
        assert 1 <= targets[n - 1] <= 18
        assert set(targets[n:]) <= {IGNORE}
        strings = "".join(task.words([*inputs[:n], targets[n - 1]])).split("|")
        assert config.min_strings <= len(strings) <= config.max_strings
        assert all(1 <= len(string) <= config.max_string_length for string in strings)
        assert all(targets[t] == IGNORE or truth[row, t, targets[t]] > 0 for t in range(n))
        assert np.allclose(truth[row, :n].sum(-1), 1)
        assert not truth[row, n:].any()


@settings(deadline=None, max_examples=25)
@given(config=configs())
def test_what_is_said_of_a_position_holds(config):
    task = RegBench(config)
    batch, truth = task.draw(np.random.default_rng(1), config.n_environments, "train")
    scored = batch.targets != IGNORE
    for name in ("distance", "item", "load", "query"):
        assert np.array_equal(batch.about[name] >= 0, scored)
    for row in range(config.n_environments):
        last = {}
        for query, t in enumerate(np.flatnonzero(scored[row])):
            state = int(batch.about["item"][row, t])
            assert state < batch.about["load"][row, t]
            assert batch.about["query"][row, t] == query
            assert batch.about["distance"][row, t] == (t - last[state] - 1 if state in last else 0)
            if state in last:
                assert np.array_equal(truth[row, t], truth[row, last[state]])
                assert truth[row, t, batch.inputs[row, t - batch.about["distance"][row, t]]] > 0
            last[state] = t


@pytest.mark.parametrize("held_out", ["new", "training"])
def test_splits_share_no_row(held_out):
    task = RegBench(RegBenchConfig(n_environments=40, n_held_out=40, held_out=held_out, max_strings=12))
    rows = {split: task.batch(np.random.default_rng(0), 40, split).inputs for split in SPLITS}
    assert len(np.unique(np.concatenate(list(rows.values())), axis=0)) == 120


def test_held_out_automata_are_new_ones_or_those_of_training():
    def automata(held_out):
        task = RegBench(RegBenchConfig(n_environments=30, n_held_out=50, held_out=held_out, max_strings=11))
        return {split: set(map(tuple, task._splits[split].automata.content().tolist())) for split in SPLITS}

    new, reused = automata("new"), automata("training")
    assert new["train"] == reused["train"] == reused["validation"] == reused["test"]
    assert len(set.union(*new.values())) == sum(map(len, new.values()))


def test_a_training_set_is_read_whole_before_a_row_comes_again():
    task = RegBench(RegBenchConfig(n_environments=7, n_held_out=2, max_strings=11))
    batch = task.batch(np.random.default_rng(0), 17, "train")
    assert len(np.unique(batch.inputs[:7], axis=0)) == 7
    assert len(np.unique(batch.inputs[7:14], axis=0)) == 7
    other = task.batch(np.random.default_rng(1), 7, "train")
    assert np.array_equal(np.unique(other.inputs, axis=0), np.unique(batch.inputs, axis=0))
    assert task.n_sequences("train") is None
    assert task.n_sequences("test") == 2


def test_the_data_seed_decides_the_rows_and_not_how_many_are_trained_on():
    def rows(n_environments, data_seed):
        config = RegBenchConfig(n_environments=n_environments, n_held_out=3, data_seed=data_seed, max_strings=11)
        inputs = RegBench(config).batch(np.random.default_rng(0), 3, "test").inputs
        return [row[row != PAD].tolist() for row in inputs]

    assert rows(5, 0) == rows(20, 0)
    assert rows(5, 0) != rows(5, 1)


def test_lengths_follow_the_published_law(held_out):
    """164 to 616 tokens, mean 373: 14.5 strings of 25 letters and the separators between them."""
    n_tokens = (held_out[0].inputs != PAD).sum(1) + 1
    assert abs(n_tokens.mean() - (14.5 * 26 - 1)) < 5 * n_tokens.std() / math.sqrt(200)
    assert n_tokens.max() < 19 * 50


def test_a_uniform_predictor_over_the_support_is_perfect(held_out):
    batch, truth = held_out
    support = (truth > 0) / np.maximum((truth > 0).sum(-1, keepdims=True), 1)
    for at in (visited(truth), inside_strings(truth, batch.inputs)):
        assert tvd(support, truth, at) == 0
        assert accuracy(support, truth, at) == 1
        assert kl(support, truth, at) == 0


def test_one_letter_at_a_state_with_k_exits_has_a_tvd_of_one_less_a_kth():
    for k in (1, 2, 3):
        truth, sure = np.zeros((2, 1, 1, 20))
        truth[..., 1 : 1 + k] = 1 / k
        sure[..., 1] = 1
        at = visited(truth)
        assert tvd(sure, truth, at) == pytest.approx(1 - 1 / k, abs=1e-15)
        assert accuracy(sure, truth, at) == 1
        wrong = np.roll(sure, 5, axis=-1)
        assert tvd(wrong, truth, at) == pytest.approx(1, abs=1e-15)
        assert accuracy(wrong, truth, at) == 0
        assert kl(wrong, truth, at) == pytest.approx(math.log((1 / k + 1e-7) / 1e-7))


def test_being_right_and_sure_costs_the_published_distance():
    """0.374, weighted by visits, on 400 automata; one automaton has a spread of about 0.14."""
    task = RegBench(RegBenchConfig(n_environments=3000, n_held_out=1))
    batch, truth = task.draw(np.random.default_rng(0), 500, "train")
    at, sure = visited(truth), np.eye(20)[truth.argmax(-1)]
    assert accuracy(sure, truth, at) == 1
    assert abs(tvd(sure, truth, at) - 0.374) < 0.03
    assert batch.size == 500


def test_metrics_refuse_logits_shapes_and_nothing():
    truth = np.full((1, 2, 20), 0.05)
    at = visited(truth)
    for measure in (accuracy, tvd, kl):
        with pytest.raises(
            ValueError, match=r"must have the shape \(1, 2, 20\) .* got \(1, 1, 20\), \(1, 2, 20\) and 2"
        ):
            measure(truth[:, :1], truth, at)
        with pytest.raises(ValueError, match=r"at must be true somewhere, got .* and 0 positions"):
            measure(truth, truth, ~at)
    for measure in (tvd, kl):
        for logits in (np.log(truth), truth * 40):
            with pytest.raises(ValueError, match=r"must be probabilities, .*; take the softmax of logits"):
                measure(logits, truth, at)
        assert measure(truth / 2, truth, at) > 0
    assert accuracy(np.log(truth), truth, at) == 1


def test_position_sets():
    inputs = np.array([[1, SEPARATOR, 2, 3, PAD]])
    truth = np.zeros((1, 5, 20))
    truth[:, :4, 1] = 1
    assert visited(truth).tolist() == [[True, True, True, True, False]]
    assert inside_strings(truth, inputs).tolist() == [[False, True, True, True, False]]


@pytest.mark.parametrize(("order", "right", "distance"), [(2, 0.812, 0.338), (3, 0.933, 0.257)])
def test_ngram_baselines_reach_the_published_figures(held_out, order, right, distance):
    """Published on 40 automata of 15,545 positions; ours on 200 others."""
    batch, truth = held_out
    predicted, at = ngram_predictions(batch.inputs, order), visited(truth)
    assert abs(accuracy(predicted, truth, at) - right) < 0.03
    assert abs(tvd(predicted, truth, at) - distance) < 0.03


def test_ngrams_by_hand():
    a, b = 1, 2
    predicted = ngram_predictions(np.array([[a, b, a, SEPARATOR, PAD]]), 2)[0]
    # Nothing followed a: all to the only known letter. After b: both are known once. After aba: one a of two went to b.
    assert predicted[0, [a, b]].tolist() == [1, 0]
    assert predicted[1, [a, b]].tolist() == [0.5, 0.5]
    assert predicted[2, [a, b]].tolist() == [0.5, 0.5]
    # Two strings have begun, one of them with a.
    assert predicted[3, [a, b]].tolist() == [0.5, 0.5]
    assert not predicted[4].any()
    assert not predicted[:, [PAD, SEPARATOR]].any()


@settings(deadline=None, max_examples=30)
@given(
    strings=st.lists(st.text("abcd", min_size=1, max_size=6), min_size=1, max_size=4),
    order=st.integers(1, 4),
)
def test_ngrams_equal_counting_from_scratch(strings, order):
    text = "|".join(strings)
    inputs = np.array([[SEPARATOR if symbol == "|" else ord(symbol) - 96 for symbol in text]])
    predicted = ngram_predictions(inputs, order)[0]
    for t in range(len(text)):
        expected = counted(text[: t + 1].split("|"), order)
        found = {chr(96 + letter): predicted[t, letter] for letter in range(1, 19) if predicted[t, letter]}
        assert found == pytest.approx({letter: p for letter, p in expected.items() if p}, abs=1e-12)


def counted(strings, order):
    """Back-off by recursion over dictionaries, recounted for every prefix."""
    padded = ["_" * (order - 1) + string for string in strings]
    grams = Counter(s[i : i + n] for s in padded for n in range(1, order + 1) for i in range(len(s) - n + 1))
    total = sum(count for gram, count in grams.items() if len(gram) == 1)
    known = sorted({letter for string in strings for letter in string})

    def backed_off(prefix):
        if not prefix:
            return {letter: grams[letter] / total for letter in known}
        direct = {x: grams[prefix + x] / grams[prefix] for x in known if grams[prefix + x]}
        lower = {x: p for x, p in backed_off(prefix[1:]).items() if x not in direct}
        rest = 1 - sum(direct.values())
        return direct | {x: rest * p / sum(lower.values()) for x, p in lower.items()}

    return backed_off(padded[-1][len(padded[-1]) - (order - 1) :])


def test_losses_are_those_of_counting(published):
    """The floor is what an oracle of the automaton pays; one that sees the token alone pays by table."""
    paid, seen, total = [], Counter(), 0
    for split in ("validation", "test"):
        batch, truth = published.draw(np.random.default_rng(0), 200, split)
        for row, t in zip(*np.nonzero(batch.targets != IGNORE), strict=True):
            token, target = batch.inputs[row, t], batch.targets[row, t]
            paid.append(-math.log(truth[row, t, target]))
            seen["separator" if token == SEPARATOR else "same" if token == target else "other"] += 1
            total += 1
    assert published.floor_loss == pytest.approx(np.mean(paid), rel=1e-12)
    letters = seen["same"] + seen["other"]
    cost = {
        "separator": math.log(18),
        "same": -math.log(seen["same"] / letters),
        "other": -math.log(seen["other"] / letters / 17),
    }
    assert published.memoryless_loss == pytest.approx(sum(seen[x] * cost[x] for x in seen) / total, rel=1e-12)
    assert published.floor_loss < published.memoryless_loss < published.chance_loss == math.log(18)


def test_no_table_of_the_present_token_beats_the_memoryless_loss(published):
    """A table of 19 x 18 counts, fitted to validation rows, on test rows: too few automata to fit it well."""
    counts = np.ones((20, 20))
    batch = published.batch(np.random.default_rng(0), 200, "validation")
    scored = batch.targets != IGNORE
    np.add.at(counts, (batch.inputs[scored], batch.targets[scored]), 1)
    table = counts[:, 1:19] / counts[:, 1:19].sum(1, keepdims=True)
    test = published.batch(np.random.default_rng(0), 200, "test")
    scored = test.targets != IGNORE
    loss = -np.log(table[test.inputs[scored], test.targets[scored] - 1]).mean()
    assert published.memoryless_loss - 0.02 < loss


@pytest.mark.long
def test_rows_do_not_depend_on_the_order_of_hashes():
    script = """
from mnemoscope.tasks.regbench import RegBench, RegBenchConfig
print(hash("a"), RegBench(RegBenchConfig(n_environments=20, n_held_out=2)).manifest()["sha256"])
"""
    environment = {**os.environ, "PYTHONHASHSEED": "1" if os.environ.get("PYTHONHASHSEED") == "0" else "0"}
    command = [sys.executable, "-c", script]
    there = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
    here = RegBench(RegBenchConfig(n_environments=20, n_held_out=2)).manifest()["sha256"]
    assert int(there[0]) != hash("a")
    assert there[1] == here


def test_rows_are_those_of_the_first_release():
    """A change here changes the data of every stored run."""
    task = RegBench(RegBenchConfig(n_environments=2, n_held_out=1, min_strings=2, max_strings=3, max_string_length=12))
    inputs = task.batch(np.random.default_rng(0), 2, "train").inputs
    assert ["".join(task.words(row)) for row in inputs.tolist()] == [
        "jejejilnjjp|j|jiajpjpej",
        "hdn|n|hdmmomomom.......",
    ]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"n_environments": 0}, "n_environments: must be at least 1, got 0; nearest valid: 1"),
        ({"n_held_out": 0}, "n_held_out: must be at least 1, got 0; nearest valid: 1"),
        ({"min_strings": 1}, "min_strings: must be at least 2, got 1; nearest valid: 2"),
        ({"max_strings": 9}, r"max_strings: must be at least 10 \(min_strings\), got 9; nearest valid: 10"),
        ({"max_string_length": 0}, "max_string_length: must be at least 1, got 0; nearest valid: 1"),
        ({"data_seed": -1}, "data_seed: must be at least 0, got -1; nearest valid: 0"),
        ({"data_seed": 2**64}, r"data_seed: must be below 2\*\*64, got .* nearest valid: 18446744073709551615"),
        ({"held_out": "old"}, "held_out: must be 'new' or 'training', got 'old'; nearest valid: 'new'"),
    ],
)
def test_config_refuses(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        RegBenchConfig(**options)


def test_batch_refuses_more_held_out_rows_than_there_are():
    task = RegBench(RegBenchConfig(n_environments=3, n_held_out=4, max_strings=11))
    with pytest.raises(ValueError, match="at most 4, the sequences of the test split, got 5; use size <= 4, or n_held"):
        task.batch(np.random.default_rng(0), 5, "test")


def test_too_few_different_rows_are_refused():
    with pytest.raises(ValueError, match="so few different sequences exist"):
        RegBench(RegBenchConfig(n_environments=4, n_held_out=4, min_strings=2, max_strings=2, max_string_length=1))

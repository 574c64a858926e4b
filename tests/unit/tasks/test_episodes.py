"""Episodes: the controls exchange or leave out what was stored, and standard errors are those of rows."""

import math

import numpy as np
import pytest

from mnemoscope.contracts.batch import IGNORE, Batch
from mnemoscope.tasks import CuedRecall, CuedRecallConfig, MaskedWords, MaskedWordsConfig, Mqar, MqarConfig
from mnemoscope.tasks.episodes import Episode, Episodic, accuracy, accuracy_gain, memory_use, n_answers


def column(*tokens):
    return np.array(tokens)[:, None]


@pytest.fixture
def episode():
    """Three rows of two stored and two asked sequences, of two tokens each."""
    stored = np.arange(12).reshape(3, 4)
    asked = 20 + np.arange(12).reshape(3, 4)
    about = {"distance": np.full((3, 4), 4), "item": np.tile([0, 0, 1, 1], (3, 1))}
    return Episode(
        storage=Batch(inputs=stored, targets=stored + 1),
        retrieval=Batch(inputs=asked, targets=asked + 50, about=about),
        n_storage=2,
        n_retrieval=2,
    )


def test_joined_is_storage_then_retrieval_and_scores_retrieval_alone(episode):
    joined = episode.joined()
    assert joined.inputs[1].tolist() == [4, 5, 6, 7, 24, 25, 26, 27]
    assert joined.targets[1].tolist() == [IGNORE] * 4 + [74, 75, 76, 77]
    assert joined.about["item"][1].tolist() == [-1] * 4 + [0, 0, 1, 1]


def test_sequences_are_the_parts_in_order(episode):
    first, second = episode.storage_sequences()
    assert first.inputs.tolist() == [[0, 1], [4, 5], [8, 9]]
    assert second.targets.tolist() == [[3, 4], [7, 8], [11, 12]]
    assert [part.about["item"][0].tolist() for part in episode.retrieval_sequences()] == [[0, 0], [1, 1]]


def test_wrong_memory_is_that_of_the_next_row(episode):
    wrong = episode.wrong()
    assert wrong.storage.inputs[:, 0].tolist() == [4, 8, 0]
    assert wrong.storage.targets[:, 0].tolist() == [5, 9, 1]
    assert np.array_equal(wrong.retrieval.inputs, episode.retrieval.inputs)
    assert np.array_equal(wrong.retrieval.targets, episode.retrieval.targets)
    assert set(wrong.retrieval.about) == {"item"}
    assert (wrong.n_storage, wrong.n_retrieval) == (2, 2)


def test_one_row_has_no_wrong_memory():
    one = CuedRecall(CuedRecallConfig()).episode(np.random.default_rng(0), 1, "train")
    with pytest.raises(ValueError, match="needs at least 2 rows, to exchange their storage, got 1; draw 2"):
        one.wrong()


def test_which_tasks_are_episodic():
    assert isinstance(CuedRecall(CuedRecallConfig()), Episodic)
    assert isinstance(MaskedWords(MaskedWordsConfig()), Episodic)
    assert not isinstance(Mqar(MqarConfig()), Episodic)


def test_accuracy_of_four_rows_by_hand():
    found = accuracy(column(1, 1, 1, 0), column(1, 1, 1, 1))
    # Deviations .25 .25 .25 -.75, squares sum to .75; 4/3 * .75 / 16 = 1/16.
    assert (found.mean, found.se, found.n_scored, found.n_rows) == (0.75, 0.25, 4, 4)
    assert found.interval == pytest.approx((0.26, 1.24))


def test_words_of_one_row_count_as_one_draw():
    targets = np.array([[1, 2, IGNORE], [3, IGNORE, IGNORE], [IGNORE] * 3])
    found = accuracy(np.array([[1, 2, IGNORE], [9, IGNORE, IGNORE], [IGNORE] * 3]), targets)
    # Mean 2/3; deviations 2 - 4/3 and 0 - 2/3; 2/1 * 8/9 / 9 = 16/81. What is not scored is no hit.
    assert found.mean == pytest.approx(2 / 3)
    assert found.se == pytest.approx(4 / 9)
    assert (found.n_scored, found.n_rows) == (3, 2)


def test_utility_and_specificity_by_hand():
    targets = column(1, 1, 1, 1)
    use = memory_use(targets, memory=column(1, 1, 1, 0), reset=column(1, 0, 0, 0), wrong=column(0, 0, 0, 0))
    assert (use.memory.mean, use.reset.mean, use.wrong.mean) == (0.75, 0.25, 0)
    # Differences 0 1 1 0, deviations of 1/2 each: 4/3 * 1 / 16 = 1/12.
    assert use.utility.mean == 0.5
    assert use.utility.se == pytest.approx(math.sqrt(1 / 12))
    assert not use.used
    assert (use.specificity.mean, use.specificity.se) == (0.75, 0.25)
    better = memory_use(targets, memory=column(1, 1, 1, 1), reset=column(0, 0, 0, 1), wrong=column(1, 0, 0, 0))
    assert (better.utility.mean, better.utility.se) == (0.75, 0.25)
    assert better.used


def test_a_paired_difference_of_equal_predictions_has_no_error():
    predictions = np.random.default_rng(0).integers(3, size=(50, 4))
    gain = accuracy_gain(predictions, predictions.copy(), np.zeros_like(predictions))
    assert (gain.mean, gain.se) == (0, 0)


def test_the_standard_error_is_the_spread_over_repetitions():
    """Rows of unlike skill and unlike length: the share right varies more than that of independent words."""
    rng, means, errors = np.random.default_rng(0), [], []
    for _ in range(600):
        targets = np.where(np.arange(12) < rng.integers(4, 13, size=(80, 1)), 1, IGNORE)
        found = accuracy((rng.random((80, 12)) < rng.random((80, 1))).astype(int), targets)
        means.append(found.mean)
        errors.append(found.se)
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.1)
    assert np.mean(errors) > 1.5 * math.sqrt(0.25 / (80 * 8))


@pytest.mark.parametrize(
    ("predictions", "targets", "complaint"),
    [
        (np.zeros((2, 3, 5)), np.zeros((2, 3)), r"must have one shape \(b, t\), got \(2, 3, 5\) .* take the argmax"),
        (np.zeros((1, 3)), np.zeros((1, 3)), "at least 2 rows with a scored token, got 1"),
        (np.zeros((4, 3)), np.full((4, 3), IGNORE), "at least 2 rows with a scored token, got 0"),
    ],
)
def test_accuracy_refuses(predictions, targets, complaint):
    with pytest.raises(ValueError, match=complaint):
        accuracy(predictions, targets)


def test_an_answer_of_several_tokens_is_one_score_by_hand():
    """Three answers in the first row, of two, one and two tokens, and one of three in the second."""
    targets = np.array([[-100, 1, 2, 3, -100, 4, 5], [6, 7, 8, -100, -100, -100, -100]])
    query = np.array([[-1, 0, 0, 1, -1, 2, 2], [0, 0, 0, -1, -1, -1, -1]])
    said = np.array([[9, 1, 2, 9, 9, 4, 9], [6, 7, 8, 9, 9, 9, 9]])
    assert n_answers(targets, query) == 4
    use = memory_use(targets, memory=said, reset=np.zeros_like(said), wrong=targets, query=query)
    assert (use.memory.mean, use.reset.mean, use.wrong.mean) == (2 / 4, 0, 1)
    assert use.utility.n_scored == 4
    by_token = memory_use(targets, memory=said, reset=np.zeros_like(said), wrong=targets)
    assert by_token.memory.mean == 6 / 8

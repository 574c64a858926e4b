"""The MAD suite: published settings, every one of which can be drawn, and the score."""

from collections import Counter

import numpy as np
import pytest

from mnemoscope.contracts.batch import IGNORE
from mnemoscope.tasks import MadMemorisationConfig, MadNoisyRecallConfig, MadRecallConfig, build_task, task_rng
from mnemoscope.tasks.mad import BATCH_SIZE, EPOCHS, N_TEST, macro_accuracy, mad_scores, mad_settings
from mnemoscope.tasks.mad_parts import occurrences


def test_the_settings_are_the_published_ones():
    settings = mad_settings()
    assert len(settings) == len(set(settings)) == 66
    assert Counter(config.kind for config in settings) == {
        "mad_recall": 11,
        "mad_noisy_recall": 14,
        "mad_fuzzy_recall": 11,
        "mad_selective_copying": 13,
        "mad_memorisation": 6,
        "mad_compression": 11,
    }
    assert MadNoisyRecallConfig(vocab_size=144) in settings
    assert MadNoisyRecallConfig(frac_noise=0.8) in settings
    assert MadRecallConfig(n_train=800) in settings
    assert (N_TEST, BATCH_SIZE, EPOCHS) == (1280, 128, 200)


@pytest.mark.parametrize("config", mad_settings(), ids=repr)
def test_every_setting_can_be_drawn(config):
    task = build_task(config)
    batch = task.batch(task_rng(0, "test", 0), 2, "test")
    assert batch.inputs.shape == (2, config.length)
    assert (batch.targets != IGNORE).any(axis=1).all()


def test_the_score_is_the_mean_over_settings_of_the_best_run():
    accuracies = {
        MadRecallConfig(): [0.5, 0.9],
        MadRecallConfig(length=256): [0.4],
        MadMemorisationConfig(): [0.25, 0.2, 0.1],
    }
    scores = mad_scores(accuracies)
    assert set(scores) == {"mad_recall", "mad_memorisation"}
    assert scores["mad_recall"] == pytest.approx(0.65)
    assert scores["mad_memorisation"] == 0.25


@pytest.mark.parametrize("runs", [[], [0.5, 1.5], [float("nan")]])
def test_the_score_refuses(runs):
    with pytest.raises(ValueError, match="at least one run, and accuracies between 0 and 1"):
        mad_scores({MadRecallConfig(): runs})


def test_accuracy_is_a_mean_over_tokens():
    targets = np.array([[IGNORE, 3, 3, 3], [5, IGNORE, IGNORE, 3]])
    assert macro_accuracy(targets, targets) == 1
    # 3 is right in 3 of 4 cases and 5 in its only one; where 7 is wrongly predicted, it counts with share 0.
    assert macro_accuracy([[0, 3, 3, 3], [5, 0, 0, 5]], targets) == pytest.approx((0.75 + 1) / 2)
    assert macro_accuracy([[0, 3, 3, 3], [5, 0, 0, 7]], targets) == pytest.approx((0.75 + 1 + 0) / 3)
    with pytest.raises(ValueError, match="at least one scored target"):
        macro_accuracy([[1]], [[IGNORE]])


def test_occurrences_are_the_first_and_the_newest_before():
    first, before = occurrences(np.array([[4, 2, 4, 4, 2, 9], [1, 1, 1, 1, 1, 1]]))
    assert first.tolist() == [[0, 1, 0, 0, 1, 5], [0, 0, 0, 0, 0, 0]]
    assert before.tolist() == [[-1, -1, 0, 2, 1, -1], [-1, 0, 1, 2, 3, 4]]

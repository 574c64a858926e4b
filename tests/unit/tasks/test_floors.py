"""No loss lies below the floor of its task: an oracle pays the floor, and who pays less has seen the answers."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mnemoscope.models import StackConfig, build
from mnemoscope.tasks import RegBench, RegBenchConfig, Stories, StoriesConfig, build_task, task_rng
from mnemoscope.training import TrainConfig, train
from tests.unit.tasks.test_tasks import CONFIGS

TASKS_WITH_FLOOR = [config for config in CONFIGS if build_task(config).floor_loss is not None]


def check_not_below_floor(losses, floor):
    """Refuse mean losses of sequences whose mean lies below the floor by more than four standard errors."""
    error = losses.std(ddof=1) / math.sqrt(losses.size)
    if losses.mean() < floor - 4 * error - 1e-6:
        raise AssertionError(
            f"a loss of {losses.mean():.4f} nats, standard error {error:.4f}, lies below the floor of {floor:.4f}: "
            "answers leak into inputs, the split was trained on, or the floor is wrong"
        )


def regbench_oracle():
    """Nats of every scored letter for one who knows the automaton; the mean over the held-out rows is the floor."""
    task = RegBench(RegBenchConfig(n_environments=20, n_held_out=300))
    losses = []
    for split in ("validation", "test"):
        batch, truth = task.draw(task_rng(0, split, 0), 300, split)
        scored = batch.targets >= 0
        paid = -np.log(
            np.take_along_axis(truth, np.where(scored, batch.targets, 0)[..., None], axis=2)[..., 0] + ~scored
        )
        losses.append([paid[row][scored[row]].mean() for row in range(300)])
    return np.concatenate(losses), task.floor_loss


def stories_oracle():
    """Nats of every word for one who knows the grammar."""
    task = Stories(StoriesConfig(length=128))
    return task.surprises(task_rng(0, "test", 0), 600, "test").mean(axis=1), task.floor_loss


@pytest.mark.parametrize("oracle", [regbench_oracle, stories_oracle])
def test_an_oracle_pays_the_floor_and_who_pays_less_is_caught(oracle):
    losses, floor = oracle()
    assert floor > 0
    assert losses.mean() == pytest.approx(floor, abs=4 * losses.std() / math.sqrt(losses.size))
    check_not_below_floor(losses, floor)
    # One time in ten the answer is known beforehand.
    with pytest.raises(AssertionError, match="lies below the floor"):
        check_not_below_floor(0.9 * losses, floor)


def test_the_interval_is_that_of_the_losses():
    check_not_below_floor(np.array([0.9, 1.1, 0.9, 1.1]), 1.2)
    with pytest.raises(AssertionError, match=r"below the floor of 1\.3000"):
        check_not_below_floor(np.array([0.9, 1.1, 0.9, 1.1]), 1.3)


@pytest.mark.parametrize("config", TASKS_WITH_FLOOR, ids=lambda config: config.kind)
def test_a_trained_model_is_not_below_the_floor(config):
    task = build_task(config)
    model = build(StackConfig.of("attention(window=4)", vocab_size=task.vocab_size, d_model=16), seed=0)
    training = TrainConfig(steps=8, warmup_steps=2, batch_size=8, learning_rate=1e-2, eval_sequences=8)
    train(model, task, training, progress=False)
    n_sequences = min(32, task.n_sequences("validation") or 32)
    batch = task.batch(task_rng(0, "validation", 0), n_sequences, "validation")
    inputs, targets = torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets)
    with torch.no_grad():
        paid = F.cross_entropy(model(inputs).transpose(1, 2), targets, reduction="none").numpy()
    scored = batch.targets >= 0
    losses = np.array([row[known].mean() for row, known in zip(paid, scored, strict=True) if known.any()])
    check_not_below_floor(losses, task.floor_loss)

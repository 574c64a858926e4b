from dataclasses import replace

import pytest
import torch

from mnemoscope.models import StackConfig, build
from mnemoscope.tasks import Copying, CopyingConfig, CuedRecall, MqarConfig, TextConfig, build_task
from mnemoscope.training import evaluate
from mnemoscope.training.batches import draw
from mnemoscope.training.lessons import Stage, Staged
from tests.unit.training.lessons.courses import RECALL, course, stack

ONE, TWO = replace(RECALL, n_pairs=1), replace(RECALL, n_pairs=2)
STAGED = Staged(stages=(Stage(task=ONE, until=0.25), Stage(task=TWO, until=0.5)))


def test_a_step_is_in_the_first_stage_that_has_not_ended():
    assert [STAGED.stage_at(step, 8) for step in range(1, 9)] == [0, 0, 1, 1, 2, 2, 2, 2]
    whole = Staged(stages=(Stage(task=ONE, until=1.0),))
    assert [whole.stage_at(step, 3) for step in (1, 2, 3)] == [0, 0, 0]


def test_a_step_sees_its_stage_and_evaluations_the_task_of_the_run():
    model = stack()
    given = course(model, steps=8)
    lesson = STAGED.begin(given)
    for step, task in ((2, ONE), (3, TWO), (5, RECALL)):
        computed = lesson.forward(step)
        inputs, targets = draw(build_task(task), given.config.seed, "train", step, 4)
        assert torch.equal(computed.inputs, inputs)
        assert torch.equal(computed.targets, targets)
        assert computed.again().item() == computed.loss.item()
        figures = lesson.figures(computed)
        assert figures["loss"] == computed.loss.item()
        assert figures["lesson.stage"] == {2: 0, 3: 1, 5: 2}[step]
    assert lesson.evaluate() == evaluate(model, CuedRecall(RECALL), given.config, given.device)


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        (MqarConfig(vocab_size=13, length=12, n_pairs=2), r"Staged.stages\[0\]: has 13 tokens, the model 12"),
        (TextConfig(length=8), "must be measured as the run's task is, in 'accuracy', got 'bits per byte' of Text"),
        (CopyingConfig(), "must be measured as the run's task is, in 'accuracy', got 'bit errors' of Copying"),
    ],
)
def test_a_task_that_does_not_fit_is_refused(task: MqarConfig | TextConfig | CopyingConfig, problem: str):
    with pytest.raises(ValueError, match=problem):
        Staged(stages=(Stage(task=task, until=0.5),)).begin(course(stack()))


def test_stages_of_vectors():
    task = Copying(CopyingConfig(n_bits=4, max_length=5))
    inputs, targets = draw(task, 0, "train", 1, 1)
    config = StackConfig.of_vectors("lstm", n_channels=inputs.shape[2], n_outputs=targets.shape[2], d_model=8)
    given = course(build(config, 0), task)
    short = Staged(stages=(Stage(task=CopyingConfig(n_bits=4, max_length=2), until=1.0),)).begin(given)
    computed = short.forward(1)
    assert computed.inputs.shape[1] < inputs.shape[1]
    assert set(short.figures(computed)) == {"loss", "bit_errors", "lesson.stage"}
    with pytest.raises(ValueError, match="has vectors of 3 and 2 numbers, the run's task of 5 and 4; use tasks"):
        Staged(stages=(Stage(task=CopyingConfig(n_bits=2), until=0.5),)).begin(given)


def test_stages_must_be_in_order():
    with pytest.raises(ValueError, match=r"Staged.stages: must be at least one, .* got ends \[0.5, 0.25\]"):
        Staged(stages=STAGED.stages[::-1])
    with pytest.raises(ValueError, match=r"got ends \[\]"):
        Staged(stages=())
    with pytest.raises(ValueError, match=r"Stage.until: must be a part of the training in \(0, 1\], got 0"):
        Stage(task=ONE, until=0)

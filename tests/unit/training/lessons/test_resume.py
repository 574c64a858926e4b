"""Every lesson: a run that was stopped and resumed is, to the bit, the one that was not."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from mnemoscope.models import StackConfig
from mnemoscope.runs import RunDirectory
from mnemoscope.tasks import CuedRecallConfig, MqarConfig, TextConfig, build_task
from mnemoscope.training import Recipe, list_checkpoints, load_recipe, train_recipe
from mnemoscope.training.lessons import LESSONS, AnyLesson, Bandit, Carried, Episodic, Plain, Stage, Staged
from mnemoscope.training.lessons.bandit import BanditLesson
from mnemoscope.training.lessons.carried import CarriedLesson
from mnemoscope.training.lessons.episodic import EpisodicLesson
from mnemoscope.training.lessons.lesson import Lesson
from mnemoscope.training.lessons.plain import PlainLesson
from mnemoscope.training.lessons.staged import StagedLesson
from tests.unit.training.lessons.courses import RECALL, TRAIN

SHORT, LONG = MqarConfig(vocab_size=12, length=8, n_pairs=1), MqarConfig(vocab_size=12, length=12, n_pairs=2)
CASES: dict[str, tuple[type[Lesson], AnyLesson, MqarConfig | CuedRecallConfig | TextConfig]] = {
    "bandit": (BanditLesson, Bandit(arms=(SHORT, LONG), eta=0.5, reservoir=2), LONG),
    "carried": (CarriedLesson, Carried(pieces=2), TextConfig(length=6)),
    "carried across": (CarriedLesson, Carried(pieces=1, across=True, reset=0.4), LONG),
    "episodic": (EpisodicLesson, Episodic(eval_words=12, storage_loss="next_token"), RECALL),
    "episodic, carried on": (EpisodicLesson, Episodic(eval_words=12, between="carry"), RECALL),
    "plain": (PlainLesson, Plain(), LONG),
    "staged": (StagedLesson, Staged(stages=(Stage(task=SHORT, until=0.6),)), LONG),
}


def test_no_lesson_is_left_out():
    assert {settings.kind for _, settings, _ in CASES.values()} == set(LESSONS)


@pytest.mark.parametrize("case", CASES)
def test_it_resumes_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str):
    taught, lesson, task = CASES[case]
    layout, n_tokens = "gated_delta(n_heads=2), attention(n_heads=2, window=4)", max(12, build_task(task).vocab_size)
    model = StackConfig.of(layout, vocab_size=n_tokens, d_model=8)
    recipe = Recipe(name="small", model=model, task=task, train=TRAIN, lesson=lesson)
    train_recipe(recipe, tmp_path / "whole", progress=False)
    forward = taught.forward

    def stopped_at_3(self: Any, step: int) -> Any:
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return forward(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(taught, "forward", stopped_at_3)
        assert train_recipe(recipe, tmp_path / "run", progress=False).step == 3
    train_recipe(load_recipe(tmp_path / "run"), tmp_path / "run", resume=True, progress=False)
    ours, theirs = RunDirectory(tmp_path / "run"), RunDirectory(tmp_path / "whole")
    assert ours.read_metrics() == theirs.read_metrics()
    for file in ("model.safetensors", "optimizer.safetensors"):
        written = [list_checkpoints(run.checkpoints_path)[-1] / file for run in (ours, theirs)]
        assert written[0].read_bytes() == written[1].read_bytes()

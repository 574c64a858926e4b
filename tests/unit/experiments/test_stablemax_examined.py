"""A model that was trained with StableMax is examined with StableMax."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from mnemoscope.contracts import IGNORE
from mnemoscope.examination import Budget, NextTokenLoss
from mnemoscope.examination.subject.losses import logits_and_targets, score
from mnemoscope.experiments.examining import Choice, examine_subject
from mnemoscope.experiments.held_out import Data
from mnemoscope.experiments.recipes import RECIPES, with_changes
from mnemoscope.experiments.subjects import STABLEMAX, of_run
from mnemoscope.ops.stablemax import log_stablemax_scores, stablemax
from mnemoscope.tasks import MqarConfig
from mnemoscope.training import train_recipe

TINY = Budget(
    n_calibration=8,
    n_test=8,
    fit_steps=1,
    joint_fit_steps=1,
    windows=(1,),
    contribution=False,
    n_resamples=200,
    looks=1,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = with_changes(RECIPES["recall-short-window"], layout="gated_delta", steps=4, seed=0)
    train = replace(recipe.train, loss="stablemax", warmup_steps=0, eval_every=4, eval_sequences=8, batch_size=4)
    model, task = replace(recipe.model, vocab_size=12, d_model=8), MqarConfig(vocab_size=12, length=12, n_pairs=2)
    folder = tmp_path_factory.mktemp("runs") / "stablemax"
    train_recipe(replace(recipe, model=model, task=task, train=train), folder, progress=False)
    return folder


def test_the_probabilities_are_those_of_stablemax():
    logits = torch.tensor([[30.0, -2.0, 0.5, -100.0]], dtype=torch.float64)
    torch.testing.assert_close(log_stablemax_scores(logits).softmax(-1), stablemax(logits))


@pytest.mark.parametrize("source", [None, "task:mqar,vocab_size=12,length=12,n_pairs=2"])
def test_a_run_is_examined_on_what_it_was_trained_on(run: Path, source: str | None):
    subject = of_run(run, Data(source=source), TINY)
    assert isinstance(subject.loss, NextTokenLoss)
    subject.model.eval()
    batch = subject.batches[0]
    with torch.no_grad():
        got, plain = (score(loss, subject.model, batch).per_sequence for loss in (subject.loss, NextTokenLoss()))
        logits, targets = logits_and_targets(subject.model, batch)
    for row in range(len(targets)):
        scored = targets[row] != IGNORE
        p = stablemax(logits[row, scored].double()).gather(-1, targets[row, scored, None])
        assert float(got[row]) == pytest.approx(float(-p.log().mean()), abs=1e-5)
        wanted = F.cross_entropy(logits[row, scored], targets[row, scored])
        assert float(plain[row]) == pytest.approx(float(wanted), abs=1e-5)
    assert (got - plain).abs().max() > 1e-3


def test_the_record_says_so(run: Path):
    subject = of_run(run, Data(), TINY)
    examination = examine_subject(subject, TINY, Choice())
    assert STABLEMAX in examination.warnings
    assert examination.sites[0].probe is not None or examination.sites[0].unmeasured
    n_calibration = sum(batch.size for batch in subject.batches) // 2
    test = subject.batches[n_calibration // subject.batches[0].size :]
    with torch.no_grad():
        losses = [score(subject.loss, subject.model.eval(), batch).per_sequence for batch in test]  # pyright: ignore[reportArgumentType]
    assert examination.base_loss.value == pytest.approx(float(torch.cat(losses).mean()), abs=1e-5)

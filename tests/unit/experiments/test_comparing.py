"""What changed between two examinations."""

from dataclasses import replace
from pathlib import Path

import pytest

from mnemoscope.examination import Budget
from mnemoscope.experiments.comparing import compare, difference, examination_of, labels_of, to_compare
from mnemoscope.experiments.examining import Choice, examine_subject
from mnemoscope.experiments.held_out import Data
from mnemoscope.experiments.recipes import RECIPES, with_changes
from mnemoscope.experiments.subjects import of_run, subject_of
from mnemoscope.runs import Estimate, RunDirectory
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


def test_the_interval_of_a_difference_is_the_root_of_the_sum_of_squares():
    before, after = Estimate(value=1.0, low=0.7, high=1.4), Estimate(value=2.0, low=1.6, high=2.3)
    found = difference(before, after)
    assert found.value == 1.0
    assert found.low == pytest.approx(1 - 0.32**0.5)  # 0.4 and 0.4
    assert found.high == pytest.approx(1 + 0.18**0.5)  # 0.3 and 0.3
    back = difference(after, before)
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = with_changes(RECIPES["recall-short-window"], layout="gated_delta", steps=4, seed=0)
    recipe = replace(
        recipe,
        model=replace(recipe.model, vocab_size=12, d_model=8),
        task=MqarConfig(vocab_size=12, length=12, n_pairs=2),
        train=replace(recipe.train, checkpoint_every=2, eval_every=4, eval_sequences=8, batch_size=4),
    )
    folder = tmp_path_factory.mktemp("runs") / "a"
    train_recipe(recipe, folder, progress=False)
    return folder


def test_checkpoints_of_a_run_are_examined_where_they_are_not_yet(run: Path):
    first, second = (run / "checkpoints" / f"step-0000000{step}" for step in (2, 4))
    examinations = [examination_of(path, TINY) for path in (first, second)]
    assert (first / "verdicts.json").exists()
    assert not (run / "verdicts.json").exists()
    assert examinations[0].base_loss.value != examinations[1].base_loss.value
    again = [examination_of(path, TINY) for path in (first / "verdicts.json", second)]
    assert again == examinations
    found = compare(*examinations)
    assert [change.name for change in found.changes] == [site.name for site in examinations[1].sites]
    assert found.loss.value == pytest.approx(examinations[1].base_loss.value - examinations[0].base_loss.value)


def test_changes_beyond_both_intervals_and_other_verdicts_are_told(run: Path):
    examination = examine_subject(of_run(run, Data(), TINY), TINY, Choice())
    (site,) = examination.sites
    gained = Estimate(value=9.0, low=8.0, high=10.0)
    other = site.model_copy(update={"effects": {"read": {"optimal_constant": gained}}, "verdict": "load-bearing"})
    after = examination.model_copy(update={"sites": [other], "local_window": 9, "missing": ["something"]})
    (change,) = compare(examination, after).changes
    assert change.is_beyond_both
    assert change.is_another_verdict
    assert len(compare(examination, after).remarks) == 2
    (same,) = compare(examination, examination).changes
    assert not same.is_beyond_both
    assert not same.is_another_verdict
    renamed = examination.model_copy(update={"sites": [site.model_copy(update={"name": "other"})]})
    changes = compare(examination, renamed).changes
    assert {(change.name, change.difference) for change in changes} == {("other", None), (site.name, None)}


def test_a_checkpoint_is_a_target(run: Path):
    path = run / "checkpoints" / "step-00000002"
    subject = subject_of(str(path), Data(), TINY)
    assert subject.folder == path
    assert subject.name == "a step-00000002"


def test_what_was_never_examined_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"neither a verdicts\.json"):
        examination_of(tmp_path, TINY)


def test_labels_are_the_shortest_ends_that_tell_paths_apart():
    assert labels_of(["runs/a", "runs/b"]) == ["a", "b"]
    assert labels_of(["x/a", "y/a"]) == ["x/a", "y/a"]
    assert labels_of(["runs/a/verdicts.json", "runs/b"]) == ["a", "b"]
    assert labels_of(["runs/a", "runs/a"]) == ["a", "a (2)"]
    assert labels_of(["runs/a", "runs/a", "other/a"]) == ["runs/a", "runs/a (2)", "other/a"]


def test_a_page_of_comparison_has_what_the_runs_logged(run: Path, tmp_path: Path):
    examination = examine_subject(of_run(run, Data(), TINY), TINY, Choice())
    checkpoint = run / "checkpoints" / "step-00000002"
    whole, early, alone = to_compare([run, checkpoint, tmp_path], [examination] * 3)
    assert [case.label for case in (whole, early)] == [run.name, "step-00000002"]
    for case in (whole, early):
        assert case.config["train"] == RunDirectory(run).read_config().resolved["train"]
        assert [row["step"] for row in case.metrics] == [4]
    assert alone.metrics == ()
    assert alone.manifest is None

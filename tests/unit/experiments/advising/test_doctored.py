"""Every row on runs that were made to show it, and on a run that shows nothing."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import tyro

import mnemoscope as ms
from mnemoscope.cli.train import Train
from mnemoscope.contracts.written import parse_calls
from mnemoscope.examination.judgement.framework import FRAMEWORK
from mnemoscope.examination.judgement.said import SAID
from mnemoscope.experiments.advising import advise
from mnemoscope.experiments.advising.trying import OF_EPISODES
from mnemoscope.experiments.recipes import find_recipe, treated_with, with_changes
from mnemoscope.experiments.settings import with_settings
from mnemoscope.runs.advice import Advice, RowAdvice
from mnemoscope.tasks import TASKS, MaskedWordsConfig
from mnemoscope.training.metrics import METRIC_NAMES, MetricsConfig
from mnemoscope.training.remedies import REMEDIES
from tests.unit.experiments.advising.doctored import DOCTORED, IDLE, QUIET, Doctored, recipe, with_loss


def held(advice: Advice) -> set[int]:
    return {row.number for row in advice.with_status("holds", "fine")}


def rows_of(advice: Advice, number: int) -> list[RowAdvice]:
    return [row for row in advice.rows if row.number == number]


def test_a_quiet_run_triggers_nothing_and_asks_only_for_wishes_and_a_loss(tmp_path: Path):
    advice = advise(Doctored().written(tmp_path / "run"))
    assert held(advice) == set()
    unknown = advice.with_status("cannot be told")
    assert {row.number for row in unknown} == {9, 10, 11, 17, 18, 19, 20}
    assert all(any("--want" in each for each in row.to_tell) for row in unknown if row.number > 11)
    assert advice.log == ""


@pytest.mark.parametrize(("number", "doctored"), DOCTORED, ids=[f"row {number}" for number, _ in DOCTORED])
def test_a_doctored_run_triggers_exactly_its_row(number: int, doctored: Doctored, tmp_path: Path):
    advice = advise(doctored.written(tmp_path / "run"), wants=doctored.wants)  # pyright: ignore[reportArgumentType]
    assert held(advice) == {number}
    for row in advice.with_status("holds", "fine"):
        assert row.evidence
        _check_commands(row, doctored)


def _check_commands(row: RowAdvice, doctored: Doctored) -> None:
    """Every command of a row is one, and trains another recipe than the run's."""
    if row.remark:
        assert (row.number, row.remark) == (18, "the run has these settings already")
        return
    assert len(row.commands) == {5: 0, 9: 0, 25: 3}.get(row.number, 1)
    for command in row.commands:
        assert replace(read(command), name="same") != replace(doctored.recipe, name="same")


@pytest.mark.parametrize(("number", "doctored"), [each for each in DOCTORED[1::4] if each[0] not in (9, 10, 11)])
def test_a_loss_that_falls_adds_its_own_row_and_no_other(number: int, doctored: Doctored, tmp_path: Path):
    advice = advise(with_loss(doctored).written(tmp_path / "run"), wants=doctored.wants)  # pyright: ignore[reportArgumentType]
    assert held(advice) == {number, 9}


def test_every_row_has_a_doctored_run_and_words():
    assert {number for number, _ in DOCTORED} == {row.number for row in FRAMEWORK} == set(SAID) == set(range(1, 26))
    wishes = {row.aim for row in FRAMEWORK if row.aim is not None}
    assert {want for _, doctored in DOCTORED for want in doctored.wants} == wishes
    assert all(said.guide and said.here for said in SAID.values())


MISSING = {
    "accuracy": (("validation_accuracy",), {1, 2, 3, 4, 8, 22, 24}, "a task with an accuracy"),
    "dimensions": (
        tuple(name for name in QUIET if name.startswith("effective_dimension")),
        {2, 3, 12, 13},
        "the metric effective_dimension",
    ),
    "gate": (("raw_gate.mean",), {5, 6, 7, 8}, "mnemoscope examine"),
    "utility": (("validation_utility",), {3, 8, 20}, "the lesson episodic"),
    "rank": (("memory_rank.share",), {4}, "the metric memory_rank"),
    "update": (("state_magnitude.relative_update",), {16}, "the metric state_magnitude"),
    "cosine": (("gradient_weight_cosine.before",), {14}, "the metric gradient_weight_cosine"),
}


@pytest.mark.parametrize("what", MISSING)
def test_what_was_not_logged_cannot_be_told_and_is_asked_for(what: str, tmp_path: Path):
    names, at_most, words = MISSING[what]
    plateau = {} if what == "accuracy" else {"validation_accuracy": 0.4 if what == "rank" else 0.11}
    figures = plateau | dict.fromkeys(names)
    advice = advise(Doctored(figures=figures).written(tmp_path / "run"))
    unknown = [row for row in advice.with_status("cannot be told") if not any("--want" in each for each in row.to_tell)]
    assert {row.number for row in unknown} - {9, 10, 11} <= at_most
    asked = [row for row in unknown if any(words in each for each in row.to_tell)]
    assert asked
    assert {row.number for row in asked} <= at_most


def test_a_metric_that_was_taken_and_said_nothing_is_named_so(tmp_path: Path):
    bare = replace(recipe(), train=replace(recipe().train, metrics=None))
    for name, chosen, words in (("taken", recipe(), True), ("not", bare, False)):
        run = Doctored(figures={"raw_gate.mean": None}, recipe=chosen).written(tmp_path / name)
        (row,) = rows_of(advise(run), 6)
        assert row.status == "cannot be told"
        assert ("had nothing to say of this model" in row.to_tell[0]) is words
    log = advise(tmp_path / "not").log
    assert "train.metrics=" in log
    assert read(log).train.metrics is not None


def test_states_of_every_token_are_not_asked_of_a_recipe_that_leaves_them_out(tmp_path: Path):
    few = replace(recipe(), train=replace(recipe().train, metrics=MetricsConfig(every=1000, names=("raw_gate",))))
    chosen = read(advise(Doctored(recipe=few).written(tmp_path / "run")).log).train.metrics
    assert chosen is not None
    assert set(METRIC_NAMES) - set(chosen.names) == {"state_magnitude", "memory_rank"}
    rest = replace(few, train=replace(few.train, metrics=chosen))
    assert advise(Doctored(recipe=rest).written(tmp_path / "rest")).log == ""


def read(command: str) -> "ms.Recipe":
    """The recipe that a command trains, with everything that it changes."""
    program, verb, *words = shlex.split(command)
    assert (program, verb) == ("mnemoscope", "train")
    parsed = tyro.cli(Train, args=words, config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff))
    assert not parsed.out.exists()
    changed = with_changes(find_recipe(parsed.recipe), layout=parsed.layout)
    return with_settings(treated_with(changed, parsed.remedies, parsed.lesson), parsed.settings)


def test_commands_of_all_rows_go_to_folders_of_their_own(tmp_path: Path):
    whole = recipe(MaskedWordsConfig(n_masks=13), loss="stablemax", orthogonal_gradient=0.3)
    run = Doctored(recipe=whole, figures={"softmax_collapse.share": None}).written(tmp_path / "run")
    commands = [command for row in advise(run).rows for command in row.commands]
    folders = [shlex.split(command)[-1] for command in commands]
    assert len(set(folders)) == len(folders) >= 15
    assert all(read(command) for command in commands)


def test_stablemax_and_orthogonal_gradients_are_told_apart_whatever_else_is_proposed(tmp_path: Path):
    both = recipe(loss="stablemax", orthogonal_gradient=0.5)
    figures = {"softmax_collapse.share": None, "validation_utility": 0.01, "raw_gate.mean": 0.02}
    advice = advise(Doctored(recipe=both, figures=figures).written(tmp_path / "run"))
    assert held(advice) == {6, 20, 25}
    (row,) = rows_of(advice, 25)
    tried = [read(command).train for command in row.commands]
    assert [(each.loss, each.orthogonal_gradient) for each in tried] == [
        ("cross_entropy", 0.5),
        ("stablemax", 0),
        ("cross_entropy", 0),
    ]


def test_two_values_of_one_setting_are_not_tried_together(tmp_path: Path):
    ungated = replace(recipe(), remedies=())
    run = Doctored(recipe=ungated, figures={"raw_gate.mean": 0.02}).written(tmp_path / "run")
    (row,) = rows_of(advise(run, wants=["retain longer", "respond faster"]), 25)
    assert not row.commands
    assert "fewer than two" in row.remark
    (row,) = rows_of(advise(run, wants=["retain longer", "respond faster", "learn faster"]), 25)
    assert row.commands[2].count("initial_retention") == row.commands[2].count("initial_step_size") == 1


def test_floors_that_nothing_reads_are_not_proposed(tmp_path: Path):
    published = replace(find_recipe("atlas-tiny-compat"), train=recipe().train)
    advice = advise(Doctored(recipe=published, figures={"raw_gate.mean": 0.02}).written(tmp_path / "run"))
    (row,) = rows_of(advice, 6)
    assert row.status == "holds"
    assert not row.commands
    assert "without -compat" in row.remark


def test_answers_after_storage_count_before_a_batch_of_validation(tmp_path: Path):
    flat = Doctored(figures={"validation_accuracy_memory": 0.4, "validation_accuracy": [0.3, 0.5] * 10})
    (row, _) = rows_of(advise(flat.written(tmp_path / "run")), 4)
    assert "40.0%" in row.evidence or "rank" in row.evidence


def test_a_larger_step_is_twice_the_runs_own(tmp_path: Path):
    memory = "omega(n_heads=2, chunk_tokens=4, initial_step_size=0.0625)"
    layout = f"{memory} | attention(window=4, n_heads=2)"
    ours = replace(recipe(), model=ms.StackConfig.of(layout, vocab_size=12, d_model=16))
    advice = advise(Doctored(recipe=ours).written(tmp_path / "run"), wants=["learn faster"])
    (faster,) = [row for row in rows_of(advice, 17) if row.status == "holds"]
    assert "'*.initial_step_size=0.125'" in faster.commands[0]


def test_a_change_that_the_run_has_no_place_for_is_added_or_said(tmp_path: Path):
    bare = replace(
        recipe(),
        model=ms.StackConfig.of("gated_delta | attention(window=4)", vocab_size=12, d_model=16),
        remedies=(),
        lesson=type(recipe().lesson)(between="carry"),
    )
    run = Doctored(recipe=bare, figures={"raw_gate.mean": 0.02}).written(tmp_path / "run")
    advice = advise(run, wants=["learn faster", "more content"])
    (floors,) = rows_of(advice, 6)[0].commands
    program, verb, file, option, remedies = shlex.split(floors)
    assert (program, verb, file, option) == ("mnemoscope", "trial", str(run / "config.json"), "--remedies")
    assert parse_calls("remedies", remedies, REMEDIES)
    (faster,) = [row for row in rows_of(advice, 17) if row.status == "holds"]
    assert "initial_step_size=0.0125" in faster.commands[0]
    (content,) = [row for row in rows_of(advice, 18) if row.status == "holds"]
    assert not content.commands
    assert "has no 'masked_words'" in content.remark


def test_each_memory_is_asked_and_named(tmp_path: Path):
    from tests.unit.reporting.samples import decorative, examination, memory

    shut = {"gate_mean": 0.02}
    both = examination(sites=[memory("blocks.0.mixer", measures=shut), decorative("blocks.1.mixer", measures=shut)])
    run = Doctored(figures={"raw_gate.mean": None}, examined=both).written(tmp_path / "run")
    (row,) = rows_of(advise(run), 6)
    assert row.status == "holds"
    assert row.evidence == "blocks.1.mixer: raw gate 0.02"


def test_a_verdict_is_read_from_the_examination(tmp_path: Path):
    figures = {"validation_utility": None, "validation_specificity": None, "raw_gate.mean": 0.45}
    unknown = advise(Doctored(figures=figures).written(tmp_path / "run"))
    assert rows_of(unknown, 8)[0].status == "cannot be told"
    assert "mnemoscope examine" in " ".join(rows_of(unknown, 8)[0].to_tell)
    examined = advise(Doctored(figures=figures, examined=IDLE).written(tmp_path / "examined"))
    assert rows_of(examined, 8)[0].status == "holds"
    assert rows_of(examined, 5)[0].evidence == "raw gate 0.45, but the memory is not used"


def test_tasks_of_episodes_are_those():
    assert {name for name, task in TASKS.items() if callable(getattr(task, "episode", None))} == set(OF_EPISODES)


def test_the_facade_has_it():
    assert ms.advise is advise

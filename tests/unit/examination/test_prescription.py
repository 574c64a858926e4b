from typing import get_args

import pytest

from mnemoscope.examination.judgement.prescription import PRESCRIPTIONS, prescribe
from mnemoscope.runs.examination import Verdict
from tests.unit.examination.commands import assert_runs
from tests.unit.reporting import samples
from tests.unit.reporting.samples import decorative, memory


def changes(site) -> str:
    return " | ".join(row.change for row in prescribe(site))


def test_every_verdict_but_sole_use_has_a_row():
    advised = {verdict for verdict in get_args(Verdict) if prescribe(decorative(verdict=verdict, measures={}))}
    assert set(get_args(Verdict)) - advised == {"load-bearing", "load-bearing (sole)"}
    assert prescribe(memory(verdict=None)) == []


def test_a_clock_is_folded_and_never_made_diverse():
    (row,) = prescribe(samples.clock())
    assert "best constant of each position" in row.change
    assert "do not force diversity" in row.change


def test_a_starved_memory_gets_signal_gate_and_curriculum_and_one_of_slots_the_kit():
    told = changes(samples.starved())
    assert "reconstructs" in told
    assert "bias at +2" in told
    assert "curriculum" in told
    assert "1e-6" not in told
    assert "1e-6" in changes(samples.starved().model_copy(update={"measures": {"addressing_entropy": 0.5}}))


def test_a_saturated_memory_gets_a_larger_state_a_better_mixer_and_longer_training():
    told = changes(samples.saturated())
    for change in ("larger state", "delta rule", "longer sequences"):
        assert change in told


def test_a_decorative_memory_is_helped_before_it_is_deleted():
    told = changes(decorative(measures={}))
    for change in ("attention window", "place memories first", "weaken the shortcut", "delete the site"):
        assert change in told


def test_rows_of_the_framework_follow_where_their_evidence_is_there():
    assert any("row 6" in row.source for row in prescribe(decorative(measures={"gate_mean": 0.05})))
    assert not any("tuning guide" in row.source for row in prescribe(decorative(measures={"gate_mean": 0.45})))


def test_an_open_verdict_names_the_sequences_in_its_command():
    (row,) = prescribe(memory(verdict="inconclusive", required_sequences=4200, measures={}))
    assert row.command == "mnemoscope examine RUN --test 4200"
    assert_runs(row.command)


@pytest.mark.parametrize("row", [row for row in PRESCRIPTIONS if "SEQUENCES" not in row.command and row.command])
def test_every_command_is_one_that_there_is(row):
    assert_runs(row.command)


def test_a_memory_is_folded_by_its_name_and_a_group_is_not():
    row = next(row for row in PRESCRIPTIONS if row.condition == "verdict is clock")
    site = samples.clock()
    named = site.model_copy(update={"name": "layers.0.mixer[head 2]"})
    group = site.model_copy(update={"name": "(memories)", "role": "group"})
    commands = [{found.condition: found.command for found in prescribe(each)}[row.condition] for each in (named, group)]
    assert commands == ["mnemoscope fold RUN --site 'layers.0.mixer[head 2]' --out OUT", ""]

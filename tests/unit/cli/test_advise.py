"""The verb: what it prints, its exit codes, and mistakes."""

import json
import sys
from pathlib import Path

import pytest

from mnemoscope.cli import main
from mnemoscope.examination.judgement.signs import Aim
from mnemoscope.experiments.advising import advise
from tests.unit.experiments.advising.doctored import Doctored

BYPASSED = Doctored(figures={"raw_gate.mean": 0.02})


def told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["mnemoscope", "advise", *words])
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as end:
        main()
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def test_rows_that_hold_are_shown_in_full(tmp_path, capsys, monkeypatch):
    run = BYPASSED.written(tmp_path / "run")
    code, out, _ = told(capsys, monkeypatch, str(run))
    assert code == 1
    assert "rows that ask for a change: 6\n" in out
    for field in ("seen: raw gate 0.02", "guide: gates below 10 %", "here: pilot with", "try: mnemoscope train"):
        assert field in out
    for number in range(1, 26):
        assert f"row {number} " in out
    assert all(len(line) <= 100 for line in out.splitlines() if "try:" not in line and str(run) not in line)
    code, everything, _ = told(capsys, monkeypatch, str(run), "--all")
    assert code == 1
    assert everything.count("    guide:") == len(advise(run).rows)


def test_nothing_to_change_is_exit_code_0(tmp_path, capsys, monkeypatch):
    code, out, _ = told(capsys, monkeypatch, str(Doctored(figures={"raw_gate.mean": 0.45}).written(tmp_path / "run")))
    assert code == 0
    assert "rows that hold and ask for none: 5\n" in out
    assert "rows that ask for a change" not in out


def test_json_has_every_row(tmp_path, capsys, monkeypatch):
    run = BYPASSED.written(tmp_path / "run")
    code, out, _ = told(capsys, monkeypatch, str(run), "--json", "--want", "retain longer", "isolation")
    record = json.loads(out)
    assert code == 1
    assert {row["number"] for row in record["rows"] if row["status"] == "holds"} == {6, 17, 18, 25}
    assert {row["number"] for row in record["rows"]} == set(range(1, 26))


def test_mistakes_are_one_line_and_exit_code_2(tmp_path, capsys, monkeypatch):
    run = BYPASSED.written(tmp_path / "run")
    for words, says in (
        ([str(tmp_path)], "not the folder of a run"),
        ([str(run), "--want", "retain longest"], "did you mean 'retain longer'?"),
    ):
        code, out, err = told(capsys, monkeypatch, *words)
        assert (code, out) == (2, "")
        assert says in err
        assert len(err.splitlines()) == 1


def test_wishes_of_the_verb_are_those_of_the_framework():
    from typing import get_args

    from mnemoscope.cli.advise import Want

    assert get_args(Want) == get_args(Aim)


def test_a_damaged_run_is_named(tmp_path: Path, capsys, monkeypatch):
    run = BYPASSED.written(tmp_path / "run")
    (run / "verdicts.json").write_text("{", encoding="utf-8")
    code, _, err = told(capsys, monkeypatch, str(run))
    assert code == 2
    assert "verdicts.json: not JSON" in err

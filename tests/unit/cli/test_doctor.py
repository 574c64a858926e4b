"""`mnemoscope doctor`."""

import json
import sys
from pathlib import Path

import pytest

from mnemoscope.cli.main import main
from mnemoscope.experiments import doctor
from mnemoscope.experiments.doctor import Check

FINE = Check(section="versions", name="python", found="3.11")
GAIN = Check(section="extras", name="gpu", found="without a", advice="for speed: pip install 'mnemoscope[gpu]'")
BROKEN = Check(section="runs", name="writing", found="read-only", problem=True, advice="make it writable")


def run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["mnemoscope", "doctor", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert isinstance(end.value.code, int)
    return end.value.code


def test_what_is_missing_is_no_failure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(doctor, "examine_machine", lambda _: [FINE, GAIN])
    assert run([], monkeypatch) == 0
    out = capsys.readouterr().out
    assert "-> for speed: pip install 'mnemoscope[gpu]'" in out
    assert out.endswith("no problems\n")


def test_a_problem_is_marked_mended_and_counted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(doctor, "examine_machine", lambda _: [FINE, BROKEN])
    assert run([], monkeypatch) == 1
    out = capsys.readouterr().out
    assert "! writing" in out
    assert "-> make it writable" in out
    assert "problems: runs (writing)" in out


def test_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    seen: list[Path] = []
    monkeypatch.setattr(doctor, "examine_machine", lambda runs: [seen.append(runs), FINE, BROKEN][1:])
    assert run(["--json", "--runs", str(tmp_path)], monkeypatch) == 1
    given = json.loads(capsys.readouterr().out)
    assert seen == [tmp_path]
    assert given["ok"] is False
    assert given["checks"][1] == vars(BROKEN)


def test_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    run(["--runs", str(tmp_path)], monkeypatch)
    out = capsys.readouterr().out
    for section in ("versions", "devices", "kernels", "extras", "torch.compile", "runs", "self-check"):
        assert f"{section}:" in out

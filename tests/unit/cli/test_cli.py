"""The command line, run as a user runs it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mnemoscope.cli.main import VERBS, main
from tests.unit.cli.calling import called

FAST = ["--calibration", "32", "--test", "32", "--fit-steps", "3"]


def mnemoscope(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from mnemoscope.cli import main; main()", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The same in this process, where torch is there already: exit code, and what is said on stderr."""

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["mnemoscope", *words])
        with pytest.raises(SystemExit) as stop:
            main()
        return int(stop.value.code or 0), capsys.readouterr().err

    return run


@pytest.mark.parametrize("verb", [(), *((verb,) for verb in VERBS)])
def test_help_needs_no_torch(verb: tuple[str, ...]):
    code = (
        "import sys, mnemoscope.cli as cli\n"
        f"sys.argv = ['mnemoscope', *{verb!r}, '--help']\n"
        "try:\n    cli.main()\nexcept SystemExit as stop:\n    assert stop.code == 0\n"
        "heavy = {'torch', 'matplotlib', 'scipy', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage: mnemoscope" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("examin", "x"), "did you mean 'examine'?"),
        (("train", "text-hybird", "--out", "x"), "did you mean 'text-hybrid'?"),
        (("train", "text-hybrid", "--out", "x", "--layout", "gated_dleta"), "did you mean 'gated_delta'?"),
        (("train", "text-hybrid", "--out", "x", "--layout", "attention(windw=4)"), "did you mean 'window'?"),
        (("train", "text-hybrid", "--out", "x", "--steps", "0"), "TrainConfig.steps"),
        (("train", "text-hybrid", "--out", "x", "--steps", "many"), "steps"),
        (("train", "text-hybrid"), "--out"),
        (("examine", "nowhere"), "nowhere"),
        (("report", "nowhere"), "nowhere"),
        (("report",), "at least one run"),
        (("compare",), "at least two examinations, got 0"),
        (("compare", "a"), "at least two examinations, got 1"),
        (("compare", "a", "b", "--files"), "--html FILE"),
        (("compare", "a", "b", "--html", "."), "is a folder"),
        (("compare", "nowhere", "b"), "nowhere is neither"),
        (("new", "2nd"), "begins with a letter"),
        (("new", "."), "begins with a letter"),
        (("list", "everything"), "everything"),
        (("show", "mqr"), "did you mean 'mqar'?"),
        (("show", "mqar", "n_pairs=0"), "nearest valid: 1"),
        (("bench",), "must be run in a checkout"),
        (("bench", "streaming", "--memories"), "drop one"),
        (("calibrate", "--kinds", "G18"), "nearest valid: G8"),
        (("calibrate", "--instances", "0"), "instances must be at least 1"),
        (("calibrate", "--out", "nowhere/page.md"), "nowhere"),
        (("bench", "--tasks", "--memories"), "drop one"),
    ],
)
def test_mistakes_end_with_2_and_no_traceback(
    words: tuple[str, ...], message: str, tmp_path: Path, here: Callable[..., tuple[int, str]]
):
    if words[0] == "bench":  # whether it is in a checkout depends on the process
        done = mnemoscope(*words, cwd=tmp_path)
        code, said = done.returncode, done.stderr
    else:
        code, said = here(*words)
    assert code == 2, said
    assert message in said.replace("│", "")
    assert "Traceback" not in said
    assert not (tmp_path / "x").exists() or not any((tmp_path / "x").iterdir())


def test_empty_and_garbled_recipes_are_refused(tmp_path: Path, here: Callable[..., tuple[int, str]]):
    for name, content in (("empty.json", ""), ("list.json", "[1]"), ("other.json", '{"name": "x", "colour": 1}')):
        (tmp_path / name).write_text(content)
        code, said = here("train", name, "--out", "run")
        assert code == 2, said
        assert name in said


def test_train_examine_report_list(tmp_path: Path):
    trained = mnemoscope("train", "recall-short-window", "--out", "runs/a", "--steps", "3", "--seed", "1", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert "next: mnemoscope examine runs/a" in trained.stdout
    again = called("train", "recall-short-window", "--out", "runs/a", cwd=tmp_path)
    assert again.returncode == 2
    assert "resume" in again.stderr

    examined = called("examine", "runs/a", *FAST, cwd=tmp_path)
    assert examined.returncode == 0, examined.stderr
    assert "blocks.1.mixer" in examined.stdout
    assert "untrained" in examined.stdout
    assert json.loads((tmp_path / "runs/a/verdicts.json").read_text())["n_test"] == 32
    assert (tmp_path / "runs/a/report.html").exists()

    reported = called("report", "runs/a", "runs/a", "--out", "both.html", cwd=tmp_path)
    assert reported.returncode == 0, reported.stderr
    assert "Side by side" in (tmp_path / "both.html").read_text()

    listed = called("list", cwd=tmp_path)
    assert listed.returncode == 0
    for expected in ("gated_delta", "mqar", "text-hybrid", "runs/a", "finished, examined"):
        assert expected in listed.stdout


def test_a_recipe_file_is_a_runs_config(tmp_path: Path):
    assert called("train", "text-hybrid", "--out", "a", "--steps", "2", cwd=tmp_path).returncode == 0
    done = called("train", "a/config.json", "--out", "b", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / run / "config.json").read_text())["resolved"] for run in "ab")
    assert first == second


def test_a_benchmark_that_is_unknown_is_refused_with_all_that_are():
    done = mnemoscope("bench", "streming", cwd=Path(__file__).parents[3])
    assert done.returncode == 2
    assert "known: gated_delta, streaming, decoding, interventions, memories" in done.stderr


def test_show_draws_a_task_and_samples_it():
    done = called("show", "mqar", "n_pairs=2", "length=12", "vocab_size=12")
    assert done.returncode == 0, done.stderr
    for expected in ("key val key val", "chance      1.7918", "floor       0.0000", "targets"):
        assert expected in done.stdout


@pytest.mark.long
def test_calibrate_examines_planted_memories_and_keeps_what_is_finished(tmp_path: Path):
    words = ("calibrate", "--instances", "1", "--kinds", "G2", "--jobs", "1", "--out", "page.md")
    done = mnemoscope(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for expected in ("1 of 1 instances", "decorative 1", "macro accuracy 100.0%"):
        assert expected in done.stdout
    page = (tmp_path / "page.md").read_text()
    assert "| G2 | disconnected | decorative; flag 'disconnected' | 1 / 1 | decorative 1 |" in page
    assert "--instances 1 --kinds G2" in page
    again = called(*words, cwd=tmp_path)
    assert "1 of 1 instances are in" in again.stdout

"""`mnemoscope import-config`: what is printed, written and refused."""

import sys
from pathlib import Path

import pytest

from mnemoscope.cli.main import main


def said(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(sys, "argv", ["mnemoscope", "import-config", *words])
    with pytest.raises(SystemExit) as exit_:
        main()
    return int(exit_.value.code or 0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "atlas.yaml"
    file.write_text("model:\n  init_eta: 0.2\nepisodic:\n  retrieval_gate_floor: 0.5\n")
    return file


def test_every_key_has_a_line_and_the_recipe_is_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], file: Path, tmp_path: Path
):
    out = tmp_path / "recipe.json"
    assert said(monkeypatch, str(file), "--out", str(out)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{file}: 2 keys"
    assert lines[2].split(maxsplit=2) == [
        "episodic.retrieval_gate_floor",
        "0.5",
        "least floor while an episode retrieves",
    ]
    assert lines[3].startswith("warning: floors of the phases (0.3, 0.1, 0.05) change nothing")
    assert lines[4].startswith("warning: no data.dataset_path: trains on 'code'")
    assert lines[5] == "text: code, which needs no file"
    assert lines[6].startswith("layout: (omega(n_heads=1, head_width=256")
    assert lines[7] == f"next: mnemoscope train {out} --out runs/recipe"
    assert out.is_file()


def test_compat_and_no_file_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], file: Path, tmp_path: Path
):
    assert said(monkeypatch, str(file), "--compat") == 0
    text = capsys.readouterr().out
    assert "not read by the public code, which has 0.3 whatever is said" in text
    assert "use_stablemax" in text
    assert "atlas_compat(" in text
    assert "nothing was written" in text
    assert [*tmp_path.iterdir()] == [file]


@pytest.mark.parametrize(
    ("name", "message"),
    [("atlas.yaml", "unknown key 'model.init_etta'; did you mean 'init_eta'?"), ("no.yaml", "No such")],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    name: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], file: Path
):
    file.write_text("model:\n  init_etta: 0.2\n")
    assert said(monkeypatch, str(file.with_name(name))) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1

"""`mnemoscope export`."""

import sys
from pathlib import Path

import pytest

from mnemoscope.cli.main import main
from mnemoscope.runs import RunDirectory
from tests.unit.experiments.exported_runs import BYTES, trained
from tests.unit.reporting.samples import decorative, examination


def test_a_run_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    run, out = trained(tmp_path / "a", BYTES, "lstm", steps=1), tmp_path / "out"
    words = ["mnemoscope", "export", str(run), "--to", str(out)]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(f"a -> {out}\n  step           1\n")
    assert "  tokeniser      bytes\n  logits         equal to " in printed.out
    assert printed.err == ""
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "replace it with --force" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", [*words, "--force"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0


def test_a_run_is_exported_without_what_it_does_not_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    run, out = trained(tmp_path / "a", BYTES, "attention, lstm", steps=1), tmp_path / "out"
    RunDirectory.open(run).write_examination(
        examination(sites=[decorative("blocks.1.mixer")], margin=10.0, n_calibration=16, n_test=16)
    )
    words = ["mnemoscope", "export", str(run), "--to", str(out), "--fit-steps", "1"]
    monkeypatch.setattr(sys, "argv", [*words, "--fold", "blocks.1.mixer=delete", "--window", "blocks.0.mixer=4"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    printed = capsys.readouterr().out
    assert "  changed        blocks.0.mixer: a window of 4 tokens; increase " in printed
    assert "  changed        blocks.1.mixer (decorative): nothing; increase " in printed
    assert "margin 10.000; as good\n" in printed
    for wrong, said in (
        (["--as-prescribed", "--fold", "blocks.1.mixer"], "--as-prescribed chooses the changes"),
        (["--even-if-worse"], "are of changes; name some with --fold or --window"),
        (["--window", "blocks.0.mixer"], "--window must be SITE=TOKENS"),
        (["--lm-eval", "none.yaml"], "there is no task file none.yaml"),
    ):
        monkeypatch.setattr(sys, "argv", [*words, *wrong])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 2
        assert said in capsys.readouterr().err


def test_without_transformers_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for name in [name for name in sys.modules if name.startswith("mnemoscope.models.huggingface")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setattr(sys, "argv", ["mnemoscope", "export", str(tmp_path), "--to", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "pip install 'mnemoscope[hf]'" in capsys.readouterr().err

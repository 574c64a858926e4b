"""`mnemoscope export`."""

import sys
from pathlib import Path

import pytest

from mnemoscope.cli.main import main
from tests.unit.experiments.exported_runs import BYTES, trained


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

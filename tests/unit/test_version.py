"""The version comes from the distribution, and asking for it imports nothing heavy."""

import importlib.metadata
import subprocess
import sys

import pytest

import mnemoscope

LOOK = "import sys, mnemoscope; print(mnemoscope.__version__); print(sorted({'torch', 'pydantic'} & set(sys.modules)))"


def test_it_is_the_distributions():
    assert mnemoscope.__version__ == importlib.metadata.version("mnemoscope")


def test_it_is_known_where_nothing_is_installed(monkeypatch: pytest.MonkeyPatch):
    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    assert mnemoscope.__version__ == "0+unknown"


def test_asking_imports_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == [mnemoscope.__version__, "[]"]


def test_the_command_line_prints_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    from mnemoscope.cli import main

    monkeypatch.setattr(sys, "argv", ["mnemoscope", "--version"])
    main()
    assert capsys.readouterr().out == f"{mnemoscope.__version__}\n"

"""`mnemoscope serve`: what it refuses, each in one line."""

import re
import subprocess
import sys
from pathlib import Path

import pytest


def served(*words: str, without: str = "") -> subprocess.CompletedProcess[str]:
    hidden = f"import sys; sys.modules[{without!r}] = None; " if without else ""
    command = [sys.executable, "-c", f"{hidden}from mnemoscope.cli import main; main()", "serve", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nowhere",), "nowhere: there is no such folder"),
        ((".", "--port", "70000"), "--port must be between 0 and 65535, got 70000"),
        ((".", "--host", "no such host"), "cannot be listened on"),
    ],
)
def test_mistakes_end_with_2_and_one_line(words: tuple[str, ...], message: str):
    done = served(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"mnemoscope: .*\n", done.stderr)
    assert message in done.stderr


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_a_missing_extra_is_named(tmp_path: Path, package: str):
    done = served(str(tmp_path), without=package)
    assert done.returncode == 2
    assert done.stderr == (
        f"mnemoscope: serve needs the package {package}, which is not installed; pip install 'mnemoscope[serve]'\n"
    )

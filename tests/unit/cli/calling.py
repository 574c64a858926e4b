"""The command line in this process, where torch is imported already: a process of its own takes seconds to begin."""

import io
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import pytest
import torch

from mnemoscope.cli.main import main


class Called(NamedTuple):
    """What a process would leave behind."""

    returncode: int
    stdout: str
    stderr: str


def called(*words: str, cwd: Path | None = None) -> Called:
    """`mnemoscope WORDS` in a folder; threads are what they were afterwards."""
    out, errors, threads = io.StringIO(), io.StringIO(), torch.get_num_threads()
    with (
        chdir(cwd or Path.cwd()),
        patch.object(sys, "argv", ["mnemoscope", *words]),
        redirect_stdout(out),
        redirect_stderr(errors),
        pytest.raises(SystemExit) as stopped,
    ):
        main()
    torch.set_num_threads(threads)
    return Called(int(stopped.value.code or 0), out.getvalue(), errors.getvalue())

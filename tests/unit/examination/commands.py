"""Commands of prescriptions, read as `mnemoscope` reads them."""

import shlex

import tyro

from mnemoscope.cli.examine import Examine
from mnemoscope.cli.train import Train
from mnemoscope.models import parse_layout

VERBS = {"train": Train, "examine": Examine}


def assert_runs(command: str) -> None:
    """The command has options that exist, and a layout that can be built."""
    program, verb, *rest = shlex.split(command)
    assert program == "mnemoscope"
    parsed = tyro.cli(VERBS[verb], args=rest)
    layout = getattr(parsed, "layout", None)
    assert layout is None or parse_layout(layout)

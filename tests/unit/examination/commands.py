"""Commands of prescriptions, read as `mnemoscope` reads them."""

import shlex

import tyro

from mnemoscope.cli.examine import Examine
from mnemoscope.cli.fold import Fold
from mnemoscope.cli.train import Train
from mnemoscope.cli.trial import Trial
from mnemoscope.contracts.written import parse_calls
from mnemoscope.models import parse_layout
from mnemoscope.training.remedies import REMEDIES

VERBS = {"train": Train, "examine": Examine, "fold": Fold, "trial": Trial}


def assert_runs(command: str) -> None:
    """The command has options that exist, a layout that can be built, and remedies that there are."""
    program, verb, *rest = shlex.split(command)
    assert program == "mnemoscope"
    parsed = tyro.cli(VERBS[verb], args=rest)
    layout = getattr(parsed, "layout", None)
    assert layout is None or parse_layout(layout)
    assert verb != "trial" or parse_calls("remedies", getattr(parsed, "remedies", ""), REMEDIES)

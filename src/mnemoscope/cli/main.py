"""`mnemoscope VERB ...`: exit code 2 for a user's mistake, 1 for a failure."""

import difflib
import io
import os
import sys
from typing import Annotated, NoReturn, Union

import tyro

import mnemoscope
from mnemoscope.cli.advise import Advise
from mnemoscope.cli.bench import Bench
from mnemoscope.cli.calibrate import Calibrate
from mnemoscope.cli.compare import Compare
from mnemoscope.cli.demo import Demo
from mnemoscope.cli.doctor import Doctor
from mnemoscope.cli.examine import Examine
from mnemoscope.cli.export import Export
from mnemoscope.cli.fold import Fold
from mnemoscope.cli.geometry import Geometry
from mnemoscope.cli.import_config import ImportConfig
from mnemoscope.cli.list import List
from mnemoscope.cli.log import Log
from mnemoscope.cli.lottery import Lottery
from mnemoscope.cli.new import New
from mnemoscope.cli.plan import Plan
from mnemoscope.cli.prune import Prune
from mnemoscope.cli.report import Report
from mnemoscope.cli.reproduce import Reproduce
from mnemoscope.cli.serve import Serve
from mnemoscope.cli.show import Show
from mnemoscope.cli.trace import Trace
from mnemoscope.cli.train import Train
from mnemoscope.cli.trained_truth import TrainedTruth
from mnemoscope.cli.trial import Trial
from mnemoscope.cli.upgrade import Upgrade

VERBS = (
    "demo",
    "new",
    "train",
    "examine",
    "trace",
    "compare",
    "advise",
    "report",
    "log",
    "list",
    "serve",
    "show",
    "bench",
    "calibrate",
    "trained-truth",
    "prune",
    "lottery",
    "reproduce",
    "trial",
    "fold",
    "export",
    "geometry",
    "import-config",
    "doctor",
    "plan",
    "upgrade",
)

Command = Union[  # noqa: UP007  # tyro reads the annotations of a Union
    Annotated[Demo, tyro.conf.subcommand("demo")],
    Annotated[New, tyro.conf.subcommand("new")],
    Annotated[Train, tyro.conf.subcommand("train")],
    Annotated[Examine, tyro.conf.subcommand("examine")],
    Annotated[Trace, tyro.conf.subcommand("trace")],
    Annotated[Compare, tyro.conf.subcommand("compare")],
    Annotated[Advise, tyro.conf.subcommand("advise")],
    Annotated[Report, tyro.conf.subcommand("report")],
    Annotated[Log, tyro.conf.subcommand("log")],
    Annotated[List, tyro.conf.subcommand("list")],
    Annotated[Serve, tyro.conf.subcommand("serve")],
    Annotated[Show, tyro.conf.subcommand("show")],
    Annotated[Bench, tyro.conf.subcommand("bench")],
    Annotated[Calibrate, tyro.conf.subcommand("calibrate")],
    Annotated[TrainedTruth, tyro.conf.subcommand("trained-truth")],
    Annotated[Prune, tyro.conf.subcommand("prune")],
    Annotated[Lottery, tyro.conf.subcommand("lottery")],
    Annotated[Reproduce, tyro.conf.subcommand("reproduce")],
    Annotated[Trial, tyro.conf.subcommand("trial")],
    Annotated[Fold, tyro.conf.subcommand("fold")],
    Annotated[Export, tyro.conf.subcommand("export")],
    Annotated[Geometry, tyro.conf.subcommand("geometry")],
    Annotated[ImportConfig, tyro.conf.subcommand("import-config")],
    Annotated[Doctor, tyro.conf.subcommand("doctor")],
    Annotated[Plan, tyro.conf.subcommand("plan")],
    Annotated[Upgrade, tyro.conf.subcommand("upgrade")],
]


def main() -> None:
    """Read the arguments, do what they say, turn errors into one line."""
    _show_every_character()
    if sys.argv[1:] == ["--version"]:
        print(mnemoscope.__version__)
        return
    _check_verb(sys.argv[1:])
    command = tyro.cli(
        Command,  # pyright: ignore[reportArgumentType]
        prog="mnemoscope",
        description="Find out whether a neural network's memory does any work, and what to do when it does not.",
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
    )
    try:
        sys.exit(command.run())
    except ValueError as error:
        _fail(error, 2)
    except ArithmeticError as error:
        _fail(error, 1)
    except BrokenPipeError:
        # Whoever read the output has seen enough; nothing more can be flushed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        _fail(f"{error.filename2 or error.filename}: {error.strerror}; name another file or folder", 2)
    except OSError as error:
        _fail(error, 1)
    except KeyboardInterrupt:
        _fail("stopped", 130)


def _check_verb(words: list[str]) -> None:
    """Name the nearest verb, which the parser does not."""
    if words and not words[0].startswith("-") and words[0] not in VERBS:
        close = difflib.get_close_matches(words[0], VERBS, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        _fail(f"unknown verb {words[0]!r}; {hint}verbs: {', '.join(VERBS)}", 2)


def _show_every_character() -> None:
    """A console that lacks a character (code pages of Windows) shows another in its place, and nothing fails."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _fail(message: object, code: int) -> NoReturn:
    print(f"mnemoscope: {message}", file=sys.stderr)
    sys.exit(code)

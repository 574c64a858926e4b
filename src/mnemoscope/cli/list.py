"""`mnemoscope list`: what there is."""

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from mnemoscope.cli.terminal import columns, filled

What = Literal["all", "memories", "tasks", "remedies", "recipes", "presets", "trials", "runs"]

WHOLE_LINES = 10_000
"""Columns where the output is piped: one line for each thing, as a filter expects."""


@dataclass(frozen=True, kw_only=True)
class List:
    """List memories, tasks, remedies, recipes, presets (RECIPE+PRESET), trials, and the runs below a folder."""

    what: Annotated[What, tyro.conf.Positional] = "all"
    """What to list."""

    runs: Path = Path("runs")
    """Where to look for runs."""

    def run(self) -> int:
        """Print the lists asked for."""
        lists = {
            "memories": _memories,
            "tasks": _tasks,
            "remedies": _remedies,
            "recipes": _recipes,
            "presets": _presets,
            "trials": _trials,
            "runs": lambda: _runs(self.runs),
        }
        for name, rows_of in lists.items():
            if self.what in ("all", name):
                rows = rows_of()
                print(f"{name}:" if rows else f"{name}: none")
                width = max((len(left) for left, _ in rows), default=0)
                for left, right in rows:
                    print(filled(f"  {left:<{width}}  {right}", columns(piped=WHOLE_LINES), hanging=width + 4))
        return 0


def _memories() -> list[tuple[str, str]]:
    from mnemoscope.memories import MEMORIES
    from mnemoscope.memories.presets import PRESETS
    from mnemoscope.models.written import write_layout

    rows = [(name, _first_line(memory)) for name, (_, memory) in MEMORIES.items()]
    return rows + [(name, f"a special case: {write_layout([config])}") for name, config in PRESETS.items()]


def _tasks() -> list[tuple[str, str]]:
    from mnemoscope.tasks import TASKS

    return [(name, _first_line(task)) for name, task in TASKS.items()]


def _remedies() -> list[tuple[str, str]]:
    from mnemoscope.training.remedies import REMEDIES

    return [(name, _first_line(remedy)) for name, remedy in REMEDIES.items()]


def _recipes() -> list[tuple[str, str]]:
    from mnemoscope.experiments.recipes import ALL_RECIPES

    return [(name, f"{recipe.name}; {recipe.train.steps} steps") for name, recipe in ALL_RECIPES.items()]


def _presets() -> list[tuple[str, str]]:
    from mnemoscope.experiments.atlas.trials import PRESETS

    return [
        (name, f"{preset.says} ({preset.why}){f'; {preset.here}' if preset.here else ''}")
        for name, preset in PRESETS.items()
    ]


def _trials() -> list[tuple[str, str]]:
    from mnemoscope.experiments.trials import TRIALS

    return [(name, _first_line(plan)) for name, plan in TRIALS.items()]


def _runs(folder: Path) -> list[tuple[str, str]]:
    from mnemoscope.runs import find_runs

    rows = []
    for run in find_runs(folder) if folder.is_dir() else []:
        examined = ", examined" if run.verdicts_path.exists() else ""
        rows.append((str(run.path), f"{run.read_manifest().exit_state}{examined}"))
    return rows


def _first_line(thing: object) -> str:
    """What the file in which it is defined is about."""
    module = inspect.getmodule(thing)
    return (module.__doc__ or "").strip().splitlines()[0] if module else ""

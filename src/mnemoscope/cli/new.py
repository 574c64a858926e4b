"""`mnemoscope new`: a small project of the user's own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True, kw_only=True)
class New:
    """Write a small project to begin with: a model with a memory of its own, a task, a recipe and a test.

    `python run.py` in its folder trains, examines and reports, in about a minute.
    """

    folder: Annotated[Path, tyro.conf.Positional]
    """Its folder, which must not exist yet: my_experiment, or work/my_experiment."""

    def run(self) -> int:
        """Write it, and say what comes next."""
        from mnemoscope.experiments.starting import begin_project

        for file in begin_project(self.folder):
            print(file)
        print(f"next: cd {self.folder} && python run.py")
        return 0

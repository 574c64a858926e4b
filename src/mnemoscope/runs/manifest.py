"""The manifest: where a run came from, on what it ran, and how it ended."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, Field, JsonValue

from mnemoscope.runs.record import SCHEMA_VERSION, Record

ExitState = Literal["running", "finished", "interrupted", "failed"]
"""`running` is also what a killed process leaves behind, since it could not say goodbye."""


class Manifest(Record):
    """What must be known to believe, or to repeat, a run.

    Args:
        kind: what made the run, for instance "training" or "examination".
        command: the command line, as a list of words.
        revision: commit of the repository in the working directory, with "+changes" if files differ from it;
            None outside a repository.
        versions: of python, torch, numpy and mnemoscope.
        device: for instance "cpu" or "cuda (NVIDIA H200)".
        threads: CPU threads that one operation may use.
        seeds: every seed by its name.
        data: what the task says of its data.
        started: when this process began.
        ended: when it ended; None while it runs, or if it was killed.
        exit_state: how it ended.
        message: why, if it did not finish.
        earlier: manifests of the processes whose work this one resumed, oldest first.
    """

    schema_version: int = SCHEMA_VERSION
    kind: str
    command: list[str]
    revision: str | None
    versions: dict[str, str]
    device: str
    threads: int
    seeds: dict[str, int]
    data: dict[str, JsonValue]
    started: AwareDatetime
    ended: AwareDatetime | None = None
    exit_state: ExitState = "running"
    message: str = ""
    earlier: list["Manifest"] = Field(default_factory=list)

    def ending(self, exit_state: ExitState, message: str = "") -> "Manifest":
        """The same manifest, ended now."""
        return self.model_copy(update={"ended": datetime.now(UTC), "exit_state": exit_state, "message": message})

    def resuming(self, previous: "Manifest") -> "Manifest":
        """The same manifest, as one that goes on where `previous` stopped."""
        alone = previous.model_copy(update={"earlier": []})
        return self.model_copy(update={"earlier": [*previous.earlier, alone]})


def git_revision(folder: Path) -> str | None:
    """Commit of the repository that holds a folder; "+changes" is added if tracked files differ from it.

    Returns:
        None outside a repository, or where git is not installed.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    return commit + ("+changes" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, encoding="utf-8", timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None

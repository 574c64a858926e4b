"""A run directory for what is done to a trained run: its settings, where it came from, and how it ended."""

import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic_core import to_jsonable_python

import mnemoscope
from mnemoscope.runs import Manifest, RunDirectory, git_revision


@contextmanager
def kept_run(
    folder: Path, kind: str, settings: Mapping[str, Any], data: Mapping[str, Any], seed: int
) -> Iterator[RunDirectory]:
    """The folder of work that goes on where it was stopped; its manifest says how the block ended.

    Raises:
        ValueError: the folder holds something else, or the same with other settings.
    """
    asked = to_jsonable_python(dict(settings))
    run = RunDirectory(folder)
    if run.begun:
        before = RunDirectory.open(folder).read_config().resolved
        differing = sorted(name for name in {**before, **asked} if before.get(name) != asked.get(name))
        if differing:
            was = ", ".join(f"{name} (was {before.get(name)}, got {asked.get(name)})" for name in differing)
            raise ValueError(
                f"{folder}: what is there was made with other settings: {was}; choose another --out folder"
            )
    else:
        run = RunDirectory.create(folder)
        run.write_config(asked, asked)
    manifest = Manifest(
        kind=kind,
        command=list(sys.argv),
        revision=git_revision(Path.cwd()),
        versions={
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "mnemoscope": mnemoscope.__version__,
        },
        device="cpu",
        threads=torch.get_num_threads(),
        seeds={kind: seed},
        data=dict(data),
        started=datetime.now(UTC),
    )
    if run.manifest_path.exists():
        manifest = manifest.resuming(run.read_manifest())
    run.write_manifest(manifest)
    try:
        yield run
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt)
        run.write_manifest(manifest.ending("interrupted" if stopped else "failed", repr(error)))
        raise
    run.write_manifest(manifest.ending("finished"))

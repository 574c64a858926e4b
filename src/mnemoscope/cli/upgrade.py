"""`mnemoscope upgrade FOLDER`: records of earlier versions rewritten as today's."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True, kw_only=True)
class Upgrade:
    """Rewrite the records of older runs in today's schema; each original is kept as FILE.schema-VERSION.

    Runs of every earlier version are read as they are, without this. Checkpoints are not touched.
    """

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of runs, trials or reproductions, or of many of them."""

    dry_run: bool = False
    """Say what would change and write nothing."""

    def run(self) -> int:
        """Find, show, and unless it is a dry run rewrite."""
        from mnemoscope.experiments.upgrading import outdated, upgrade
        from mnemoscope.runs import SCHEMA_VERSION

        if not self.folders:
            raise ValueError("upgrade: needs at least one folder; `mnemoscope list runs` shows what there is")
        found = [one for folder in self.folders for one in outdated(folder)]
        for one in found:
            print(f"{one.path}: schema {one.version} -> {SCHEMA_VERSION}")
            for change in one.changes:
                print(f"  {change}")
            if not self.dry_run:
                upgrade(one)
        done = f"{len(found)} files {'would be' if self.dry_run else 'were'} rewritten"
        kept = "" if self.dry_run or not found else f"; originals: {found[0].backup.name}, and so on"
        print(f"{done}{kept}" if found else f"all records have schema {SCHEMA_VERSION}: nothing to do")
        return 0

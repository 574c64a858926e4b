"""`mnemoscope doctor`: what is here, what computes what, and what to install."""

import json
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from mnemoscope.cli.terminal import columns, filled

if TYPE_CHECKING:
    from mnemoscope.experiments.doctor import Check


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Look at this machine: versions, devices, kernels and why, missing extras, and whether the basics work.

    Exit code 1 where something that is there does not work; each such line says how to mend it.
    """

    runs: Path = Path("runs")
    """Where runs are to be written; it need not exist yet."""

    json: bool = False
    """Print one JSON object instead: "ok", and a list of "checks"."""

    def run(self) -> int:
        """Look, print, and say by the exit code whether there are problems."""
        from mnemoscope.experiments.doctor import examine_machine

        checks = examine_machine(self.runs)
        problems = [check for check in checks if check.problem]
        if self.json:
            print(json.dumps({"ok": not problems, "checks": [vars(check) for check in checks]}, indent=2))
        else:
            _print(checks)
            print(f"\n{_summary(problems)}")
        return 1 if problems else 0


def _print(checks: "list[Check]") -> None:
    width = max(len(check.name) for check in checks)
    for section, group in groupby(checks, key=lambda check: check.section):
        print(f"{section}:")
        for check in group:
            mark = "! " if check.problem else "  "
            print(filled(f"{mark}{check.name:<{width}}  {check.found}", columns(), hanging=width + 4))
            if check.advice:
                print(filled(f"{'':<{width + 4}}-> {check.advice}", columns(), hanging=width + 7))


def _summary(problems: "list[Check]") -> str:
    if not problems:
        return "no problems"
    return f"problems: {', '.join(f'{check.section} ({check.name})' for check in problems)}; see the lines marked !"

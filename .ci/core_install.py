"""Uses an installed `mnemoscope` as a newcomer without extras would; exit code 1 says which command failed.

python core_install.py PATH/TO/mnemoscope FOLDER
"""

import subprocess
import sys
from pathlib import Path

TRAIN = ("train", "recall-short-window", "--steps", "3")
EXAMINE = ("--calibration", "16", "--test", "16", "--fit-steps", "2")


def main(command: str, runs: Path) -> int:
    """Every command that must work with the core alone, and those that must say which extra they need."""
    run = str(runs / "run")
    works = [
        ("--version",),
        ("--help",),
        ("list", "memories"),
        ("show", "mqar"),
        ("doctor",),
        (*TRAIN, "--out", run),
        ("examine", run, *EXAMINE),
        ("report", run),
        ("compare", run, run),
        ("upgrade", run),
    ]
    needs = [
        (("export", run, "--to", str(runs / "exported")), "mnemoscope[hf]"),
        (("serve", str(runs)), "mnemoscope[serve]"),
    ]
    runs.mkdir(parents=True)
    problems = [f"{' '.join(words)}: {why}" for words in works if (why := _failure(command, words, runs))]
    problems += [f"{' '.join(words)}: {why}" for words, extra in needs if (why := _silent(command, words, runs, extra))]
    print("\n".join(problems) or f"{len(works)} commands work with the core alone, {len(needs)} name their extra")
    return 1 if problems else 0


def _failure(command: str, words: tuple[str, ...], folder: Path) -> str:
    done = subprocess.run([command, *words], cwd=folder, capture_output=True, text=True, timeout=200)
    return "" if done.returncode == 0 and done.stdout.strip() else f"exit {done.returncode}: {done.stderr[-400:]}"


def _silent(command: str, words: tuple[str, ...], folder: Path, extra: str) -> str:
    done = subprocess.run([command, *words], cwd=folder, capture_output=True, text=True, timeout=200)
    is_clear = done.returncode == 2 and extra in done.stderr and "Traceback" not in done.stderr
    return "" if is_clear else f"must exit with 2 and name {extra}; exit {done.returncode}: {done.stderr[-400:]}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))

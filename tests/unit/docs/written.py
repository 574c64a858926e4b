"""What stands between the fences of the pages."""

import re
import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
PAGES = {path.name: path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]}

if str(DOCS / "hooks") not in sys.path:
    sys.path.insert(0, str(DOCS / "hooks"))

LAUNCHED = re.compile(r"^(?:torchrun [^|]*?-m mnemoscope|\.venv/bin/mnemoscope|mnemoscope) ")


def blocks(page: str, language: str) -> list[str]:
    """What stands in the fenced blocks of a language; "" for those without one."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    return [text for name, text in found if name == language]


def commands(page: str) -> list[list[str]]:
    """The words of every mnemoscope command that a page tells to type."""
    lines = [line for language in ("bash", "") for block in blocks(page, language) for line in joined(block)]
    return [shlex.split(LAUNCHED.sub("", line), comments=True) for line in lines if LAUNCHED.match(line)]


def joined(block: str) -> list[str]:
    """Lines, those that end in a backslash with the next."""
    return block.replace("\\\n", " ").splitlines()

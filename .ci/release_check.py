"""Refuses a release that the changelog does not know: `release_check.py v0.2.0`, or the tags of this commit."""

import re
import subprocess
import sys
from datetime import date
from pathlib import Path


def problem(tag: str, changelog: str) -> str:
    """What forbids a release under a tag; empty where nothing does."""
    if not re.fullmatch(r"v\d+\.\d+\.\d+((a|b|rc)\d+)?", tag):
        return f"{tag}: a tag must be like v0.2.0 or v0.2.0rc1"
    heading = re.search(rf"^## {re.escape(tag[1:])} - (\S+)$", changelog, re.MULTILINE)
    if heading is None:
        return f"{tag}: CHANGELOG.md needs a section `## {tag[1:]} - YYYY-MM-DD`; move what is Unreleased into it"
    try:
        date.fromisoformat(heading[1])
    except ValueError:
        return f"{tag}: the date of its section must be YYYY-MM-DD, got {heading[1]}"
    section = re.split(r"^## ", changelog[heading.end() :], maxsplit=1, flags=re.MULTILINE)[0]
    return "" if re.search(r"^- ", section, re.MULTILINE) else f"{tag}: its section of CHANGELOG.md is empty"


def main(words: list[str]) -> int:
    """Check the tags given, or those of the commit that is checked out."""
    tags = (
        words
        or subprocess.run(
            ["git", "tag", "--points-at", "HEAD", "--list", "v*"], capture_output=True, text=True
        ).stdout.split()
    )
    changelog = Path("CHANGELOG.md").read_text(encoding="utf-8")
    problems = [found for tag in tags if (found := problem(tag, changelog))]
    print("\n".join(problems) or (f"{', '.join(tags)}: in the changelog" if tags else "no tag at this commit"))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

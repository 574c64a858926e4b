"""The pages as Markdown beside their HTML, `llms.txt` with links to them, `llms-full.txt` with all of them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def write(site: Path, root: Path, nav: list[Any], texts: Mapping[str, str]) -> None:
    """Write them.

    Args:
        site: the folder that was built.
        root: of the repository, whose README begins the full text.
        nav: of the configuration, after it was filled.
        texts: Markdown of every page by its path.
    """
    for path, text in texts.items():
        target = site / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    listed = list(_listed(nav))
    (site / "llms.txt").write_text(_index(listed, texts), encoding="utf-8")
    whole = [(root / "README.md").read_text(encoding="utf-8")]
    whole += [texts[path] for _, _, path in listed if path in texts and not path.startswith("reference/")]
    (site / "llms-full.txt").write_text("\n\n---\n\n".join(whole), encoding="utf-8")


def _index(listed: list[tuple[str, str, str]], texts: Mapping[str, str]) -> str:
    """Title, what it is, and a section of links for each part of the navigation."""
    lines = [
        "# Mnemoscope",
        "",
        "> Find out whether a neural network's memory does any work, and what to do when it does not.",
        "",
        "Every link is Markdown. llms-full.txt holds all pages but the reference in one file.",
    ]
    section = None
    for part, title, path in listed:
        if part != section:
            lines += ["", f"## {part}", ""]
            section = part
        lines.append(f"- [{title or _title(texts.get(path, path))}]({path})")
    return "\n".join(lines) + "\n"


def _listed(nav: list[Any], section: str = "Mnemoscope") -> Iterator[tuple[str, str, str]]:
    """Section, title and path of every page of the navigation; a title that is not given there is empty."""
    for entry in nav:
        if isinstance(entry, str):
            yield section, "", entry
            continue
        ((title, value),) = entry.items()
        if isinstance(value, list):
            yield from _listed(value, title)
        else:
            yield section, title, value


def _title(text: str) -> str:
    return next((line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")), text)

"""The pages of `mnemoscope show` as Markdown."""

import itertools
import re
import textwrap
from collections.abc import Iterable

from mnemoscope.cli.pages import FOLDERS, Code, Page, Part, Prose, Table, names_of, page_of

_KINDS = {
    "memory": "Mechanisms that can be built, and special cases that have a name of their own.",
    "task": "What there is to learn.",
    "measure": "Evidence beside the verdict: of an examination, of a table of embeddings, of a training.",
    "remedy": "What makes a memory be used.",
    "experiment": "Published figures, and questions of this project, that can be measured again.",
}


def pages() -> dict[str, str]:
    """Every page and the list of each kind, by path."""
    written: dict[str, str] = {}
    for kind, folder in FOLDERS.items():
        made = [page_of(kind, name) for name in names_of(kind)]
        written[f"{folder}/index.md"] = _listed(kind, made)
        written |= {f"{page.path}.md": markdown(page) for page in made}
    return written


def navigation(kind: str) -> list[str | dict[str, str]]:
    """The list of a kind, then its pages."""
    folder = FOLDERS[kind]
    return [f"{folder}/index.md", *({name: f"{folder}/{name}.md"} for name in names_of(kind))]


def markdown(page: Page) -> str:
    """A page; `escaped` keeps the words of docstrings as they are."""
    command = page.name if page.kind == "task" or not _is_shared(page.name) else f"{page.kind}:{page.name}"
    lines = [f"# {page.name}", f"*{escaped(page.title)}*"]
    for heading, parts in page.parts.items():
        lines += [f"## {heading}", *map(_written, parts)]
    lines.append(f"`mnemoscope show {command}` prints this page. Its names: [`{page.module}`][{page.module}].")
    return "\n\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Prose as it stands, with what is between backticks left alone."""
    parts = re.split(r"(`[^`]*`)", text)
    marked = (part if i % 2 else re.sub(r"([\\*_\[\]|#])", r"\\\1", part) for i, part in enumerate(parts))
    return "".join(part if part.startswith("`") else part.replace("<", "&lt;") for part in marked)


def _is_shared(name: str) -> bool:
    return sum(name in names_of(kind) for kind in FOLDERS) > 1


def _listed(kind: str, made: list[Page]) -> str:
    folder = FOLDERS[kind]
    rows = [(f"[{page.name}]({page.name}.md)", escaped(page.title)) for page in made]
    table = "\n".join(f"| {' | '.join(row)} |" for row in [("name", "what it is"), ("---", "---"), *rows])
    return f"# {folder.capitalize()}\n\n{_KINDS[kind]}\n\n{table}\n"


def _written(part: Part) -> str:
    if isinstance(part, Prose):
        return prose(part.text)
    if isinstance(part, Code):
        return f"```{part.language}\n{part.text}\n```"
    return _table(part)


def prose(text: str) -> str:
    """Paragraphs; what is indented is a drawing and stays as it is."""
    written: list[str] = []
    for is_drawn, blocks in itertools.groupby(text.strip("\n").split("\n\n"), _is_drawn):
        if is_drawn:
            written.append(f"```text\n{_dedented(blocks)}\n```")
        else:
            written += [escaped(" ".join(block.split())) for block in blocks]
    return "\n\n".join(written)


def _is_drawn(block: str) -> bool:
    return any(line.startswith(" ") for line in block.splitlines())


def _dedented(blocks: Iterable[str]) -> str:
    """Blocks with an empty line between them, without what all lines are indented by."""
    return textwrap.dedent("\n\n".join(blocks))


def _table(table: Table) -> str:
    head, *rows = [[escaped(cell).replace("\n", " ") for cell in row] for row in table.rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])

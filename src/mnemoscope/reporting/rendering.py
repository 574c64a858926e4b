"""From a template to a page and the files beside it: what every report passes through."""

import functools
import re
from collections.abc import Callable
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from mnemoscope.reporting.canvas import Drawing
from mnemoscope.reporting.geometry_glossary import GEOMETRY_KINDS
from mnemoscope.reporting.glossary import MEANINGS, OUTCOMES
from mnemoscope.reporting.numbers import printable
from mnemoscope.reporting.tables import Cell, Group, Table
from mnemoscope.reporting.takeaway import Files
from mnemoscope.runs import write_bytes, write_text


def rendered(template: str, files: Files | None, **values: object) -> str:
    """The text of a page.

    Args:
        template: its file name.
        files: where its figures and tables go; None for links that hold them.
        **values: what the template names.
    """
    return environment().get_template(template).render(files=files or Files(), **values) + "\n"


def write_page(path: str | Path, files: bool, drawn: Callable[[Files], str]) -> Path:
    """Write a page, whole or not at all; with `files`, its figures and tables first, into NAME-files beside it.

    Args:
        path: of the page; its folder is made if absent.
        files: whether figures and tables become files, instead of links that hold them.
        drawn: gives the text of the page.

    Raises:
        ValueError: with `files`, where the packages that make PDFs are missing.
        OSError: if a file cannot be written; what was there before is still there.
    """
    path = Path(path)
    kept = Files(f"{path.stem}-files" if files else None)
    text = drawn(kept)
    path.parent.mkdir(parents=True, exist_ok=True)
    if kept.folder is not None:
        folder = path.parent / kept.folder
        folder.mkdir(exist_ok=True)
        for name, content in kept.contents.items():
            write_bytes(folder / name, content)
    write_text(path, text)
    return path


@functools.cache
def environment(*packages: str) -> jinja2.Environment:
    """Of all templates: names and numbers are escaped and hidden characters shown.

    Args:
        packages: whose templates come before those of reports, where names are the same.
    """
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(name) for name in (*packages, "mnemoscope.reporting")]),
        autoescape=True,
        finalize=_visible,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["inline"] = Markup
    environment.filters["breakable"] = _breakable
    environment.filters["numbers_table"] = _numbers_table
    environment.globals["MEANINGS"] = {**OUTCOMES, **GEOMETRY_KINDS, **MEANINGS}
    return environment


def _numbers_table(drawing: Drawing) -> Table:
    rows = [[Cell(text) for text in row] for row in drawing.rows]
    return Table(f"Numbers of the figure: {drawing.title}", drawing.columns, [Group("", rows)])


def _breakable(name: str) -> Markup:
    """The name, escaped, with a place to break the line after each dot and underscore between letters."""
    return Markup(re.sub(r"([._])(?!\d)", r"\1<wbr>", str(escape(printable(name)))))


def _visible(value: object) -> object:
    """What the template prints, without hidden characters; line breaks of a command stay."""
    return printable(value, kept="\n\t") if isinstance(value, str) and not isinstance(value, Markup) else value

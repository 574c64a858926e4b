"""Figures and tables to take away: CSV and LaTeX of every table, SVG and PDF of every figure.

Every table and figure of every page passes through `Files`, which gives the links below it. By default a link holds its
file (CSV, LaTeX, SVG), so that a page that is mailed is whole; with a folder, the files lie beside the page, and a PDF
of each figure too. CSV has the digits that are shown; all digits are in the record that the page is drawn from.
"""

import base64
import csv
import functools
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote
from xml.etree import ElementTree

import matplotlib as mpl

from mnemoscope.reporting.canvas import Drawing
from mnemoscope.reporting.latex import latex_of
from mnemoscope.reporting.numbers import ABSENT, printable
from mnemoscope.reporting.tables import Cell, Group, Table

if TYPE_CHECKING:
    from mnemoscope.reporting.turning import Turning

SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"
FONT = "DejaVu Sans"
"""Comes with matplotlib, so that a PDF has the same letters everywhere, Greek ones too."""
LONGEST_NAME = 60

_TYPES = {"csv": "text/csv", "tex": "text/x-tex", "svg": "image/svg+xml", "pdf": "application/pdf"}
_LABELS = {"csv": "CSV", "tex": "LaTeX", "svg": "SVG", "pdf": "PDF"}


@dataclass(frozen=True, kw_only=True)
class Link:
    """One file of a figure or table: what to call it, where it is, and its name once it is saved."""

    label: str
    href: str
    name: str


class Files:
    """The files of one page.

    Args:
        folder: name of the folder beside the page that they are written to; None for links that hold them.

    Raises:
        ValueError: with a folder, where the packages that make PDFs are missing.
    """

    def __init__(self, folder: str | None = None) -> None:
        if folder is not None:
            _require_pdf()
        self.folder = folder
        self.contents: dict[str, bytes] = {}
        self._names: set[str] = set()

    def of_table(self, table: Table) -> list[Link]:
        """CSV and LaTeX."""
        return self._links(self._named(table.name or table.caption), _texts(table))

    def of_drawing(self, drawing: Drawing) -> list[Link]:
        """SVG, PDF (in a folder), and the numbers drawn as CSV and LaTeX."""
        return self._of_figure(drawing.title, drawing.svg, _drawn(drawing))

    def of_turning(self, turning: "Turning") -> list[Link]:
        """The same of the still picture, with the coordinates."""
        return self._of_figure(turning.title, str(turning.still), turning.table)

    def _of_figure(self, title: str, svg: str, table: Table) -> list[Link]:
        picture = standalone(svg)
        pictures = {"svg": picture.encode()} | ({} if self.folder is None else {"pdf": pdf_of(picture)})
        return self._links(self._named(title), {**pictures, **_texts(table)})

    def _links(self, name: str, files: dict[str, bytes]) -> list[Link]:
        return [
            Link(label=_LABELS[kind], href=self._href(f"{name}.{kind}", kind, content), name=f"{name}.{kind}")
            for kind, content in files.items()
        ]

    def _href(self, name: str, kind: str, content: bytes) -> str:
        if self.folder is None:
            return f"data:{_TYPES[kind]};base64,{base64.b64encode(content).decode()}"
        self.contents[name] = content
        return f"{quote(self.folder)}/{name}"

    def _named(self, words: str) -> str:
        """A file name of letters, digits and hyphens that no other figure or table of the page has."""
        plain = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
        if len(plain) > LONGEST_NAME:
            plain = plain[:LONGEST_NAME].rpartition("-")[0] or plain[:LONGEST_NAME]
        name, n = plain or "table", 1
        while name in self._names:
            n += 1
            name = f"{plain or 'table'}-{n}"
        self._names.add(name)
        return name


def csv_of(table: Table) -> str:
    """A table as CSV: a column for groups where they have headings, one for each value, one for notes where there are.

    What a spreadsheet would compute (names that begin with = or @, say) gets an apostrophe in front.
    """
    rows = [(group.heading, row) for group in table.groups for row in group.rows]
    grouped = any(heading for heading, _ in rows)
    noted = [any(row[i].note for _, row in rows if i < len(row)) for i in range(len(table.columns))]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\r\n")

    def write(heading: str, cells: Sequence[tuple[str, str]]) -> None:
        found = [text for pair, has in zip(cells, noted, strict=False) for text in pair[: 1 + has]]
        writer.writerow(map(_harmless, [heading, *found] if grouped else found))

    write("Group", [(name, f"{name}: note" if name else "note") for name in table.columns])
    for heading, row in rows:
        write(heading, [(_value(cell), cell.note) for cell in row])
    return file.getvalue()


def standalone(svg: str) -> str:
    """A drawing of a page as a file of its own: fixed colours, a size, a font, and the names that SVG wants.

    Args:
        svg: as `inline_svg` gives it.
    """
    root = ElementTree.fromstring(svg)
    for node in root.iter():
        for name, value in list(node.attrib.items()):
            node.attrib[name] = re.sub(r"var\(--[\w-]+, (#[0-9a-f]{6})\)", r"\1", value)
            if name == "href":
                node.attrib["xlink:href"] = node.attrib.pop(name)
    _, _, width, height = root.attrib["viewBox"].split()
    title = ElementTree.Element("title")
    title.text = root.attrib.pop("aria-label", "")
    root.insert(0, title)
    root.attrib = {
        "xmlns": SVG,
        "xmlns:xlink": XLINK,
        "width": f"{width}pt",
        "height": f"{height}pt",
        "font-family": f"{FONT}, Helvetica, Arial, sans-serif",
        **root.attrib,
    }
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=False)


def pdf_of(svg: str) -> bytes:
    """A drawing as a PDF of one page, letters as text; the same drawing gives the same bytes.

    Args:
        svg: as `standalone` gives it.

    Raises:
        ValueError: where the packages that make PDFs are missing.
    """
    _require_pdf()
    from reportlab.graphics import renderPDF
    from svglib.svglib import svg2rlg

    _register_font()
    drawing = svg2rlg(io.BytesIO(svg.encode()))
    assert drawing is not None, "our own SVG can be read"
    file = io.BytesIO()
    renderPDF.drawToFile(drawing, file, autoSize=1, invariant=1)
    return file.getvalue()


@functools.cache
def _register_font() -> None:
    from svglib.fonts import register_font

    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    register_font(FONT, str(folder / "DejaVuSans.ttf"))
    register_font(FONT, str(folder / "DejaVuSans-Bold.ttf"), weight="bold")


def _require_pdf() -> None:
    missing = [name for name in ("reportlab", "svglib") if find_spec(name) is None]
    if missing:
        raise ValueError(
            f"files of figures need the package {missing[0]}, which makes PDFs; install it with "
            "pip install 'mnemoscope[figures]'. Without it, the links of the page itself hold CSV, LaTeX and SVG"
        )


def _texts(table: Table) -> dict[str, bytes]:
    return {"csv": csv_of(table).encode("utf-8-sig"), "tex": latex_of(table).encode()}


def _drawn(drawing: Drawing) -> Table:
    rows: Sequence[Sequence[str]] = drawing.rows
    return Table(drawing.title, drawing.columns, [Group("", [[Cell(text) for text in row] for row in rows])])


def _value(cell: Cell) -> str:
    text = cell.verdict or cell.text
    return "" if text == ABSENT else text


def _harmless(text: str) -> str:
    text = printable(text)
    is_number = re.fullmatch(r"[+-]?[\d.,]+(e[+-]?\d+)?( %)?", text)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") and not is_number else text

"""Text that fits the terminal: prose is filled, drawings stay as they are as far as there is room."""

import re
import shutil
import textwrap

MOST_COLUMNS = 120
NARROWEST = 40

_PARALLEL = re.compile(r" *(?:inputs|targets|window)\b|[ 0-9]+$")
"""Lines that belong to those above or below them, column by column."""


def columns(piped: int = MOST_COLUMNS) -> int:
    """Columns of the terminal; `piped` where the output goes to none and COLUMNS is not set."""
    return max(NARROWEST, shutil.get_terminal_size((piped, 24)).columns)


def filled(text: str, width: int, hanging: int = 0) -> str:
    """A paragraph, of which the lines after the first are indented by `hanging`; words are never cut."""
    indent = " " * hanging
    return textwrap.fill(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def fitted(text: str, width: int) -> str:
    """A docstring of paragraphs and indented drawings, no line of which is longer than `width`, words permitting.

    A drawing of a sequence that is too wide goes on below, cut where all its lines have a space; of any other drawing
    the lines that are too long are filled on their own.
    """
    return "\n\n".join(_fitted(block.splitlines(), min(width, MOST_COLUMNS)) for block in text.split("\n\n"))


def _fitted(lines: list[str], width: int) -> str:
    if not any(line.startswith(" ") for line in lines):
        return filled(" ".join(lines), width)
    if max(map(len, lines)) <= width:
        return "\n".join(lines)
    if any(_PARALLEL.match(line) for line in lines):
        drawn, remarks = zip(*(_without_remark(line) for line in lines), strict=True)
        return "\n".join([*_cut(list(drawn), width), *(f"    {remark}" for remark in remarks if remark)])
    return "\n".join(_row(row, width) for row in _rows(lines))


def _without_remark(line: str) -> tuple[str, str]:
    """A line of a drawing, and the remark in brackets at its end."""
    remark = re.search(r" {3,}(\([^()]*\))$", line)
    return (line[: remark.start()], remark.group(1)) if remark else (line, "")


def _cut(lines: list[str], width: int) -> list[str]:
    """The left parts of all lines, then what is right of a column that is blank in every one of them, indented."""
    if max(map(len, lines)) <= width:
        return lines
    blank = [all(line[at : at + 1] in ("", " ") for line in lines) for at in range(width + 1)]
    wide, narrow = ([at for at in range(1, width + 1) if blank[at] and (blank[at - 1] or not gap)] for gap in (1, 0))
    found = [at for at in (*wide[-1:], *narrow[-1:]) if at > width // 2]
    if not found:
        return [filled(line, width, _second_column(line)) for line in lines]
    at = found[0]
    left = [line[:at].rstrip() for line in lines]
    right = textwrap.dedent("\n".join(line[at:] for line in lines)).splitlines()
    if {line.strip() for line in right} <= {"", "..."}:
        return left
    return [*left, *_cut([f"        {line}".rstrip() for line in right if line], width)]


def _rows(lines: list[str]) -> list[str]:
    """Lines that begin under the second column of the line before belong to it."""
    rows: list[str] = []
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if rows and indent == _second_column(rows[-1]):
            rows[-1] += " " + line.lstrip()
        else:
            rows.append(line)
    return rows


def _row(row: str, width: int) -> str:
    if len(row) > width and row.lstrip().startswith("|"):
        row = row[: row.index("|")] + re.sub(" {2,}", "  ", row.lstrip())
    return filled(row, width, _second_column(row))


def _second_column(line: str) -> int:
    """Where what follows the first gap of two spaces begins; 4 more than the indent where there is no gap."""
    gap = re.match(r" *\S+(?: \S+)*  +(?=\S)", line)
    return gap.end() if gap else len(line) - len(line.lstrip()) + 4

"""Lists of numbers read from the command line, and small tables printed to it."""

from collections.abc import Sequence
from itertools import zip_longest


def numbers(name: str, text: str) -> tuple[float, ...]:
    """Numbers separated by commas.

    Raises:
        ValueError: something that is no number.
    """
    try:
        return tuple(dict.fromkeys(float(word) for word in text.split(",")))
    except ValueError as error:
        raise ValueError(f"{name} must be numbers separated by commas, got {text!r}") from error


def print_rows(rows: Sequence[Sequence[str]]) -> None:
    """Aligned columns, the head first."""
    print("\n".join(aligned(rows)))


def first_that_fits(tables: Sequence[Sequence[Sequence[str]]], width: int) -> list[str]:
    """The first table that is no wider than `width`, as lines; where none is, the last with its numbers below a name.

    Args:
        tables: rows of each, the head first; a cell may have several lines.
        width: columns there are.
    """
    for rows in tables:
        lines = aligned(rows)
        if max(map(len, lines)) <= width:
            return lines
    head, *rows = tables[-1]
    below = [[f"  {name}: {line}" for name, line in zip(head, row, strict=True)] for row in rows]
    return [line for row, lines in zip(rows, below, strict=True) for line in (row[0], *lines[1:])]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned columns two spaces apart; a cell of several lines goes on below."""
    lines = [list(parts) for row in rows for parts in zip_longest(*(cell.split("\n") for cell in row), fillvalue="")]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(cell.ljust(n) for cell, n in zip(line, widths, strict=True)).rstrip() for line in lines]

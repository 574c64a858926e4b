"""A trace in the terminal: the text in colour with marks below it, then the numbers of the tokens that stand out."""

from collections.abc import Sequence

from rich.console import Console
from rich.style import Style
from rich.text import Text

from mnemoscope.cli.rows import aligned, first_that_fits
from mnemoscope.cli.terminal import columns, filled
from mnemoscope.contracts.paths import matches
from mnemoscope.reporting.numbers import increase, nats, plain, printable
from mnemoscope.reporting.trace import LEVELS, Token, headline, lead, looked_at, most_used, shown_name, tokens_of
from mnemoscope.runs.trace import Trace, TracedSite, differences, mean_difference

HEAD = ["at", "token", "predicted", "loss", "without", "change", "wrote", "read", "looked at"]
MOST_PLACES = 3
"""Of a read that are shown; fewer where there is no room."""

NARROW = 80
"""Columns where the output goes to no terminal."""

MARKS_UP, MARKS_DOWN = " .:+#", " '`^!"
"""Below a token, by its degree, so that colour is never the only sign."""

_UP = ("", "blue", "bright_blue", "bold bright_blue", "bold reverse bright_blue")
_DOWN = ("", "yellow", "bright_yellow", "bold bright_yellow", "bold reverse bright_yellow")
_LONGEST = 16
"""Characters of a token in the table of numbers."""


def print_trace(record: Trace, site: TracedSite, n_rows: int) -> None:
    """Print the view; colours where the output is a terminal and NO_COLOR is not set.

    Args:
        record: of one sequence.
        site: whose numbers are shown.
        n_rows: tokens with their numbers, those with the largest differences; 0 for all that are scored.
    """
    width = columns(NARROW)
    console = Console(width=width, highlight=False, markup=False, emoji=False, soft_wrap=True)
    for line in [*_head(record, width), "", *_sites(record, site), "", *_legend(width)]:
        console.print(line)
    for words, marks in stream(tokens_of(record, site), width, apart=not record.is_text):
        console.print(words)
        if marks.strip():
            console.print(Text(marks))
    console.print()
    for line in [*_numbers(record, site, n_rows, width), *_reasons(site, width)]:
        console.print(line)


def shown_site(record: Trace, pattern: str | None) -> TracedSite:
    """The site that a pattern names; without one, the single memory that matters most.

    Raises:
        ValueError: a pattern that names none.
    """
    if pattern is None:
        return most_used(record)
    found = [site for site in record.sites if pattern in (site.name, shown_name(site)) or matches(site.name, pattern)]
    if not found:
        names = ", ".join(map(shown_name, record.sites))
        raise ValueError(f"trace: --show {pattern!r} names no site that was traced; there are {names}")
    return found[0]


def stream(tokens: Sequence[Token], width: int, *, apart: bool) -> list[tuple[Text, str]]:
    """Lines of at most `width` columns with the marks that stand below them.

    Args:
        tokens: of the sequence.
        width: columns.
        apart: a space between two tokens.
    """
    lines: list[tuple[Text, str]] = []
    words, marks = Text(), ""
    for token in tokens:
        shown = printable(token.words)[:width] or " "
        cells = Text(shown).cell_len
        gap = " " if apart and marks else ""
        if marks and len(marks) + len(gap) + cells > width:
            lines.append((words, marks.rstrip()))
            words, marks, gap = Text(), "", ""
        words.append(gap).append(shown, Style.parse(_style(token.degree)))
        marks += gap + _mark(token.degree) * cells
    return [*lines, (words, marks.rstrip())]


def _head(record: Trace, width: int) -> list[str]:
    notes = [line for note in record.warnings for line in filled(f"note: {note}", width, 2).splitlines()]
    told = [record.subject, headline(record), lead(record)]
    return [*(line for words in told for line in filled(printable(words), width).splitlines()), *map(printable, notes)]


def _sites(record: Trace, shown: TracedSite) -> list[str]:
    rows = [["site", "without it", "tokens worse", "better"]]
    for site in record.sites:
        each = [one for one in differences(record, site) if one is not None]
        worse, better = (sum(sign * one >= LEVELS[0] for one in each) for sign in (1, -1))
        name = printable(shown_name(site)) + (" *" if site is shown else "")
        rows.append([name, increase(mean_difference(record, site)), f"{worse} of {len(each)}", str(better)])
    return [*aligned(rows), f"nats per token; * is shown below, worse and better by at least {LEVELS[0]}"]


def _legend(width: int) -> list[str]:
    up = ", ".join(f"{mark} from {level:g}" for mark, level in zip(MARKS_UP[1:], LEVELS, strict=True))
    down = " ".join(MARKS_DOWN[1:])
    return filled(f"rise of the loss in nats: {up}; better without it: {down}", width, 2).splitlines()


def _numbers(record: Trace, site: TracedSite, n_rows: int, width: int) -> list[str]:
    each = differences(record, site)
    scored = [i for i, one in enumerate(each) if one is not None]
    strongest = sorted(scored, key=lambda i: -abs(each[i] or 0.0))[: n_rows or None]
    left = len(scored) - len(strongest)
    more = [f"{left} more scored tokens: --rows 0, trace.json or trace.html"] if left else []
    tables = [
        [HEAD, *(_row(record, site, i, each[i], n_places) for i in sorted(strongest))]
        for n_places in range(MOST_PLACES, 0, -1)
    ]
    return [*first_that_fits(tables, width), *more]


def _row(record: Trace, site: TracedSite, i: int, difference: float | None, n_places: int) -> list[str]:
    return [
        str(i),
        _short(record.inputs[i]),
        _short(record.targets[i] or "-"),
        nats(record.losses[i]),
        nats(site.losses[i]),
        "-" if difference is None else increase(difference),
        "-" if site.written is None else plain(round(site.written[i], 3)),
        "-" if site.read is None else plain(round(site.read[i], 3)),
        "-" if site.addresses is None else looked_at(site.addresses[i][:n_places]),
    ]


def _reasons(site: TracedSite, width: int) -> list[str]:
    names = {"written": "wrote", "read": "read", "addresses": "looked at"}
    lines = [f"{names[name]} -: {printable(reason)}" for name, reason in site.unmeasured.items()]
    return [part for line in lines for part in filled(line, width, 2).splitlines()]


def _short(words: str) -> str:
    words = printable(words)
    return words if len(words) <= _LONGEST else f"{words[: _LONGEST - 1]}…"


def _style(degree: int) -> str:
    return (_UP if degree >= 0 else _DOWN)[abs(degree)] or "none"


def _mark(degree: int) -> str:
    return (MARKS_UP if degree >= 0 else MARKS_DOWN)[abs(degree)]

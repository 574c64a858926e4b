"""The stream view: one sequence, its tokens coloured by how much each one's loss depends on each memory.

A fragment needs no script: sites are switched by radio buttons and style alone. Colour is never the only sign: marks
below the tokens thicken with the difference, are dotted where the memory hurts, and every number is in a table.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from mnemoscope.reporting.canvas import FOREGROUND, MUTED, SERIES, Drawing, blank, drawing_style, inline_svg, shortened
from mnemoscope.reporting.numbers import ABSENT, increase, nats, plain
from mnemoscope.reporting.rendering import environment, rendered, write_page
from mnemoscope.reporting.tables import Cell, Group, Table
from mnemoscope.reporting.takeaway import Files
from mnemoscope.reporting.turning import source
from mnemoscope.runs.trace import Address, Trace, TracedSite, differences, mean_difference

LEVELS = (0.05, 0.25, 1.0, 2.0)
"""Nats from which a token is drawn one degree stronger."""
MOST_PANELS = 6

REPLACED = {
    "optimal_constant": "the one vector that costs least",
    "mean": "its mean",
    "resample": "what was read in other sequences at the same position",
}


@dataclass(frozen=True, kw_only=True)
class Token:
    """A token of the text as it is drawn; `degree` is 0 ... 4, negative where the loss falls without the memory."""

    position: int | None
    words: str
    difference: float | None
    degree: int
    number: str


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One site."""

    name: str
    mean: str
    sentence: str
    tokens: list[Token]
    table: Table
    unmeasured: list[str]


def trace_fragment(record: Trace, key: str = "trace", files: Files | None = None) -> str:
    """The stream view as an HTML section, without script and without inline style; `trace_style` is its style sheet.

    Args:
        record: of one sequence.
        key: unique on the page; every id begins with it.
        files: where CSV and LaTeX tables go; None for links that hold them.
    """
    return (
        environment()
        .get_template("trace_fragment.html.j2")
        .render(
            trace=record,
            key=key,
            headline=headline(record),
            chosen=record.sites.index(most_used(record)) if record.sites else 0,
            lead=lead(record),
            panels=[_panel(record, site) for site in record.sites],
            drawings=[drawing for drawing in [differences_figure(record, f"{key}-differences")] if drawing],
            levels=LEVELS,
            files=files or Files(),
        )
    )


def trace_style() -> str:
    """The style sheet of the fragment, beside that of reports."""
    return source("trace.css")


def render_trace(record: Trace, files: Files | None = None) -> str:
    """The text of one HTML file that asks for nothing outside itself; the same record gives the same bytes."""
    files = files or Files()
    return rendered(
        "trace.html.j2",
        files,
        title=f"Trace: {record.subject}",
        command=record.command,
        fragment=Markup(trace_fragment(record, files=files)),
    )


def write_trace(record: Trace, path: str | Path, files: bool = False) -> Path:
    """Write `render_trace`'s text to a file; with `files`, figures and tables go into a folder beside it.

    Raises:
        OSError: if the file cannot be written; what was there before is still there.
    """
    return write_page(path, files, lambda kept: render_trace(record, kept))


def headline(record: Trace) -> str:
    """Which memory the sequence depends on most."""
    if not record.sites:
        return "No memory was traced."
    most = most_used(record)
    rise = mean_difference(record, most)
    which = "its memory" if len(record.sites) == 1 else most.name
    if rise < LEVELS[0]:
        return (
            f"Without {which}, this sequence costs {nats(rise)} nats more per token: on average little depends on it."
        )
    return f"Without {which}, this sequence costs {nats(rise)} nats more per token."


def most_used(record: Trace) -> TracedSite:
    """The single memory without which the loss rises most."""
    single = [site for site in record.sites if not site.members]
    return max(single or record.sites, key=lambda site: _finite(mean_difference(record, site)))


def shown_name(site: TracedSite) -> str:
    """What a site is called on the page."""
    return "all memories" if site.members else site.name


def lead(record: Trace) -> str:
    """How it was made, in a sentence or two."""
    n_scored = sum(loss is not None for loss in record.losses)
    return (
        f"Traced: {record.source}, {len(record.inputs):,} tokens, {n_scored:,} of them scored. "
        f"In place of each read stands {REPLACED[record.replaced_by]}, from {record.n_calibration:,} other sequences. "
        "One sequence decides nothing; verdicts are those of an examination."
    )


def degree(difference: float | None) -> int:
    """How strongly a token is drawn: how many of `LEVELS` it reaches, with its sign."""
    if difference is None or math.isnan(difference):
        return 0
    reached = sum(abs(difference) >= level for level in LEVELS)
    return reached if difference > 0 else -reached


def tokens_of(record: Trace, site: TracedSite) -> list[Token]:
    """The sequence as it is read: of text each token is coloured by what predicting it depends on."""
    each = differences(record, site)
    if record.next_token:
        later = [*record.inputs[1:], record.targets[-1] or ""]
        words = [target or after for target, after in zip(record.targets, later, strict=True)]
        first = [Token(position=None, words=record.inputs[0], difference=None, degree=0, number="")]
    else:
        pairs = zip(record.inputs, record.targets, strict=True)
        words = [word if target is None else f"{word} → {target}" for word, target in pairs]
        first = []
    return [*first, *(_token(i, word, one) for i, (word, one) in enumerate(zip(words, each, strict=True)))]


def _token(position: int, words: str, difference: float | None) -> Token:
    number = "" if difference is None else increase(difference)
    return Token(position=position, words=words, difference=difference, degree=degree(difference), number=number)


def looked_at(addresses: Sequence[Address]) -> str:
    """Places with their weights, as `3 41 %, 7 20 %`."""
    return ", ".join(f"{address.at} ({100 * address.weight:.0f} %)" for address in addresses) or ABSENT


def trace_table(record: Trace, site: TracedSite) -> Table:
    """Every scored token in numbers."""
    each = differences(record, site)
    columns = {
        "Position": [str(i) for i in range(len(each))],
        "Token": record.inputs,
        "Predicted": [target or ABSENT for target in record.targets],
        "Loss": [nats(loss) for loss in record.losses],
        "Without": [nats(loss) for loss in site.losses],
        "Difference": [ABSENT if one is None else increase(one) for one in each],
    }
    if not site.members:
        absent = [ABSENT] * len(each)
        columns["Written"] = absent if site.written is None else [plain(norm) for norm in site.written]
        columns["Read"] = absent if site.read is None else [plain(norm) for norm in site.read]
        columns["Looked at"] = absent if site.addresses is None else [looked_at(places) for places in site.addresses]
    rows = [[Cell(text) for text in row] for row in zip(*columns.values(), strict=True)]
    norms = "" if site.members else "; norms of what was written and read"
    caption = f"{shown_name(site)}, token by token: losses in nats{norms}."
    return Table(caption, list(columns), [Group("", rows)], name=f"trace {shown_name(site)}")


def differences_figure(record: Trace, key: str) -> Drawing | None:
    """By how much the loss of every token rises without each site, one panel each; None where nothing is scored."""
    shown = [site for site in record.sites if any(one is not None for one in differences(record, site))][:MOST_PANELS]
    if not shown:
        return None
    with drawing_style(key):
        figure, panels = blank(0.6 + 1.1 * len(shown), len(shown))
        for axes, site in zip(panels, shown, strict=True):
            points = [(i, one) for i, one in enumerate(differences(record, site)) if one is not None]
            x, y = zip(*points, strict=True)
            axes.axhline(0, color=MUTED, linewidth=0.7)
            axes.vlines(x, 0, y, color=[SERIES[0] if one > 0 else SERIES[1] for one in y], linewidth=1.0)
            axes.set_title(shortened(shown_name(site), 50), loc="left", fontsize="medium", color=FOREGROUND)
            axes.set_xlim(-1, len(record.inputs))
        panels[-1].set_xlabel("position (tokens)")
        figure.supylabel("rise of the loss (nats)", fontsize="medium", color=MUTED)
        means = "; ".join(f"{shown_name(site)} {increase(mean_difference(record, site))}" for site in shown)
        svg = inline_svg(figure, key, f"Rise of the loss of every token without each memory; means: {means} nats.")
    each = [differences(record, site) for site in shown]
    return Drawing(
        title="Where the loss depends on each memory",
        caption="Up: the token is predicted worse without the memory. Down: better.",
        svg=svg,
        columns=["Position", "Token", *map(shown_name, shown)],
        rows=[
            [str(i), record.targets[i] or word, *(ABSENT if (one := of[i]) is None else increase(one) for of in each)]
            for i, word in enumerate(record.inputs)
            if record.losses[i] is not None
        ],
    )


def _panel(record: Trace, site: TracedSite) -> Panel:
    mean = mean_difference(record, site)
    each = [(one, i) for i, one in enumerate(differences(record, site)) if one is not None]
    highest = max(each, default=None)
    sentence = f"{increase(mean)} nats per token on average"
    if highest is not None:
        word = record.targets[highest[1]] or record.inputs[highest[1]]
        sentence += f", most at position {highest[1]}, “{word}”: {increase(highest[0])}"
    return Panel(
        name=shown_name(site),
        mean=increase(mean),
        sentence=f"{sentence}.",
        tokens=tokens_of(record, site),
        table=trace_table(record, site),
        unmeasured=[f"{_FIELDS[name]}: {reason}." for name, reason in site.unmeasured.items()],
    )


_FIELDS = {"written": "What is written is not shown", "read": "What is read is not shown"} | {
    "addresses": "Where it looks is not shown"
}


def _finite(value: float) -> float:
    return value if math.isfinite(value) else -math.inf

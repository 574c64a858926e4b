"""What several verbs print: lines, and the verdicts of an examination."""

from collections.abc import Sequence

from mnemoscope.cli.terminal import columns, filled
from mnemoscope.runs import Estimate, Examination, SiteRecord


def say(line: str) -> None:
    """One line, at once, plain."""
    print(line, flush=True)


def print_verdicts(title: str, examination: Examination) -> None:
    """The verdicts of an examination, as wide as the terminal; names and verdicts are never cut."""
    from mnemoscope.reporting.numbers import printable

    for line in verdict_lines(title, examination, columns()):
        say(printable(line))


def verdict_lines(title: str, examination: Examination, width: int) -> list[str]:
    """What `print_verdicts` prints in so many columns.

    First what is missing or failed, then the table of sites, groups and parts of the data, then a paragraph for each
    site: why, and what would flip it.
    """
    e = examination
    return [
        *_paragraph(f"{title}: {e.subject}, {e.n_test} sequences{_look(e)}", width, 0),
        *_alarms(e, width),
        *_table(e, width),
        *_because(e, width),
        *_left_out(e, width),
        *_overall(e, width),
    ]


def _look(examination: Examination) -> str:
    e = examination
    return f" (look {e.look} of {e.looks})" if e.looks > 1 else ""


def _alarms(examination: Examination, width: int) -> list[str]:
    lines: list[str] = []
    if examination.missing:
        lines += ["UNFINISHED: left unmeasured:"]
        lines += [line for item in examination.missing for line in _paragraph(f"- {item}", width, 2)]
    for control in examination.controls:
        if not control.passed:
            lines += _paragraph(f"CONTROL FAILED: {control.name}: {control.seen}", width, 0)
    return lines


def _table(examination: Examination, width: int) -> list[str]:
    """One line for each site, fewer columns where there is little room, and at worst its numbers below its name."""
    heads = ["site", "verdict", "optimal constant", "zero", f"last {examination.local_window} tokens", "share"]
    parts = _parts(examination)
    rows = [_row(site, examination.local_window) for _, sites in parts for site in sites]
    if not rows:
        return ["no memory was found"]
    shown = _fitting([heads, *rows], width)
    if shown is None:
        return [line for heading, sites in parts for line in _stacked(heading, sites, heads, examination, width)]
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    lines = [_aligned(heads, shown, widths)]
    for heading, sites in parts:
        lines += _paragraph(heading, width, 2) if heading else []
        lines += [_aligned(_row(site, examination.local_window), shown, widths) for site in sites]
    return lines


def _parts(examination: Examination) -> list[tuple[str, Sequence[SiteRecord]]]:
    """Sites, groups and parts of the data, each with a heading."""
    e = examination
    parts: list[tuple[str, Sequence[SiteRecord]]] = [("", e.sites), ("switched off together:", e.groups)]
    for subset in e.subsets:
        share = "" if subset.share is None else f"{subset.share:.0%} of positions, "
        parts.append((f"{subset.name} ({share}{subset.n_sequences} sequences):", [*subset.sites, *subset.groups]))
    return [part for part in parts if part[1]]


def _fitting(rows: list[list[str]], width: int) -> list[int] | None:
    """The columns that there is room for; None where not even site, verdict and one effect fit."""
    needed = [max(len(row[i]) for row in rows) + 2 for i in range(len(rows[0]))]
    shown = list(range(len(needed)))
    for dropped in (None, 3, 4, 5):
        shown = [i for i in shown if i != dropped]
        if sum(needed[i] for i in shown) - 2 <= width:
            return shown
    return None


def _aligned(row: list[str], shown: list[int], widths: list[int]) -> str:
    cells = (row[i].ljust(widths[i]) if i < 2 else row[i].rjust(widths[i]) for i in shown)
    return "  ".join(cells).rstrip()


def _stacked(
    heading: str, sites: Sequence[SiteRecord], heads: list[str], examination: Examination, width: int
) -> list[str]:
    lines = _paragraph(heading, width, 2) if heading else []
    for site in sites:
        name, verdict, *numbers = _row(site, examination.local_window)
        lines += [name, f"  {verdict}"]
        measured = [(head, number) for head, number in zip(heads[2:], numbers, strict=True) if number != "-"]
        lines += [line for head, number in measured for line in _paragraph(f"{head}: {number}", width, 2)]
    return lines


def _because(examination: Examination, width: int) -> list[str]:
    from mnemoscope.reporting.settling import settling
    from mnemoscope.reporting.summary import flip

    lines: list[str] = []
    for site in [*examination.sites, *examination.groups]:
        flags = f" [{'; '.join(site.flags)}]" if site.flags else ""
        needs = f" ({site.required_sequences} sequences would decide)" if site.required_sequences else ""
        lines += _paragraph(f"{site.name}: {site.because}{needs}{flags}", width, 2)
        for text in filter(None, (settling(site), flip(site, examination))):
            lines += _paragraph(text, width, 4)
    return lines


def _left_out(examination: Examination, width: int) -> list[str]:
    """What could not be measured and why, and whether states may be exchanged, where that was asked."""
    from mnemoscope.reporting.unmeasured import going_on, reasons

    lines: list[str] = []
    for what, reason, names in reasons(examination):
        lines += _paragraph(f"without {what}, {', '.join(names)}: {reason}", width, 2)
    if examination.continuation is not None:
        lines += _paragraph(f"continuation self-test {going_on(examination.continuation)}", width, 2)
    return lines


def _overall(examination: Examination, width: int) -> list[str]:
    e = examination
    share = "unknown" if e.memories_share is None else f"{max(e.memories_share.value, 0):.0%}"
    lines = _paragraph(
        f"loss {e.base_loss.value:.3f} nats, headroom {e.headroom.value:.3f}, margin {e.margin:.3f}; "
        f"the memories' share of the headroom: {share}",
        width,
        2,
    )
    lines += _paragraph(_controls(e), width, 2) if e.controls else []
    for row in {row.change: row for row in e.prescriptions}.values():
        lines += _paragraph(f"prescription for {row.site}: {row.change}", width, 2)
        lines += [f"    try: {row.command}"] if row.command else []
    for warning in e.warnings:
        lines += _paragraph(f"warning: {warning}", width, 2)
    return lines


def _controls(examination: Examination) -> str:
    """How many behaved, and what the untrained copy did."""
    controls = examination.controls
    told = f"controls: {sum(control.passed for control in controls)} of {len(controls)} passed"
    return "; ".join([told, *(f"{of.name}: {of.seen}" for of in controls if of.name == "untrained copy")])


def _paragraph(text: str, width: int, indent: int) -> list[str]:
    """Filled to the width, at least 40 columns of it, all lines indented."""
    filling = filled(text, max(width - indent, 30), 2)
    return [" " * indent + line for line in filling.splitlines()]


def _row(site: SiteRecord, local_window: int) -> list[str]:
    read = site.effects.get("read", {})
    horizon = next((point.effect for point in site.horizon if point.window == local_window), None)
    share = "-" if site.share is None else f"{max(site.share.value, 0):.0%}"
    effects = [_effect(read.get("optimal_constant")), _effect(read.get("zero")), _effect(horizon)]
    return [site.name, site.verdict or "effects only", *effects, share]


def _effect(estimate: Estimate | None) -> str:
    return "-" if estimate is None else str(estimate)

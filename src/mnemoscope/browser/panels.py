"""Which figures of a run are drawn together: losses, accuracies, each memory metric over its sites, the optimiser."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mnemoscope.browser.drawing import N_STYLES, Line, panel_svg
from mnemoscope.browser.series import NOTHING, Curve
from mnemoscope.browser.thinning import between
from mnemoscope.browser.views import View

TRAINING, MEMORY, OTHER = "Training", "Gates and memory", "Optimiser and speed"
MOST_LINES = 5
"""Of a panel; as many as can be told apart at once. A filter shows the others."""
MOST_PANELS = 60


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Curves that share an axis.

    Args:
        section: heading under which it stands.
        title: what its figures are.
        lines: that are drawn.
        names: of the figures of those lines, as the stream calls them.
        left_out: lines for which there was no room.
        svg: the drawing; empty where there is no number.
    """

    section: str
    title: str
    lines: list[Line]
    names: list[str]
    left_out: int
    svg: Markup


def panels(curves: Mapping[str, Curve], view: View) -> list[Panel]:
    """The panels of one run, in order of their sections.

    Args:
        curves: all figures by name.
        view: which of them, how.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for name in curves:
        if view.shows(name):
            groups.setdefault(place_of(name), []).append(name)
    order = {TRAINING: 0, MEMORY: 1, OTHER: 2}
    chosen = sorted(groups.items(), key=lambda item: order[item[0][0]])[:MOST_PANELS]
    return [_panel(section, title, names, curves, view) for (section, title), names in chosen]


def place_of(name: str) -> tuple[str, str]:
    """Section and title of the panel in which a figure is drawn."""
    parts = name.split(".")
    if len(parts) > 1:
        return MEMORY, ".".join(parts[:2])
    for word in ("loss", "accuracy"):
        if word in name:
            return TRAINING, word
    return OTHER, name


def compared(curves: Mapping[str, Mapping[str, Curve]], view: View) -> list[Panel]:
    """One panel for each figure, with a line for each run.

    Args:
        curves: figures by run and name; the order of the runs is that of the styles.
        view: which figures; without a filter, losses and accuracies.
    """
    names = dict.fromkeys(name for of_run in curves.values() for name in of_run if view.shows(name))
    if not view.text:
        names = {name: None for name in names if place_of(name)[0] == TRAINING}
    return [_of_runs(name, curves, view) for name in [*names][:MOST_PANELS]]


def sections(found: Iterable[Panel]) -> dict[str, list[Panel]]:
    """Panels by the heading under which they stand."""
    by_heading: dict[str, list[Panel]] = {}
    for panel in found:
        by_heading.setdefault(panel.section, []).append(panel)
    return by_heading


def _panel(section: str, title: str, names: list[str], curves: Mapping[str, Curve], view: View) -> Panel:
    most = N_STYLES if view.text else MOST_LINES
    shown = names[:most]
    lines = [Line(name=_short(name, title), curve=_seen(curves[name], view)) for name in shown]
    return _drawn(section, title, lines, shown, len(names) - len(shown), view)


def _of_runs(name: str, curves: Mapping[str, Mapping[str, Curve]], view: View) -> Panel:
    lines = [Line(name=run, curve=_seen(of_run.get(name, NOTHING), view)) for run, of_run in curves.items()]
    return _drawn(place_of(name)[0], name, lines, [name], 0, view)


def _drawn(section: str, title: str, lines: Sequence[Line], names: list[str], left_out: int, view: View) -> Panel:
    title = title.replace("_", " ")
    svg = panel_svg(lines, title, log=view.log)
    return Panel(section=section, title=title, lines=list(lines), names=names, left_out=left_out, svg=svg)


def _seen(curve: Curve, view: View) -> Curve:
    return between(curve, view.first, view.last)


def _short(name: str, title: str) -> str:
    """A figure's name below its panel's title."""
    return name.removeprefix(f"{title}.") if name != title else name.rpartition(".")[2].replace("_", " ")

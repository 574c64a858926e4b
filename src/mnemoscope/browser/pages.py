"""The pages: what each shows, from the files of an entry, through the templates of the reports."""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from threading import Lock
from typing import Any, final
from urllib.parse import urlencode

from markupsafe import Markup

from mnemoscope.browser.assets import address, key_of
from mnemoscope.browser.differing import differing
from mnemoscope.browser.drawing import spark_svg
from mnemoscope.browser.entries import Entry, Kind
from mnemoscope.browser.index import Index, stored_pages
from mnemoscope.browser.panels import compared, panels, sections
from mnemoscope.browser.series import Curve, SeriesCache
from mnemoscope.browser.untrusted import read_untrusted
from mnemoscope.browser.views import Listing, View
from mnemoscope.reporting.case import Case
from mnemoscope.reporting.figures import case_figures, comparison_figures
from mnemoscope.reporting.geometry import geometry_fields
from mnemoscope.reporting.geometry_scenes import turning
from mnemoscope.reporting.glossary import MEANINGS, TERMS
from mnemoscope.reporting.numbers import ABSENT, plain
from mnemoscope.reporting.page import case_section
from mnemoscope.reporting.rendering import environment
from mnemoscope.reporting.reproduction import reproduction_fields
from mnemoscope.reporting.tables import comparison_table, origin, settings
from mnemoscope.reporting.takeaway import Files
from mnemoscope.reporting.trace import trace_fragment
from mnemoscope.reporting.trial import trial_fields
from mnemoscope.reporting.turning import Turning
from mnemoscope.runs import Examination, Manifest, RunConfig
from mnemoscope.runs.geometry import GeometryExamination
from mnemoscope.runs.reproduction import Reproduction
from mnemoscope.runs.trace import TRACE, Trace
from mnemoscope.runs.trial import Trial

PLURALS: dict[Kind, str] = {
    "run": "Runs",
    "trial": "Trials",
    "reproduction": "Reproductions",
    "geometry": "Geometry",
}
MOST_COMPARED = 10
MOST_TURNING = 3
STATES = {"running": "▶", "silent": "…", "finished": "✓", "interrupted": "‖", "failed": "✗", "damaged": "!"}
TONES = {"running": "works", "silent": "partly", "finished": "open", "interrupted": "partly", "failed": "idle"}


@final
class Pages:
    """Every page of a folder, as HTML.

    Args:
        index: of the folder.
    """

    def __init__(self, index: Index) -> None:
        self.index, self.series = index, SeriesCache()
        self._drawn: OrderedDict[object, str] = OrderedDict()
        self._rows: dict[tuple[Kind, str], tuple[Entry, Markup]] = {}
        self._lock, self._drawing = Lock(), Lock()
        self._templates = environment("mnemoscope.browser")
        self._templates.globals |= {"address": address, "key": key_of, "plain": _figure, "spark": _spark}
        self._templates.globals |= {"STATES": STATES, "TONES": TONES}
        self._templates.filters["moment"] = _moment
        self._row_template = self._templates.get_template("row.html.j2")

    def listing(self, asked: Listing, *, fragment: bool = False) -> str:
        """The list, or only what changes in it."""
        entries = self.index.entries().values()
        now = time.time()
        chosen = asked.chosen(entries, now)
        kinds: dict[str, int] = dict.fromkeys(PLURALS, 0)
        for entry in entries:
            kinds[entry.kind] += 1
        here = [entry for entry in entries if entry.kind == asked.kind]
        return self._render(
            "rows.html.j2" if fragment else "list.html.j2",
            title=f"{PLURALS[asked.kind]} in {self.index.root.name or self.index.root}",
            asked=asked,
            rows=[self._row(entry) for entry in asked.shown(chosen)],
            n_chosen=len(chosen),
            n_pages=-(-len(chosen) // asked.rows),
            counts=kinds,
            states=sorted({entry.at(now).state for entry in here}),
            verdicts=sorted({name for entry in here for name, _ in entry.badges}),
            link=lambda **changes: _asking("/", asked.asking(**changes)),
        )

    def run(self, entry: Entry, view: View, *, figures: bool = False) -> str:
        """One run; its figures of the examination only where they are asked for, since drawing them takes longest."""
        examined, problem = self._examined(entry)
        return self._render(
            "run.html.j2",
            title=entry.title,
            entry=entry,
            section=None if examined is None else self._section(entry, examined, drawn=False),
            figures=Markup(self.figures(entry)) if figures and examined is not None else None,
            problem=problem,
            turning=self._turning(entry),
            pages=stored_pages(entry),
            meanings=MEANINGS,
            terms=TERMS,
            **self._about(entry),
            **self._growing(entry, view),
        )

    def growing(self, entry: Entry, view: View) -> str:
        """What changes on the page of a run while it trains."""
        return self._render("growing.html.j2", entry=entry, **self._growing(entry, view))

    def figures(self, entry: Entry) -> str:
        """The figures of a run's examination; empty where it has none."""

        def draw() -> str:
            examined, _ = self._examined(entry)
            if examined is None:
                return ""
            case = Case(label=entry.title, question="", examination=examined)
            return self._render("figures.html.j2", drawings=case_figures(case, "case"))

        return self._kept(("figures", entry.path, entry.stamps[4]), draw)

    def compare(self, entries: list[Entry], view: View, *, fragment: bool = False) -> str:
        """Several runs on the same axes, and where their settings differ."""
        curves = {entry.name: self.series.get(entry.path / "metrics.jsonl")[1] for entry in entries}
        found = compared(curves, view) if entries else []
        fields: dict[str, Any] = {
            "title": "Comparison",
            "entries": entries,
            "view": view,
            "sections": sections(found),
            "query": urlencode(view.parameters),
            "live": any(entry.state == "running" for entry in entries),
        }
        if fragment:
            return self._render("comparing.html.j2", **fields)
        cases = [
            Case(label=entry.name, question="", examination=examined)
            for entry in entries
            if (examined := self._examined(entry)[0]) is not None
        ]
        fields |= {
            "unexamined": len(entries) - len(cases),
            "comparison": comparison_table(cases) if cases else None,
            "drawings": self._shares(entries, cases) if len(cases) > 1 else [],
            "differing": differing(entries),
        }
        return self._render("compare.html.j2", **fields)

    def stored(self, entry: Entry) -> str:
        """The page of a trial, a reproduction or an examination of embeddings, from its record."""

        def draw() -> str:
            path = entry.path / f"{entry.kind}.json"
            template = f"{entry.kind}.html.j2"
            match entry.kind:
                case "trial":
                    fields = trial_fields(read_untrusted(path, Trial))
                case "reproduction":
                    fields = reproduction_fields(read_untrusted(path, Reproduction), f"{address(entry)}/files/")
                case _:
                    found = read_untrusted(path, GeometryExamination)
                    fields = geometry_fields([found], f"Geometry: {found.subject}")
            below = self._below(entry)
            pages = stored_pages(entry)
            return self._render(template, **fields, script="", entry=entry, runs=below, pages=pages)

        return self._kept(("stored", entry.kind, entry.path, entry.stamps), draw)

    def trace(self, entry: Entry) -> str:
        """The stream view of a run: its tokens, coloured by how much each depends on the memories."""
        record, files = read_untrusted(entry.path / TRACE, Trace), Files()
        fragment = Markup(trace_fragment(record, files=files))
        return self._render(
            "stream.html.j2", title=record.subject, command=record.command, entry=entry, fragment=fragment
        )

    def message(self, title: str, text: str) -> str:
        """A page with one sentence."""
        return self._render("message.html.j2", title=title, text=text)

    def _render(self, template: str, **fields: Any) -> str:
        fields = {"plurals": PLURALS, "root": str(self.index.root), "files": Files(), **fields}
        return self._templates.get_template(template).render(fields)

    def _row(self, entry: Entry) -> Markup:
        """A line of the list, drawn once as long as nothing of it changes."""
        kept = self._rows.get((entry.kind, entry.name))
        if kept is None or kept[0] != entry:
            kept = self._rows[entry.kind, entry.name] = (entry, Markup(self._row_template.render(entry=entry)))
        return kept[1]

    def _kept(self, key: object, draw: Callable[[], str]) -> str:
        """What `draw` gives, drawn once as long as the key is the same; one at a time, as matplotlib wants it."""
        with self._lock:
            if key in self._drawn:
                self._drawn.move_to_end(key)
                return self._drawn[key]
        with self._drawing:
            text = draw()
        with self._lock:
            self._drawn[key] = text
            while len(self._drawn) > 64:
                self._drawn.popitem(last=False)
        return text

    def curves(self, entry: Entry) -> dict[str, Curve]:
        """Every figure of a run as of now, its speed too."""
        timed = self.series.get(entry.path / "timings.jsonl")[1]
        speed = {name: curve for name, curve in timed.items() if name == "tokens_per_second"}
        return self.series.get(entry.path / "metrics.jsonl")[1] | speed

    def _growing(self, entry: Entry, view: View) -> dict[str, Any]:
        curves = self.curves(entry)
        streams = [self.series.get(entry.path / name) for name in ("metrics.jsonl", "timings.jsonl")]
        seconds = streams[1][1].get("seconds")
        return {
            "view": view,
            "sections": sections(panels(curves, view)),
            "n_figures": len(curves),
            "damage": "; ".join(stream.problem for stream, _ in streams if stream.problem),
            "step": streams[0][0].last_step,
            "seconds": float(seconds.values[-1]) if seconds is not None and len(seconds.values) else None,
            "query": urlencode(view.parameters),
        }

    def _examined(self, entry: Entry) -> tuple[Examination | None, str]:
        """The examination of a run, or why there is none to show."""
        if entry.kind != "run" or entry.stamps[4] is None:
            return None, ""
        try:
            return read_untrusted(entry.path / "verdicts.json", Examination), ""
        except ValueError as error:
            return None, str(error)

    def _section(self, entry: Entry, examined: Examination, *, drawn: bool) -> Any:
        question = f"Is the memory of {examined.subject} load-bearing or decorative?"
        case = Case(label="Examination", question=question, examination=examined)
        return case_section(case, "case", drawn=drawn)

    def _about(self, entry: Entry) -> dict[str, Any]:
        """Settings and origin of a run; what is damaged says so in its place."""
        told: dict[str, Any] = {"settings": [], "origin": [], "damaged": []}
        try:
            told["settings"] = settings(read_untrusted(entry.path / "config.json", RunConfig).resolved)
        except ValueError as error:
            told["damaged"].append(str(error))
        try:
            told["origin"] = origin(read_untrusted(entry.path / "manifest.json", Manifest))
        except ValueError as error:
            told["damaged"].append(str(error))
        return told

    def _turning(self, entry: Entry) -> list[tuple[Entry, Turning]]:
        """Pictures that turn, of the embeddings that were examined in the folder of a run or below it."""
        found: list[tuple[Entry, Turning]] = []
        for geometry in self._of_kind_below(entry, "geometry")[:MOST_TURNING]:
            try:
                record = read_untrusted(geometry.path / "geometry.json", GeometryExamination)
                picture = turning(record, f"nodes-{len(found)}")
            except (ValueError, IndexError, KeyError):
                continue
            if picture is not None:
                found.append((geometry, picture))
        return found

    def _below(self, entry: Entry) -> list[Entry]:
        kinds: tuple[Kind, ...] = ("run",) if entry.kind == "geometry" else ("run", "geometry")
        return [other for kind in kinds for other in self._of_kind_below(entry, kind)]

    def _of_kind_below(self, entry: Entry, kind: Kind) -> list[Entry]:
        """Entries of a kind in a folder and below, itself left out where it is one."""
        every = sorted(self.index.entries().values(), key=lambda other: other.name)
        inside = [other for other in every if other.kind == kind and other.path.is_relative_to(entry.path)]
        return [other for other in inside if (other.kind, other.name) != (entry.kind, entry.name)]

    def _shares(self, entries: list[Entry], cases: list[Case]) -> str:
        key = ("shares", *((entry.path, entry.stamps[4]) for entry in entries))
        return Markup(self._kept(key, lambda: self._render("figures.html.j2", drawings=comparison_figures(cases))))


def _asking(path: str, parameters: Mapping[str, str]) -> str:
    return path + (f"?{urlencode(parameters)}" if parameters else "")


def _spark(entry: Entry) -> Markup:
    return spark_svg(entry.spark, entry.loss_name.replace("_", " "))


def _moment(moment: datetime | None) -> str:
    return ABSENT if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def _figure(value: float | None) -> str:
    """A number in a row of text; large ones whole, with commas."""
    return f"{value:,.0f}" if value is not None and 1e4 <= abs(value) < 1e9 else plain(value)

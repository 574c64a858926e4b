"""The server: addresses to pages, with tags by which a browser asks only for what has changed."""

import csv
import hashlib
import io
import json
import math
import secrets
import time
from collections.abc import Callable
from typing import Any, cast

from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from mnemoscope.browser.assets import address, name_of, static
from mnemoscope.browser.entries import Entry, Kind
from mnemoscope.browser.guarding import Access, Guard
from mnemoscope.browser.index import Index, stored_pages
from mnemoscope.browser.pages import MOST_COMPARED, Pages
from mnemoscope.browser.series import Curve
from mnemoscope.browser.thinning import between, thinned
from mnemoscope.browser.untrusted import peek, read_bytes, stamp_of
from mnemoscope.browser.views import Listing, View
from mnemoscope.reporting.turning import policy
from mnemoscope.runs.trace import TRACE

ROOMS: dict[str, Kind] = {"runs": "run", "trials": "trial", "reproductions": "reproduction", "geometry": "geometry"}
STORED_POLICY = f"sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; img-src data:{policy()}"
"""Of pages that lie in the folder: nobody vouches for them. They get an origin of their own and no network, and of
scripts only the one that turns pictures runs."""

DEFAULT_POINTS, MOST_POINTS = 500, 20_000


class Anything(Convertor[str]):
    """The rest of a path, line breaks too, which folders can have in their names."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        """As it is."""
        return value

    def to_string(self, value: str) -> str:
        """As it is."""
        return value


register_url_convertor("anything", Anything())


def application(index: Index, access: Access) -> Starlette:
    """The browser of one folder, as an ASGI application.

    Args:
        index: of the folder.
        access: who may ask.
    """
    site = Site(Pages(index))
    rooms = [Route(f"/{room}/{{rest:anything}}", site.entry) for room in ROOMS]
    api = [Route("/api/runs", site.api_list), Route("/api/{room}/{rest:anything}", site.api_entry)]
    routes = [Route("/", site.listing), Route("/compare", site.compare), Route("/static/{name}", site.static)]
    return Starlette(
        routes=[*routes, *api, *rooms],
        middleware=[Middleware(Guard, access=access)],
        exception_handlers={HTTPException: site.problem, 404: site.problem, 500: site.failure},
    )


class Site:
    """Answers requests.

    Args:
        pages: of the folder.
    """

    def __init__(self, pages: Pages) -> None:
        self._pages, self._index = pages, pages.index
        # A server that is begun anew may show the same files otherwise.
        self._born = secrets.token_hex(8)

    def listing(self, request: Request) -> Response:
        """The list, or its rows alone with `part=rows`."""
        asked, fragment = Listing.of(request.query_params), request.query_params.get("part") == "rows"
        chosen = asked.shown(asked.chosen(self._index.entries().values(), time.time()))
        key = ("list", self._index.version, asked, fragment, [entry.state for entry in chosen])
        return self._tagged(request, key, lambda: HTMLResponse(self._pages.listing(asked, fragment=fragment)))

    def entry(self, request: Request) -> Response:
        """The page of an entry, or what follows its name."""
        entry, rest = self._found(request, request.url.path.split("/")[1])
        view, name = View.of(request.query_params), rest.partition("/")[0]
        if entry.state == "damaged" and name != "files":
            return HTMLResponse(self._pages.message(entry.name, f"This cannot be shown. {entry.about}"), 422)
        key = (entry, rest, view, self._index.version if entry.kind != "run" else 0)
        if name == "files":
            return self._file(entry, rest.removeprefix("files/"))
        if entry.kind != "run":
            return self._tagged(request, key, None if rest else lambda: HTMLResponse(self._pages.stored(entry)))
        answers: dict[str, Callable[[], Response]] = {
            "": lambda: HTMLResponse(self._pages.run(entry, view, figures="drawn" in request.query_params)),
            "growing": lambda: HTMLResponse(self._pages.growing(entry, view)),
            "figures": lambda: HTMLResponse(self._pages.figures(entry)),
            "metrics.csv": lambda: _csv(entry, self._curves(entry), request.query_params.getlist("figure")),
        }
        if rest == "trace":
            return self._trace(request, entry)
        return self._tagged(request, (key, str(request.query_params)), answers.get(rest))

    def _trace(self, request: Request, entry: Entry) -> Response:
        """The stream view, drawn anew when its record has changed."""
        if not entry.trace:
            raise HTTPException(404, "This run holds no trace. Make one with `mnemoscope trace`.")

        def answer() -> Response:
            try:
                return HTMLResponse(self._pages.trace(entry))
            except ValueError as error:
                return HTMLResponse(self._pages.message(entry.name, f"This cannot be shown. {error}"), 422)

        return self._tagged(request, (entry, TRACE, stamp_of(entry.path / TRACE)), answer)

    def compare(self, request: Request) -> Response:
        """Several runs, or what grows of them with `part=growing`."""
        names = request.query_params.getlist("run")
        known = [entry for name in names if (entry := self._index.find("run", name_of(name))) is not None]
        view = View.of(request.query_params, names)
        entries = list({entry.name: entry for entry in known}.values())[:MOST_COMPARED]
        fragment = request.query_params.get("part") == "growing"
        key = ("compare", entries, view, fragment)
        return self._tagged(request, key, lambda: HTMLResponse(self._pages.compare(entries, view, fragment=fragment)))

    def static(self, request: Request) -> Response:
        """A file that comes with the package."""
        found = static(request.path_params["name"])
        if found is None:
            raise HTTPException(404, "There is no such file.")
        kind, text = found
        return self._tagged(request, ("static", text), lambda: Response(text, media_type=kind))

    def api_list(self, request: Request) -> Response:
        """The list as JSON, under the same parameters as the page."""
        asked = Listing.of(request.query_params)
        chosen = asked.chosen(self._index.entries().values(), time.time())
        shown = asked.shown(chosen)
        key = ("api", self._index.version, asked, [entry.state for entry in shown])
        found = {"total": len(chosen), "page": asked.page, "entries": [_as_json(entry) for entry in shown]}
        return self._tagged(request, key, lambda: _json(found))

    def api_entry(self, request: Request) -> Response:
        """An entry as JSON; of a run also `/metrics`, thinned to `points` by least and greatest."""
        entry, rest = self._found(request, request.path_params["room"], api=True)
        if entry.kind == "run" and rest == "metrics":
            return self._tagged(request, (entry, str(request.query_params)), lambda: self._metrics(entry, request))
        if rest:
            raise HTTPException(404, "There is no such address.")
        return self._tagged(request, (entry, "api"), lambda: _json(self._whole(entry)))

    async def problem(self, request: Request, error: Exception) -> Response:
        """What a page says that is not there."""
        assert isinstance(error, HTTPException)
        text = error.detail if error.detail != "Not Found" else "There is nothing at this address."
        if request.url.path.startswith("/api/"):
            return JSONResponse({"error": text}, error.status_code, headers=error.headers)
        return HTMLResponse(self._pages.message(str(error.status_code), text), error.status_code, headers=error.headers)

    async def failure(self, request: Request, error: Exception) -> Response:
        """What is said where a page could not be made."""
        text = f"This page could not be made: {type(error).__name__}."
        return HTMLResponse(self._pages.message("500", text), 500)

    def _found(self, request: Request, room: str, *, api: bool = False) -> tuple[Entry, str]:
        """The entry that an address names, and what follows its name.

        Names are looked up, never joined to a path: nothing but what the index found can be asked for.
        """
        kind = ROOMS.get(room)
        raw = request.scope.get("raw_path", b"").decode("latin-1").partition("?")[0]
        name = name_of(raw).removeprefix(f"{'/api' if api else ''}/{room}/")
        if kind is not None:
            parts = name.split("/")
            for cut in range(len(parts), 0, -1):
                entry, rest = self._index.find(kind, "/".join(parts[:cut])), "/".join(parts[cut:])
                if entry is not None:
                    return entry, rest
        raise HTTPException(404, f"There is no {kind or 'such address'} of that name here.")

    def _file(self, entry: Entry, name: str) -> Response:
        if name not in stored_pages(entry):
            raise HTTPException(404, "There is no such stored page.")
        try:
            content = read_bytes(entry.path / name)
        except (OSError, ValueError):
            raise HTTPException(404, "That page cannot be read.") from None
        return Response(
            content, media_type="text/html; charset=utf-8", headers={"content-security-policy": STORED_POLICY}
        )

    def _curves(self, entry: Entry) -> dict[str, Curve]:
        return self._pages.curves(entry)

    def _metrics(self, entry: Entry, request: Request) -> Response:
        view, wanted = View.of(request.query_params), request.query_params.getlist("figure")
        asked = request.query_params.get("points", "")
        points = min(max(int(asked), 2), MOST_POINTS) if asked.isascii() and asked.isdigit() and len(asked) < 9 else 0
        chosen = {n: c for n, c in self._curves(entry).items() if view.shows(n) and (not wanted or n in wanted)}
        figures = {}
        for name, curve in chosen.items():
            curve = between(curve, view.first, view.last)
            thin = thinned(curve, (points or DEFAULT_POINTS) // 2)
            figures[name] = {
                "n": len(curve.steps),
                "steps": [int(step) for step in thin.steps],
                "values": [value if math.isfinite(value) else None for value in thin.values.tolist()],
            }
        return _json({"run": entry.name, "state": entry.state, "figures": figures})

    def _whole(self, entry: Entry) -> dict[str, Any]:
        """An entry with its records as they are."""
        told = _as_json(entry)
        for name in ("config", "manifest", "verdicts") if entry.kind == "run" else (entry.kind,):
            path = entry.path / f"{name}.json"
            try:
                told[name] = peek(path) if stamp_of(path) else None
            except ValueError as error:
                told[name] = {"error": str(error)}
        return told

    def _tagged(self, request: Request, key: object, answer: Callable[[], Response] | None) -> Response:
        """The answer with a tag made of `key`, or word that nothing has changed; 404 where there is no answer."""
        if answer is None:
            raise HTTPException(404, "There is no such address.")
        tag = f'"{hashlib.blake2b(repr((self._born, key)).encode(errors="replace"), digest_size=12).hexdigest()}"'
        held = [part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(",")]
        response = Response(status_code=304) if tag in held else answer()
        response.headers["etag"] = tag
        return response


def _as_json(entry: Entry) -> dict[str, Any]:
    return {
        "kind": entry.kind,
        "name": entry.name,
        "title": entry.title,
        "state": entry.state,
        "about": entry.about,
        "verdicts": dict(entry.badges),
        "started": entry.started.isoformat() if entry.started else None,
        "step": entry.step,
        "steps": entry.steps,
        "loss": entry.loss,
        "page": address(entry),
    }


def _json(value: Any) -> Response:
    """JSON that every reader takes: what is no number becomes null, and nothing beyond ASCII needs an encoding."""
    return Response(json.dumps(_finite(value)), media_type="application/json")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(name): _finite(inner) for name, inner in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value


def _csv(entry: Entry, curves: dict[str, Curve], names: list[str]) -> Response:
    """Every row of some figures, of all without names; a heading that a spreadsheet would run is quoted."""
    chosen = {name: curves[name] for name in names or curves if name in curves}
    steps = sorted({step for curve in chosen.values() for step in curve.steps.tolist()})
    columns = [dict(zip(curve.steps.tolist(), curve.values.tolist(), strict=True)) for curve in chosen.values()]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["step", *(f"'{name}" if name[:1] in "=+-@\t\r" else name for name in chosen)])
    writer.writerows([int(step), *(column.get(step, "") for column in columns)] for step in steps)
    stem = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in entry.name)
    headers = {"content-disposition": f'attachment; filename="{stem}-metrics.csv"'}
    return Response(text.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)

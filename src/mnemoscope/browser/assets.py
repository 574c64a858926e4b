"""Addresses, and the files that come with the package: one style sheet, two scripts."""

from collections.abc import Mapping
from importlib import resources
from urllib.parse import quote, unquote

from mnemoscope.browser.entries import Entry
from mnemoscope.reporting.trace import trace_style
from mnemoscope.reporting.turning import source

STATIC: Mapping[str, tuple[str, str]] = {
    "style.css": ("text/css; charset=utf-8", "style"),
    "browser.js": ("text/javascript; charset=utf-8", "browser"),
    "turning.js": ("text/javascript; charset=utf-8", "turning"),
}


def static(name: str) -> tuple[str, str] | None:
    """Type and text of a bundled file; None for any other name."""
    if name not in STATIC:
        return None
    kind, what = STATIC[name]
    own = resources.files("mnemoscope.browser") / "static"
    match what:
        case "style":
            last = (own / "browser.css").read_text(encoding="utf-8")
            text = source("style.css") + source("turning.css") + trace_style() + last
        case "browser":
            text = (own / "browser.js").read_text(encoding="utf-8")
        case _:
            text = source("turning.js")
    return kind, text


def address(entry: Entry) -> str:
    """The path of an entry's page."""
    room = {"run": "runs", "trial": "trials", "reproduction": "reproductions", "geometry": "geometry"}[entry.kind]
    return f"/{room}/{key_of(entry)}"


def key_of(entry: Entry) -> str:
    """The name of an entry in letters that every address, form and page can hold."""
    return quote(entry.name, safe="/", errors="surrogateescape")


def name_of(key: str) -> str:
    """The name that `key_of` wrote."""
    return unquote(key, errors="surrogateescape")

"""From the docstring of a file to what stands below the headings of its page.

A label at the beginning of a sentence (`Why:`, `How to read it:`, `Traps:`, `Source:` and others) says where what
follows belongs; what comes before the first label is what the thing does.
"""

import re
from collections.abc import Mapping

from mnemoscope.cli.pages.page import HEADINGS, Part, Prose

_HOMES = {
    "What it does": "What it does",
    "What it says": "Why",
    "Why": "Why",
    "Why it is here": "Why",
    "Why not as published": "What differs from the source",
    "Example": "Example",
    "How to read it": "How to read it",
    "Published effect": "How to read it",
    "Known limits": "Known limits",
    "Known problems": "Known limits",
    "Traps": "Known limits",
    "Cost": "Known limits",
    "Source": "Source",
    "Differs": "What differs from the source",
    "What differs": "What differs from the source",
}
"""The heading below which what follows a label stands."""

_KEPT = ("Published effect", "Cost")
"""Labels that say more than their heading."""

_BEGINS = re.compile(
    r"(?:\A|(?<=\n)|(?<=[.!?)\"] ))("
    + "|".join(re.escape(label).replace(r"\ ", r"\s+") for label in sorted(_HOMES, key=len, reverse=True))
    + r")(?: here)?:\s+"
)


def title_of(docstring: str) -> str:
    """Its first paragraph, in one line, without the number of a row in a table that is not at hand."""
    title = " ".join(docstring.strip().split("\n\n")[0].split())
    return re.sub(r" \([DER]\d+[^)]*\)(?=\.$)", "", title)


def sections_of(docstring: str) -> dict[str, list[Part]]:
    """Everything after the first paragraph, by heading; a heading that nothing belongs to has an empty list."""
    _, _, body = docstring.strip().partition("\n\n")
    found: dict[str, list[Part]] = {heading: [] for heading in HEADINGS}
    pieces = _BEGINS.split(body)
    if before := pieces[0].strip("\n").rstrip():
        found["What it does"].append(Prose(before))
    for written, text in zip(pieces[1::2], pieces[2::2], strict=True):
        label = " ".join(written.split())
        found[_HOMES[label]].append(Prose(_sentence(label, text.rstrip())))
    return found


def with_defaults(sections: Mapping[str, list[Part]], defaults: Mapping[str, str]) -> dict[str, list[Part]]:
    """The same, with a sentence below each heading that would otherwise have nothing."""
    added: dict[str, list[Part]] = {
        heading: [Prose(defaults[heading])] if heading in defaults else [] for heading in HEADINGS
    }
    return {heading: sections[heading] or added[heading] for heading in HEADINGS}


def _sentence(label: str, text: str) -> str:
    """What follows a label, as sentences of their own."""
    if label in _KEPT:
        return f"{label}: {text}"
    first = text.split(maxsplit=1)[0] if text.strip() else ""
    return text[:1].upper() + text[1:] if re.fullmatch(r"[a-z][a-z-]+[,.:;]?|a", first) else text

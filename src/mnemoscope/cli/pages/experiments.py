"""The page of an experiment: its question, its claims with the published figures, and its sizes."""

import functools
import inspect
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from mnemoscope.cli.pages.docstrings import sections_of, title_of, with_defaults
from mnemoscope.cli.pages.page import Code, Page, Part, Prose, Table
from mnemoscope.experiments.published import EXPERIMENTS
from mnemoscope.experiments.reproducing import Experiment


def experiment_page(name: str) -> Page:
    """The page of one of `EXPERIMENTS`."""
    experiment = EXPERIMENTS[name]
    module = inspect.getmodule(_measuring(experiment))
    assert module is not None
    docstring = module.__doc__ or ""
    sections = with_defaults(
        sections_of(docstring),
        {
            "What it does": title_of(docstring),
            "Known limits": "Its bars are those of the source or of the question that was asked before it was run; a "
            "claim that does not hold is printed as not holding.",
            "What differs from the source": "No difference beyond the settings is recorded.",
        },
    )
    sections["Why"].insert(0, Prose(f"To answer: {experiment.what.rstrip('?. ')}{_end(experiment.what)}"))
    sections["Example"] += _example(experiment)
    sections["How to read it"] += _claims(experiment)
    sections["Known limits"].append(_sizes(experiment))
    sections["Source"].insert(0, Prose(f"Of the figures: {experiment.source}."))
    sections["What differs from the source"] += _settings(experiment)
    title = experiment.what[:1].upper() + experiment.what[1:]
    return Page(kind="experiment", name=name, title=title, parts=sections, module=module.__name__)


def _measuring(experiment: Experiment[Any]) -> Any:
    found = experiment.measure or experiment.measure_in
    return found.func if isinstance(found, functools.partial) else found


def _end(question: str) -> str:
    return "?" if question.rstrip().endswith("?") else "."


def _example(experiment: Experiment[Any]) -> list[Part]:
    commands = [f"mnemoscope reproduce {experiment.name} --seeds 3"]
    if "paper" in experiment.sizes:
        commands.append(f"mnemoscope reproduce {experiment.name} --size paper --seeds 3")
    took = [f"{size}: about {minutes:g} minutes a seed on one thread" for size, minutes in experiment.minutes.items()]
    return [Code("bash", "\n".join(commands)), Prose("; ".join(took) or "How long a seed takes was not measured.")]


def _claims(experiment: Experiment[Any]) -> list[Part]:
    """What is claimed, what was published, and the bar."""
    rows = [(claim.what, claim.published, claim.bar) for claim in experiment.claims]
    drawn = [(plot.title, plot.caption) for plot in experiment.plots]
    parts: list[Part] = [Prose("One row for each claim; a row without a bar is shown and not judged.")]
    parts.append(Table([("what", "published", "must be"), *rows]))
    return parts + ([Table([("figure of its page", "how to read it"), *drawn])] if drawn else [])


def _sizes(experiment: Experiment[Any]) -> Prose:
    if "paper" in experiment.sizes:
        return Prose("What the small size shows was not shown at the size of the paper, whose settings stand below.")
    return Prose("There is one size, small; no other was run.")


def _settings(experiment: Experiment[Any]) -> list[Part]:
    """The settings of each size side by side."""
    of_sizes = [_flat(settings) for settings in experiment.sizes.values()]
    names = list(dict.fromkeys(name for settings in of_sizes for name in settings))
    rows: Sequence[Sequence[str]] = [(name, *(settings.get(name, "-") for settings in of_sizes)) for name in names]
    return [Table([("setting", *experiment.sizes), *rows])] if rows else []


def _flat(settings: Any) -> dict[str, str]:
    """Every setting, those of settings within settings as outer.inner."""
    if not is_dataclass(settings) or isinstance(settings, type):
        return {}
    found: dict[str, str] = {}
    for one in fields(settings):
        value = getattr(settings, one.name)
        inner = _flat(value)
        found |= {f"{one.name}.{name}": held for name, held in inner.items()} or {one.name: _short(value)}
    return found


def _short(value: Any) -> str:
    written = str(value)
    return written if len(written) <= 100 else f"{written[:97]}..."

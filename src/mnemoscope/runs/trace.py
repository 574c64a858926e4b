"""What a model's memories did at every token of one sequence: `trace.json`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from mnemoscope.runs.reading import read_record
from mnemoscope.runs.record import SCHEMA_VERSION, Record

TRACE = "trace.json"

Replacement = Literal["optimal_constant", "mean", "resample"]
"""What stands in place of a read: the one vector that costs least on calibration sequences (what the examination's
verdicts rest on), the mean vector, or the reads of other sequences at the same positions, whose losses are averaged."""


class Address(Record):
    """Where a read looked: `at` counts the addresses of the mechanism from 0 (tokens or pairs of those that look back,
    slots of those that have slots), `weight` is the mean over heads.
    """

    at: int
    weight: float


class TracedSite(Record):
    """One memory, or all of them together (`members`), at every position.

    `losses` are those without its content, None where nothing is scored. `written` is the norm of what each token
    changed in its state, `read` that of what each token got out of it, `addresses` the places that weighed most in
    that read. None where that cannot be had: `unmeasured` says why, by the name of the field.
    """

    name: str
    losses: list[float | None]
    written: list[float] | None = None
    read: list[float] | None = None
    addresses: list[list[Address]] | None = None
    n_addresses: int | None = None
    members: list[str] = Field(default_factory=list)
    unmeasured: dict[str, str] = Field(default_factory=dict)


class Trace(Record):
    """One sequence: at position i the model has seen `inputs[: i + 1]` and is asked for `targets[i]`.

    Losses are in nats per token; `targets` and `losses` are None where nothing is scored. `is_text`: tokens are pieces
    of a text, which stand side by side. `next_token`: every target is the input that follows. `length_trained`: tokens
    of the sequences that calibrate, None where they differ.
    """

    schema_version: int = SCHEMA_VERSION
    subject: str
    source: str
    command: str = ""
    replaced_by: Replacement
    n_calibration: int
    length_trained: int | None = None
    is_text: bool
    next_token: bool
    inputs: list[str]
    targets: list[str | None]
    losses: list[float | None]
    sites: list[TracedSite]
    warnings: list[str] = Field(default_factory=list)
    seconds: float = 0.0
    versions: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits(self) -> "Trace":
        """Every column must have a value for every token."""
        columns = {"targets": self.targets, "losses": self.losses}
        for site in self.sites:
            columns |= {f"{site.name}.losses": site.losses}
            parts = {"written": site.written, "read": site.read, "addresses": site.addresses}
            columns |= {f"{site.name}.{name}": part for name, part in parts.items() if part is not None}
        for name, column in columns.items():
            if len(column) != len(self.inputs):
                raise ValueError(f"{name}: must have a value for each of {len(self.inputs)} tokens, got {len(column)}")
        return self


def differences(trace: Trace, site: TracedSite) -> list[float | None]:
    """By how much the loss of every token rises without the site, in nats; None where nothing is scored."""
    return [
        None if own is None or without is None else without - own
        for own, without in zip(trace.losses, site.losses, strict=True)
    ]


def mean_difference(trace: Trace, site: TracedSite) -> float:
    """The mean of `differences` over scored tokens; NaN without any."""
    return _mean([value for value in differences(trace, site) if value is not None])


def load_trace(folder: str | Path) -> Trace:
    """The trace of a run's folder.

    Raises:
        ValueError: there is none, or it is damaged or of a later version.
    """
    path = Path(folder) / TRACE
    if not path.is_file():
        raise ValueError(f"{folder}: holds no {TRACE}; make one: mnemoscope trace {folder}")
    return read_record(path, Trace)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")

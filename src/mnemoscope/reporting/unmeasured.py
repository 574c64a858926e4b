"""What could not be measured, and why; and whether the model's states may be taken out and exchanged."""

from mnemoscope.reporting.tables import Cell, Group, Table
from mnemoscope.runs import Examination
from mnemoscope.runs.examination import ContinuationRecord

WORDS = {"state": "state", "probe": "probe of the answer", "patching": "exchange of states"}
"""What `SiteRecord.unmeasured` names."""


def reasons(examination: Examination) -> list[tuple[str, str, list[str]]]:
    """What, why, and at which sites and groups, each reason once."""
    found: dict[tuple[str, str], list[str]] = {}
    for site in [*examination.sites, *examination.groups]:
        for name, reason in site.unmeasured.items():
            found.setdefault((WORDS.get(name, name), reason), []).append(site.name)
    return [(what, reason, names) for (what, reason), names in found.items()]


def unmeasured_table(examination: Examination) -> Table | None:
    """One row for each reason; None where nothing was left out."""
    rows = [[Cell(", ".join(names)), Cell(what), Cell(reason)] for what, reason, names in reasons(examination)]
    return (
        Table("What could not be measured here.", ["Site", "Left out", "Because"], [Group("", rows)], "unmeasured")
        if rows
        else None
    )


def going_on(record: ContinuationRecord | None) -> str:
    """What the self-test of going on from a state said."""
    if record is None:
        return "not needed: no state had to be taken out of the model"
    if record.way is None or record.reason:
        return f"refused, so no state is taken out or exchanged: {record.reason}"
    error = record.in_one_call if record.way == "multi" else record.token_by_token
    how = "in one call" if record.way == "multi" else "token by token"
    told = ", told its positions" if record.needs_positions else ""
    off = "" if error is None else f", off by {error:.1g} standard deviations of the outputs"
    other = ""
    if record.way == "step":
        wrong = record.in_one_call
        other = "; in one call it is wrong" + ("" if wrong is None else f" by {wrong:.1g}")
    return f"passed: from its state the model goes on {how}{told}{off}{other}"

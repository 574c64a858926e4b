"""What could not be measured is said, with the reason, in the terminal and in the report."""

import pytest

from mnemoscope.cli.printing import verdict_lines
from mnemoscope.reporting import Case, render
from mnemoscope.reporting.unmeasured import going_on, reasons
from mnemoscope.runs.examination import ContinuationRecord
from tests.unit.reporting.samples import examination, memory

WRONG = "wrong by 0.62 standard deviations of the logits, at most 0.001 allowed"


def continued(**changes: object) -> ContinuationRecord:
    fields = {
        "way": "multi",
        "in_one_call": 2e-6,
        "token_by_token": 3e-6,
        "needs_positions": False,
        "n_sequences": 8,
        "n_tokens": 24,
    }
    return ContinuationRecord.model_validate(fields | changes)


REFUSED = continued(way=None, in_one_call=0.62, token_by_token=None, reason=WRONG)


def refused():
    sites = [memory(name, unmeasured={"state": WRONG}) for name in ("blocks.0.a", "blocks.1.b")]
    return examination(sites=[*sites, memory("blocks.2.c", unmeasured={"patching": "no sure difference"})])


def test_each_reason_is_said_once_with_its_sites():
    assert reasons(refused()) == [
        ("state", WRONG, ["blocks.0.a", "blocks.1.b"]),
        ("exchange of states", "no sure difference", ["blocks.2.c"]),
    ]
    assert reasons(examination()) == []


def test_the_terminal_and_the_report_name_the_reasons():
    record = refused().model_copy(update={"continuation": REFUSED})
    shown = " ".join(" ".join(verdict_lines("run", record, 100)).split())
    assert f"without state, blocks.0.a, blocks.1.b: {WRONG}" in shown
    assert "without exchange of states, blocks.2.c: no sure difference" in shown
    assert f"continuation self-test refused, so no state is taken out or exchanged: {WRONG}" in shown
    html = render([Case(label="a", question="b", examination=record)], "command", "title")
    assert "What could not be measured here." in html
    assert html.count(WRONG) == 2
    plain = " ".join(verdict_lines("run", examination(), 100))
    assert "without" not in plain
    assert "self-test" not in plain


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (None, "not needed"),
        (continued(), "goes on in one call, off by 2e-06"),
        (continued(needs_positions=True), "in one call, told its positions"),
        (
            continued(way="step", in_one_call=0.31),
            "token by token, off by 3e-06 standard deviations of the outputs; in one",
        ),
        (continued(way="step", in_one_call=0.31), "in one call it is wrong by 0.3"),
        (continued(way="step", in_one_call=None), "in one call it is wrong"),
        (REFUSED, f"refused, so no state is taken out or exchanged: {WRONG}"),
    ],
)
def test_what_the_self_test_said(record: ContinuationRecord | None, said: str):
    assert said in going_on(record)

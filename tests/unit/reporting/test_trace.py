import re

import pytest

from mnemoscope.reporting import render
from mnemoscope.reporting.takeaway import Files
from mnemoscope.reporting.trace import (
    degree,
    headline,
    render_trace,
    tokens_of,
    trace_fragment,
    trace_style,
    trace_table,
)
from tests.unit.reporting import samples
from tests.unit.reporting.test_page import outline
from tests.unit.reporting.trace_samples import hidden, hostile, text


@pytest.mark.parametrize("made", [text, hidden, hostile])
def test_the_page_needs_no_script_and_asks_for_nothing(made):
    html = render_trace(made())
    parsed = outline(html)
    for tag, attributes in parsed.tags:
        assert tag not in {"script", "img", "iframe", "object", "embed"}
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href"):
            target = attributes.get(name)
            saved = target is not None and target.startswith("data:") and "download" in attributes
            assert target is None or target.startswith("#") or target == "data:," or saved
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert "\u202e" not in html


def test_a_fragment_has_no_inline_style_but_in_its_drawing():
    without = re.sub(r"<svg.*?</svg>", "", trace_fragment(text(), "of-a-run"), flags=re.DOTALL)
    assert "style=" not in without
    assert "<style" not in without
    assert 'id="of-a-run-site-1"' in without
    assert "url(" not in trace_style()


def test_every_site_can_be_chosen_and_the_most_used_is():
    radios = [a for tag, a in outline(trace_fragment(text())).tags if tag == "input" and a["type"] == "radio"]
    assert len(radios) == 3
    assert ["checked" in radio for radio in radios] == [True, False, False]
    labels = [a["for"] for tag, a in outline(trace_fragment(text())).tags if tag == "label"]
    assert {radio["id"] for radio in radios} <= set(labels)


def test_of_text_the_predicted_token_is_coloured():
    record = text()
    tokens = tokens_of(record, record.sites[0])
    assert [token.words for token in tokens] == ["t", "h", "e", "_", "c"]
    assert [token.degree for token in tokens] == [0, 4, 0, -2, 2]
    assert [token.number for token in tokens] == ["", "+2.00", "0.000", "-0.500", "+0.250"]


def test_of_a_task_the_question_has_its_answer():
    record = hidden()
    assert [token.words for token in tokens_of(record, record.sites[0])] == ["k1", "v2", "k1 → v2"]
    assert "Without its memory, this sequence costs 3.00 nats more per token." in headline(record)


@pytest.mark.parametrize(
    ("difference", "wanted"), [(None, 0), (float("nan"), 0), (0.049, 0), (0.05, 1), (-0.3, -2), (1.0, 3), (9.0, 4)]
)
def test_degrees_keep_the_sign(difference, wanted):
    assert degree(difference) == wanted


def test_the_table_has_every_number_and_a_dash_where_there_is_none():
    record = text()
    first, second, together = (trace_table(record, site) for site in record.sites)
    assert [cell.text for cell in first.groups[0].rows[1]] == [
        "1", "h", "e", "1.00", "1.00", "0.000", "0.5", "0.2", "0 (100 %)",
    ]  # fmt: skip
    assert [cell.text for cell in second.groups[0].rows[0]][6:] == ["–", "1", "–"]
    assert len(together.columns) == 6
    assert "What is written is not shown: it shows no state." in trace_fragment(record)


def test_a_trace_stands_in_the_report_of_its_run():
    case = samples.before()
    with_trace = render([type(case)(**{**vars(case), "trace": text()})], "mnemoscope report", "A report")
    assert 'id="case-1-trace"' in with_trace
    assert ".trace-sites" in with_trace
    assert ".trace-sites" not in render([case], "mnemoscope report", "A report")


def test_files_go_where_the_page_puts_them():
    files = Files()
    assert "data:text/csv;base64," in trace_fragment(text(), files=files)
    assert files.contents == {}

"""What can be taken away: CSV and LaTeX that say what the table says, SVG and PDF that stand alone."""

import base64
import csv
import io
from xml.etree import ElementTree

import pytest

from mnemoscope.reporting import render, write
from mnemoscope.reporting import takeaway as room
from mnemoscope.reporting.geometry import write_geometry
from mnemoscope.reporting.latex import escaped, latex_of
from mnemoscope.reporting.reproduction import write_reproduction
from mnemoscope.reporting.tables import Cell, Group, Table
from mnemoscope.reporting.takeaway import Files, csv_of, pdf_of, standalone
from mnemoscope.reporting.trace import differences_figure, write_trace
from mnemoscope.reporting.trial import write_trial
from tests.unit.reporting import samples
from tests.unit.reporting.geometry_samples import geometric
from tests.unit.reporting.test_page import outline
from tests.unit.reporting.test_reproduction import reproduction
from tests.unit.reporting.trace_samples import text
from tests.unit.reporting.trial_samples import trial

TABLE = Table(
    "Effects & shares of 5 %",
    ["Site", "Effect"],
    [
        Group("", [[Cell("blocks_0"), Cell("1.50", "[1.00, 2.00]")]]),
        Group("Routes", [[Cell('=HYPERLINK("x")'), Cell("–")], [Cell("a, b"), Cell("-0.010")]]),
    ],
)


def read(content: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content)))


def test_csv_has_values_notes_and_groups_apart():
    assert read(csv_of(TABLE)) == [
        ["Group", "Site", "Effect", "Effect: note"],
        ["", "blocks_0", "1.50", "[1.00, 2.00]"],
        ["Routes", '\'=HYPERLINK("x")', "", ""],
        ["Routes", "a, b", "-0.010", ""],
    ]


@pytest.mark.parametrize("harmless", ["+1.50", "-3", "-1e-05", "+12 %", "blocks.0"])
def test_csv_leaves_numbers_alone(harmless):
    assert read(csv_of(Table("", ["a"], [Group("", [[Cell(harmless)]])])))[1] == [harmless]


@pytest.mark.parametrize("formula", ["=1+1", "@SUM(1)", "-2+3", "+cmd|x"])
def test_csv_lets_no_spreadsheet_compute(formula):
    assert read(csv_of(Table("", ["a"], [Group("", [[Cell(formula)]])])))[1] == [f"'{formula}"]


def test_latex_is_set_with_booktabs_and_nothing_in_it_is_a_command():
    found = latex_of(TABLE)
    assert found.count(r"\toprule") == found.count(r"\bottomrule") == 1
    assert r"\caption{Effects \& shares of 5 \%}" in found
    assert r"blocks\_0 & 1.50 {\footnotesize {[1.00, 2.00]}} \\" in found
    assert r"\multicolumn{2}{l}{\textit{Routes}} \\" in found
    assert escaped(r"\input{x}$#^~") == (r"\textbackslash{}input\{x\}\$\#\textasciicircum{}\textasciitilde{}")
    assert escaped("ε ≤ 3 – β\u202e") == r"\ensuremath{\varepsilon} \ensuremath{\le} 3 -- \ensuremath{\beta}" + "\ufffd"


def test_a_long_table_goes_on_on_the_next_page():
    rows = [[Cell(str(i))] for i in range(41)]
    assert r"\begin{longtable}{l}" in latex_of(Table("Many", ["i"], [Group("", rows)]))
    assert r"\begin{table}" in latex_of(Table("Fewer", ["i"], [Group("", rows[:40])]))


def test_names_are_plain_and_tell_tables_apart():
    files = Files()
    names = [link.name for table in (TABLE, TABLE, Table("../../etc ?", ["a"])) for link in files.of_table(table)]
    assert names == [
        "effects-shares-of-5.csv", "effects-shares-of-5.tex", "effects-shares-of-5-2.csv", "effects-shares-of-5-2.tex",
        "etc.csv", "etc.tex",
    ]  # fmt: skip


def test_links_of_a_page_hold_their_files():
    drawing = differences_figure(text(), "key")
    links = {link.label: link for link in Files().of_drawing(drawing)}
    assert list(links) == ["SVG", "CSV", "LaTeX"]
    kind, _, content = links["CSV"].href.partition(",")
    assert kind == "data:text/csv;base64"
    assert read(base64.b64decode(content).decode("utf-8-sig"))[1][:2] == ["0", "h"]


def test_an_svg_stands_alone():
    drawing = differences_figure(text(), "key")
    found = standalone(drawing.svg)
    assert "var(" not in found
    root = ElementTree.fromstring(found)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.attrib["width"].endswith("pt")
    assert "Rise of the loss" in root.findtext("{http://www.w3.org/2000/svg}title")


def test_a_pdf_is_the_same_each_time():
    found = standalone(differences_figure(text(), "key").svg)
    first = pdf_of(found)
    assert first.startswith(b"%PDF-")
    assert pdf_of(found) == first
    assert b"DejaVuSans" in first


PAGES = {
    "examination": lambda path: write([samples.before()], path, "mnemoscope report run", "A report", files=True),
    "geometry": lambda path: write_geometry(geometric(), path, files=True),
    "trial": lambda path: write_trial(trial(), path, files=True),
    "reproduction": lambda path: write_reproduction(reproduction(), path, files=True),
    "trace": lambda path: write_trace(text(), path, files=True),
}


@pytest.mark.parametrize("kind", PAGES)
def test_every_figure_and_table_of_every_report_has_its_files(tmp_path, kind):
    page = PAGES[kind](tmp_path / "page.html")
    parsed = outline(page.read_text(encoding="utf-8"))
    links = [a["href"] for tag, a in parsed.tags if tag == "a" and "download" in a]
    n_figures = sum(tag == "figure" for tag, _ in parsed.tags)
    inside = sum(tag == "table" for tag, _ in parsed.tags) - n_figures
    there = {f"page-files/{path.name}" for path in (tmp_path / "page-files").iterdir()}
    assert set(links) == there
    assert len(links) == len(there) == 4 * n_figures + 2 * inside
    assert all((tmp_path / link).stat().st_size > 20 for link in links)


def test_one_page_stays_one_file_unless_files_are_wanted(tmp_path):
    write([samples.before()], tmp_path / "page.html", "mnemoscope report run", "A report")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert "page-files" not in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_without_the_packages_files_are_refused_and_the_page_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'mnemoscope\[figures\]'"):
        write([samples.before()], tmp_path / "page.html", "mnemoscope report run", "A report", files=True)
    assert list(tmp_path.iterdir()) == []
    assert render([samples.before()], "mnemoscope report run", "A report")

"""The page of a comparison: what differs is said, drawn over each other, and escaped."""

import re
from dataclasses import replace

import pytest

from mnemoscope.reporting.case import Case
from mnemoscope.reporting.changes import compare
from mnemoscope.reporting.comparison import (
    changes_table,
    comparison_headline,
    differing_settings,
    render_comparison,
    write_comparison,
)
from mnemoscope.reporting.overlaid import MOST_SITES, horizon_figures, overlaid_figures, training_figures
from tests.unit.reporting import samples

COMMAND = "mnemoscope compare a b --html page.html"


def labelled(*cases: Case) -> list[Case]:
    return [replace(case, label=f"run {i}") for i, case in enumerate(cases)]


def with_sites(case: Case, label: str, *sites) -> Case:
    return replace(case, label=label, examination=case.examination.model_copy(update={"sites": list(sites)}))


def words(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html.replace("<wbr>", "")))


def test_the_page_says_what_differs_and_asks_for_nothing():
    html = render_comparison(labelled(samples.before(), samples.after()), COMMAND, "A comparison")
    text = words(html)
    order = ["What differs between run 0 and run 1?", "Side by side", "Figures", "Changes", "Settings that differ"]
    order += ["How they were measured", "How to read this", COMMAND]
    assert [text.index(part) for part in order] == sorted(text.index(part) for part in order)
    assert "<script" not in html
    assert not re.search(r'(?:src|href)="(?!#|data:)', html)
    assert html == render_comparison(labelled(samples.before(), samples.after()), COMMAND, "A comparison")


def test_hostile_text_is_escaped():
    html = render_comparison(labelled(samples.hostile(), samples.hostile()), "</code><script>", "</title><script>")
    assert "<script" not in html
    assert "<img" not in html
    assert "\u202e" not in html


def test_headlines_count_the_memories_whose_verdict_differs():
    works, idle = samples.memory("a"), samples.decorative("a")
    base = samples.after()
    assert comparison_headline([with_sites(base, "x", works), with_sites(base, "y", works)]) == (
        "The verdict on a is the same: load-bearing (sole)."
    )
    assert comparison_headline([with_sites(base, "x", works), with_sites(base, "y", idle)]) == (
        "The verdict on a differs."
    )
    b, other = samples.memory("b"), samples.memory("c")
    assert comparison_headline([with_sites(base, "x", works, b), with_sites(base, "y", idle, b)]) == (
        "The verdicts differ on 1 of 2 memories."
    )
    assert "No memory of one" in comparison_headline([with_sites(base, "x", works), with_sites(base, "y", other)])


def test_changes_are_those_of_the_others_against_the_first():
    base = samples.after()
    works, less, same = (with_sites(base, n, samples.memory("a", s)) for n, s in (("x", 3.0), ("y", 1.0), ("z", 3.0)))
    found = [compare(works.examination, other.examination, ("x", other.label)) for other in (less, same)]
    table = changes_table(found)
    assert [group.heading for group in table.groups] == ["y, compared with x", "z, compared with x"]
    (changed, loss), (unchanged, _) = (group.rows for group in table.groups)
    assert [cell.text for cell in changed[:5]] == ["a", "3.00", "1.00", "-2.00", "yes"]
    assert [cell.text for cell in unchanged[1:5]] == ["3.00", "3.00", "0.000", "no"]
    assert loss[0].text == "Loss, everything in place"


def test_only_settings_that_differ_are_listed():
    one, two = labelled(samples.after(), samples.after())
    one = replace(one, config={"model": {"window": 4, "width": 64}, "seed": 0})
    two = replace(two, config={"model": {"window": 24, "width": 64}, "extra": True, "seed": 0})
    table = differing_settings([one, two])
    assert table is not None
    rows = [[cell.text for cell in row] for row in table.groups[0].rows]
    assert rows == [["model.window", "4", "24"], ["extra", "not set", "true"]]
    assert differing_settings([one, one]) is None
    assert "2 other settings are the same." in words(render_comparison([one, two], COMMAND, "A comparison"))


def test_curves_of_all_lie_in_one_figure_with_their_numbers():
    base = samples.after()
    first = with_sites(base, "first", samples.memory("a", 3.0))
    second = with_sites(base, "second", samples.memory("a", 1.0), samples.memory("b", 2.0))
    (drawing,) = horizon_figures([first, second])
    assert drawing.title == "How far back a is used"
    assert [column.rpartition(": ")[2] for column in drawing.columns[1:]] == ["first", "second"]
    assert drawing.rows[0][0] == "1"
    assert drawing.rows[0][1].startswith("5.70")
    assert drawing.rows[0][2].startswith("1.90")
    assert "first" in drawing.svg
    assert "second" in drawing.svg


def test_memories_that_are_not_shared_stand_in_one_figure():
    base = samples.after()
    cases = [with_sites(base, "x", samples.memory("a")), with_sites(base, "y", samples.memory("b"))]
    (drawing,) = horizon_figures(cases)
    assert "most costly memory of each" in drawing.title


def test_many_memories_and_many_runs_are_cut_and_said_so():
    base = samples.many_sites()
    drawings = horizon_figures([replace(base, label="x"), replace(base, label="y")])
    assert len(drawings) == MOST_SITES
    assert f"The {MOST_SITES} most costly of 30 memories are shown." in drawings[0].caption
    seven = [with_sites(samples.after(), f"run {i}", samples.memory("a")) for i in range(7)]
    (drawing,) = horizon_figures(seven)
    assert "Drawn are the first 5 of 7." in drawing.caption
    assert len(drawing.columns) == 8


def test_each_logged_quantity_has_a_figure_validation_first():
    rows = [{"step": 1, "loss": 2.0, "validation_loss": 2.1, "accuracy": 0.1}, {"step": 2, "loss": 1.0}]
    cases = [replace(case, metrics=rows) for case in labelled(samples.after(), samples.after())]
    titles = [drawing.title for drawing in training_figures(cases)]
    assert titles == ["Training: validation loss", "Training: loss", "Training: accuracy"]
    only_one = [cases[0], replace(cases[1], metrics=())]
    assert [len(drawing.columns) for drawing in training_figures(only_one)] == [2, 2, 2]
    assert training_figures([replace(case, metrics=()) for case in cases]) == []


def test_bare_examinations_are_compared_too():
    cases = labelled(samples.bare(), samples.bare())
    assert overlaid_figures(cases) == []
    assert "Settings that differ" in words(render_comparison(cases, COMMAND, "A comparison"))


@pytest.mark.parametrize("cases", [[], [samples.after()], [samples.after(), samples.after()]])
def test_fewer_than_two_or_two_of_one_label_are_refused(cases: list[Case]):
    with pytest.raises(ValueError, match="at least two cases with labels that differ"):
        render_comparison(cases, COMMAND, "A comparison")


def test_write_leaves_one_file(tmp_path):
    cases = labelled(samples.before(), samples.after())
    path = write_comparison(cases, tmp_path / "deep" / "page.html", COMMAND, "A comparison")
    assert path.read_text(encoding="utf-8") == render_comparison(cases, COMMAND, "A comparison")
    assert [file.name for file in path.parent.iterdir()] == ["page.html"]

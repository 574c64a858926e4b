import re
from html.parser import HTMLParser
from typing import get_args

import pytest

from mnemoscope.reporting import Case, render, write
from mnemoscope.runs import Examination
from mnemoscope.runs.examination import Verdict
from tests.unit.reporting import samples

COMMAND = "mnemoscope report runs/recall --out report.html"
VOID = {"meta", "link", "wbr", "br", "img"}


class Outline(HTMLParser):
    """Collects tags and text, and refuses elements that are closed out of order."""

    def __init__(self):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)


def outline(html: str) -> Outline:
    parser = Outline()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    return parser


def page(*cases: Case) -> str:
    return render(cases, COMMAND, "A report")


def words(html: str) -> str:
    return re.sub(r"\s+", " ", " ".join(outline(html.replace("<wbr>", "")).words))


@pytest.mark.parametrize("case", [samples.before, samples.after, samples.text, *samples.EDGES])
def test_the_page_is_well_formed_and_asks_for_nothing(case):
    html = page(case())
    parsed = outline(html)
    for tag, attributes in parsed.tags:
        assert tag not in {"script", "img", "iframe", "object", "embed"}
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href"):
            target = attributes.get(name)
            saved = target is not None and target.startswith("data:") and "download" in attributes
            assert target is None or target.startswith("#") or target == "data:," or saved
    assert "http" not in re.sub(r'http-equiv="', "", html)
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert not re.search(r"\bnan\b", words(html).replace("NaN", ""))


def test_verdict_comes_before_table_before_figures_before_prescription():
    text = words(page(samples.before()))
    order = ["The memory is decorative.", "Verdicts", "Effect of each intervention", "Drop the whole attention"]
    order += ["1,024 to measure", "How to read this", COMMAND]
    assert [text.index(part) for part in order] == sorted(text.index(part) for part in order)


def test_the_numbers_of_the_record_are_on_the_page():
    text = words(page(samples.before()))
    for number in (
        "0.004 [-0.002, 0.010]",
        "0.011 [0.003, 0.019]",
        "0.2 % [-0.1 %, 0.6 %]",
        "+3.20 nats [3.11, 3.29]",
        "99 %",
        "0.064 nats",
        "3.47 nats",
        "0.97",
        "effects 21.2 s",
        "torch 2.13.0",
        "stubbed: identity replay bitwise equal",
        "the row-independence test failed",
        "arXiv 2510.05901",
        "training.steps",
    ):
        assert number in text, number


def test_several_cases_are_compared_first():
    html = page(samples.text(), samples.before(), samples.after())
    text = words(html)
    assert text.index("Side by side") < text.index("A language model on English prose")
    assert html.count('class="case"') == 3
    table = html[html.index("comparison-table") : html.index("</table>")]
    assert table.index("blocks.1.") < table.index("blocks.0.") < table.index("Whole model")
    assert "accuracy, end of training" in table
    assert "Side by side" not in words(page(samples.after()))


def test_hostile_text_is_escaped_everywhere():
    html = page(samples.hostile())
    assert "<script" not in html
    assert "<img" not in html
    assert "\u202e" not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 20
    title = render([samples.after()], "</code><script>", "</title><script>")
    assert "<script" not in title


def test_the_same_record_gives_the_same_bytes():
    assert page(samples.text(), samples.after()) == page(samples.text(), samples.after())


def test_unknown_routes_are_said_and_no_verdict_is_claimed():
    text = words(page(samples.unknown_routes()))
    assert "The routes of this model are unknown." in text
    assert "no verdict" in text
    assert "Routes unknown Horizon" in text


def test_an_examination_that_found_nothing_says_so():
    text = words(page(samples.bare()))
    assert "No memory was found in this model." in text
    assert "Figures" not in text
    assert "Loss of a constant output not measured" in text


def test_the_same_advice_for_several_sites_is_given_once():
    text = words(page(samples.before()))
    assert text.count("Drop the whole attention branch") == 1
    assert "blocks.3.memory" in text


def test_known_measures_are_explained():
    text = words(page(samples.before()))
    assert "effective dimension directions in which reads differ" in text
    assert "half life" in text


def test_thirty_sites_are_all_listed():
    text = words(page(samples.many_sites()))
    assert all(f"model.layers.{i}.linear" in text for i in range(30))
    assert "All 30 memories are load-bearing (sole)." in text


def test_badges_say_their_verdict_in_words():
    html = page(samples.every_verdict())
    assert len(re.findall(r'class="badge (?:works|partly|idle|open)"', html)) == 3 * len(get_args(Verdict))
    assert "No verdict" not in html


def test_what_is_missing_stands_before_any_verdict():
    text = words(page(samples.complete()))
    order = [
        "The examination is unfinished.",
        "This examination is unfinished.",
        "horizon of blocks.1.memory: interrupted",
        "1 of 2 control arms failed:",
        "Replacing its read",
        "Verdicts",
    ]
    assert [text.index(part) for part in order] == sorted(text.index(part) for part in order)
    assert "unfinished" not in words(page(samples.after()))
    assert "control arm" not in words(page(samples.after()))


def test_groups_subsets_controls_and_what_decides_have_their_tables():
    text = words(page(samples.complete()))
    for part in (
        "Switched off together: blocks.0.memory, blocks.1.memory, blocks.2.memory.",
        "demanding: 5.2 % of the scored positions, 480 sequences, headroom 3.00 nats, margin 0.060 nats",
        "my own: 480 sequences",
        "best constant of each position 0.010 [-0.010, 0.030] 99.17 % below the margin",
        "blocks.1.memory 0.010 [-0.010, 0.030] – -0.010 [-0.020, 0.000] 2048 24 history 1.0 % [-2.0 %, 4.0 %]",
        "shuffled reads, blocks.2.memory ✗ failed a probe gains 0.100 nats",
        "decided at look 2 of 3 planned ones, which leaves intervals of 98.77 %",
        "512 others to fit the constants, 128 of which chose among the fitted",
        "mnemoscope train RECIPE --steps 3000 --out OUT",
    ):
        assert part in text
    assert text.index("✗ failed") < text.index("✓ passed")


def test_captions_name_the_level_of_the_record():
    text = words(page(samples.complete()))
    assert text.count("98.77 % intervals") >= 3
    assert "95 % intervals" not in text
    assert "95 % intervals" in words(page(samples.after()))


def test_flags_stand_beside_their_verdict():
    text = words(page(samples.text()))
    assert text.index("winner-take-all") < text.index("Effects are loss increases")


def test_a_record_of_the_first_release_is_read_and_drawn_as_it_was():
    old = samples.before_these_fields(samples.before().examination)
    assert not any(f'"{name}"' in old for name in samples.ADDED)
    record = Examination.model_validate_json(old)
    assert record == samples.before().examination
    text = words(page(samples.old_record()))
    assert "To flip this verdict" in text
    for absent in ("Parts of the data", "Control arms", "Accuracy by load", "Effects and levels", "Probe's gain"):
        assert absent not in text


def test_a_report_needs_a_case():
    with pytest.raises(ValueError, match="at least one examined case, got none"):
        render([], COMMAND, "A report")


def test_write_makes_the_folder_and_leaves_one_file(tmp_path):
    path = write([samples.bare()], tmp_path / "deep" / "report.html", COMMAND, "A report")
    assert path.read_text(encoding="utf-8") == page(samples.bare())
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]

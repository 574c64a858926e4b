"""Everything that can be built, learned, measured, tried or reproduced has a page under the same headings."""

import re
import tokenize
from io import StringIO

import pytest

import mnemoscope as ms
from mnemoscope.cli.pages import FOLDERS, HEADINGS, Code, Page, Prose, find_page, names_of, page_of
from mnemoscope.cli.pages.docstrings import sections_of, title_of
from mnemoscope.cli.show import Show
from mnemoscope.runs.measures import MEASURES

EVERY = [(kind, name) for kind in FOLDERS for name in names_of(kind)]


@pytest.mark.parametrize("kind", FOLDERS)
def test_every_page_has_every_heading(kind: str):
    for name in names_of(kind):
        page = page_of(kind, name)
        assert tuple(page.parts) == HEADINGS, name
        assert page.title.endswith((".", "?", ")", "published", "text")) or page.title, name
        assert all(part.text.strip() for parts in page.parts.values() for part in parts if isinstance(part, Prose)), (
            name
        )


def test_a_page_without_a_heading_is_refused():
    parts = {heading: [Prose("words")] for heading in HEADINGS if heading != "Why"}
    with pytest.raises(ValueError, match=r"page of task x: needs .* write it into the docstring of m"):
        Page(kind="task", name="x", title="X.", parts=parts, module="m")


def test_labels_of_a_docstring_find_their_headings():
    found = sections_of(
        "Title of\ntwo lines.\n\n    a drawing\n\nBody. Why: it helps. How to\nread it: with care. Traps: two. "
        "Cost: one pass.\n\n"
        "Source: a paper.\nDiffers: nothing."
    )
    texts = {heading: [part.text for part in parts if isinstance(part, Prose)] for heading, parts in found.items()}
    assert texts == {
        "What it does": ["    a drawing\n\nBody."],
        "Why": ["It helps."],
        "Example": [],
        "How to read it": ["With care."],
        "Known limits": ["Two.", "Cost: one pass."],
        "Source": ["A paper."],
        "What differs from the source": ["Nothing."],
    }
    assert title_of("Title of\ntwo lines (D10).\n\nBody.") == "Title of two lines."


@pytest.mark.parametrize("name", names_of("memory"))
def test_the_example_of_a_memory_builds(name: str):
    (code,) = [part.text for part in page_of("memory", name).parts["Example"] if isinstance(part, Code)][:1]
    scope: dict[str, object] = {}
    exec(code, scope)
    assert isinstance(scope["model"], ms.Stack)


@pytest.mark.parametrize("name", names_of("remedy"))
def test_the_example_of_a_remedy_is_one(name: str):
    import mnemoscope.training.remedies as remedies
    from mnemoscope.tasks import PathStarConfig, TinyGraphsConfig

    prose = " ".join(part.text for part in page_of("remedy", name).parts["Example"] if isinstance(part, Prose))
    calls = re.findall(r"`([A-Z]\w+\([^`]*\))`", prose)
    assert calls, prose
    known = {**vars(remedies), "PathStarConfig": PathStarConfig, "TinyGraphsConfig": TinyGraphsConfig}
    for call in calls:
        assert list(tokenize.generate_tokens(StringIO(call).readline))
        if not re.search(r"=[a-z_]+[,)]", call):
            assert eval(call, known) is not None


def test_every_name_of_a_record_is_on_the_page_of_a_measure():
    from mnemoscope.cli.pages.measures import OF_EXAMINATION

    assert {name for names in OF_EXAMINATION.values() for name in names} == set(MEASURES)


def test_a_shared_name_is_that_of_the_task_unless_said():
    assert find_page("regbench") == ("task", "regbench")
    assert find_page("experiment:regbench") == ("experiment", "regbench")
    with pytest.raises(ValueError, match="did you mean 'gated_delta'"):
        find_page("gated_dleta")


@pytest.mark.parametrize(
    ("kind", "name"), [("memory", "atlas"), ("measure", "utilisation"), ("experiment", "perpgrad")]
)
def test_show_prints_every_heading(kind: str, name: str, capsys: pytest.CaptureFixture[str]):
    assert Show(name=f"{kind}:{name}").run() == 0
    said = capsys.readouterr().out
    assert [line for line in said.splitlines() if line.lower() in {h.lower() for h in HEADINGS}] == [
        heading.upper() for heading in HEADINGS
    ]

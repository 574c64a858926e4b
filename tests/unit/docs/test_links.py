"""Every link of every page leads to a page and a heading that there are."""

import re

import pytest

from mnemoscope.cli.pages import FOLDERS, names_of
from tests.unit.docs.written import DOCS, PAGES, ROOT


def generated() -> set[str]:
    import page_markdown
    import room_reference

    paths = {f"{FOLDERS[kind]}/{name}.md" for kind in FOLDERS for name in names_of(kind)}
    paths |= {f"{folder}/index.md" for folder in FOLDERS.values()} | {"errors.md", "reference/index.md"}
    assert page_markdown.navigation("task")[1] == {"associative_recall": "tasks/associative_recall.md"}
    return paths | {path for entry in room_reference.navigation()[1:] for path in dict(entry).values()}


THERE = generated()


def headings(text: str) -> set[str]:
    """Anchors as mkdocs makes them."""
    lines = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE).splitlines()
    titles = [line.lstrip("#").strip() for line in lines if re.match(r"#+ ", line)]
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


@pytest.mark.parametrize("page", [page for page in PAGES if page != "README.md"])
def test_links_lead_somewhere(page: str):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(#[^)\s]+)?\)", PAGES[page]):
        if target.startswith("http"):
            continue
        named = target or page
        assert named in THERE or (DOCS / named).exists() or (DOCS / named).resolve().is_relative_to(ROOT), target
        assert named in THERE or (DOCS / named).exists(), f"{page} links to {target}"
        if anchor and named in PAGES:
            assert anchor[1:] in headings(PAGES[named]), f"{page} links to {target}{anchor}"


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in PAGES:
        assert page == "README.md" or f": {page}\n" in navigation, page


def test_a_broken_link_would_be_seen(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(PAGES, "index.md", "[nowhere](no-such-page.md)")
    with pytest.raises(AssertionError, match=r"no-such-page\.md"):
        test_links_lead_somewhere("index.md")

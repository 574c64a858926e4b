"""The documentation as it is built: without a warning, without the network, with every link and name in its place."""

import ast
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.unit.docs.written import ROOT

pytest.importorskip("mkdocs")
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of it, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "JAXTYPING_DISABLE": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=1800)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "WARNING" not in done.stderr
    return folder


class Named(HTMLParser):
    """Links, what a page loads, and the anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors.add(given.get("id", ""))
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in ("script", "img", "iframe"):
            self.loaded.append(given.get("src", ""))
        if tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload"):
            self.loaded.append(given.get("href", ""))


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Named]:
    return {path: Named(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def test_all_internal_links_hold(site: Path, pages: dict[Path, Named]):
    broken = []
    for path, page in pages.items():
        if path.name == "404.html":
            continue
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            anchor = unquote(parts.fragment)
            if not target.is_file() or (anchor and target in pages and anchor not in pages[target].anchors):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert broken == []
    assert sum(len(page.links) for page in pages.values()) > 5000


def test_nothing_is_loaded_from_elsewhere(pages: dict[Path, Named]):
    assert [src for page in pages.values() for src in page.loaded if urlsplit(src).netloc] == []


def test_every_public_name_is_in_the_reference(pages: dict[Path, Named]):
    there = {anchor for path, page in pages.items() if path.parent.name == "reference" for anchor in page.anchors}
    source = ROOT / "src" / "mnemoscope"
    missing = []
    for file in source.rglob("*.py"):
        dotted = ".".join(["mnemoscope", *file.relative_to(source).with_suffix("").parts]).removesuffix(".__init__")
        if "._" in dotted:
            continue
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            is_named = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            if is_named and not node.name.startswith("_") and f"{dotted}.{node.name}" not in there:
                missing.append(f"{dotted}.{node.name}")
    assert missing == []


def test_the_first_screen_asks_the_question_and_shows_a_report(site: Path):
    text = (site / "index.html").read_text(encoding="utf-8")
    assert re.search(r"<h1[^>]*>Is your model's memory load-bearing or decorative\?", text.replace("’", "'"))
    assert 'src="pictures/report.png"' in text
    assert (site / "pictures" / "report.png").stat().st_size < 100_000


def test_machines_find_every_page(site: Path):
    index = (site / "llms.txt").read_text(encoding="utf-8")
    assert index.startswith("# Mnemoscope\n\n> ")
    linked = re.findall(r"\]\(([^)]+)\)", index)
    assert len(linked) > 150
    assert [path for path in linked if not (site / path).is_file()] == []
    whole = (site / "llms-full.txt").read_text(encoding="utf-8")
    assert "# Why zero-ablation lies" in whole
    assert "# gated_delta" in whole

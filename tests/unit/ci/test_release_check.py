"""A release that the changelog does not know is refused."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def _problem(tag: str, changelog: str) -> str:
    spec = importlib.util.spec_from_file_location("release_check", ROOT / ".ci" / "release_check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.problem(tag, changelog)


KNOWN = "# Changelog\n\n## Unreleased\n\n## 0.2.0 - 2026-11-22\n\n- A thing.\n\n## 0.1.0 - 2026-01-01\n\n- Another.\n"


@pytest.mark.parametrize("tag", ["v0.2.0", "v0.1.0"])
def test_a_section_lets_a_tag_pass(tag: str):
    assert _problem(tag, KNOWN) == ""


@pytest.mark.parametrize(
    ("tag", "changelog", "why"),
    [
        ("v0.3.0", KNOWN, "needs a section `## 0.3.0 - YYYY-MM-DD`"),
        ("v0.2", KNOWN, "must be like v0.2.0"),
        ("0.2.0", KNOWN, "must be like v0.2.0"),
        ("v0.2.0", KNOWN.replace("2026-11-22", "soon"), "must be YYYY-MM-DD, got soon"),
        ("v0.2.0", KNOWN.replace("- A thing.\n", ""), "is empty"),
        ("v0.2.0", KNOWN.replace("0.2.0", "0x2x0"), "needs a section"),
    ],
)
def test_what_forbids_a_release(tag: str, changelog: str, why: str):
    assert why in _problem(tag, changelog)


def test_there_is_a_place_for_what_comes_next():
    assert "\n## Unreleased\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

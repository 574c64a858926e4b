"""All public names have a docstring and a place in the reference."""

import ast
from pathlib import Path

import pytest

from tests.unit.docs.written import ROOT

SOURCE = ROOT / "src" / "mnemoscope"


def files() -> list[Path]:
    return [file for file in sorted(SOURCE.rglob("*.py")) if file.name != "__main__.py"]


def undocumented(tree: ast.Module, name: str) -> list[str]:
    """Public functions, classes and methods without a docstring, and the file itself."""
    missing = [] if ast.get_docstring(tree) else [name]
    for node in tree.body:
        missing += _undocumented(node, name)
    return missing


def _undocumented(node: ast.stmt, owner: str) -> list[str]:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
        return []
    overloads = [each for each in node.decorator_list if "overload" in ast.unparse(each)]
    overrides = [each for each in node.decorator_list if "override" in ast.unparse(each)]
    missing = [] if ast.get_docstring(node) or overloads or overrides else [f"{owner}.{node.name}"]
    inner = node.body if isinstance(node, ast.ClassDef) else []
    return missing + [name for each in inner for name in _undocumented(each, f"{owner}.{node.name}")]


def test_every_public_name_has_a_docstring():
    missing = [
        name
        for file in files()
        for name in undocumented(ast.parse(file.read_text(encoding="utf-8")), str(file.relative_to(SOURCE)))
    ]
    assert missing == []


def test_a_name_without_a_docstring_would_be_seen():
    tree = ast.parse('"""A file."""\ndef bare(): ...\nclass Named:\n    """It has."""\n    def method(self): ...\n')
    assert undocumented(tree, "x") == ["x.bare", "x.Named.method"]


def test_every_file_is_in_the_reference():
    import room_reference

    text = "\n".join(room_reference.pages().values()) + "\n"
    listed = {line.removeprefix("::: ") for line in text.splitlines() if line.startswith("::: ")}
    wanted = {
        ".".join(["mnemoscope", *file.relative_to(SOURCE).with_suffix("").parts]).removesuffix(".__init__")
        for file in files()
    }
    assert wanted - listed == {name for name in wanted if "._" in name}
    assert listed <= wanted


def test_every_exported_name_is_defined_where_the_reference_looks():
    import mnemoscope as ms

    for name in ms.__all__:
        home = getattr(getattr(ms, name), "__module__", "mnemoscope")
        assert home.startswith("mnemoscope."), name


@pytest.mark.parametrize("room", ["memories", "tasks", "training", "examination", "models"])
def test_every_exported_name_of_a_room_has_words(room: str):
    import importlib
    import inspect

    module = importlib.import_module(f"mnemoscope.{room}")
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), f"{room}.{name}"

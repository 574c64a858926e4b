"""The reference: one page for each room, every public file of it, its names from the docstrings."""

from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "mnemoscope"

_BY_FILE = ("examination", "experiments", "training")
"""Rooms whose folders have pages of their own."""

FACADE = "mnemoscope"


def modules() -> list[str]:
    """Every public module and package, dotted."""
    found = []
    for file in sorted(SOURCE.rglob("*.py")):
        parts = file.relative_to(SOURCE).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if not any(part.startswith("_") for part in parts):
            found.append(".".join([FACADE, *parts]))
    return found


def pages() -> dict[str, str]:
    """The pages by path, and the list of them."""
    written = {}
    for place, names in _places().items():
        directives = "\n\n".join(f"::: {name}" for name in names)
        written[_path(place)] = f"# {place or FACADE}\n\n{directives}\n"
    rows = "\n".join(
        f"| [`{place or FACADE}`]({Path(_path(place)).name}) | {first_line(names[0])} |"
        for place, names in _places().items()
    )
    written["reference/index.md"] = (
        f"# Reference\n\nEvery public name, from its docstring.\n\n| room | what it is for |\n| --- | --- |\n{rows}\n"
    )
    return written


def navigation() -> list[str | dict[str, str]]:
    """The list, then the pages."""
    return ["reference/index.md", *({place or FACADE: _path(place)} for place in _places())]


def first_line(module: str) -> str:
    """What a module says it is."""
    import ast

    path = SOURCE.joinpath(*module.split(".")[1:])
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.split("\n\n")[0].split()).replace("|", "\\|")


def _places() -> dict[str, list[str]]:
    """Modules by the page they stand on: the facade, a room, or a folder of a large room."""
    found: dict[str, list[str]] = {}
    for module in modules():
        parts = module.split(".")[1:]
        is_folder = SOURCE.joinpath(*parts).is_dir()
        folder = parts if is_folder else parts[:-1]
        depth = 2 if folder and folder[0] in _BY_FILE else 1
        found.setdefault(".".join(folder[:depth]), []).append(module)
    return found


def _path(place: str) -> str:
    return f"reference/{place or FACADE}.md"

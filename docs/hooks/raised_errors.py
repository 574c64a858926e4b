"""The index of errors: every message that the code raises for a user to mend, by room, read from the source."""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import page_markdown

SOURCE = Path(__file__).parents[2] / "src" / "mnemoscope"

KINDS = ("ValueError", "FileNotFoundError", "FileExistsError", "ImportError", "ArithmeticError", "FloatingPointError")
"""What a user can mend."""

AS_IT_SAYS = "as the message says"


@dataclass(frozen=True, kw_only=True)
class Raised:
    """One message.

    Args:
        kind: of the exception.
        message: with `<name>` where a value is put in.
        room: folder below the package, or the file if there is none.
        where: file and line.
    """

    kind: str
    message: str
    room: str
    where: str

    @property
    def wrong(self) -> str:
        """Where, what was required and what was got."""
        return self.message.rpartition(";")[0] or self.message

    @property
    def fix(self) -> str:
        """What to do: what follows the last semicolon, or what was required."""
        if ";" in self.message:
            return self.message.rpartition(";")[2].strip()
        required = re.search(r"\bmust (?:(be|have|lie|not) )?(.+?)(?:, (?:got|is)\b|$)", self.message)
        return f"let it {required[1] or 'be'} {required[2]}" if required else AS_IT_SAYS


def found() -> list[Raised]:
    """Every message in the source, file by file."""
    errors: list[Raised] = []
    shared = _shared()
    for file in sorted(SOURCE.rglob("*.py")):
        name = file.relative_to(SOURCE)
        room = name.parts[0] if len(name.parts) > 1 else "facade"
        for kind, message, line in _raised(ast.parse(file.read_text(encoding="utf-8")), shared):
            if "<required>" not in message:
                errors.append(Raised(kind=kind, message=message, room=room, where=f"{name.as_posix()}:{line}"))
    return errors


def pages() -> dict[str, str]:
    """The page, by path."""
    errors = found()
    lines = [
        "# Errors",
        "Every message that is raised for you to mend, read from the code, room by room. What is written <so> is put "
        "in when it happens. On the command line they are one line after `mnemoscope:`, with exit code 2.".replace(
            "<so>", "`<so>`"
        ),
    ]
    for room in sorted({error.room for error in errors}):
        rows = [("what is wrong", "what to do", "where")]
        rows += sorted(
            {(f"`{_code(e.wrong)}`", page_markdown.escaped(e.fix), f"`{_place(e)}`") for e in errors if e.room == room}
        )
        head, *rest = rows
        table = [head, ("---",) * 3, *rest]
        lines += [f"## {room}", "\n".join(f"| {' | '.join(row)} |" for row in table)]
    return {"errors.md": "\n\n".join(lines) + "\n"}


def _place(error: Raised) -> str:
    return error.where.partition("/")[2].rpartition(":")[0] or error.where.rpartition(":")[0]


def _code(text: str) -> str:
    return text.replace("`", "'").replace("|", "\\|").replace("\n", " ")


Helpers = dict[str, tuple[list[str], ast.expr]]
"""Functions that only refuse: their parameters, and the message made of them."""


def _raised(tree: ast.AST, shared: Helpers | None = None) -> Iterator[tuple[str, str, int]]:
    """Kind, message and line of every `raise KIND(message)`, and of every call of a function that only refuses."""
    helpers = {**(_shared() if shared is None else shared), **_helpers(tree)}
    inside = {id(node) for helper in _refusing(tree) for node in ast.walk(helper)}
    for node in ast.walk(tree):
        if id(node) in inside:
            continue
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
            call = node.exc
            if call.func.id in KINDS and call.args and (message := _message(call.args[0], {})).strip(" <>."):
                yield call.func.id, message, node.lineno
        if isinstance(node, ast.Call) and (helper := helpers.get(_called(node.func))):
            names, text = helper
            given = dict(zip(names, node.args, strict=False)) | {
                each.arg: each.value for each in node.keywords if each.arg
            }
            yield "ValueError", _message(text, given), node.lineno


def _shared() -> Helpers:
    """The one that several rooms import."""
    return _helpers(ast.parse((SOURCE / "memories" / "parts.py").read_text(encoding="utf-8")))


def _refusing(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name in ("require", "_require"):
            yield node


def _helpers(tree: ast.AST) -> Helpers:
    found: Helpers = {}
    for function in _refusing(tree):
        for node in ast.walk(function):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                names = [each.arg for each in function.args.args if each.arg != "self"]
                found[function.name] = (names, node.exc.args[0])
    return found


def _called(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(value=ast.Name(id="self"), attr=name):
            return name
        case _:
            return ""


def _message(node: ast.expr, given: Mapping[str, ast.expr]) -> str:
    """A string as it is written, with `<what>` for every value, and what is given for every parameter."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_message(part, given) for part in parts)
        case ast.FormattedValue(value=ast.Name(id=name)) if name in given:
            return _message(given[name], {})
        case ast.FormattedValue(value=value):
            return f"<{_short(value)}>"
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _message(left, given) + _message(right, given)
        case _:
            return f"<{_short(node)}>"


def _short(node: ast.expr) -> str:
    """The last name of an expression."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Call(args=[first, *_]):
            return _short(first)
        case ast.Subscript(value=value):
            return _short(value)
        case ast.Constant(value=value):
            return str(value)
        case _:
            return "..."

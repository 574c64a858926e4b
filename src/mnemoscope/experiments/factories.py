"""A model that a function in a user's Python file returns."""

import ast
import difflib
import importlib.util
import inspect
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, cast

from torch import nn

from mnemoscope.examination.subject.losses import Loss


class Made(NamedTuple):
    """What a factory returned."""

    model: nn.Module
    batches: list[Any] | None
    loss: Loss | None


def called(file: Path, function: str) -> Made:
    """What a function returns that takes no arguments; the file's code runs in this process.

    Its folder is on `sys.path` while the file is imported and the function runs.

    Raises:
        ValueError: no such file or function (with the nearest name), an error in the file, or something else than a
            model, (model, batches) or (model, batches, loss).
    """
    if not file.is_file():
        raise ValueError(f"examine: there is no file {file}; write file.py:function")
    known = functions_in(file)
    if function not in [*known, *_brought_in(file)]:
        close = difflib.get_close_matches(function, known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(
            f"examine: {file} has no function {function!r}; {hint}functions there: {', '.join(known) or 'none'}"
        )
    with _on_path(file.resolve().parent):
        factory = getattr(_imported(file), function)
        _check_arguments(file, function, factory)
        try:
            made = factory()
        except Exception as error:
            raise ValueError(f"examine: {file}:{function} raised {_described(error, file)}") from error
    return _sorted(f"{file}:{function}", made)


def functions_in(file: Path) -> list[str]:
    """The functions and classes at the top of a file, which is read and not run.

    Raises:
        ValueError: where it is not Python.
    """
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [node.name for node in _parsed(file).body if isinstance(node, kinds) and not node.name.startswith("_")]


def _brought_in(file: Path) -> list[str]:
    """Other names at the top of a file that may be functions: imported from elsewhere, or assigned."""
    found: list[str] = []
    for node in _parsed(file).body:
        if isinstance(node, ast.ImportFrom):
            found += [alias.asname or alias.name for alias in node.names]
        elif isinstance(node, ast.Assign):
            found += [target.id for target in node.targets if isinstance(target, ast.Name)]
    return found


def _parsed(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_bytes(), filename=str(file))
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"examine: {file} is not Python: {_described(error, file)}") from error


def _imported(file: Path) -> ModuleType:
    name = f"_examined_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and the like look their module up.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ValueError(f"examine: {file} cannot be imported: {_described(error, file)}") from error
    return module


@contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        if str(folder) in sys.path:
            sys.path.remove(str(folder))


def _check_arguments(file: Path, function: str, factory: Any) -> None:
    if not callable(factory):
        raise ValueError(
            f"examine: {file}:{function} must be a function, got {type(factory).__name__}; name a function that "
            "returns a model"
        )
    needed = [
        name
        for name, parameter in inspect.signature(factory).parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if needed:
        raise ValueError(
            f"examine: {file}:{function} must take no arguments, and it needs {', '.join(needed)}; give them defaults"
        )


def _sorted(where: str, made: Any) -> Made:
    parts: tuple[Any, ...] = made if isinstance(made, tuple) else (made,)
    model, batches, loss = (*parts, None, None, None)[:3]
    if not isinstance(model, nn.Module) or len(parts) > 3:
        got = (
            f"({', '.join(type(part).__name__ for part in parts)})" if isinstance(made, tuple) else type(made).__name__
        )
        raise ValueError(
            f"examine: {where} must return a model, (model, batches) or (model, batches, loss), the model an "
            f"nn.Module, got {got}"
        )
    if batches is not None and (not isinstance(batches, Iterable) or isinstance(batches, (str, bytes, dict))):
        raise ValueError(f"examine: {where} must return a list of batches second, got {type(batches).__name__}")
    if loss is not None and not callable(loss):
        raise ValueError(
            f"examine: {where} must return a loss third, a function of (model, batch) to one value per sequence, got "
            f"{type(loss).__name__}"
        )
    return Made(model, None if batches is None else list(batches), cast("Loss | None", loss))


def _described(error: BaseException, file: Path) -> str:
    """The error in one line, with the last line of the user's file that it passed through."""
    trace, line = error.__traceback__, getattr(error, "lineno", None)
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename).resolve() == file.resolve():
            line = trace.tb_lineno
        trace = trace.tb_next
    message = " ".join(str(error).split())
    place = f" (line {line})" if line is not None and f"line {line}" not in message else ""
    return f"{type(error).__name__}: {message}{place}"

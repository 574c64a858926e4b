"""A project to begin with: a model of the user's own, a task, a recipe and a test, written into a new folder.

The files are templates in `templates/`; what they become is code of the user's, which imports nothing of this room.
"""

import os
import re
import shutil
from pathlib import Path

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
SUFFIX = ".j2"
RENAMED = {"gitignore": ".gitignore"}
"""Files whose own name would act on this repository."""


def begin_project(folder: str | Path) -> list[Path]:
    """Write a new project, whole or not at all.

    Args:
        folder: which must not exist yet; its last part is the project's name. Folders above it are made if absent.

    Returns:
        its files, in the order in which one reads them.

    Raises:
        ValueError: a name that is no name, or a path that exists.
        OSError: if it cannot be written; nothing is left behind.
    """
    folder = Path(folder)
    _check(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    partial.mkdir()
    try:
        files = _rendered(folder.name)
        for name, text in files.items():
            (partial / name).write_text(text, encoding="utf-8", newline="\n")
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return [folder / name for name in files]


def _check(folder: Path) -> None:
    if not NAME.fullmatch(folder.name):
        raise ValueError(
            f"new: a project's name begins with a letter, goes on with at most 63 letters, digits, _ and -, got "
            f"{folder.name or str(folder)!r}; choose another, for instance my_experiment"
        )
    if folder.exists() or folder.is_symlink():
        raise ValueError(f"new: {folder} exists already, and nothing is written over; choose another name")


def _rendered(name: str) -> dict[str, str]:
    """The text of every file of a project."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mnemoscope.experiments.starting"),
        autoescape=False,  # Python and Markdown; the name is checked
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    rendered = {}
    for template in ORDER:
        rendered[RENAMED.get(template, template)] = environment.get_template(template + SUFFIX).render(name=name)
    return rendered


ORDER = ("README.md", "model.py", "task.py", "recipe.py", "run.py", "test_experiment.py", "pyproject.toml", "gitignore")
"""The templates, in the order in which one reads them."""

"""Pages: one for each memory, task, measure, remedy and experiment, all under the same headings.

`mnemoscope show NAME` prints them and the documentation is made of them; what they say stands in the code.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence

from mnemoscope.cli.pages.page import FOLDERS, HEADINGS, Code, Page, Part, Prose, Table

__all__ = ["FOLDERS", "HEADINGS", "Code", "Page", "Part", "Prose", "Table", "find_page", "names_of", "page_of"]


def names_of(kind: str) -> list[str]:
    """Everything of a kind that has a page."""
    from mnemoscope.cli.pages.measures import measure_names
    from mnemoscope.cli.pages.memories import memory_names
    from mnemoscope.experiments.published import EXPERIMENTS
    from mnemoscope.tasks import TASKS
    from mnemoscope.training.remedies import REMEDIES

    names: Mapping[str, Callable[[], Sequence[str]]] = {
        "memory": memory_names,
        "task": lambda: list(TASKS),
        "measure": measure_names,
        "remedy": lambda: list(REMEDIES),
        "experiment": lambda: list(EXPERIMENTS),
    }
    return list(names[kind]())


def page_of(kind: str, name: str) -> Page:
    """The page of a thing, with the settings that it has by default.

    Args:
        kind: memory, task, measure, remedy or experiment.
        name: one of `names_of(kind)`.
    """
    from mnemoscope.cli.pages.experiments import experiment_page
    from mnemoscope.cli.pages.measures import measure_page
    from mnemoscope.cli.pages.memories import memory_page
    from mnemoscope.cli.pages.remedies import remedy_page
    from mnemoscope.cli.pages.tasks import task_page

    makers: Mapping[str, Callable[[str], Page]] = {
        "memory": memory_page,
        "task": task_page,
        "measure": measure_page,
        "remedy": remedy_page,
        "experiment": experiment_page,
    }
    return makers[kind](name)


def find_page(name: str) -> tuple[str, str]:
    """Kind and name of what is called so: a task before others that share its name, unless it is given as `kind:name`.

    Raises:
        ValueError: nothing is called so; the message has the nearest.
    """
    wanted, _, alone = name.rpartition(":")
    known = {kind: names_of(kind) for kind in FOLDERS if wanted in ("", kind)}
    found = sorted((kind for kind, names in known.items() if alone in names), key=lambda kind: kind != "task")
    if not found:
        close = difflib.get_close_matches(alone, [each for kind in FOLDERS for each in names_of(kind)], n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(
            f"show: no memory, task, measure, remedy or experiment is called {name!r}; {hint}"
            "`mnemoscope list` names them all"
        )
    return found[0], alone

"""The page of a task: its file, its parameters, one sequence, and what chance and perfection cost."""

import dataclasses
import inspect
import math
from collections.abc import Sequence
from typing import Any

from mnemoscope.cli.pages.docstrings import sections_of, title_of, with_defaults
from mnemoscope.cli.pages.page import Code, Page, Part, Prose, Table
from mnemoscope.cli.pages.settings import settings_table
from mnemoscope.cli.samples import sampled
from mnemoscope.cli.terminal import MOST_COLUMNS
from mnemoscope.tasks import TASKS, build_task
from mnemoscope.tasks.options import config_of

NEEDING = {"babi_files": "folder=FOLDER"}
"""Tasks that read what does not come with the package, with the parameter that says where it is."""


def task_page(name: str, options: Sequence[str] = (), seed: int = 0, width: int = MOST_COLUMNS) -> Page:
    """The page of a task.

    Args:
        name: one of `TASKS`.
        options: parameters to change, as name=value.
        seed: of the sampled sequence.
        width: columns that the sequence may take.

    Raises:
        ValueError: an unknown parameter, an unsuitable value, or data that are not there.
    """
    module = inspect.getmodule(TASKS[name])
    assert module is not None
    config = config_of(name, options)
    docstring = module.__doc__ or ""
    own, same = "None is recorded.", "No difference is recorded."
    sections = with_defaults(sections_of(docstring), {"Source": own, "What differs from the source": same})
    shown = " ".join(["mnemoscope show", name, *(options or [NEEDING.get(name, "")])]).rstrip()
    sections["Example"] += [
        Code("bash", shown),
        settings_table({field.name: getattr(config, field.name) for field in dataclasses.fields(config)}),
    ]
    if name in NEEDING and not options:
        sections["How to read it"].append(Prose(f"`{shown}` prints a sequence where its data are."))
    else:
        task = build_task(config)
        sections["Example"].append(Code("text", "\n".join(sampled(task, seed, width))))
        sections["How to read it"].append(_losses(task))
    return Page(kind="task", name=name, title=title_of(docstring), parts=sections, module=module.__name__)


def _losses(task: Any) -> Part:
    losses = (
        ("chance", task.chance_loss, "nothing but the law of the answers is known"),
        ("memoryless", task.memoryless_loss, "the present token alone is seen"),
        ("floor", task.floor_loss, "nothing can do better"),
    )
    if task.vocab_size == 0 and all(loss is None for _, loss, _ in losses):
        return Prose(f"{task.unit}; losses in nats do not apply.")
    head = f"nats per scored {'token' if task.vocab_size else 'number'}"
    return Table([("model", head, "what it is"), *((name, _nats(loss), meaning) for name, loss, meaning in losses)])


def _nats(loss: float | None) -> str:
    return "unknown" if loss is None or math.isnan(loss) else f"{loss:.4f}"

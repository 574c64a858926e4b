"""`mnemoscope show NAME`: the page of a memory, task, measure, remedy or experiment."""

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from mnemoscope.cli.rows import first_that_fits
from mnemoscope.cli.terminal import columns, fitted

if TYPE_CHECKING:
    from mnemoscope.cli.pages import Page, Part


@dataclass(frozen=True, kw_only=True)
class Show:
    """Show the page of a memory, task, measure, remedy or experiment: what it does, why, an example, its limits."""

    name: Annotated[str, tyro.conf.Positional]
    """As `mnemoscope list` has it; experiment:NAME, or another kind, where two things share a name."""

    options: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Of a task: parameters to change, as name=value."""

    seed: int = 0
    """Of the sequence that is drawn from a task."""

    def run(self) -> int:
        """Print it."""
        from mnemoscope.cli.pages import find_page, page_of
        from mnemoscope.cli.pages.tasks import task_page

        kind, name = find_page(self.name)
        if self.options and kind != "task":
            raise ValueError(
                f"show {name}: a {kind} takes no parameters here, got {' '.join(self.options)}; leave them out"
            )
        width = columns()
        print_page(task_page(name, self.options, self.seed, width) if kind == "task" else page_of(kind, name), width)
        return 0


def print_page(page: "Page", width: int) -> None:
    """Title, then every heading with what stands below it."""
    print(fitted(page.title, width))
    for heading, parts in page.parts.items():
        print(f"\n{heading.upper()}\n")
        print("\n\n".join(_printed(part, width) for part in parts))


def _printed(part: "Part", width: int) -> str:
    from mnemoscope.cli.pages import Code, Prose

    if isinstance(part, Prose):
        return fitted(part.text, width)
    if isinstance(part, Code):
        return part.text if part.language == "text" else textwrap.indent(part.text, "    ")
    return "\n".join(first_that_fits([part.rows], width))

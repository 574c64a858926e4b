"""`mnemoscope show NAME`: what a task looks like, or the page of a remedy."""

import dataclasses
import inspect
import math
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from mnemoscope.cli.terminal import columns, fitted


@dataclass(frozen=True, kw_only=True)
class Show:
    """Show a task: its drawing, parameters, costs of chance and perfection, a sample. Or a remedy: its page."""

    task: Annotated[str, tyro.conf.Positional]
    """Its kind, as `mnemoscope list tasks` or `mnemoscope list remedies` names it."""

    options: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Parameters to change, as name=value."""

    seed: int = 0
    """Of the sampled sequence."""

    def run(self) -> int:
        """Print it."""
        from mnemoscope.cli.samples import sampled
        from mnemoscope.tasks import TASKS, build_task
        from mnemoscope.tasks.options import config_of

        if self.task not in TASKS:
            _print_remedy(self.task, self.options)
            return 0
        config = config_of(self.task, self.options)
        task = build_task(config)
        module, width = inspect.getmodule(TASKS[self.task]), columns()
        print(fitted((module.__doc__ or "").strip(), width) if module else self.task)
        print("\nparameters")
        for field in dataclasses.fields(config):
            if field.name != "kind":
                print(f"  {field.name} = {getattr(config, field.name)!r}")
        _print_losses(task)
        print()
        print("\n".join(sampled(task, self.seed, width)))
        return 0


def _print_remedy(name: str, options: tuple[str, ...]) -> None:
    """The page and the settings of a remedy.

    Raises:
        ValueError: neither a task nor a remedy; the message has the nearest of both.
    """
    from mnemoscope.contracts.written import nearest
    from mnemoscope.tasks import TASKS
    from mnemoscope.training.remedies import REMEDIES

    if name not in REMEDIES:
        raise ValueError(f"unknown task or remedy {name!r}{nearest(name, [*TASKS, *REMEDIES])}")
    if options:
        raise ValueError(f"show {name}: a remedy takes no parameters here, got {' '.join(options)}; leave them out")
    module = inspect.getmodule(REMEDIES[name])
    print(fitted((module.__doc__ or "").strip(), columns()) if module else name)
    print("\nparameters")
    for field in dataclasses.fields(REMEDIES[name]):
        if field.name != "kind":
            made = field.default_factory
            print(f"  {field.name} = {(field.default if made is dataclasses.MISSING else made())!r}")


def _print_losses(task: Any) -> None:
    losses = (
        ("chance", task.chance_loss, ""),
        ("memoryless", task.memoryless_loss, "   the present token alone is seen"),
        ("floor", task.floor_loss, "   nothing can do better"),
    )
    if task.vocab_size == 0 and all(loss is None for _, loss, _ in losses):
        print(f"\n{task.unit}; losses in nats do not apply")
        return
    print(f"\nnats per scored {'token' if task.vocab_size else 'number'}")
    for name, loss, meaning in losses:
        print(f"  {name:<11} {_nats(loss)}{meaning}")


def _nats(loss: float | None) -> str:
    return f"{'unknown':>8}" if loss is None or math.isnan(loss) else f"{loss:8.4f}"

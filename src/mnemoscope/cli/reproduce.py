"""`mnemoscope reproduce NAME`: a published figure, beside what comes out here."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from mnemoscope.cli.executing import Kind, executor_of

if TYPE_CHECKING:
    from mnemoscope.experiments.executors import Executor
    from mnemoscope.experiments.gpu_hours import TrainingEstimate
    from mnemoscope.experiments.reproducing import Experiment, Result, Size


@dataclass(frozen=True, kw_only=True)
class Reproduce:
    """Measure a published figure over several seeds and say whether its claims hold; what is finished is kept."""

    name: Annotated[str | None, tyro.conf.Positional] = None
    """Of the experiment; without it they are listed, with minutes where they were measured."""

    seeds: int = 3
    """How many, from 0."""

    size: Literal["small", "paper"] = "small"
    """Minutes on two CPU cores, or what was published; not every experiment has both. Where the trainings of "paper"
    are known, the GPU hours that they would take are estimated and printed first."""

    text: str | None = None
    """For an experiment on text: another one, as a file, a folder or "code"; its results need a folder of their own."""

    out: Path = Path("runs/reproduce")
    """Folder of the results, one JSON file for each seed; the same command goes on from what is there."""

    processes: Annotated[int | None, tyro.conf.arg(aliases=["--jobs"])] = None
    """Seeds at once, each in a process of its own; unless said one after another in this process, on Ray as many as
    the cluster has room for."""

    executor: Kind = "local"
    """This machine, or a Ray cluster, whose nodes must share the folder `--out`."""

    address: str | None = None
    """Of the Ray cluster: "auto" for the one that this machine is part of, or host:port of its head; without it a Ray
    is begun on this machine."""

    def run(self) -> int:
        """Measure and print; 1 where a claim does not hold."""
        from mnemoscope.cli.printing import say
        from mnemoscope.experiments.published import EXPERIMENTS, find_experiment, on_text
        from mnemoscope.experiments.reproducing import failures, finished
        from mnemoscope.experiments.reproduction_page import write_page

        if self.name is None:
            return _list(list(EXPERIMENTS.values()))
        experiment = find_experiment(self.name).at(self.size)
        experiment = experiment if self.text is None else on_text(experiment, self.text)
        executor = executor_of(self.executor, processes=self.processes, address=self.address)
        if len(finished(experiment, self.seeds, self.size, self.out)) < self.seeds:
            _say_what_it_takes(experiment, self.size)
        try:
            found = self._found(experiment, executor)
        except KeyboardInterrupt:
            say(f"what is finished is in {self.out}; the same command goes on from there")
            raise
        _print(experiment, found)
        command = f"mnemoscope {shlex.join(sys.argv[1:])}"
        say(f"report: {write_page(experiment, self.size, found, self.seeds, self.out, command)}")
        broken = failures(experiment.claims, found)
        for line in broken:
            say(f"FAILED: {line}")
        return 1 if broken else 0

    def _found(self, experiment: "Experiment[Any]", executor: "Executor") -> "list[Result]":
        from mnemoscope.cli.printing import say
        from mnemoscope.experiments.reproducing import reproduce
        from mnemoscope.experiments.reproducing_seeds import reproduce_on

        if self.executor == "local" and self.processes is None:
            return reproduce(experiment, self.seeds, self.size, self.out, say)
        return reproduce_on(executor, experiment, self.seeds, self.size, self.out, say)


def _say_what_it_takes(experiment: "Experiment[Any]", size: "Size") -> None:
    """Minutes where they were measured; of what was published also GPU hours, which nobody measured."""
    from mnemoscope.cli.printing import say
    from mnemoscope.experiments.gpu_hours import DEVICE, estimates, in_words, together

    if size in experiment.minutes:
        say(f"about {experiment.minutes[size]:g} minutes a seed, on one thread of a desktop CPU")
    if size != "paper" or experiment.trainings is None:
        return
    say(f"trainings of a seed, estimated for one {DEVICE.name} from its published rates, not measured:")
    found = list["TrainingEstimate"]()
    for estimate in estimates(experiment, size):
        found.append(estimate)
        say(f"  {estimate}")
    say(f"together {in_words(together(found))} a seed, an estimate; evaluations come on top")


def _list(experiments: "list[Experiment[Any]]") -> int:
    """Name, question, and sizes of each, with minutes where they were measured."""
    from mnemoscope.cli.terminal import columns, filled

    width = max(len(experiment.name) for experiment in experiments)
    for experiment in experiments:
        text = f"{experiment.name:<{width}}  {experiment.what} ({', '.join(_sizes(experiment))})"
        print(filled(text, columns(), hanging=width + 2))
    return 0


def _sizes(experiment: "Experiment[Any]") -> "list[str]":
    measured = experiment.minutes
    return [f"{size}: {measured[size]:g} minutes a seed" if size in measured else size for size in experiment.sizes]


def _print(experiment: "Experiment[Any]", found: "list[Result]") -> None:
    """Aligned; plain when piped."""
    from rich.console import Console
    from rich.table import Table

    from mnemoscope.experiments.reproducing import HEADS, table

    head, *rows = table(experiment.claims, found)
    drawn = Table(box=None, pad_edge=False)
    for i, name in enumerate(head):
        is_text = i < len(HEADS)
        drawn.add_column(name, justify="left" if is_text else "right", no_wrap=not is_text)
    for row in rows:
        drawn.add_row(*row)
    print(f"{experiment.what}\nsource: {experiment.source}\n")
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 200, highlight=False).print(drawn)

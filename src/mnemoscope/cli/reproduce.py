"""`mnemoscope reproduce NAME`: a published figure, beside what comes out here."""

import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from mnemoscope.cli.executing import Kind, executor_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mnemoscope.experiments.executors import Executor
    from mnemoscope.experiments.gpu_hours import TrainingEstimate
    from mnemoscope.experiments.reproducing import Experiment, Result, Size

WITH_FINDINGS = ("survey", "parallax")
"""Names of several studies, whose claims have pages; see `experiments.published.FINDINGS`."""


@dataclass(frozen=True, kw_only=True)
class Reproduce:
    """Measure a published figure over several seeds and say whether its claims hold; what is finished is kept.

    A claim that does not hold is a finding: it is printed, and the exit code is 0, unless `--strict` asks otherwise.
    """

    name: Annotated[str | None, tyro.conf.Positional] = None
    """Of the experiment, "survey" for all studies of the literature's claims, or "parallax" for all of the Parallax
    notes'; without it all are listed, with minutes where they were measured."""

    list_only: Annotated[bool, tyro.conf.arg(name="list")] = False
    """List what is named, with minutes where they were measured, and measure nothing."""

    findings: Path | None = None
    """With "survey" or "parallax": write a page for each claim into this folder, from the results that are there, and
    measure nothing. Without it, they are written into the folder "findings" of --out (that of Parallax into
    "findings/parallax") when all studies are finished."""

    strict: bool = False
    """End with exit code 1 where a claim does not hold, for scripts that rely on one that did."""

    seeds: int = 3
    """How many, from 0."""

    size: Literal["small", "paper"] = "small"
    """Minutes on two CPU cores, or what was published; not every experiment has both. Where the trainings of "paper"
    are known, the GPU hours that they would take are estimated and printed first."""

    text: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """For an experiment on text: another one, as a file, a folder or "code"; its results need a folder of their own.
    Given twice where an experiment compares two texts."""

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
        """Measure and print; 1 where a claim does not hold and `strict` is set."""
        from mnemoscope.cli.printing import say
        from mnemoscope.experiments.published import EXPERIMENTS, find_experiment, on_text
        from mnemoscope.experiments.reproducing import failures, finished
        from mnemoscope.experiments.reproduction_page import write_page

        if self.findings is not None and self.name not in WITH_FINDINGS:
            either = " or ".join(WITH_FINDINGS)
            raise ValueError(f"reproduce: --findings goes with {either}; leave it out, or name one of them")
        if self.name is None or self.list_only:
            named = EXPERIMENTS.values() if self.name is None else _experiments_of(self.name)
            return _list([*named])
        if self.name in WITH_FINDINGS:
            if self.text:
                raise ValueError(
                    f"reproduce: --text goes with one experiment; leave it out, or name one of {self.name}"
                )
            return self._studies(self.name)
        experiment = find_experiment(self.name).at(self.size)
        experiment = on_text(experiment, *self.text) if self.text else experiment
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
            say(f"does not hold: {line}")
        return 1 if broken and self.strict else 0

    def _studies(self, name: str) -> int:
        """Every study, unless only pages are asked for; then the pages of what they found."""
        from mnemoscope.cli.printing import say
        from mnemoscope.experiments.published import FINDINGS
        from mnemoscope.experiments.survey.pages import write_findings

        codes, (heading, studies) = [0], FINDINGS[name]
        if self.findings is None:
            codes += [replace(self, name=study.experiment.name).run() for study in studies]
        folder = self.findings or self.out / heading.folder
        index, *pages = write_findings(studies, self.seeds, self.out, folder, heading)
        say(f"{len(pages)} findings: {index}")
        return max(codes)

    def _found(self, experiment: "Experiment[Any]", executor: "Executor") -> "list[Result]":
        from mnemoscope.cli.printing import say
        from mnemoscope.experiments.reproducing import reproduce
        from mnemoscope.experiments.reproducing_seeds import reproduce_on

        if self.executor == "local" and self.processes is None:
            return reproduce(experiment, self.seeds, self.size, self.out, say)
        return reproduce_on(executor, experiment, self.seeds, self.size, self.out, say)


def _experiments_of(name: str) -> "Sequence[Experiment[Any]]":
    """The experiments that a name stands for."""
    from mnemoscope.experiments.published import FINDINGS, find_experiment

    return [study.experiment for study in FINDINGS[name][1]] if name in FINDINGS else [find_experiment(name)]


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

"""Seeds of a reproduction as jobs: each in a process of its own, here or on a cluster."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnemoscope.experiments.executors import Executor
from mnemoscope.experiments.reproducing import Experiment, Result, Say, Size, finished, reproduce_seed, seed_file


@dataclass(frozen=True, kw_only=True)
class SeedJob:
    """A seed that is wanted; it can be sent to another process or machine.

    Args:
        experiment: what to measure.
        size: of it.
        seed: of it.
        out: folder of all experiments.
    """

    experiment: Experiment[Any]
    size: Size
    seed: int
    out: Path

    @property
    def name(self) -> str:
        """Experiment and seed."""
        return f"{self.experiment.name} seed {self.seed}"

    @property
    def place(self) -> Path:
        """The file of its results."""
        return seed_file(self.experiment, self.size, self.out, self.seed)

    @property
    def threads(self) -> int:
        """One, as in `reproduce`."""
        return 1

    @property
    def is_finished(self) -> bool:
        """Whether its results are there."""
        return self.place.exists()


def run_seed(job: SeedJob) -> None:
    """Measure and write; see `reproduce_seed`."""
    reproduce_seed(job.experiment, job.seed, job.size, job.out)


def reproduce_on(
    executor: Executor, experiment: Experiment[Any], n_seeds: int, size: Size, out: str | Path, say: Say
) -> list[Result]:
    """What `reproduce` does, with seeds side by side; a seed that fails does not keep the others from being measured.

    Args:
        executor: where.
        experiment: what to measure; what it holds must be functions of modules, so that it can be sent.
        n_seeds: seeds 0 ... n_seeds - 1.
        size: one that the experiment has.
        out: folder of all experiments; made if absent.
        say: told what happens.

    Raises:
        ValueError: as `reproduce`, or as the executor.
        ChildProcessError: a seed failed; what is finished is kept.
    """
    finished(experiment, n_seeds, size, out)
    out = Path(out).absolute()
    jobs = [SeedJob(experiment=experiment, size=size, seed=seed, out=out) for seed in range(n_seeds)]
    waiting, failed = [job for job in jobs if not job.is_finished], list[str]()
    for job in jobs:
        if job.is_finished:
            say(f"{job.name}: in {job.place} already")
    for number, (job, failure) in enumerate(executor.run(waiting, run_seed), start=1):
        failed += [f"{job.name}: {failure}"] if failure else []
        say(f"[{number}/{len(waiting)}] {job.name}: {failure or 'finished'}")
    if failed:
        raise ChildProcessError(
            f"reproduce: {len(failed)} of {n_seeds} seeds failed ({'; '.join(failed)}); what is finished is in {out}, "
            "and the same command tries the others again"
        )
    return finished(experiment, n_seeds, size, out)

"""One seed of one arm: trained, then examined; whatever is there already is not done again."""

from dataclasses import dataclass
from pathlib import Path

from mnemoscope.examination import Budget
from mnemoscope.experiments.examining import examine_run
from mnemoscope.runs import RunDirectory
from mnemoscope.training import Recipe, train_recipe


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run that is wanted; it can be sent to another process or machine.

    Args:
        arm: name of the arm.
        seed: of the run.
        recipe: with this seed.
        folder: of the run, seen by whoever reads the results.
        budget: of the examination.
        local_window: see `examine`; the same for all arms, so that they are asked the same question.
        device: where it is trained and examined, for instance "cpu" or "cuda".
    """

    arm: str
    seed: int
    recipe: Recipe
    folder: Path
    budget: Budget
    local_window: int | None = None
    device: str = "cpu"

    @property
    def name(self) -> str:
        """Arm and seed."""
        return f"{self.arm} seed {self.seed}"

    @property
    def place(self) -> Path:
        """The run's folder."""
        return self.folder

    @property
    def threads(self) -> int | None:
        """CPU threads that the recipe names."""
        return self.recipe.train.threads

    @property
    def is_finished(self) -> bool:
        """Whether the run is trained and examined."""
        run = RunDirectory(self.folder)
        return run.verdicts_path.exists() and run.manifest_path.exists()


def run_job(job: Job) -> None:
    """Train and examine, or go on where an earlier process was stopped.

    Raises:
        KeyboardInterrupt: a signal stopped it; what there is can be gone on with.
        ValueError: the folder holds another recipe.
        NonFiniteLossError: a loss or gradient became infinite or NaN.
    """
    run = RunDirectory(job.folder)
    if not (run.manifest_path.exists() and run.read_manifest().exit_state == "finished"):
        begun = run.begun
        result = train_recipe(job.recipe, job.folder, resume=begun, progress=False, device=job.device)
        if result.exit_state == "interrupted":
            raise KeyboardInterrupt
    if not run.verdicts_path.exists():
        examine_run(job.folder, job.budget, job.local_window, device=job.device)

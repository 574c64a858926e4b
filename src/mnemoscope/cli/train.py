"""`mnemoscope train`: a recipe becomes a run."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from mnemoscope.experiments.watching import MemoryWatch
    from mnemoscope.training import Recipe


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a recipe and leave a run directory; an interrupted or killed run goes on with --resume."""

    recipe: Annotated[str, tyro.conf.Positional]
    """Name of a recipe (see `mnemoscope list recipes`), or a JSON file that holds one."""

    out: Path
    """Folder of the run: new, or with --resume that of the run."""

    layout: str | None = None
    """Other mixers, for instance "attention(window=16), gated_delta"."""

    steps: int | None = None
    """Another number of steps."""

    seed: int | None = None
    """Another seed."""

    remedies: str = ""
    """What is put on the model while it is trained, for instance "branch_dropout(strength=0.5)"; see `mnemoscope list
    remedies`."""

    lesson: str = ""
    """How the model is run on what a step sees: "carried(reset=0.5)" or "episodic"."""

    precision: Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true"] | None = None
    """Of weights and matrix products."""

    device: str = "cpu"
    """Where to train, for instance "cuda"."""

    watch: int | None = None
    """Look at every memory every so many steps, and warn the moment one begins to idle."""

    resume: bool = False
    """Go on from the last checkpoint."""

    def run(self) -> int:
        """Train; 0 if finished, 1 if a signal stopped it."""
        from mnemoscope.experiments.recipes import find_recipe, treated_with, with_changes
        from mnemoscope.models import reads_vectors
        from mnemoscope.training import train_recipe

        recipe = with_changes(find_recipe(self.recipe), layout=self.layout, steps=self.steps, seed=self.seed)
        recipe = treated_with(recipe, self.remedies, self.lesson, self.precision)
        callbacks = [] if self.watch is None else [_watch(recipe, self.watch)]
        result = train_recipe(recipe, self.out, resume=self.resume, device=self.device, callbacks=callbacks)
        if result.exit_state == "interrupted":
            print(f"stopped after step {result.step}; go on with: mnemoscope {' '.join(_again())}")
            return 1
        figures = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in result.validation.items())
        print(f"{self.out}: {result.step} steps in {result.seconds:.0f} s; {figures}")
        if not reads_vectors(recipe.model):
            print(f"next: mnemoscope examine {self.out}")
        return 0


def _watch(recipe: "Recipe", every: int) -> "MemoryWatch":
    from mnemoscope.experiments.watching import WatchConfig, watch_task
    from mnemoscope.tasks import build_task

    return watch_task(build_task(recipe.task), config=WatchConfig(every=every), trained_on=recipe.train.loss)


def _again() -> list[str]:
    import shlex

    words = sys.argv[1:] if "--resume" in sys.argv else [*sys.argv[1:], "--resume"]
    return [shlex.quote(word) for word in words]

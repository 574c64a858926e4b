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

    settings: Annotated[tuple[str, ...], tyro.conf.arg(name="set")] = ()
    """Other settings of the recipe, each OWNER.NAME=VALUE: train.weight_decay=0, masked_words.n_masks=8, or
    *.initial_step_size=0.2 for everything that has such a setting."""

    remedies: str = ""
    """What is put on the model while it is trained, for instance "branch_dropout(strength=0.5)"; see `mnemoscope list
    remedies`."""

    lesson: str = ""
    """How the model is run on what a step sees: "carried(reset=0.5)" or "episodic"."""

    precision: Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true"] | None = None
    """Of weights and matrix products."""

    device: str = "cpu"
    """Where to train: "cpu", "cuda", "cuda:1", or "mps" (the GPU of a Mac)."""

    watch: int | None = None
    """Look at every memory every so many steps, and warn the moment one begins to idle."""

    logger: str = ""
    """Show the run elsewhere too: "tensorboard", "trackio", "wandb(mode='online')", or several by comma."""

    strategy: Literal["ddp", "fsdp"] | None = None
    """Of several processes, started by torchrun: whole weights in each (ddp, the default), or shards (fsdp)."""

    resume: bool = False
    """Go on from the last checkpoint; what torchrun starts again after a failure does so by itself."""

    def run(self) -> int:
        """Train; 0 if finished, 1 if a signal stopped it."""
        from mnemoscope.contracts.processes import launched
        from mnemoscope.experiments.recipes import find_recipe, treated_with, with_changes
        from mnemoscope.experiments.settings import with_settings
        from mnemoscope.experiments.watching.episodes import EpisodeTable
        from mnemoscope.models import reads_vectors
        from mnemoscope.training import train_recipe
        from mnemoscope.training.loggers import Mirror, parse_loggers
        from mnemoscope.training.progress import is_headline

        if self.watch is not None and self.strategy == "fsdp":
            raise ValueError("--watch: runs the model, of which each process has a shard with fsdp; use --strategy ddp")
        recipe = with_changes(find_recipe(self.recipe), layout=self.layout, steps=self.steps, seed=self.seed)
        recipe = with_settings(treated_with(recipe, self.remedies, self.lesson, self.precision), self.settings)
        callbacks = [] if self.watch is None else [_watch(recipe, self.watch)]
        callbacks += [EpisodeTable()] if recipe.lesson.kind == "episodic" else []
        with Mirror(self.out, loggers := parse_loggers(self.logger)) as mirror:
            callbacks = [*callbacks, mirror]
            result = train_recipe(
                recipe,
                self.out,
                resume=self.resume,
                device=self.device,
                callbacks=callbacks,
                strategy=self.strategy,
            )
        here = launched()
        if not here.is_first:
            return int(result.exit_state == "interrupted")
        if result.exit_state == "interrupted":
            program = "mnemoscope" if here.count == 1 else "torchrun ... -m mnemoscope"
            print(f"stopped after step {result.step}; go on with: {program} {' '.join(_again())}")
            return 1
        shown = {name: value for name, value in result.validation.items() if is_headline(name)}
        figures = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in shown.items())
        print(f"{self.out}: {result.step} steps in {result.seconds:.0f} s; {figures}")
        for config in loggers:
            print(f"{config.kind}: {config.shown(self.out)}")
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

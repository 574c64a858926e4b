"""`mnemoscope train`: a recipe becomes a run."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


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

    resume: bool = False
    """Go on from the last checkpoint."""

    def run(self) -> int:
        """Train; 0 if finished, 1 if a signal stopped it."""
        from mnemoscope.experiments.recipes import find_recipe, with_changes
        from mnemoscope.training import train_recipe

        recipe = with_changes(find_recipe(self.recipe), layout=self.layout, steps=self.steps, seed=self.seed)
        result = train_recipe(recipe, self.out, resume=self.resume)
        if result.exit_state == "interrupted":
            print(f"stopped after step {result.step}; go on with: mnemoscope {' '.join(_again())}")
            return 1
        figures = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in result.validation.items())
        print(f"{self.out}: {result.step} steps in {result.seconds:.0f} s; {figures}")
        if recipe.model.vectors is None:
            print(f"next: mnemoscope examine {self.out}")
        return 0


def _again() -> list[str]:
    import shlex

    words = sys.argv[1:] if "--resume" in sys.argv else [*sys.argv[1:], "--resume"]
    return [shlex.quote(word) for word in words]

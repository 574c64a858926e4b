"""`mnemoscope prune RUN`: which memories a trained run can live without, by learned gates (D17)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True, kw_only=True)
class Prune:
    """Fine-tune a run with a gate at every memory and a price for each open one; what is finished is kept."""

    target: Annotated[Path, tyro.conf.Positional]
    """Folder of the run."""

    lambdas: str = "0.01,0.1,1"
    """Prices in nats per scored token, separated by commas; each is a fine-tuning of its own."""

    steps: int = 300
    """Of each fine-tuning."""

    sites: tuple[str, ...] = ()
    """Path patterns of memories; without it those that announce themselves."""

    seed: int = 0
    """Of data and gates."""

    out: Path | None = None
    """Folder of the results; without it runs/pruning/ and the name of the run. The same command goes on from there."""

    def run(self) -> int:
        """Learn and print."""
        from mnemoscope.cli.printing import say
        from mnemoscope.cli.rows import numbers, print_rows
        from mnemoscope.experiments.trained.pruning_gates import (
            PRUNING,
            PruneConfig,
            conclusion,
            prune_run,
            pruning_table,
        )

        config = PruneConfig(lambdas=numbers("prune: --lambdas", self.lambdas), steps=self.steps, seed=self.seed)
        folder = self.out or Path("runs/pruning") / self.target.resolve().name
        try:
            found = prune_run(self.target, folder, config, say, self.sites or None)
        except KeyboardInterrupt:
            say(f"what is finished is in {folder}; the same command goes on from there")
            raise
        print_rows(pruning_table(found))
        say(conclusion(found))
        say(str(folder / PRUNING))
        return 0

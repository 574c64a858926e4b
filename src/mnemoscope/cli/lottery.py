"""`mnemoscope lottery RUN`: how small the memory of a trained run could be and still be learned (D18)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True, kw_only=True)
class Lottery:
    """Prune memories of a run by magnitude, rewind the rest to its start, train again; what is finished is kept."""

    target: Annotated[Path, tyro.conf.Positional]
    """Folder of the run."""

    shares: str = "0.5,0.8,0.95"
    """Shares of each memory's weights to prune, separated by commas; each is a whole training."""

    seed: int = 0
    """Of the held-out sequences."""

    out: Path | None = None
    """Folder of the results; without it runs/lottery/ and the name of the run. The same command goes on from there."""

    def run(self) -> int:
        """Train and print."""
        from mnemoscope.cli.printing import say
        from mnemoscope.cli.rows import numbers, print_rows
        from mnemoscope.experiments.trained.lottery import LOTTERY, LotteryConfig, lottery, lottery_table

        config = LotteryConfig(shares=numbers("lottery: --shares", self.shares), seed=self.seed)
        folder = self.out or Path("runs/lottery") / self.target.resolve().name
        try:
            found = lottery(self.target, folder, config, say)
        except KeyboardInterrupt:
            say(f"what is finished is in {folder}; the same command goes on from there")
            raise
        say(
            f"{found.subject}: loss {found.loss} nats on {found.n_test} sequences; memories {', '.join(found.memories)}"
        )
        print_rows(lottery_table(found))
        say(str(folder / LOTTERY))
        return 0

"""`mnemoscope log RUN --to LOGGER`: a run that is on disk, shown in a logger."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True, kw_only=True)
class Log:
    """Send a run to TensorBoard, trackio or Weights & Biases: settings, figures, how it ended, and its verdicts.

    What a logger has already is not sent again, so this also sends what is missing after a failure of the network, and
    the verdicts of a run that was examined since.
    """

    run_folder: Annotated[Path, tyro.conf.Positional]
    """Folder of the run."""

    to: str = ""
    """Loggers: "tensorboard", "trackio", "wandb(mode='online')", or several by comma; by default where the run is
    logged already."""

    def run(self) -> int:
        """Send; 0 if every logger took it, 1 if one failed."""
        from mnemoscope.runs import RunDirectory
        from mnemoscope.training.loggers import LOGGERS, parse_loggers, send_run
        from mnemoscope.training.loggers.mirror import logged_to

        folder = RunDirectory.open(self.run_folder).path
        loggers = parse_loggers(self.to or ", ".join(logged_to(folder)))
        if not loggers:
            raise ValueError(f"log: {folder} is not logged anywhere yet; give --to {', '.join(LOGGERS)}")
        failed = send_run(folder, loggers)
        for config in loggers:
            print(f"{folder}: {config.kind}; to see it: {config.shown(folder)}")
        return 1 if failed else 0

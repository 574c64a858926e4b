"""`mnemoscope export RUN --to FOLDER`: a run as a Hugging Face model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write the model of a run as a folder that Hugging Face transformers loads, with a tokeniser where it reads text.

    What is loaded from the folder is compared with the run's own model before the folder appears.
    """

    run_folder: Annotated[Path, tyro.conf.Positional]
    """Folder of the run."""

    to: Path
    """New folder for the model."""

    force: bool = False
    """Replace an earlier export in that folder."""

    def run(self) -> int:
        """Export and print."""
        from mnemoscope.experiments.exporting import export_run

        exported = export_run(self.run_folder, self.to, force=self.force)
        rows = [
            ("step", f"{exported.step}"),
            ("parameters", f"{exported.parameters:,}"),
            ("tokeniser", exported.tokeniser or "none: the tokens of this task are not those of a text"),
            ("logits", f"equal to {exported.largest_difference:.1e} over {exported.n_compared} tokens"),
        ]
        print(f"{exported.run} -> {self.to}")
        for name, text in rows:
            print(f"  {name:<14} {text}")
        print(f"{self.to}: next: mnemoscope examine {self.to} --data ..., or load it as {self.to / 'README.md'} says")
        return 0

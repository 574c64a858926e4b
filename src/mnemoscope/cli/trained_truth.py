"""`mnemoscope trained-truth`: verdicts on trained hybrids, beside what retraining without their memory costs."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnemoscope.experiments.trained import Hybrid


@dataclass(frozen=True, kw_only=True)
class TrainedTruth:
    """Train hybrids with and without their memory, examine them, and compare; what is finished is kept."""

    subject: str | None = None
    """One hybrid: narrow, wide, qwen3-next or falcon-h1 (the last two need transformers); without it all of them."""

    seeds: int = 3
    """Of each."""

    runs: Path = Path("runs/trained")
    """Folder of the trainings; the same command goes on from what is there."""

    out: Path | None = None
    """A page of the results to write, in Markdown."""

    finished: bool = False
    """Train and examine nothing: show what is finished."""

    def run(self) -> int:
        """Train, examine and print; 1 where the control does not miss its memory."""
        from mnemoscope.cli.printing import say
        from mnemoscope.experiments.trained import find_hybrids, run_truth

        hybrids = find_hybrids([] if self.subject is None else [self.subject])
        if self.out is not None and not self.out.parent.is_dir():
            raise ValueError(f"trained-truth: --out must be in a folder that is there, got {self.out}")
        try:
            if not self.finished:
                run_truth(hybrids, self.seeds, self.runs, say)
        except KeyboardInterrupt:
            say(f"what is finished is in {self.runs}; the same command goes on from there")
            self._show(hybrids)
            raise
        return self._show(hybrids)

    def _show(self, hybrids: "list[Hybrid]") -> int:
        """Print or write the page of what is finished; see `run` for the number."""
        from mnemoscope.cli.printing import say
        from mnemoscope.experiments.trained import failures, outcomes, page
        from mnemoscope.runs import write_text

        command = shlex.join(["mnemoscope", *(word for word in sys.argv[1:] if word != "--finished")])
        found = outcomes(hybrids, self.seeds, self.runs)
        text = page(hybrids, self.seeds, found, command)
        if self.out is None:
            say(text)
        else:
            write_text(self.out, text)
            say(str(self.out))
        return 1 if failures(hybrids, found) else 0

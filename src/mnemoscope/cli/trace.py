"""`mnemoscope trace`: one sequence token by token, with and without each memory."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Show, token by token, what the loss would be without each memory, and what each token wrote and read.

    Writes trace.json and trace.html into the run's folder; a report that is drawn later shows the trace too. What
    stands in place of a read comes from other sequences, as in an examination. One sequence decides nothing: verdicts
    are those of `mnemoscope examine`.
    """

    run_folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(name="run")]
    """Folder of a run, or of one of its checkpoints."""

    text: Path | None = None
    """A text file, for runs that were trained on text; by default a sequence of the run's own test split."""

    index: int = 0
    """Which sequence of the test split, counted from 0, where there is no --text."""

    length: int | None = None
    """Tokens that are traced, at most; by default as many as the run was trained on."""

    sites: tuple[str, ...] | None = None
    """Path patterns of memories, as of `mnemoscope examine`; by default those that are announced."""

    by: Literal["optimal_constant", "mean", "resample"] = "optimal_constant"
    """What stands in place of a read: the one vector that costs least, the mean, or reads of other sequences."""

    calibration: int = 128
    """Sequences of the validation split from which that is fitted."""

    fit_steps: int = 150
    """Optimisation steps of an optimal constant."""

    show: str | None = None
    """The site whose numbers are printed, a path pattern; by default the one that matters most here."""

    rows: int = 12
    """Tokens that are printed with their numbers, those that depend most on the memory; 0 for all."""

    out: Path | None = None
    """Folder for trace.json and trace.html; by default that of the run."""

    json: Path | None = None
    """Also write the record to this file."""

    device: str = "cpu"
    """Where the model runs: "cpu", "cuda", "cuda:1", or "mps" (the GPU of a Mac)."""

    def run(self) -> int:
        """Trace, print, write."""
        from dataclasses import replace

        from mnemoscope.cli.trace_view import print_trace, shown_site
        from mnemoscope.examination.tracing import TRACE_BUDGET
        from mnemoscope.experiments.tracing import keep_trace, trace
        from mnemoscope.runs import write_record

        if self.rows < 0:
            raise ValueError(f"trace: --rows must be 0 (all) or more, got {self.rows}")
        record = trace(
            self.run_folder,
            self._text(),
            sites=self.sites,
            replaced_by=self.by,
            budget=replace(TRACE_BUDGET, n_calibration=self.calibration, fit_steps=self.fit_steps),
            length=self.length,
            index=self.index,
            device=self.device,
            told=_progress,
        )
        command = shlex.join(["mnemoscope", *sys.argv[1:]])
        source = record.source if self.text is None else f"the text {self.text}"
        record = record.model_copy(update={"command": command, "source": source})
        print_trace(record, shown_site(record, self.show), self.rows)
        print(keep_trace(record, self.out or self.run_folder))
        if self.json is not None:
            self.json.parent.mkdir(parents=True, exist_ok=True)
            write_record(self.json, record)
            print(self.json)
        return 0

    def _text(self) -> str | None:
        """The content of the file.

        Raises:
            ValueError: where it is not UTF-8.
        """
        if self.text is None:
            return None
        if self.index:
            raise ValueError("trace: --index is for sequences of the test split; leave it out with --text")
        try:
            return self.text.read_bytes().decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"trace: {self.text} must be UTF-8 text: {error.reason} at byte {error.start}") from None


def _progress(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{what} ...", end="", file=sys.stderr, flush=True)
        if what.startswith("looking"):
            print("\r\033[K", end="", file=sys.stderr, flush=True)

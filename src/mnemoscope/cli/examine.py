"""`mnemoscope examine`: verdicts for every memory of a model."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from mnemoscope.experiments.examining import Choice
    from mnemoscope.experiments.held_out import Data
    from mnemoscope.runs import Examination

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


@dataclass(frozen=True, kw_only=True)
class Examine:
    """Decide for every memory of a model whether it is load-bearing; writes verdicts.json and report.html.

    Ctrl-C ends the test early: what is finished is decided on and written, what is missing is said. Several processes
    share the work: torchrun --nproc-per-node N -m mnemoscope examine TARGET.
    """

    target: Annotated[str, tyro.conf.Positional]
    """Folder of a run; a Hugging Face model, as a folder or owner/name; or file.py:function, which returns a model,
    (model, batches) or (model, batches, loss)."""

    data: str | None = None
    """Held-out data: a text (file, folder, or "prose"), or a task as task:mqar,n_pairs=4. A run has its own."""

    length: int | None = None
    """Tokens of a window of a text; 256 by default."""

    batch: int = 32
    """Sequences that are evaluated at once, at most."""

    sites: tuple[str, ...] | None = None
    """Path patterns of memories ("model.layers.*.mixer"), or hook names; by default what is known or announced. Behind
    a pattern, [heads], "[head 2]" or "[channels 0:16]" names parts of its read."""

    heads: bool = False
    """A verdict for every head of every memory, as if [heads] stood behind each, and for its heads together."""

    routes: tuple[str, ...] | None = None
    """Path patterns of what could replace them; "none" where nothing could."""

    group: tuple[str, ...] = ()
    """Memories that get a verdict together, as name=pattern,pattern."""

    subset: tuple[str, ...] = ()
    """Positions that get verdicts of their own, as name=field>=number: late=position>=128, far=distance>=64."""

    calibration: int = 512
    """Sequences on which constants are fitted."""

    test: int = 1024
    """Held-out sequences on which effects are measured."""

    fit_steps: int = 300
    """Optimisation steps of an optimal constant."""

    local_window: int | None = None
    """Tokens of history that count as local; by default 4, or the longest short window of attention."""

    max_minutes: float | None = None
    """Stop testing then, and decide on what is there."""

    dry_run: bool = False
    """Print sites, interventions, estimated minutes and memory, and stop."""

    out: Path | None = None
    """Folder of the results; by default that of the run, or examinations/NAME."""

    device: str = "cpu"
    """Where the model runs: "cpu", "cuda", "cuda:1", or "mps" (the GPU of a Mac). Under torchrun, "cuda"
    is a GPU for each process."""

    allow_pickle: bool = False
    """Also load weights that are not safetensors; unpickling runs code that the file holds."""

    seed: int = 0
    """Of bootstrap and random constants."""

    def run(self) -> int:
        """Examine and print; 130 if Ctrl-C left something missing."""
        from mnemoscope.contracts import launched, process_group
        from mnemoscope.training.ranks import device_of

        here, device = launched(), device_of(self.device)
        try:
            with process_group(device):
                return self._examine(str(device), here.is_first)
        except (ValueError, ArithmeticError, KeyboardInterrupt) as error:
            if here.is_first:
                raise
            # The first process has the same error and says it.
            return 2 if isinstance(error, ValueError) else 1 if isinstance(error, ArithmeticError) else INTERRUPTED

    def _examine(self, device: str, is_first: bool) -> int:
        from mnemoscope.cli.advance import Advance
        from mnemoscope.cli.plans import print_plan
        from mnemoscope.cli.printing import print_verdicts
        from mnemoscope.examination import Budget
        from mnemoscope.experiments.examining import examine_subject, keep, plan_subject
        from mnemoscope.experiments.subjects import prepared

        budget = Budget(
            n_calibration=self.calibration,
            n_test=self.test,
            fit_steps=self.fit_steps,
            max_minutes=self.max_minutes,
            seed=self.seed,
        )
        choice, data = self._choice(), self._data()
        subject = prepared(self.target, data, budget, device=device, allow_pickle=self.allow_pickle)
        if self.dry_run:
            if is_first:
                print_plan(subject.name, plan_subject(subject, budget, choice), self.max_minutes)
            return 0
        if not is_first:
            return _exit_code(examine_subject(subject, budget, choice), is_first)
        with Advance() as advance:
            examination = examine_subject(subject, budget, choice, advance)
        print_verdicts(subject.name, examination)
        folder = subject.folder if self.out is None else self.out
        print(keep(subject, examination, folder, shlex.join(["mnemoscope", *sys.argv[1:]])))
        _log(folder)
        return _exit_code(examination, is_first)

    def _choice(self) -> "Choice":
        from mnemoscope.experiments.choosing import groups_from, subsets_from
        from mnemoscope.experiments.examining import Choice

        return Choice(
            sites=self.sites,
            routes=() if self.routes == ("none",) else self.routes,
            groups=groups_from(self.group),
            subsets=subsets_from(self.subset),
            local_window=self.local_window,
            heads=self.heads,
        )

    def _data(self) -> "Data":
        from mnemoscope.experiments.held_out import Data

        return Data(source=self.data, length=self.length, batch=self.batch)


def _log(folder: Path) -> None:
    """Send the verdicts to where the run is logged, if it is."""
    from mnemoscope.training.loggers import parse_loggers, send_run
    from mnemoscope.training.loggers.mirror import logged_to

    if loggers := parse_loggers(", ".join(logged_to(folder))):
        send_run(folder, loggers)


def _exit_code(examination: "Examination", is_first: bool) -> int:
    """The examination is decided and written by now, on what there was."""
    for line in examination.missing if is_first else ():
        print(f"missing: {line}", file=sys.stderr)
    return INTERRUPTED if any("interrupted" in line for line in examination.missing) else 0

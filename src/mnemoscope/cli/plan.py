"""`mnemoscope plan`: what a training and an examination would do, hold and take."""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from mnemoscope.experiments.planning import Wanted


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Say before anything runs what a training and an examination cost: FLOPs, bytes, memory and time.

    FLOPs, bytes and memory are counted operation by operation, without computing anything. Times on this device are
    predicted from rates that are measured on small models of the same layout, once; times on other devices are
    estimates from published rates.
    """

    subject: Annotated[str | None, tyro.conf.Positional] = None
    """A recipe (see `mnemoscope list recipes`) or a JSON file that holds one, the folder of a run, or a Hugging Face
    model as a folder or owner/name, of which the config alone is read."""

    layout: str | None = None
    """Other mixers, for instance "attention(window=16), gated_delta"."""

    width: int | None = None
    """Another width of the residual stream."""

    depth: int | None = None
    """Another number of blocks; the layout is repeated, or cut."""

    vocab: int | None = None
    """Another number of tokens in the vocabulary."""

    context: int | None = None
    """Tokens of a sequence; by default those of the recipe's task."""

    batch: int | None = None
    """Sequences of a training batch on one device."""

    train: int | None = None
    """Training steps."""

    precision: Literal["32-true", "bf16-mixed"] | None = None
    """Of the training."""

    examine: bool = False
    """Also plan an examination; the first on this device measures some small ones, for a minute or so."""

    calibration: int = 512
    """Sequences on which constants are fitted."""

    test: int = 1024
    """Held-out sequences on which effects are measured."""

    fit_steps: int = 300
    """Optimisation steps of an optimal constant."""

    examine_batch: int = 32
    """Sequences that an examination evaluates at once."""

    device: tuple[str, ...] = ("this", "h100", "h200")
    """Which of this, h100 and h200."""

    count: int = 1
    """Devices that train together, each with the batch; for h100 and h200."""

    refresh: bool = False
    """Measure this device again."""

    check: bool = False
    """Predict held-out sizes of several layouts, measure them, and print the errors; takes some minutes."""

    def run(self) -> int:
        """Print the plan; with --check, 1 if an error is not under the bar."""
        from mnemoscope.cli.plan_tables import print_planned
        from mnemoscope.experiments.planning import Changes, plan_target, target_of

        if self.check:
            return self._check()
        if self.subject is None:
            raise ValueError("plan: name a recipe, a run or a Hugging Face model; mnemoscope list recipes has recipes")
        wanted = self._wanted()
        changes = Changes(
            layout=self.layout,
            width=self.width,
            depth=self.depth,
            vocab=self.vocab,
            context=self.context,
            batch=self.batch,
            steps=self.train,
            precision=self.precision,
        )
        print_planned(plan_target(target_of(self.subject, changes), wanted, _say), wanted.count)
        return 0

    def _wanted(self) -> "Wanted":
        from mnemoscope.examination import Budget
        from mnemoscope.experiments.planning import Wanted

        budget = Budget(n_calibration=self.calibration, n_test=self.test, fit_steps=self.fit_steps)
        return Wanted(
            devices=self.device,
            count=self.count,
            budget=budget if self.examine else None,
            examined_batch=self.examine_batch,
            refresh=self.refresh,
        )

    def _check(self) -> int:
        from mnemoscope.cli.plan_tables import print_checked
        from mnemoscope.experiments.planning import check

        if self.subject is not None or self.layout is not None:
            layouts = [self.layout] if self.layout is not None else None
            if layouts is None:
                raise ValueError("plan: --check takes no subject; give --layout to check one layout, or nothing")
            return print_checked(list(check(layouts, _say)))
        return print_checked(list(check(say=_say)))


def _say(line: str) -> None:
    print(f"{line} ...", file=sys.stderr)

"""What is trained: a cortex with a bank, the four fixes of its collapse, constants in its place, and the cortex alone.

    bare     no bank                       A4    slots drawn anew half-way
    A0       the bank, as it is            A5    one slot: a constant behind the gate
    A1, A2   spread, orthogonal slots      A6    one slot without a gate
    A3-k     reads of the k best slots     A7    slots as they were drawn
    A0b      slots that look at one another and at the tokens before they are read (`bidirectional` alone trains it)

All arms of a seed see the same windows in the same order, and those of one shape start from the same weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from mnemoscope.contracts.devices import Device
from mnemoscope.experiments import shared_runs
from mnemoscope.experiments.gpu_hours import planned
from mnemoscope.experiments.parallax.watched import BankWatch
from mnemoscope.experiments.planning import Target
from mnemoscope.memories import EnergyBankConfig
from mnemoscope.models import BankedCortexConfig, MixerConfig
from mnemoscope.tasks import Text, TextConfig, build_task
from mnemoscope.training import Recipe, TrainConfig, TrainedRun
from mnemoscope.training.remedies import (
    NegativeControlDiversity,
    NegativeControlOrthogonality,
    NegativeControlReinitialiseSlots,
    NegativeControlTopKAddressing,
    Remedy,
)

FOLDER = "parallax-runs"
Arm: TypeAlias = Literal["bare", "A0", "A1", "A2", "A3-1", "A3-4", "A3-8", "A4", "A5", "A6", "A7", "A0b"]

TITLES: Mapping[Arm, str] = {
    "bare": "cortex alone",
    "A0": "bank",
    "A1": "bank, spectrum spread",
    "A2": "bank, orthogonal slots",
    "A3-1": "bank, best slot alone",
    "A3-4": "bank, best 4 slots",
    "A3-8": "bank, best 8 slots",
    "A4": "bank, slots drawn anew half-way",
    "A5": "one slot",
    "A6": "one slot, no gate",
    "A7": "bank of fixed random slots",
    "A0b": "bank whose slots look at the tokens",
}
LOOKING: Arm = "A0b"
ARMS: tuple[Arm, ...] = tuple(arm for arm in TITLES if arm != LOOKING)
"""Of the collapse experiment."""
TOP_K: Mapping[Arm, int] = {"A3-1": 1, "A3-4": 4, "A3-8": 8}
FIXES: Mapping[Arm, Remedy] = {
    "A1": NegativeControlDiversity(),
    "A2": NegativeControlOrthogonality(),
    "A3-1": NegativeControlTopKAddressing(k=1),
    "A3-4": NegativeControlTopKAddressing(k=4),
    "A3-8": NegativeControlTopKAddressing(k=8),
    "A4": NegativeControlReinitialiseSlots(),
}


@dataclass(frozen=True, kw_only=True)
class CortexStudy:
    """A cortex on a text.

    Args:
        corpus: "prose", "code" or a path; its tokens are bytes.
        length: tokens of a window.
        d_model: width.
        n_layers: blocks of the cortex.
        n_heads: of its attention.
        n_slots: of the bank.
        steps: of the optimiser.
        batch_size: windows a step.
        learning_rate: largest.
        n_looks: times at which the bank is looked at while it is trained.
        n_test: windows of the test, at most.
        device: of everything.
    """

    corpus: str = "prose"
    length: int = 128
    d_model: int = 64
    n_layers: int = 2
    n_heads: int = 4
    n_slots: int = 128
    steps: int = 2240
    batch_size: int = 4
    learning_rate: float = 3e-3
    n_looks: int = 8
    n_test: int = 256
    device: Device = "cpu"

    @property
    def task(self) -> TextConfig:
        """What is learned."""
        return TextConfig(corpus=self.corpus, length=self.length)

    def bank(self, arm: Arm) -> EnergyBankConfig | None:
        """What stands beside the cortex."""
        if arm == "bare":
            return None
        constant = arm in ("A5", "A6")
        return EnergyBankConfig(
            n_slots=1 if constant else self.n_slots,
            gated=arm != "A6",
            fixed=arm == "A7",
            bidirectional=arm == LOOKING,
        )

    def recipe(self, arm: Arm) -> Recipe:
        """One training."""
        remedies = (FIXES[arm],) if arm in FIXES else ()
        return self.recipe_of(f"{Path(self.corpus).stem}-{arm}", self.bank(arm), remedies)

    def recipe_of(self, name: str, beside: MixerConfig | None, remedies: tuple[Remedy, ...] = ()) -> Recipe:
        """The training of a cortex with something beside it."""
        cortex = BankedCortexConfig(
            vocab_size=256,
            d_model=self.d_model,
            n_layers=self.n_layers,
            n_heads=self.n_heads,
            beside=beside,
        )
        return Recipe(name=name, model=cortex.stack, task=self.task, train=self.train, remedies=remedies)

    @property
    def train(self) -> TrainConfig:
        """How all are trained."""
        return TrainConfig(
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            warmup_steps=self.steps // 10,
            final_lr_fraction=0.02,
            eval_every=max(1, self.steps // 4),
            eval_sequences=64,
            checkpoint_every=max(1, self.steps // 2),
            threads=1,
        )

    @property
    def tokens(self) -> int:
        """That a training sees."""
        return self.steps * self.batch_size * self.length


def trained(out: Path, settings: CortexStudy, recipe: Recipe, seed: int) -> TrainedRun:
    """The trained model of a recipe, whose bank was looked at meanwhile; see `shared_runs.trained`."""
    watch = BankWatch(settings.task, every=max(1, settings.steps // settings.n_looks))
    return shared_runs.trained(out, FOLDER, recipe, seed, settings.device, callbacks=(watch,))


def run_folder(out: Path, recipe: Recipe, seed: int) -> Path:
    """Where a training stands."""
    return shared_runs.run_folder(out, FOLDER, recipe.name, seed)


def trainings(settings: CortexStudy) -> list[Target]:
    """Of one seed, for the planner."""
    return [planned(settings.recipe(arm)) for arm in ARMS]


def text_of(settings: CortexStudy) -> Text:
    """The text and its splits."""
    task = build_task(settings.task)
    assert isinstance(task, Text)
    return task

"""Trainings that `stablemax-grokking` and `grokking-tasks` share: each measured once a seed, and kept.

    addition      a + b modulo 59, 60 % of the table trained on
    parity        3 of 43 bits count, 1,000 strings trained on

Networks and optimiser are those of Prieto et al. (2025). The table of addition is smaller than theirs, since StableMax
needs 80,000 epochs for p = 113. All trainings of a table and seed have the same split and the same initial weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mnemoscope.experiments.grokking.full_batches import (
    Curve,
    Table,
    Training,
    addition,
    fit,
    geometric,
    network,
    parity,
)
from mnemoscope.experiments.kept_arms import kept_arm
from mnemoscope.experiments.reproducing import Measured

FOLDER = "grokking-arms"
PARTS = ("train", "test", "collapsed", "dimension")
"""Of a curve, beside its epochs."""

COLLAPSED = 0.5
"""Share of rows without any gradient, at which a training on cross-entropy has said what it can: it ends there, since
what is claimed of it are maxima and the epoch of this share, and what follows is known to diverge (a pilot)."""
GUIDE = "the guide's"
_GUIDES = Training(epochs=3_000, loss="stablemax", weight_decay=0.1, orthogonal_gradient=0.5, betas=(0.9, 0.999))
"""What the Atlas tuning guide recommends for mathematics, on the language tasks of which it was tried alone."""

ADDITION: Mapping[str, Training] = {
    "AdamW": Training(epochs=12_000, betas=(0.9, 0.999), until_collapsed=COLLAPSED),
    "weight decay 1": Training(epochs=2_000, weight_decay=1.0),
    "PerpGrad": Training(epochs=300, orthogonal_gradient=1.0, rescale_gradient=True),
    "StableMax": Training(epochs=20_000, loss="stablemax", betas=(0.9, 0.999)),
    GUIDE: _GUIDES,
}
PARITY: Mapping[str, Training] = {
    "AdamW": Training(epochs=3_000),
    "weight decay 1": Training(epochs=3_000, weight_decay=1.0),
    "PerpGrad": Training(epochs=3_000, orthogonal_gradient=1.0, rescale_gradient=True),
    "StableMax": Training(epochs=3_000, loss="stablemax", betas=(0.9, 0.999)),
    GUIDE: _GUIDES,
}


@dataclass(frozen=True, kw_only=True)
class AdditionTable:
    """Modular addition; the seed decides which equations are held out.

    Args:
        modulus: p.
        train_fraction: share of the equations that is trained on.
    """

    modulus: int = 59
    train_fraction: float = 0.6

    def table(self, seed: int) -> Table:
        """The equations."""
        return addition(self.modulus, self.train_fraction, seed)


@dataclass(frozen=True, kw_only=True)
class ParityTable:
    """Sparse parity; the seed decides which bits count and which strings are trained on.

    Args:
        n_bits: of a string.
        n_relevant: that count.
        n_train: strings that are trained on.
        n_held_out: strings of the test, none of them trained on.
    """

    n_bits: int = 43
    n_relevant: int = 3
    n_train: int = 1_000
    n_held_out: int = 2_000

    def table(self, seed: int) -> Table:
        """The strings."""
        return parity(self.n_bits, self.n_relevant, self.n_train, self.n_held_out, seed)


@dataclass(frozen=True, kw_only=True)
class ArmSettings:
    """A table, the network that reads it, and how it is trained.

    Args:
        data: the table.
        width: of both hidden layers.
        training: of the network.
        marks: epochs that are tested beside those that `geometric` gives.
    """

    data: AdditionTable | ParityTable
    width: int
    training: Training
    marks: tuple[int, ...] = ()


def kept_curve(out: Path, name: str, settings: ArmSettings, seed: int) -> Curve:
    """The curve of a training that is kept in the folder of all experiments, measured where it is not there yet.

    Raises:
        ValueError: it was measured with other settings.
    """
    kept = kept_arm(out / FOLDER, name, settings, seed, lambda: _measured(settings, seed))
    epochs = [round(epoch) for epoch in kept.series["epoch"]]
    return Curve(epochs=epochs, **{part: kept.series[part] for part in PARTS})


def folder_name(table: str, way: str) -> str:
    """Of a training: "addition-weight-decay-1"."""
    return f"{table}-{way}".lower().replace(" ", "-").replace("'", "")


def curve_series(name: str, curve: Curve) -> dict[str, Sequence[float]]:
    """What is drawn of a training."""
    return {f"{name}: {part}": values for part, values in _parts(curve).items()}


def _measured(settings: ArmSettings, seed: int) -> Measured:
    table = settings.data.table(seed)
    n_outputs = int(table.targets.max()) + 1
    model = network(table.inputs.shape[1], settings.width, n_outputs, seed)
    curve = fit(model, table, settings.training, geometric(settings.training.epochs, *settings.marks))
    return Measured(figures={"fitted": curve.fitted_at, "test": curve.test[-1]}, series=_parts(curve))


def _parts(curve: Curve) -> dict[str, Sequence[float]]:
    lines = (curve.train, curve.test, curve.collapsed, curve.dimension)
    return {"epoch": curve.epochs, **dict(zip(PARTS, lines, strict=True))}

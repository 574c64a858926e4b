"""Grokking without weight decay: what taking out the gradient along the weights does to modular addition.

The network reads a and b as two one-hot vectors of length p side by side and gives logits of (a + b) mod p:

    2 p -> width -> width -> p       ReLU between, no biases; p = 113, width 200

It learns 40 % of all p^2 equations in full batches and is tested on all others. AdamW fits the training equations in
tens of steps; from then on almost all of its gradient is along the weights, and nothing more is learned of the rest.
Three experiments: with PerpGrad it generalises (E1), with strong weight decay too, more slowly (E2), and PerpGrad does
it only near full strength (E4).

Source: Prieto et al., "Grokking at the Edge of Numerical Stability" (2025), with the settings of
LucasPrietoAl/grokking-at-the-edge-of-numerical-stability; strengths below 1 as in r3d91ll/Todd_Atlas, whose guide
recommends 0.5 for arithmetic. What differs: this project's split of the table, and which seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mnemoscope.experiments.grokking.full_batches import PRIETO, Curve, Training, addition, fit, network
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Plot

GROKKED, NOT_GROKKED = 0.99, 0.02
"""Bounds of the test accuracy, of which chance is 1 / 113."""


@dataclass(frozen=True, kw_only=True)
class Addition:
    """Modular addition, its network and its optimiser.

    Args:
        epochs: full batches.
        weight_decays: of each arm.
        strengths: of PerpGrad in each arm; 0 is AdamW alone.
        rescales: whether PerpGrad rescales, in each arm.
        modulus: p.
        train_fraction: share of the equations that is trained on.
        width: of both hidden layers.
        learning_rate: of AdamW, constant.
        betas: of AdamW.
        eps: of AdamW, too small to hold back the steps of tiny gradients.
        every: epochs between tests; must divide `epochs`.
    """

    epochs: int
    weight_decays: tuple[float, ...]
    strengths: tuple[float, ...]
    rescales: tuple[bool, ...]
    modulus: int = 113
    train_fraction: float = 0.4
    width: int = 200
    learning_rate: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-25
    every: int = 25

    def __post_init__(self) -> None:
        if not len(self.weight_decays) == len(self.strengths) == len(self.rescales):
            raise ValueError("Addition: weight_decays, strengths and rescales must be of one length, one for each arm")
        if self.epochs % self.every:
            raise ValueError(f"Addition.every: must divide epochs = {self.epochs}, got {self.every}")


def perpgrad(settings: Addition, seed: int) -> Measured:
    """E1: PerpGrad, rescaled and not, beside AdamW alone; weight decay 0 in all of them."""
    rescaled, plain, adamw = curves = _arms(settings, seed)
    middle, last = 200, settings.epochs
    figures = {
        "rescaled": rescaled.at(middle, rescaled.test),
        "not rescaled": plain.at(middle, plain.test),
        "rescaled since": rescaled.since(GROKKED, rescaled.test),
        "adamw": adamw.at(last, adamw.test),
        "adamw train": adamw.at(last, adamw.train),
    }
    return Measured(figures=figures, series=_series(("rescaled", "not rescaled", "adamw"), curves))


def weight_decay(settings: Addition, seed: int) -> Measured:
    """E2: AdamW with weight decay 1."""
    (curve,) = curves = _arms(settings, seed)
    figures = {"test": curve.at(settings.epochs, curve.test), "since": curve.since(GROKKED, curve.test)}
    return Measured(figures=figures, series=_series(("weight decay",), curves))


def strengths(settings: Addition, seed: int) -> Measured:
    """E4: PerpGrad of several strengths."""
    curves, names = _arms(settings, seed), [_named(strength) for strength in settings.strengths]
    figures = {name: curve.at(settings.epochs, curve.test) for name, curve in zip(names, curves, strict=True)}
    return Measured(figures=figures, series=_series(names, curves))


def learned(settings: Addition, arm: int, seed: int) -> Curve:
    """Train one arm; seed decides split and initial weights, which are the same in all arms."""
    training = Training(
        epochs=settings.epochs,
        weight_decay=settings.weight_decays[arm],
        orthogonal_gradient=settings.strengths[arm],
        rescale_gradient=settings.rescales[arm],
        learning_rate=settings.learning_rate,
        betas=settings.betas,
        eps=settings.eps,
    )
    table = addition(settings.modulus, settings.train_fraction, seed)
    model = network(2 * settings.modulus, settings.width, settings.modulus, seed)
    return fit(model, table, training, range(settings.every, settings.epochs + 1, settings.every))


def _arms(settings: Addition, seed: int) -> list[Curve]:
    return [learned(settings, arm, seed) for arm in range(len(settings.strengths))]


def _series(names: Sequence[str], curves: Sequence[Curve]) -> dict[str, Sequence[float]]:
    found: dict[str, Sequence[float]] = {"epoch": curves[0].epochs}
    for name, curve in zip(names, curves, strict=True):
        found |= {f"{name}: train accuracy": curve.train, f"{name}: test accuracy": curve.test}
    return found


def _named(strength: float) -> str:
    return f"strength {strength:g}"


SWEPT = (0.0, 0.25, 0.5, 0.75, 1.0)


def _accuracies(arms: Mapping[str, str]) -> tuple[Plot, ...]:
    """Accuracy on either split over epochs, a line for each arm."""
    return tuple(
        Plot(
            title=f"Accuracy on {what}",
            caption=f"How much of {what} is right over epochs; 0.99 counts as learned.",
            y_label="accuracy (fraction)",
            lines={name: f"{arm}: {split} accuracy" for name, arm in arms.items()},
            x="epoch",
            x_label="epoch",
        )
        for split, what in (("test", "pairs that were held out"), ("train", "pairs that were trained"))
    )


PERPGRAD = Experiment(
    name="perpgrad",
    what="E1: modular addition is generalised without weight decay if gradients are orthogonal to their weights",
    source=PRIETO,
    claims=(
        Claim(
            figure="rescaled",
            what="PerpGrad, rescaled: test accuracy at epoch 200",
            published="generalises within 300 epochs",
            least=GROKKED,
        ),
        Claim(figure="not rescaled", what="PerpGrad, not rescaled: test accuracy at epoch 200", least=GROKKED),
        Claim(figure="rescaled since", what="PerpGrad, rescaled: epoch of 0.99 (tested every 25)"),
        Claim(figure="adamw train", what="AdamW: train accuracy at epoch 300", published="fits", least=GROKKED),
        Claim(
            figure="adamw",
            what="AdamW: test accuracy at epoch 300",
            published="does not generalise",
            most=NOT_GROKKED,
        ),
    ),
    sizes={
        "small": Addition(
            epochs=300, weight_decays=(0.0, 0.0, 0.0), strengths=(1.0, 1.0, 0.0), rescales=(True, False, False)
        )
    },
    measure=perpgrad,
    plots=_accuracies({"PerpGrad, rescaled": "rescaled", "PerpGrad": "not rescaled", "AdamW": "adamw"}),
)

WEIGHT_DECAY = Experiment(
    name="weight-decay",
    what="E2: the same is generalised with AdamW and weight decay 1, several times later",
    source="Power et al. 2022, arXiv 2201.02177; settings of " + PRIETO,
    claims=(
        Claim(
            figure="test",
            what="AdamW, weight decay 1: test accuracy at epoch 1,000",
            published="generalises with weight decay",
            least=GROKKED,
        ),
        Claim(figure="since", what="AdamW, weight decay 1: epoch of 0.99 (tested every 25)"),
    ),
    sizes={"small": Addition(epochs=1000, weight_decays=(1.0,), strengths=(0.0,), rescales=(False,))},
    measure=weight_decay,
    plots=_accuracies({"weight decay 1": "weight decay"}),
)

STRENGTHS = Experiment(
    name="perpgrad-strength",
    what="E4: PerpGrad helps only near full strength",
    source=f"{PRIETO} (strength 1); r3d91ll/Todd_Atlas, docs/MEMORY_TUNING_GUIDE.md (strength 0.5)",
    claims=tuple(
        Claim(
            figure=_named(strength),
            what=f"PerpGrad of strength {strength:g}: test accuracy at epoch 300",
            published={0.0: "does not generalise", 0.5: "recommended for arithmetic", 1.0: "generalises"}.get(
                strength, "-"
            ),
            least=GROKKED if strength == 1 else None,
            most=None if strength == 1 else NOT_GROKKED,
        )
        for strength in SWEPT
    ),
    sizes={
        "small": Addition(
            epochs=300,
            weight_decays=(0.0,) * len(SWEPT),
            strengths=SWEPT,
            rescales=tuple(strength > 0 for strength in SWEPT),
        )
    },
    measure=strengths,
    plots=_accuracies({f"strength {strength:g}": _named(strength) for strength in SWEPT}),
)

"""Three moons: a memory as wide as a moon foresees each after one of its own periods, a wide one needs them all.

Two networks are trained alike, one with a single head for the whole sky and one with three heads. Nothing tells the
three heads that there are three moons: that each takes one for itself shows in the matrices, which become permutations.
Then the networks foresee a triple of periods that no training showed, after contexts of every length.

Source: Zhang et al. 2024, "Memory Mosaics" (arXiv 2405.06394), section 3 and figures 4 to 6.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnemoscope.experiments.mosaics.foreseeing import (
    N_AHEAD,
    Skies,
    errors,
    foreseen,
    repeating,
    skies,
    validation_skies,
)
from mnemoscope.experiments.mosaics.moons_training import MoonsTraining, TrainedMoons, planned_moons, trained_moons
from mnemoscope.experiments.planning import Target
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Plot, Series
from mnemoscope.models.moons import MATRICES
from mnemoscope.runs.geometry import HeatMap
from mnemoscope.runs.reproduction import MovingPicture, MovingScene, SceneFrame
from mnemoscope.tasks.three_moons import DT, TRIPLES

SOURCE = "Zhang et al. 2024, Memory Mosaics (arXiv 2405.06394), section 3, figures 4 to 6"
HEADS = {1: "1 head", 3: "3 heads"}
DISENTANGLED = 0.9
FARTHEST = 4 / 3
"""Of a moon's orbit, in the moving picture."""


@dataclass(frozen=True, kw_only=True)
class ThreeMoonsStudy:
    """Two networks and how they are looked at.

    Args:
        training: of both.
        n_sequences: that are foreseen for each context; 512 is published.
        every: contexts are this many observations apart, from 1.
        n_seen: observations of a sequence that is foreseen.
        n_moments: of the moving picture, 3 observations apart.
    """

    training: MoonsTraining = field(default_factory=MoonsTraining)
    n_sequences: int = 64
    every: int = 3
    n_seen: int = 800
    n_moments: int = 100

    @property
    def moments(self) -> list[int]:
        """Observations after which the moving picture looks ahead."""
        return [1 + 3 * i for i in range(self.n_moments)]

    @property
    def contexts(self) -> list[int]:
        """Those of the curves, and those of the claims."""
        return sorted({*range(1, self.n_seen - 25, self.every), 90, 136, 250})


def three_moons(settings: ThreeMoonsStudy, seed: int, out: Path) -> Measured:
    """Foresee two skies with both trained networks by both protocols, and look at the matrices."""
    series, figures = dict[str, Sequence[float]](), dict[str, float]()
    series["context"] = [float(n) for n in settings.contexts]
    trained = {n_heads: trained_moons(out, settings.training, n_heads, seed) for n_heads in HEADS}
    watched = {
        "unseen": validation_skies(settings.n_sequences, settings.n_seen),
        "trained": skies(TRIPLES["train"][5], settings.n_sequences, settings.n_seen),
    }
    for which, sky in watched.items():
        series |= _foreseen(which, sky, trained, settings.contexts)
    for n_heads, name in HEADS.items():
        series[f"{name}: loss"] = trained[n_heads].losses
        for matrix, entries in trained[n_heads].network.matrices().items():
            series[f"{name}: {matrix}"] = entries.abs().flatten().tolist()
            series[f"{name}: {matrix} re, im"] = [x for z in entries.flatten().tolist() for x in (z.real, z.imag)]
    series |= sky_ahead(trained, settings.moments)
    series["step"] = [float(step + 1) for step in range(settings.training.steps)]
    figures |= _errors_at(series, settings.contexts)
    figures |= disentanglement(magnitudes(series, HEADS[3]))
    return Measured(figures=figures, series=series)


def trainings(settings: ThreeMoonsStudy) -> list[Target]:
    """Of one seed, for the planner."""
    return [planned_moons(settings.training, n_heads, name) for n_heads, name in HEADS.items()]


def magnitudes(series: Series, name: str) -> dict[str, NDArray[np.float64]]:
    """|z| of the three matrices of one network, (3, 3) each."""
    return {matrix: np.array(series[f"{name}: {matrix}"]).reshape(3, 3) for matrix in MATRICES}


def disentanglement(entries: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    """Whether each head has taken one moon for itself.

    Args:
        entries: |z| of W_k, W_v (rows: heads) and W_z (columns: heads), (3, 3) each.

    Returns:
        `purity`, the smallest share of a row's sum that its largest entry has, over the rows of all three;
        `disentangled`, 1 where that exceeds 0.9, keys and values of a head come from one moon, each from another, and
        the output goes back to that moon.
    """
    purity = min(float((matrix.max(1) / matrix.sum(1)).min()) for matrix in entries.values())
    keys, values, out = (entries[name].argmax(1) for name in MATRICES)
    is_permutation = sorted(keys) == [0, 1, 2]
    goes_back = is_permutation and bool((keys == values).all() and (out[keys] == np.arange(3)).all())
    return {"purity": purity, "disentangled": float(goes_back and purity > DISENTANGLED)}


def _foreseen(
    which: str, sky: Skies, trained: Mapping[int, TrainedMoons], contexts: Sequence[int]
) -> dict[str, Sequence[float]]:
    found = {f"{which}: repeat the last": repeating(sky, contexts).tolist()}
    for n_heads, name in HEADS.items():
        network = trained[n_heads].network
        found[f"{which}: {name}"] = errors(network, sky, contexts).tolist()
        found[f"{which}: {name}, official protocol"] = errors(network, sky, contexts, "official").tolist()
    return found


def _errors_at(series: Series, contexts: Sequence[int]) -> dict[str, float]:
    def at(name: str, n: int) -> float:
        return series[name][contexts.index(n)]

    return {
        "three_90": at("unseen: 3 heads", 90),
        "three_136": at("unseen: 3 heads", 136),
        "one_250": at("unseen: 1 head", 250),
        "three_136_official": at("unseen: 3 heads, official protocol", 136),
        "three_trained_136": at("trained: 3 heads", 136),
        "repeat_136": at("unseen: repeat the last", 136),
        "three_loss": series["3 heads: loss"][-1],
        "one_loss": series["1 head: loss"][-1],
    }


CLAIMS = (
    Claim(
        figure="three_90", what="error of 3 heads after 90 observations", published="drops after each period", most=0.3
    ),
    Claim(figure="three_136", what="error of 3 heads after 136 observations", published="accurate", most=0.2),
    Claim(
        figure="one_250", what="error of 1 head after 250 observations", published="as repeating the last", least=0.5
    ),
    Claim(
        figure="disentangled",
        what="every head has one moon",
        published="3 permutations",
        least=1.0,
        in_seeds=0.8,
    ),
    Claim(figure="purity", what="smallest share of the largest entry in its row", published="near 1"),
    Claim(figure="three_136_official", what="the same error by the official protocol, 136 observations", published="-"),
    Claim(figure="three_trained_136", what="3 heads, a trained triple, 136 observations"),
    Claim(figure="repeat_136", what="repeating the last observation, 136 observations", published=".606"),
    Claim(figure="three_loss", what="clipped loss of 3 heads at the end", published=".0008 (batch 64)"),
    Claim(figure="one_loss", what="clipped loss of 1 head at the end", published=".0023 (batch 64)"),
)


def _after_context(which: str, title: str) -> Plot:
    lines = {name: f"{which}: {name}" for name in ("3 heads", "1 head", "repeat the last")}
    lines |= {f"{name}, official protocol": f"{which}: {name}, official protocol" for name in HEADS.values()}
    periods = TRIPLES["validation"][0] if which == "unseen" else TRIPLES["train"][5]
    return Plot(
        title=title,
        caption="Of 25 predictions. Each moon is known after one of its periods, the upright lines; all repeat at the "
        "last.",
        y_label="mean absolute deviation",
        x="context",
        x_label="observations before",
        lines=lines,
        marks={**{f"period {p:g}": p / DT for p in periods}, "all": together(periods) / DT},
    )


def together(periods: Sequence[float]) -> float:
    """The first time at which moons of these periods, which are multiples of a hundredth, all stand as they stood."""
    return math.lcm(*(round(100 * period) for period in periods)) / 100


PLOTS = (
    _after_context("unseen", "Foreseeing periods that were never trained (figure 5)"),
    _after_context("trained", "Foreseeing trained periods (figure 4)"),
    Plot(
        title="Training",
        caption="Squared errors, clipped at 0.5.",
        y_label="loss",
        log_y=True,
        lines={name: f"{name}: loss" for name in HEADS.values()},
    ),
)


def matrices(settings: ThreeMoonsStudy, series: Series) -> list[HeatMap]:
    """Figure 6: |z| of the three matrices of either network side by side, a row for each head; W_z transposed."""
    found = []
    for name in (HEADS[3], HEADS[1]):
        entries = magnitudes(series, name)
        side_by_side = np.hstack([entries["W_k"], entries["W_v"], entries["W_z"].T])
        columns = [f"{matrix}, {i}" for matrix in MATRICES for i in (1, 2, 3)]
        rows = [f"{'head' if name == HEADS[3] else 'part'} {i}" for i in (1, 2, 3)]
        title = f"{name}: W_k, W_v and W_z, by moon"
        found.append(HeatMap(title=title, unit="|z|", rows=rows, columns=columns, values=side_by_side.tolist()))
    return found


def sky_ahead(trained: Mapping[int, TrainedMoons], moments: Sequence[int]) -> dict[str, Sequence[float]]:
    """One unseen sky: where the moons stand 25 observations after each moment, and where either network puts them."""
    sky = skies(TRIPLES["validation"][0], 1, max(moments) + N_AHEAD, seed=1)
    found: dict[str, Sequence[float]] = {
        "sky: truth": sky.seen[0, [n + N_AHEAD - 1 for n in moments]].flatten().tolist()
    }
    return found | {
        f"sky: {name}": foreseen(trained[n_heads].network, sky, moments)[0].flatten().tolist()
        for n_heads, name in HEADS.items()
    }


def in_motion(settings: ThreeMoonsStudy, series: Series) -> list[MovingPicture]:
    """The moons of one sky and where they were foreseen to be, a moment after the other."""
    truth = np.array(series["sky: truth"]).reshape(-1, 3, 2)
    scenes = [
        _scene(name, settings.moments, truth, np.array(series[f"sky: {name}"]).reshape(truth.shape))
        for name in (HEADS[3], HEADS[1])
    ]
    caption = (
        f"Where each moon stands {N_AHEAD} observations on, and where the network puts it, joined by a line: three "
        "moons of periods 44, 89 and 133 observations, never trained. Three heads find each after its own period. "
        "What is foreseen farther out than a third beyond a moon's orbit is drawn there."
    )
    return [MovingPicture(title="The sky ahead", caption=caption, through="Observations", scenes=scenes)]


def _scene(name: str, moments: Sequence[int], truth: NDArray[np.float64], ahead: NDArray[np.float64]) -> MovingScene:
    """The planet, three moons, three predictions; a moon's orbit is as wide as its number."""
    radii = np.arange(1, 4)[:, None]
    ahead = ahead / np.maximum(np.linalg.norm(ahead, axis=-1, keepdims=True) / FARTHEST, 1)
    frames = [
        SceneFrame(
            label=f"{n} observations",
            points=[
                (0.0, 0.0, 0.0),
                *((float(x), float(y), 0.0) for x, y in np.concatenate([at, said]) * _twice(radii)),
            ],
        )
        for n, at, said in zip(moments, truth, ahead, strict=True)
    ]
    return MovingScene(
        name=name,
        names=["planet", *(f"moon {i}" for i in (1, 2, 3)), *(f"foreseen {i}" for i in (1, 2, 3))],
        groups=[-1, 0, 1, 2, 0, 1, 2],
        group_names=["moon 1", "moon 2", "moon 3"],
        edges=[(1, 4), (2, 5), (3, 6)],
        frames=frames,
    )


def _twice(radii: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([radii, radii])


THREE_MOONS = Experiment(
    name="three-moons",
    what="does a memory of three heads take one moon for each, and foresee it after a period of its own?",
    source=SOURCE,
    claims=CLAIMS,
    sizes={
        "small": ThreeMoonsStudy(),
        "paper": ThreeMoonsStudy(training=MoonsTraining(batch_size=64, device="auto"), n_sequences=512, every=1),
    },
    measure_in=three_moons,
    trainings=trainings,
    plots=PLOTS,
    seed_heat_maps=matrices,
    moving=in_motion,
    minutes={"small": 4.0},
)

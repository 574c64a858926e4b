"""Attention profiles: where the last query of a window looks, in a Memory Mosaic and in transformers of one block.

A transformer with learned positions has a sink at position 0 and is noisy; a Mosaic, which knows no positions, looks
at everything alike, and more at the most recent tokens where its keys average over many. On windows three times as long
as those of the training, RoPE meets angles it never saw, ALiBi sees nothing far back, and a Mosaic goes on as before.

Source: Zhang et al. 2024, "Memory Mosaics" (arXiv 2405.06394), figures 12, 13 and 15. It prints plots and no numbers,
so that bounds are readings of its words: "strong" is ten times flat, "mostly flat" between half and twice flat,
"vanishing" a tenth of flat, "connected" a rank correlation that chance gives once in twenty.
Differs: stories of a grammar in place of BabiStories, 128 channels, 8 heads and windows of 128 tokens in place of 768,
12 and 512. Trained windows begin with a story; those that are looked at begin anywhere in one, so that a place in the
window says nothing of what stands there.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from jaxtyping import Float
from scipy.stats import spearmanr

from mnemoscope.experiments.gpu_hours import planned
from mnemoscope.experiments.mosaics.language import losses
from mnemoscope.experiments.mosaics.last_query import RECENT, Shares, bin_names, bins, doublings, last_profile, shares
from mnemoscope.experiments.mosaics.profile_study import (
    BEYOND,
    LOSS_BIN,
    TITLES,
    ProfilesStudy,
    Reader,
    profile_name,
    windows,
)
from mnemoscope.experiments.mosaics.trained import trained
from mnemoscope.experiments.planning import Target
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Plot, Result, Series, Shown
from mnemoscope.memories.key_extractors import GAIN, LeakyKeys
from mnemoscope.models import Model
from mnemoscope.models.mosaic import Mosaic
from mnemoscope.runs.geometry import HeatMap
from mnemoscope.runs.reproduction import TextTable

SOURCE = "Zhang et al. 2024, Memory Mosaics (arXiv 2405.06394), figures 12, 13 and 15"
BY_CHANCE = {8: 0.642, 12: 0.503}
"""By number of heads, a rank correlation that under 5 % of all orders reach; the next lower one is reached by more."""


def profiles(settings: ProfilesStudy, seed: int, out: Path) -> Measured:
    """Train the four, and look at the last query of windows as long as in training, and of long ones."""
    figures, series = dict[str, float](), dict[str, Sequence[float]]()
    inputs, targets = windows(settings)
    for reader in get_args(Reader):
        model = trained(out, settings.recipe(reader), seed, settings.device).model.eval()
        lengths = (settings.length, settings.long) if reader in BEYOND else (settings.length,)
        for length in lengths:
            halves = np.stack([last_profile(model, half[:, :length]) for half in inputs.chunk(2)])
            profile = halves.mean(0)
            name = profile_name(reader, length > settings.length)
            found = shares(halves, settings.length)
            figures |= {f"{name}_{what}": value for what, value in found.means().items()}
            figures |= _times_flat(name, found, length, settings.length)
            series |= {f"{name}: mean": profile.mean(0).tolist(), f"{name}: heads": doublings(profile).ravel().tolist()}
            series |= {f"{name}: recent": found.recent.tolist(), f"{name}: first": found.first.tolist()}
        by_position = losses(model, inputs[:, : lengths[-1]], targets[:, : lengths[-1]]).mean(0)
        figures |= _losses(reader, by_position, settings.length)
        series[f"{reader}: loss"] = by_position.reshape(-1, LOSS_BIN).mean(1).tolist()
        if isinstance(model, Mosaic):
            series["retention"] = retentions(model).tolist()
    figures |= _compared(figures, series)
    return Measured(figures=figures, series=series | _axes(settings))


def trainings(settings: ProfilesStudy) -> list[Target]:
    """Of one seed, for the planner."""
    return [planned(settings.recipe(reader)) for reader in get_args(Reader)]


def retentions(model: Model) -> Float[np.ndarray, "h"]:
    """The leak coefficient of each head of the first contextual memory: what a key keeps of the one before.

    Raises:
        ValueError: a model without leaky keys.
    """
    keys = next(iter(model.blocks)).contextual.keys if isinstance(model, Mosaic) else None
    if not isinstance(keys, LeakyKeys):
        raise ValueError(f"retentions: needs a mosaic with leaky keys, got a {type(model).__name__}")
    return (-GAIN * keys.leak.detach().abs()).exp().double().cpu().numpy()


def _times_flat(name: str, found: Shares, length: int, trained_length: int) -> dict[str, float]:
    """How many times the weight that flat profiles have there."""
    n, means = length - 1, found.means()
    times = {f"{name}_first_times": means["first"] * n, f"{name}_recent_times": means["recent"] * n / RECENT}
    n_far = length - trained_length
    return times | ({f"{name}_far_times": means["far"] * n / n_far} if n_far else {})


def _losses(reader: Reader, by_position: Float[np.ndarray, "t"], trained_length: int) -> dict[str, float]:
    """Of the second half of the training length, and of what comes after it."""
    known = float(by_position[trained_length // 2 : trained_length].mean())
    figures = {f"{reader}_loss": known}
    if len(by_position) > trained_length:
        figures[f"{reader}_loss_beyond"] = float(by_position[trained_length:].mean())
        figures[f"{reader}_loss_rise"] = figures[f"{reader}_loss_beyond"] - known
    return figures


def _compared(figures: Mapping[str, float], series: Series) -> dict[str, float]:
    ranks: Any = spearmanr(series["retention"], series["mosaic_trained: recent"])
    return {
        "uneven_over_mosaic": figures["learned_trained_uneven"] - figures["mosaic_trained_uneven"],
        "rotary_uneven_over_mosaic": figures["rotary_long_uneven"] - figures["mosaic_long_uneven"],
        "leak_rank": float(ranks.statistic),
    }


def _axes(settings: ProfilesStudy) -> dict[str, Sequence[float]]:
    return {
        "place": [float(i) for i in range(settings.length - 1)],
        "long place": [float(i) for i in range(settings.long - 1)],
        "head": [float(i + 1) for i in range(settings.n_heads)],
        "token": [(i + 0.5) * LOSS_BIN for i in range(settings.long // LOSS_BIN)],
        "trained token": [(i + 0.5) * LOSS_BIN for i in range(settings.length // LOSS_BIN)],
    }


def _claims(n_heads: int) -> tuple[Claim, ...]:
    bounded = (
        Claim(
            figure="learned_trained_first_times",
            what="learned positions: weight on position 0 (times flat)",
            published="a strong sink",
            least=10,
        ),
        Claim(
            figure="mosaic_trained_first_times",
            what="Mosaic: weight on position 0 (times flat)",
            published="mostly flat",
            most=2,
        ),
        Claim(
            figure="mosaic_trained_recent_times",
            what=f"Mosaic: weight on the last {RECENT} (times flat)",
            published="higher for the most recent",
            least=1,
        ),
        Claim(
            figure="uneven_over_mosaic",
            what="unevenness of the tokens between, learned positions over Mosaic",
            published="noisy against mostly flat",
            least=0,
        ),
        Claim(
            figure="leak_rank",
            what=f"rank correlation over heads: leak coefficient, weight on the last {RECENT}",
            published="connected",
            least=BY_CHANCE[n_heads],
        ),
        Claim(
            figure="mosaic_long_far_times",
            what="3x, Mosaic: weight farther back than the training length (times flat)",
            published="remains mostly flat",
            least=0.5,
            most=2,
        ),
        Claim(
            figure="alibi_long_far_times",
            what="3x, ALiBi: the same",
            published="vanishing",
            most=0.1,
        ),
        Claim(
            figure="rotary_uneven_over_mosaic",
            what="3x: unevenness of the tokens between, RoPE over Mosaic",
            published="does not extend nicely against mostly flat",
            least=0,
        ),
    )
    return bounded + tuple(_shown())


def _shown() -> list[Claim]:
    whats = {
        "first": "weight on position 0",
        "first_four": "weight on positions 0 to 3",
        "recent": f"weight on the last {RECENT}",
        "uneven": "unevenness of the tokens between",
    }
    names = {profile_name(reader, False): title for reader, title in TITLES.items()}
    names |= {profile_name(reader, True): f"3x, {TITLES[reader]}" for reader in BEYOND}
    found = [
        Claim(figure=f"{name}_{what}", what=f"{title}: {words}")
        for name, title in names.items()
        for what, words in whats.items()
    ]
    far = Claim(figure="rotary_long_far_times", what="3x, RoPE: weight farther back than the training length (x flat)")
    known = [
        Claim(figure=f"{reader}_loss", what=f"{title}: loss, second half of the training length (nats a token)")
        for reader, title in TITLES.items()
    ]
    rises = [
        Claim(figure=f"{reader}_loss_rise", what=f"{TITLES[reader]}: how much more it is beyond (nats a token)")
        for reader in BEYOND
    ]
    return [*found, far, *known, *rises]


def _plots(settings: ProfilesStudy) -> tuple[Plot, ...]:
    return (
        Plot(
            title="Where the last query looks (figure 12, mean over heads)",
            caption="Windows as long as in training. The heads one by one are in the matrices.",
            y_label="weight",
            x="place",
            x_label="position (tokens)",
            log_y=True,
            lines={title: f"{profile_name(reader, False)}: mean" for reader, title in TITLES.items()},
        ),
        Plot(
            title="Where it looks in windows three times as long (figure 13, mean over heads)",
            caption="Left of the upright line is farther back than any query of the training could look.",
            y_label="weight",
            x="long place",
            x_label="position (tokens)",
            log_y=True,
            lines={TITLES[reader]: f"{profile_name(reader, True)}: mean" for reader in BEYOND},
            marks={"training length back": float(settings.long - settings.length)},
        ),
        Plot(
            title="Leak and recency of the Mosaic's heads (figure 15)",
            caption="A key that keeps much of the one before is like its neighbours, so that a query finds them.",
            y_label="share",
            x="head",
            x_label="head",
            lines={"leak coefficient": "retention", f"weight on the last {RECENT}": "mosaic_trained: recent"},
        ),
        Plot(
            title="Loss by position",
            caption=f"Mean over {LOSS_BIN} positions. Right of the upright line are positions that no training had.",
            y_label="loss (nats a token)",
            x="token",
            x_label="position (tokens)",
            lines={
                title: f"{reader}: loss" if reader in BEYOND else f"trained token -> {reader}: loss"
                for reader, title in TITLES.items()
            },
            marks={"training length": float(settings.length)},
        ),
    )


def heads_by_bin(settings: ProfilesStudy, series: Series) -> list[HeatMap]:
    """Figures 12 and 13 by head: a row for each, a column for each of `bins`."""
    return [
        _heads("Figure 12 by head", tuple(TITLES), settings, series, is_long=False),
        _heads("Figure 13 by head, 3x", BEYOND, settings, series, is_long=True),
    ]


def _heads(title: str, readers: Sequence[Reader], settings: ProfilesStudy, series: Series, is_long: bool) -> HeatMap:
    length = settings.long if is_long else settings.length
    columns = bin_names(bins(length - 1))
    values = [
        np.array(series[f"{profile_name(reader, is_long)}: heads"]).reshape(-1, len(columns)) for reader in readers
    ]
    rows = [f"{reader} {i + 1}" for reader in readers for i in range(settings.n_heads)]
    return HeatMap(
        title=title, unit="log2(weight / flat)", rows=rows, columns=columns, values=np.concatenate(values).tolist()
    )


def leaks(settings: ProfilesStudy, found: Sequence[Result]) -> list[TextTable]:
    """Every head of every Mosaic."""
    rows = [
        [f"{result.seed}", f"{head:g}", f"{kept:.3f}", f"{recent:.3f}", f"{first:.4f}"]
        for result in found
        for head, kept, recent, first in zip(
            result.series["head"],
            result.series["retention"],
            result.series["mosaic_trained: recent"],
            result.series["mosaic_trained: first"],
            strict=True,
        )
    ]
    flat = RECENT / (settings.length - 1)
    return [
        TextTable(
            title="Leaks (figure 15)",
            caption=f"Heads of the Mosaic. Flat would be {flat:.3f} on the last {RECENT}.",
            columns=["Seed", "Head", "Leak coefficient", f"On the last {RECENT}", "On position 0"],
            rows=rows,
        )
    ]


SMALL = ProfilesStudy()
PAPER = ProfilesStudy(
    length=512,
    d_model=768,
    n_heads=12,
    steps=80_000,
    batch_size=512,
    learning_rate=5e-3,
    n_windows=5000,
    precision="bf16-mixed",
    device="auto",
)

MOSAIC_PROFILES = Experiment(
    name="mosaic-profiles",
    what="where does the last query look: is a Mosaic flat where transformers are not, also on longer windows?",
    source=SOURCE,
    claims=_claims(SMALL.n_heads),
    sizes={"small": SMALL, "paper": PAPER},
    measure_in=profiles,
    trainings=trainings,
    minutes={"small": 22.0},
    plots=_plots(SMALL),
    shown={"paper": Shown(claims=_claims(PAPER.n_heads), plots=_plots(PAPER))},
    seed_heat_maps=heads_by_bin,
    tables=leaks,
)

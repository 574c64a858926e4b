"""Planetary systems: a sky that was never seen before, in every sequence; do deeper Mosaics find out who is who?

From a planet with a moon are seen the sun, the moon, another planet and its moon. Only sun and own moon go in circles;
the other planet circles the sun, and its moon the planet, so that places must be told relative to others. Who stands in
which place is drawn anew for every sequence ("new orders"), or is always the same ("one order"): what depth gains more
in the first than in the second is what it gains by routes that are formed from the first observations.

Networks of 1, 2 and 3 layers (each a layer of contextual units and one of persistent ones) have as many parameters,
the shallow ones more width. Each unit of the trained networks is then examined, and every layer reads what it stored of
another sky (see `exchanging`).

Source: Zhang et al. 2024, "Memory Mosaics" (arXiv 2405.06394), section 4, where this is a thought: it has no figures.
Differs: all orbits are circles in one plane, and every system has as many bodies; see `mnemoscope.tasks.planetary`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.contracts import Batch
from mnemoscope.examination.subject.losses import input_device
from mnemoscope.experiments.mosaics.arms import count
from mnemoscope.experiments.mosaics.exchanging import DONORS, squared_errors
from mnemoscope.experiments.mosaics.planetary_study import BIN, N_AHEAD, ORDERS, Orders, PlanetaryStudy
from mnemoscope.experiments.mosaics.planetary_units import (
    bearing,
    examined,
    exchange_harms,
    exchange_maps,
    unit_tables,
    verdicts,
)
from mnemoscope.experiments.mosaics.trained import run_folder, trained, validation_curve
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Plot, Series
from mnemoscope.models import Stack
from mnemoscope.tasks import build_task, task_rng

SOURCE = "Zhang et al. 2024, Memory Mosaics (arXiv 2405.06394), section 4 (no figures are published)"


def planetary(settings: PlanetaryStudy, seed: int, out: Path) -> Measured:
    """Train all networks; errors by context, a step and 25 steps ahead; verdicts on units; memories exchanged."""
    figures, texts = dict[str, float](), dict[str, Sequence[str]]()
    series: dict[str, Sequence[float]] = {"observations": _bins(torch.arange(settings.length) + 1.0)}
    for depth, orders in settings.arms():
        recipe, name = settings.recipe(depth, orders), f"{orders}_{depth}"
        model = cast(Stack, trained(out, recipe, seed, settings.device).model.eval())
        figures[f"{name}_parameters"] = float(count(model))
        errors, ahead = _foreseen(model, settings, orders)
        series |= {f"{name}: next": errors, f"{name}: ahead": ahead}
        series |= validation_curve(run_folder(out, recipe.name, seed), name)
        figures |= {f"{name}_late": float(np.mean(errors[-2:])), f"{name}_ahead": ahead[-1]}
        if orders == "new":
            examination = examined(run_folder(out, recipe.name, seed), settings, depth)
            figures |= bearing(examination, depth)
            texts[f"units_{depth}"] = verdicts(examination, depth)
            series[f"{name}: harms"] = exchange_harms(model, settings)
    series["repeat: next"], series["repeat: ahead"] = _repeating(settings)
    series["observations before"] = [float(n) for n in _contexts(settings)]
    return Measured(figures=figures | _compared(figures, series, settings), series=series, texts=texts)


def _test(settings: PlanetaryStudy, orders: Orders) -> Batch:
    return build_task(settings.task(orders)).batch(task_rng(0, "test", 0), settings.n_test, "test")


def _foreseen(model: Stack, settings: PlanetaryStudy, orders: Orders) -> tuple[list[float], list[float]]:
    """Parts of the variance that are not explained: of the next observation, and of 25 that follow each context."""
    batch = _test(settings, orders)
    unit = float(np.var(batch.targets))
    seen = torch.from_numpy(batch.inputs).to(input_device(model))
    ahead = [
        float((_rollout(model, seen[:, :n]) - seen[:, n : n + N_AHEAD]).square().mean()) / unit
        for n in _contexts(settings)
    ]
    return _bins(squared_errors(model, batch).mean(0) / unit), ahead


@torch.no_grad()
def _rollout(model: Stack, seen: Float[Tensor, "b n c"]) -> Float[Tensor, "b 25 c"]:
    """Predictions that are each read as if they had been observed."""
    foreseen, state = model.prefill(seen)
    rows = [foreseen[:, -1]]
    while len(rows) < N_AHEAD:
        row, state = model.step(rows[-1], state)
        rows.append(row)
    return torch.stack(rows, dim=1)


def _repeating(settings: PlanetaryStudy) -> tuple[list[float], list[float]]:
    """The same of whoever says that all stays where it is."""
    batch = _test(settings, "new")
    seen, targets, unit = torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets), float(np.var(batch.targets))
    ahead = [float((seen[:, n - 1 : n] - seen[:, n : n + N_AHEAD]).square().mean()) / unit for n in _contexts(settings)]
    return _bins((seen - targets).square().mean((0, 2)) / unit), ahead


def _contexts(settings: PlanetaryStudy) -> range:
    return range(BIN, settings.length - N_AHEAD, BIN)


def _bins(values: Float[Tensor, "t"]) -> list[float]:
    return values.unflatten(0, (-1, BIN)).mean(1).tolist()


def _compared(figures: Mapping[str, float], series: Series, settings: PlanetaryStudy) -> dict[str, float]:
    """What depth gains, as ratios of errors, and how much more the order matters to a layer than the orbits."""
    least, most = min(settings.depths), max(settings.depths)
    compared = dict[str, float]()
    for what in ("late", "ahead"):
        gains = {order: figures[f"{order}_{least}_{what}"] / figures[f"{order}_{most}_{what}"] for order in ORDERS}
        compared |= {f"depth_gain_{what}": gains["new"], f"routing_gain_{what}": gains["new"] / gains["one"]}
    for depth in settings.depths:
        by_layer = np.array(series[f"new_{depth}: harms"]).reshape(depth, len(DONORS))
        for i, row in enumerate(by_layer):
            compared |= {f"harm_{depth}_{i + 1}_{donor}": float(x) for donor, x in zip(DONORS, row, strict=True)}
        orbits, order = (by_layer[:, DONORS.index(donor)] for donor in ("orbits", "order"))
        # Of two harms that are far below the network's own error, the ratio would say nothing.
        floor = figures[f"new_{depth}_late"] / 10
        compared[f"routes_{depth}"] = float((order / np.maximum(orbits, floor)).max())
    return compared


def _claims(settings: PlanetaryStudy) -> tuple[Claim, ...]:
    """The bars say what a yes to the question would be, twice as much where it is one of more or less."""
    least, most = min(settings.depths), max(settings.depths)
    gains = [
        Claim(
            figure=f"depth_gain_{what}",
            what=f"error {when}, {least} deep over {most} deep, parameters alike",
            published="more complex networks",
            least=1.0,
        )
        for what, when in (("late", "of the last 16 observations"), ("ahead", f"{N_AHEAD} ahead at the end"))
    ]
    routing = [
        Claim(
            figure=f"routing_gain_{what}",
            what=f"the same on new orders over on one order ({what})",
            published="routes formed in context",
            least=1.0,
        )
        for what in ("late", "ahead")
    ]
    units = [
        Claim(
            figure=f"least_bearing_{depth}",
            what=f"{depth} deep: least share of a layer's contextual units that bear load",
            published="units are recruited",
            least=0.01,
        )
        for depth in settings.depths
    ]
    routes = [
        Claim(
            figure=f"routes_{depth}",
            what=f"{depth} deep: most that another order harms a layer over other orbits",
            published="units in the routing" if depth > 1 else "-",
            least=2.0 if depth > 1 else None,
        )
        for depth in settings.depths
    ]
    shown = [
        Claim(figure=f"{orders}_{depth}_{what}", what=f"{ORDERS[orders]}, {depth} deep: {what}")
        for depth, orders in settings.arms()
        for what in ("late", "ahead", "parameters")
    ]
    return (*gains, *routing, *units, *routes, *shown)


def _plots(settings: PlanetaryStudy) -> tuple[Plot, ...]:
    named = {f"{ORDERS[orders]}, {depth} deep": f"{orders}_{depth}" for depth, orders in settings.arms()}
    captions = {
        "next": ("The next observation", "Every sequence is a system that was never seen.", "observations"),
        "ahead": (
            f"{N_AHEAD} observations ahead",
            "Every prediction is read as if it had been observed.",
            "observations before",
        ),
    }
    by_context = [
        Plot(
            title=f"{title}, {words}",
            caption=caption,
            y_label="variance not explained",
            x=x,
            x_label="observations before",
            log_y=True,
            lines={
                **{f"{depth} deep": f"{name}_{depth}: {what}" for depth, name in settings.arms() if name == orders},
                "repeat the last": f"repeat: {what}",
            },
        )
        for orders, words in ORDERS.items()
        for what, (title, caption, x) in captions.items()
    ]
    training = Plot(
        title="Training",
        caption="Networks of as many parameters.",
        y_label="squared error, validation",
        log_y=True,
        lines={line: f"{name}: step -> {name}: validation" for line, name in named.items()},
    )
    return (*by_context, training)


SMALL = PlanetaryStudy()
MOSAIC_PLANETARY = Experiment(
    name="mosaic-planetary",
    what="does depth let a Memory Mosaic find out who is who in a new planetary system, and which units take part?",
    source=SOURCE,
    claims=_claims(SMALL),
    sizes={"small": SMALL},
    measure_in=planetary,
    minutes={"small": 9.0},
    plots=_plots(SMALL),
    heat_maps=exchange_maps,
    tables=unit_tables,
)

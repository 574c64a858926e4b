"""Which units of a network of planetary systems bear load, and what its layers hold: examination and exchange."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mnemoscope.contracts.devices import chosen_device
from mnemoscope.examination import Budget
from mnemoscope.experiments.examining import Choice, examine_subject, keep
from mnemoscope.experiments.held_out import Data
from mnemoscope.experiments.mosaics.exchanging import DONORS, Donor, harms
from mnemoscope.experiments.mosaics.planetary_study import PlanetaryStudy
from mnemoscope.experiments.reproducing import Result, Series
from mnemoscope.experiments.subjects import of_run
from mnemoscope.memories.contextual import Contextual
from mnemoscope.models import Stack
from mnemoscope.runs import Examination
from mnemoscope.runs.geometry import HeatMap
from mnemoscope.runs.reproduction import TextTable
from mnemoscope.tasks import build_task, task_rng
from mnemoscope.tasks.planetary import Planetary

DONOR_TITLES: Mapping[Donor, str] = {
    "later": "later",
    "orbits": "other orbits",
    "order": "other order",
}


def contextual_layers(model: Stack) -> list[Contextual]:
    """The contextual memories, first layer first."""
    return [block.mixer for block in model.blocks if isinstance(block.mixer, Contextual)]


def examined(folder: Path, settings: PlanetaryStudy, depth: int) -> Examination:
    """Every contextual unit and every layer of them, beside the persistent layers; kept in the folder of the run."""
    budget = Budget(
        n_calibration=settings.n_examined // 2,
        n_test=settings.n_examined,
        fit_steps=settings.fit_steps,
        joint_fit_steps=settings.fit_steps // 2,
        windows=(),
        contribution=False,
        untrained_copy=False,
    )
    sites = [site for i in range(depth) for site in (f"blocks.{2 * i}.mixer[heads]", f"blocks.{2 * i + 1}.mixer")]
    subject = of_run(folder, Data(), budget)
    subject.model.to(chosen_device(settings.device))
    examination = examine_subject(subject, budget, Choice(sites=sites))
    keep(subject, examination, folder, "mnemoscope reproduce mosaic-planetary")
    return examination


def bearing(examination: Examination, depth: int) -> dict[str, float]:
    """Of each layer the share of contextual units that bear load, and the effect of all its units together."""
    figures = dict[str, float]()
    for i in range(depth):
        units = [site for site in examination.sites if site.name.startswith(f"blocks.{2 * i}.mixer[")]
        bear = [str(site.verdict).startswith("load-bearing") for site in units]
        figures[f"bearing_{depth}_{i + 1}"] = float(np.mean(bear))
        (layer,) = [group for group in examination.groups if group.name == f"heads of blocks.{2 * i}.mixer"]
        figures[f"effect_{depth}_{i + 1}"] = layer.effects["read"]["optimal_constant"].value
    figures[f"least_bearing_{depth}"] = min(figures[f"bearing_{depth}_{i + 1}"] for i in range(depth))
    return figures


def verdicts(examination: Examination, depth: int) -> list[str]:
    """Name, verdict and effect of each contextual unit, each layer of them and each persistent layer, with tabs."""
    found = list[str]()
    for record in (*examination.groups, *examination.sites):
        effect = record.effects["read"]["optimal_constant"]
        found.append("\t".join([f"{depth} deep", _unit(record.name), str(record.verdict), str(effect)]))
    return sorted(found)


def _unit(name: str) -> str:
    """What a site or a group is to a reader: "blocks.2.mixer[head 0]" is "layer 2, contextual unit 1"."""
    block = re.search(r"blocks\.(\d+)\.", name)
    if block is None:
        return "all units"
    head = re.search(r"\[head (\d+)\]", name)
    what = f"contextual unit {int(head[1]) + 1}" if head else "persistent units"
    what = "all contextual units" if name.startswith("heads of") else what
    return f"layer {int(block[1]) // 2 + 1}, {what}"


def exchange_harms(model: Stack, settings: PlanetaryStudy) -> list[float]:
    """By layer and donor: rise of the unexplained part in the second half of the observations."""
    task = build_task(settings.task("new"))
    assert isinstance(task, Planetary)
    systems = task.systems(task_rng(0, "test", 0), settings.n_test, "test")
    found = harms(model, contextual_layers(model), task, systems)
    unit = float(np.var(task.observed(systems).targets))
    late = [found[donor][:, settings.length // 2 :].mean(1) / unit for donor in DONORS]
    return np.stack(late, axis=1).flatten().tolist()


def exchange_maps(settings: PlanetaryStudy, series: Series) -> list[HeatMap]:
    """What it costs that a layer reads what it stored of another sky."""
    rows = [f"layer {i + 1} of {depth}" for depth in settings.depths for i in range(depth)]
    values = [np.array(series[f"new_{depth}: harms"]).reshape(depth, -1) for depth in settings.depths]
    return [
        HeatMap(
            title="A layer reads what it stored of another sky",
            unit="variance not explained",
            rows=rows,
            columns=[DONOR_TITLES[donor] for donor in DONORS],
            values=np.concatenate(values).tolist(),
        )
    ]


def unit_tables(settings: PlanetaryStudy, found: Sequence[Result]) -> list[TextTable]:
    """The verdicts of every seed."""
    return [
        TextTable(
            title=f"Which units bear load, seed {result.seed}",
            caption="What it costs to put its best constant in place of what a unit reads, as a part of the variance.",
            columns=["Network", "Unit", "Verdict", "Effect"],
            rows=[line.split("\t") for depth in settings.depths for line in result.texts[f"units_{depth}"]],
        )
        for result in found
    ]

"""Trained models of ATLAS on text as their training had them: with the floors of the gate held in the test too.

    storage      gate lifted to the floor of storage       as the last step of the training had it, clamped or affine
    retrieval    gate lifted to that of retrieval

A remedy acts in training alone, while the public code floors its gates in validation as well (atlas specification,
1.4); and a model whose floors last to the end of its training is another model without them. So an arm with floors is
tested both ways, on the same words. Figures of an arm, the first two lines of `text_runs` again:

    floored_accuracy, floored_reset, floored_wrong, floored_utility (_se, _ses), floored_specificity (_se, _ses)
    storage_gate, retrieval_gate      mean gate of the test before its floor, in storage and in retrieval
    used_gate                         that of retrieval with its floor

Nothing is trained for them: finished run directories are tested, and the figures kept beside those of the arm, under
its name and "-floored". Where no floor acts, the first line is that of the test without, and there is no other.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mnemoscope.contracts.devices import Device
from mnemoscope.experiments.atlas.text_runs import ARMS, RUNS, ArmSettings, worth
from mnemoscope.experiments.kept_arms import kept_arm
from mnemoscope.experiments.reproducing import Measured
from mnemoscope.experiments.shared_runs import trained
from mnemoscope.training import Recipe, TrainedRun
from mnemoscope.training.lessons import Episodic
from mnemoscope.training.lessons.lesson import Course
from mnemoscope.training.remedies import GateFloor
from mnemoscope.training.remedies.gate_floor import EpisodeMode
from mnemoscope.training.remedies.places import find_places
from mnemoscope.training.remedies.treatment import Treatment

FLOORED = "floored"


class HeldFloors(Treatment):
    """The floors of a training's last step, held in evaluation; keeps account of the gates before and after."""

    def __init__(self, remedy: GateFloor, model: nn.Module, steps: int) -> None:
        super().__init__(remedy)
        self.on_step(steps, steps)
        self.settings = remedy
        self.mode: EpisodeMode = "normal"
        self.phase_floor = remedy.phase_floor(steps, steps)
        self._seen: dict[str, list[tuple[float, float, int]]] = {"normal": [], "storage": [], "retrieval": []}
        for place in find_places(model, remedy.sites, "memory", "gate"):
            self.on_detach(place.module.register_forward_hook(self._hold))

    def set_mode(self, mode: EpisodeMode) -> None:
        """What the next forward passes are."""
        self.mode = mode

    @property
    def floor(self) -> float:
        """That acts now."""
        return self.strength * max(self.phase_floor, self.settings.mode_floor(self.mode))

    def gates(self) -> dict[str, float]:
        """Means over all calls: before the floor in both modes, after it in retrieval."""
        raw = {f"{mode}_gate": self._mean(mode, 0) for mode in ("storage", "retrieval")}
        return raw | {"used_gate": self._mean("retrieval", 1)}

    def _mean(self, mode: str, which: int) -> float:
        calls = self._seen[mode]
        return sum(call[which] for call in calls) / max(sum(n for *_, n in calls), 1)

    def _hold(self, module: nn.Module, arguments: tuple[Any, ...], raw: Tensor) -> Tensor:
        used = self.settings.lifted(raw, self.floor)
        self._seen[self.mode].append((float(raw.sum()), float(used.sum()), raw.numel()))
        return used


def held_floor(recipe: Recipe) -> GateFloor | None:
    """The floor that a model may be tested with; None where none acts on what the model computes."""
    floors = [each for each in recipe.remedies if isinstance(each, GateFloor) and each.floor_mode != "penalty"]
    acting = (each for each in floors if max(*each.floors, each.storage_floor, each.retrieval_floor) > 0)
    return next(acting, None)


def with_floors(
    out: Path, recipe: Recipe, settings: ArmSettings, seed: int, plain: Mapping[str, float], device: Device = "cpu"
) -> dict[str, float]:
    """The figures of an arm with its floors.

    Args:
        out: folder of all experiments.
        recipe: of the arm.
        settings: of the arm; see `text_runs`.
        seed: of the training.
        plain: the arm's figures without, which are given where no floor acts.
        device: where it is tested, and trained if it is not there yet.
    """
    remedy = held_floor(recipe)
    if remedy is None:
        return {f"{FLOORED}_{name}": plain[name] for name in _WORTH}
    name = f"{recipe.name}-{FLOORED}"
    found = kept_arm(
        out / ARMS,
        name,
        settings,
        seed,
        lambda: Measured(figures=worth_with(trained(out, RUNS, recipe, seed, device), remedy, settings.n_words)),
    )
    return found.figures


def settings_of(recipe: Recipe, n_words: int, sha256: str) -> ArmSettings:
    """What an arm depends on."""
    return ArmSettings(recipe=asdict(recipe), n_words=n_words, sha256=sha256)


def worth_with(run: TrainedRun, remedy: GateFloor, n_words: int) -> dict[str, float]:
    """What the memory of a trained model is worth with its floors on, on the words of `text_runs.tested`; its gates."""
    held = HeldFloors(remedy, run.model, run.recipe.train.steps)
    place = next(run.model.parameters()).device
    course = Course(model=run.model, task=run.task, config=run.recipe.train, device=place, treatments=(held,))
    try:
        with torch.no_grad():
            use = Episodic(eval_words=n_words).begin(course).memory_use("test")
    finally:
        held.detach()
    figures = worth(use)
    return {f"{FLOORED}_{name}": figures[name] for name in _WORTH} | held.gates()


_WORTH = (
    *("accuracy", "reset", "wrong"),
    *(f"{what}{end}" for what in ("utility", "specificity") for end in ("", "_se", "_ses")),
)

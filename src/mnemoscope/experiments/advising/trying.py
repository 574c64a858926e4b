"""Commands that try a row's change on a run: its own recipe with other settings, in a folder of its own."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from mnemoscope.examination.judgement.framework import Assessment, Row
from mnemoscope.experiments.atlas.guide import OF_STATES
from mnemoscope.experiments.atlas.trials import PROJECTION_OFF, floors_are_fixed, numbers
from mnemoscope.experiments.recipes import treated_with, with_changes
from mnemoscope.experiments.settings import with_settings
from mnemoscope.tasks import MaskedWordsConfig
from mnemoscope.training import Recipe
from mnemoscope.training.lessons import Plain
from mnemoscope.training.metrics import METRIC_NAMES

OF_EPISODES = ("cued_recall", "masked_words")
"""Tasks that the lesson episodic can be given on."""

FEWEST = 6
"""Points that a trend needs."""

STABLEMAX_OFF: tuple[str, ...] = ("train.loss=cross_entropy",)


class Trial(NamedTuple):
    """Commands, or why there are none."""

    commands: list[str]
    remark: str = ""


def trial_of(row: Row, run: Path, recipe: Recipe | None, label: str) -> Trial:
    """How a row's change is tried on a run; its settings where the recipe has them, else what adds them.

    Args:
        row: of the framework.
        run: its folder.
        recipe: None where it is not known.
        label: of the new folder, after the run's name.
    """
    if not row.sets and not row.command:
        return Trial([])
    if recipe is None:
        return Trial([], "the run holds no recipe (model and task) to change; train it with `mnemoscope train`")
    sets = filled(row.sets, recipe)
    if floors_are_fixed(recipe) and any(each.startswith("gate_floor.") for each in sets):
        return Trial([], "its floors are those of the public code, which reads none; train the recipe without -compat")
    try:
        changed = with_settings(recipe, sets)
    except ValueError as error:
        added = _added(row.command, run, recipe, label)
        return Trial([added]) if added else Trial([], f"nothing to change here: {error}")
    if replace(changed, name=recipe.name) == recipe:
        return Trial([], "the run has these settings already")
    return Trial([command(run, sets, label)])


def apart(assessments: Sequence[Assessment], run: Path, recipe: Recipe | None) -> Trial:
    """Of StableMax and orthogonal gradients that are on together each off, and both; else two changes of rows."""
    if recipe is None:
        return Trial([], "the run holds no recipe (model and task) to change; train it with `mnemoscope train`")
    rows = [each.row for each in assessments if each.finding.holds and each.row.is_suspect]
    changes = list(dict.fromkeys(row.sets for row in rows if row.sets))
    if recipe.train.loss == "stablemax" and recipe.train.orthogonal_gradient > 0:
        changes = [STABLEMAX_OFF, PROJECTION_OFF]
    fitting = [sets for change in changes if _fits(recipe, sets := filled(change, recipe))]
    pair = next((pair for pair in combinations(fitting, 2) if not _same_knob(*pair)), ())
    chosen = [*((sets,) for sets in pair), *([pair] if pair else [])]
    lines = [
        command(run, [setting for sets in parts for setting in sets], f"{row_name(25)}{'abc'[number]}")
        for number, parts in enumerate(chosen)
    ]
    return Trial(lines) if len(chosen) == 3 else Trial([], "fewer than two of the changes are settings of this run")


def logging_command(run: Path, recipe: Recipe) -> str:
    """Trains a run's recipe again with every figure that rows read; empty where it has them all.

    Metrics of states stay left out where a recipe names others: it does so where a state for every token is too much.
    """
    train, sets, words = recipe.train, list[str](), list[str]()
    named = METRIC_NAMES if train.metrics is None else train.metrics.names
    wanted = [name for name in METRIC_NAMES if name in named or name not in OF_STATES]
    if train.metrics is None or not set(wanted) <= set(named):
        metrics = {"every": max(1, min(50, train.steps // 20))} | (
            {} if wanted == [*METRIC_NAMES] else {"names": wanted}
        )
        sets.append(f"train.metrics={json.dumps(metrics)}")
    often = max(1, train.steps // 10)
    rates = {"eval_every": train.eval_every, "log_every": train.log_every}
    sets += [f"train.{name}={often}" for name, every in rates.items() if train.steps < FEWEST * every]
    if isinstance(recipe.lesson, Plain) and recipe.task.kind in OF_EPISODES:
        words = ["--lesson", "episodic"]
    if not sets and not words:
        return ""
    chosen = ["--set", *sets] if sets else []
    return shlex.join(["mnemoscope", "train", str(run / "config.json"), *chosen, *words, "--out", f"{run}-logged"])


def command(run: Path, sets: Sequence[str], label: str) -> str:
    """Trains a run's recipe with other settings."""
    return shlex.join(["mnemoscope", "train", str(run / "config.json"), "--set", *sets, "--out", f"{run}-{label}"])


def row_name(number: int) -> str:
    """Of folders."""
    return f"row-{number}"


def filled(sets: Sequence[str], recipe: Recipe) -> list[str]:
    """Settings with the run's own numbers where a row asks for half or twice of them."""
    task, train = recipe.task, recipe.train
    known = numbers(recipe) | {"half_rate": train.learning_rate / 2, "twice_steps": 2 * train.steps}
    if isinstance(task, MaskedWordsConfig):
        known["twice_retrieval"] = 2 * task.n_retrieval
    named = {f"{{{name}}}": f"{value:g}" if isinstance(value, float) else str(value) for name, value in known.items()}
    return [_with_numbers(setting, named) for setting in sets]


def _with_numbers(setting: str, named: dict[str, str]) -> str:
    for name, value in named.items():
        setting = setting.replace(name, value)
    return setting


def _same_knob(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two changes set something in two ways."""
    return bool({each.partition("=")[0] for each in one} & {each.partition("=")[0] for each in other})


def _fits(recipe: Recipe, sets: Sequence[str]) -> bool:
    if floors_are_fixed(recipe) and any(each.startswith("gate_floor.") for each in sets):
        return False
    try:
        return replace(with_settings(recipe, sets), name=recipe.name) != recipe
    except ValueError:
        return False


def _added(template: str, run: Path, recipe: Recipe, label: str) -> str:
    """A row's own command on the run, where its recipe can take what that adds; else nothing."""
    words = shlex.split(template)
    options = dict(zip(words[3::2], words[4::2], strict=True))
    lesson = options.get("--lesson", "")
    if not words or (lesson and recipe.task.kind not in OF_EPISODES):
        return ""
    try:
        treated_with(with_changes(recipe, layout=options.get("--layout")), options.get("--remedies", ""), lesson)
    except ValueError:
        return ""
    known = {"RECIPE": str(run / "config.json"), "OUT": f"{run}-{label}"}
    return shlex.join(known.get(word, word) for word in words)

"""Recipes: a model, a task and a training as one value, which a run directory keeps and can be rebuilt from."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from mnemoscope.models import Model, ModelConfig, StackConfig, VectorsConfig, build_model
from mnemoscope.runs import RunDirectory, describe
from mnemoscope.tasks import Task, TaskConfig, build_task, task_rng
from mnemoscope.training.callbacks import Callback
from mnemoscope.training.checkpoint import load_checkpoint, read_checkpoint, restore_model
from mnemoscope.training.config import TrainConfig
from mnemoscope.training.journal import check_tokeniser
from mnemoscope.training.lessons import AnyLesson, Plain
from mnemoscope.training.loop import TrainResult, train
from mnemoscope.training.ranks import Strategy, device_of, joined, was_restarted
from mnemoscope.training.remedies import Remedy


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that determines a trained model.

    Args:
        name: what to call it in tables and figures; not empty.
        model: a stack or a mosaic.
        task: what it learns.
        train: how.
        remedies: what is put on the model while it is trained, in this order.
        lesson: what a step sees and how the model is run on it.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    model: ModelConfig
    task: TaskConfig
    train: TrainConfig
    remedies: tuple[Remedy, ...] = ()
    lesson: AnyLesson = field(default_factory=Plain)

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ValueError(f"Recipe.name: must not be empty, got {self.name!r}; name it after what it varies")


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """A run read back from its directory, with the weights of its last checkpoint."""

    recipe: Recipe
    model: Model
    task: Task
    step: int


_RECIPE = TypeAdapter(Recipe)


def train_recipe(
    recipe: Recipe,
    directory: str | Path,
    *,
    resume: bool = False,
    progress: bool = True,
    device: str = "cpu",
    callbacks: Sequence[Callback] = (),
    strategy: Strategy | None = None,
) -> TrainResult:
    """Build what a recipe describes, train it, and leave a run directory; see `train`.

    Args:
        recipe: what to train.
        directory: a new or empty folder, or the folder of the run to resume.
        resume: go on from the last checkpoint; the recipe must be the run's (`load_recipe` reads it).
        progress: show progress on stderr.
        device: where to train, for instance "cpu" or "cuda"; of several processes, each has the GPU of its number.
        callbacks: see `train`.
        strategy: see `train`.

    Raises:
        ValueError: a folder that does not fit, another recipe than the run's, or a model that does not fit the task.
        NonFiniteLossError: a loss or gradient became infinite or NaN.
        ConnectionError: another process failed or was killed.
    """
    task = build_task(recipe.task)
    _check_fits(recipe.model, task)
    place = device_of(device)
    model = build_model(recipe.model, recipe.train.seed).to(place)
    with joined(place, strategy) as ranks:
        resumes = bool(ranks.first_says(lambda: _begin(recipe, RunDirectory(directory), resume)))
        return train(
            model,
            task,
            recipe.train,
            RunDirectory(directory),
            resumes,
            progress,
            remedies=recipe.remedies,
            lesson=recipe.lesson,
            callbacks=callbacks,
            strategy=strategy,
        )


def load_recipe(directory: str | Path) -> Recipe:
    """The recipe of a run, from its `config.json`.

    Raises:
        ValueError: if it is missing, damaged, or has unknown settings; the message names them.
    """
    run = RunDirectory(directory)
    resolved = run.read_config().resolved
    try:
        return _RECIPE.validate_json(json.dumps(resolved), strict=True)
    except ValidationError as error:
        raise ValueError(
            f"{run.config_path}: resolved is not a recipe: {describe(error)}; mend the named settings, "
            "or read the run with the Mnemoscope that wrote it (manifest.json has its version)"
        ) from None


def load_run(directory: str | Path, checkpoint: Path | None = None) -> TrainedRun:
    """Rebuild model and task of a run, with the weights of a checkpoint.

    Args:
        directory: of the run.
        checkpoint: folder of one of its checkpoints; None for the newest that holds.

    Raises:
        ValueError: if the recipe or every checkpoint is missing or damaged, or the task's tokeniser is another.
    """
    recipe = load_recipe(directory)
    model = build_model(recipe.model, recipe.train.seed)
    found = (
        load_checkpoint(RunDirectory(directory).checkpoints_path) if checkpoint is None else read_checkpoint(checkpoint)
    )
    if found is None:
        raise ValueError(f"{directory}: the run has no checkpoint yet; let it train until checkpoint_every")
    restore_model(found, model)
    task = build_task(recipe.task)
    check_tokeniser(RunDirectory(directory), task.manifest())
    return TrainedRun(recipe=recipe, model=model, task=task, step=found.step)


def _begin(recipe: Recipe, run: RunDirectory, resume: bool) -> bool:
    """Make the folder of a run that begins, or see that one that goes on is the same; returns whether it goes on."""
    if resume or (was_restarted() and run.begun):
        if run.config_path.exists():
            _check_same(run, recipe)
        return True
    RunDirectory.create(run.path)
    run.write_config(_RECIPE.dump_python(recipe, mode="json", exclude_defaults=True), _resolved(recipe))
    return False


def _check_fits(model: ModelConfig, task: Task) -> None:
    if model.vocab_size < task.vocab_size:
        raise ValueError(
            f"Recipe.model.vocab_size: the task needs at least {task.vocab_size}, got {model.vocab_size}; "
            f"set it to {task.vocab_size}"
        )
    if task.vocab_size == 0:
        batch = task.batch(task_rng(0, "train", 0), 1, "train")
        needed = VectorsConfig(n_channels=batch.inputs.shape[2], n_outputs=batch.targets.shape[2])
        vectors = model.vectors if isinstance(model, StackConfig) else None
        if vectors != needed:
            raise ValueError(f"Recipe.model.vectors: the task needs {needed}, got {vectors}; set it to that")


def _resolved(recipe: Recipe) -> dict[str, Any]:
    return _RECIPE.dump_python(recipe, mode="json")


def _check_same(run: RunDirectory, recipe: Recipe) -> None:
    differing = _differences("", _resolved(load_recipe(run.path)), _resolved(recipe))
    if differing:
        raise ValueError(
            f"{run.path}: a run resumes with the recipe it began with; different: {', '.join(differing)}; "
            "take the run's own (load_recipe), or start another run"
        )


def _differences(path: str, before: Any, now: Any) -> list[str]:
    """Dotted paths of the settings that differ, with both values."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [*before, *(key for key in now if key not in before)]
        return [
            line for key in keys for line in _differences(f"{path}.{key}".lstrip("."), before.get(key), now.get(key))
        ]
    return [] if before == now else [f"{path} (was {before}, got {now})"]

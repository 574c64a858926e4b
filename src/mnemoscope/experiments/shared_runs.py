"""Trainings that several figures share: each a run directory of its own, made once, gone on with where it was stopped.

OUT/FOLDER/NAME/seed-0/
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mnemoscope.contracts.devices import Device, chosen_device
from mnemoscope.runs import RunDirectory
from mnemoscope.training import Recipe, TrainedRun, load_recipe, load_run, train_recipe
from mnemoscope.training.callbacks import Callback


def trained(
    out: Path, folder: str, recipe: Recipe, seed: int, device: Device = "cpu", callbacks: Sequence[Callback] = ()
) -> TrainedRun:
    """The trained model of a recipe, on a device.

    Args:
        out: folder of all experiments.
        folder: of the runs that may be shared, within `out`.
        recipe: its name is that of the run's folder; its own seed does not count.
        seed: of the run.
        device: where it is trained if it is not there yet, and where the model is put.
        callbacks: look on while it is trained.

    Raises:
        ValueError: the folder holds another recipe, or no such device is here.
        KeyboardInterrupt: a signal stopped the training; it goes on next time.
    """
    place, recipe = chosen_device(device), replace(recipe, train=replace(recipe.train, seed=seed))
    run = RunDirectory(run_folder(out, folder, recipe.name, seed))
    if run.config_path.exists() and load_recipe(run.path) != recipe:
        raise ValueError(
            f"{run.path}: was trained by another recipe than {recipe.name}; name another --out folder, or remove it"
        )
    if not (run.manifest_path.exists() and run.read_manifest().exit_state == "finished"):
        result = train_recipe(
            recipe, run.path, resume=run.begun, progress=False, device=str(place), callbacks=callbacks
        )
        if result.exit_state == "interrupted":
            raise KeyboardInterrupt
    found = load_run(run.path)
    found.model.to(place)
    return found


def run_folder(out: Path, folder: str, name: str, seed: int) -> Path:
    """Where a training stands."""
    return out / folder / name / f"seed-{seed}"


def validation_curve(run: Path, name: str) -> dict[str, Sequence[float]]:
    """Steps and validation losses of a training, as the series "NAME: step" and "NAME: validation"."""
    rows = [row for row in RunDirectory(run).read_metrics() if "validation_loss" in row]
    curves: dict[str, Sequence[float]] = {f"{name}: step": [float(row["step"]) for row in rows]}
    return curves | {f"{name}: validation": [float(row["validation_loss"]) for row in rows]}

"""Trainings that several figures of this room share, under OUT/mosaic-runs; see `experiments.shared_runs`."""

from pathlib import Path

from mnemoscope.contracts.devices import Device
from mnemoscope.experiments import shared_runs
from mnemoscope.experiments.shared_runs import validation_curve
from mnemoscope.training import Recipe, TrainedRun

__all__ = ["run_folder", "trained", "validation_curve"]

FOLDER = "mosaic-runs"


def trained(out: Path, recipe: Recipe, seed: int, device: Device = "cpu") -> TrainedRun:
    """The trained model of a recipe; see `shared_runs.trained`."""
    return shared_runs.trained(out, FOLDER, recipe, seed, device)


def run_folder(out: Path, name: str, seed: int) -> Path:
    """Where a training stands."""
    return shared_runs.run_folder(out, FOLDER, name, seed)

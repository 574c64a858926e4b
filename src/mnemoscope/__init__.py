"""Mnemoscope: is a neural network's memory load-bearing or decorative, what kind is it, and what fixes it?

import mnemoscope as ms
examination = ms.examine(model, batches, loss=loss)
ms.report(examination, "report.html")
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnemoscope.contracts import Batch, ReadPoint, tap
    from mnemoscope.examination import Budget, assert_load_bearing, examine
    from mnemoscope.examination.geometry import examine_geometry
    from mnemoscope.examination.planning import plan
    from mnemoscope.experiments.advising import advise
    from mnemoscope.experiments.examining import examine_run
    from mnemoscope.experiments.tracing import trace
    from mnemoscope.facade import report
    from mnemoscope.models import Stack, StackConfig, build, load_model, save_model
    from mnemoscope.training import Recipe, TrainConfig, train, train_recipe

    __version__: str

_HOMES = {
    "Batch": "contracts",
    "Budget": "examination",
    "ReadPoint": "contracts",
    "Recipe": "training",
    "Stack": "models",
    "StackConfig": "models",
    "TrainConfig": "training",
    "advise": "experiments.advising",
    "assert_load_bearing": "examination",
    "build": "models",
    "examine": "examination",
    "examine_geometry": "examination.geometry",
    "examine_run": "experiments.examining",
    "load_model": "models",
    "plan": "examination.planning",
    "report": "facade",
    "save_model": "models",
    "tap": "contracts",
    "trace": "experiments.tracing",
    "train": "training",
    "train_recipe": "training",
}

__all__ = [  # in the order of `_HOMES`
    "Batch",
    "Budget",
    "ReadPoint",
    "Recipe",
    "Stack",
    "StackConfig",
    "TrainConfig",
    "advise",
    "assert_load_bearing",
    "build",
    "examine",
    "examine_geometry",
    "examine_run",
    "load_model",
    "plan",
    "report",
    "save_model",
    "tap",
    "trace",
    "train",
    "train_recipe",
]


def __getattr__(name: str) -> object:
    """Import a public name at its first use: the command line must not wait for torch to print its help."""
    if name == "__version__":
        return _version()
    if name not in _HOMES:
        raise AttributeError(f"module 'mnemoscope' has no attribute {name!r}; public: {', '.join(__all__)}")
    value = getattr(import_module(f"mnemoscope.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def _version() -> str:
    """Of the installed distribution, which has it from git's tags; "0+unknown" where only the source is on the path."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("mnemoscope")
    except PackageNotFoundError:
        return "0+unknown"


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])

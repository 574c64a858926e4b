"""How a model learns: one loop, its optimiser, loss and checkpoints, and runs that resume to the bit.

May live here: the loop, optimisers, losses, curricula; one file per remedy in `remedies/`. May import: torch,
`mnemoscope.models`, `tasks`, `runs` and `contracts`; never the examination, which must work on models it has never
seen. Nothing here seeds the global generator, and nothing is unpickled.
"""

from mnemoscope.training.batches import VALIDATION_SEED, evaluate
from mnemoscope.training.callbacks import Callback, Moment
from mnemoscope.training.checkpoint import Checkpoint, list_checkpoints, load_checkpoint, restore_model
from mnemoscope.training.config import TrainConfig
from mnemoscope.training.loop import TrainResult, train
from mnemoscope.training.loss import accuracy, bits, cross_entropy
from mnemoscope.training.nonfinite import NonFiniteLossError
from mnemoscope.training.optimiser import build_optimiser, learning_rate
from mnemoscope.training.ranks import Strategy
from mnemoscope.training.recipe import Recipe, TrainedRun, load_recipe, load_run, train_recipe
from mnemoscope.training.sharded import consolidate

__all__ = [
    "VALIDATION_SEED",
    "Callback",
    "Checkpoint",
    "Moment",
    "NonFiniteLossError",
    "Recipe",
    "Strategy",
    "TrainConfig",
    "TrainResult",
    "TrainedRun",
    "accuracy",
    "bits",
    "build_optimiser",
    "consolidate",
    "cross_entropy",
    "evaluate",
    "learning_rate",
    "list_checkpoints",
    "load_checkpoint",
    "load_recipe",
    "load_run",
    "restore_model",
    "train",
    "train_recipe",
]

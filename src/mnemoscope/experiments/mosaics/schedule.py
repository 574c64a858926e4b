"""How the networks of the studies are trained: a tenth of warm-up, a cosine to a fiftieth, one thread."""

from typing import Protocol

from mnemoscope.training import TrainConfig
from mnemoscope.training.config import Precision


class Steps(Protocol):
    """Settings of a study that says how long it trains, and on how much at once."""

    @property
    def steps(self) -> int:
        """Of the optimiser."""
        ...

    @property
    def batch_size(self) -> int:
        """Sequences a step."""
        ...

    @property
    def learning_rate(self) -> float:
        """The largest."""
        ...


def schedule(study: Steps, *, evaluations: int, sequences: int = 64, precision: Precision = "32-true") -> TrainConfig:
    """The training of a study's networks, with four checkpoints.

    Args:
        study: its settings.
        evaluations: while it trains.
        sequences: of each evaluation.
        precision: of the training.
    """
    return TrainConfig(
        steps=study.steps,
        batch_size=study.batch_size,
        learning_rate=study.learning_rate,
        warmup_steps=study.steps // 10,
        final_lr_fraction=0.02,
        eval_every=max(1, study.steps // evaluations),
        eval_sequences=sequences,
        checkpoint_every=max(1, study.steps // 4),
        precision=precision,
        threads=1,
    )

from dataclasses import dataclass

from mnemoscope.experiments.mosaics.schedule import schedule


@dataclass(frozen=True)
class Study:
    steps: int
    batch_size: int = 4
    learning_rate: float = 1e-3


def test_warm_up_evaluations_and_checkpoints_are_shares_of_the_steps():
    train = schedule(Study(600), evaluations=12, sequences=32)
    assert (train.warmup_steps, train.eval_every, train.checkpoint_every) == (60, 50, 150)
    assert (train.batch_size, train.learning_rate, train.eval_sequences) == (4, 1e-3, 32)


def test_a_few_steps_are_still_evaluated():
    train = schedule(Study(2), evaluations=12)
    assert (train.warmup_steps, train.eval_every, train.checkpoint_every) == (0, 1, 1)

"""A task that only a memory can do: say at the end which token came first; and a model of memory beside attention.

The first token is of the upper half of the vocabulary, the others are of the lower.
"""

from collections.abc import Iterator

import numpy as np
import torch

from mnemoscope.contracts import IGNORE, Batch
from mnemoscope.models import Stack, StackConfig, build
from mnemoscope.tasks import Split
from mnemoscope.training import TrainConfig

VOCABULARY, LENGTH = 4, 4

TRAINING = TrainConfig(
    steps=30,
    batch_size=16,
    learning_rate=2e-2,
    warmup_steps=2,
    final_lr_fraction=1.0,
    eval_every=15,
    eval_sequences=16,
    log_every=10,
    checkpoint_every=15,
    threads=1,
)


class FirstToken:
    vocab_size, length, unit = VOCABULARY, LENGTH, "accuracy"
    chance_loss = memoryless_loss = float(np.log(VOCABULARY // 2))
    floor_loss = 0.0

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        inputs = rng.integers(VOCABULARY // 2, size=(size, LENGTH))
        inputs[:, 0] += VOCABULARY // 2
        targets = np.full_like(inputs, IGNORE)
        targets[:, -1] = inputs[:, 0]
        return Batch(inputs=inputs, targets=targets)

    def n_sequences(self, split: Split) -> int | None:
        return None

    def manifest(self) -> dict[str, str | int]:
        return {"name": "first token"}


def gated_model() -> Stack:
    layout = "parallel(gated_delta(n_heads=1), attention(window=2, n_heads=1))"
    return build(StackConfig.of(layout, vocab_size=VOCABULARY, d_model=16), seed=0)


def probe_batches(n: int = 2, size: int = 16) -> Iterator[Batch]:
    drawn = FirstToken().batch(np.random.default_rng(7), n * size, "validation")
    for rows in range(0, n * size, size):
        inputs, targets = (torch.from_numpy(part[rows : rows + size]) for part in (drawn.inputs, drawn.targets))
        yield Batch(inputs=inputs, targets=targets)

"""A model and a task so small that a hundred steps take a moment; run as a script, it trains them slowly.

Usage: small.py DIRECTORY SECONDS_PER_BATCH
"""

import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from mnemoscope.contracts import IGNORE, Batch
from mnemoscope.runs import RunDirectory
from mnemoscope.tasks import Split
from mnemoscope.training import TrainConfig, train

CONFIG = TrainConfig(
    steps=40,
    batch_size=4,
    learning_rate=1e-2,
    warmup_steps=5,
    eval_every=8,
    eval_sequences=6,
    log_every=1,
    checkpoint_every=7,
    seed=3,
    threads=1,
)


class SmallModel(nn.Module):
    """Tied embeddings, a norm, a buffer that counts calls, and dropout."""

    calls: Tensor

    def __init__(self, vocab_size: int = 11, dropout: float = 0.2) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, 8)
        self.hidden = nn.Linear(8, 8)
        self.norm = nn.LayerNorm(8)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(8, vocab_size, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, tokens: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
        x = self.embedding(tokens)
        return self.head(self.norm(x + self.dropout(self.hidden(x).relu())))


def small_model(dropout: float = 0.2) -> SmallModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SmallModel(dropout=dropout)


class SmallTask:
    """Predict the token plus one, modulo the vocabulary; `before` is called with the split of each batch."""

    vocab_size = 11
    length = 6
    chance_loss = float(np.log(11))
    memoryless_loss = floor_loss = 0.0

    def __init__(self, before: Callable[[Split], None] | None = None, unit: str = "accuracy") -> None:
        self.before, self.unit = before, unit

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        if self.before is not None:
            self.before(split)
        inputs = rng.integers(self.vocab_size, size=(size, self.length))
        targets = (inputs + 1) % self.vocab_size
        targets[:, 0] = IGNORE
        return Batch(inputs=inputs, targets=targets)

    def manifest(self) -> dict[str, str | int]:
        return {"name": "small"}


if __name__ == "__main__":
    task = SmallTask(lambda _: time.sleep(float(sys.argv[2])))
    train(small_model(), task, CONFIG, RunDirectory.create(sys.argv[1]), progress=False)

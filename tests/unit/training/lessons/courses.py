"""Small courses: a stack, a task, and the settings of a training of them."""

from dataclasses import replace

import torch
from torch import nn

from mnemoscope.models import Stack, StackConfig, build
from mnemoscope.tasks import CuedRecall, CuedRecallConfig, Task
from mnemoscope.training import TrainConfig
from mnemoscope.training.lessons import Course
from mnemoscope.training.remedies import Treatment

TRAIN = TrainConfig(
    steps=6,
    batch_size=4,
    learning_rate=1e-2,
    warmup_steps=2,
    eval_every=3,
    eval_sequences=4,
    log_every=1,
    checkpoint_every=2,
    threads=1,
)
RECALL = CuedRecallConfig(n_keys=4, n_values=3, n_pairs=3)
"""Keys 0 to 3, values 4 to 6; six tokens of storage, three of retrieval."""


def stack(layout: str = "gated_delta(n_heads=2)", vocab_size: int = 12) -> Stack:
    """In float64, its head apart from its embedding."""
    config = StackConfig.of(layout, vocab_size=vocab_size, d_model=8, tie_embeddings=False)
    return build(config, seed=0).double()


def course(
    model: nn.Module, task: Task | None = None, treatments: tuple[Treatment, ...] = (), **settings: int
) -> Course:
    """In training mode; of cued recall, if no task is named."""
    return Course(
        model=model.train(),
        task=task or CuedRecall(RECALL),
        config=replace(TRAIN, **settings),
        device=torch.device("cpu"),
        treatments=treatments,
    )

"""A read that is a view of a parameter: torch has it ask for gradients even where none are wanted."""

import numpy as np
import torch
from torch import nn

from mnemoscope.contracts import Batch, ReadPoint
from mnemoscope.examination import Budget, examine

TINY = Budget(n_calibration=16, n_test=16, fit_steps=2, joint_fit_steps=1, windows=(1,), n_resamples=200, looks=1)


class OneVector(nn.Module):
    """A memory that is one learned vector."""

    def __init__(self) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.randn(8))
        self.read = ReadPoint()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.read(self.vector.expand(*x.shape[:2], 8))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.memory, self.head = nn.Embedding(11, 8), OneVector(), nn.Linear(8, 11)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        return self.head((x + self.memory(x)).tanh())


def test_it_is_examined_like_any_other():
    torch.manual_seed(0)
    drawn = np.random.default_rng(0).integers(0, 11, (6, 8, 13))
    batches = [Batch(inputs=torch.from_numpy(x[:, :-1]), targets=torch.from_numpy(x[:, 1:])) for x in drawn]
    (site,) = examine(Model(), batches, routes=[], budget=TINY).sites
    assert site.name == "memory"
    assert site.effects["read"]["zero"].value != 0
    assert abs(site.effects["read"]["mean"].value) < 1e-5

"""The best constant is no worse than those known beforehand, and is not the luckiest of many."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mnemoscope.contracts import ReadPoint
from mnemoscope.examination import Budget
from mnemoscope.examination.judgement.family import Level
from mnemoscope.examination.protocol.conditions import ROUTES, Fitted
from mnemoscope.examination.protocol.fit import Removal, _is_better
from mnemoscope.examination.protocol.part import Part, Player
from mnemoscope.examination.running.replay import Replayer
from mnemoscope.examination.subject.sites import Point


class Louder(nn.Module):
    """Loses what is read in excess of nothing: zeros are best, and small steps from elsewhere do not get there."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.read = ReadPoint()

    def forward(self, x: Tensor) -> Tensor:
        return self.read(self.weight * x).clamp_min(0)


def test_a_fit_starts_at_zeros_where_these_cost_less_than_the_mean():
    model, point = Louder().eval(), Point("read")
    replayer = Replayer(model, lambda model, batch: model(batch).flatten(1).mean(1), [point])
    tapes = [replayer.record(torch.rand(4, 3, 2), keep=[point]) for _ in range(3)]
    removal = Removal(point=point, window=None, start=torch.full((2,), 0.5), scale=0.5)
    fitted = Fitted(replayer, tapes, {"memory": [removal]}, Budget(fit_steps=1))
    (edit,) = fitted.edits(frozenset({"memory"}))
    assert replayer.run(tapes[0], [edit]).per_sequence.tolist() == [0.0] * 4


@pytest.mark.parametrize(
    ("losses", "than", "better"),
    [
        ([0.9, 0.8, 1.0, 0.9], [1.0, 1.0, 1.0, 1.0], True),
        ([0.0, 2.1, 0.0, 1.8], [1.0, 1.0, 1.0, 1.0], False),
        ([1.0, 1.0], [1.0, 1.0], False),
        ([1.0, 2.0], [torch.inf, 1.0], True),
        ([torch.inf, 0.0], [1.0, 1.0], False),
    ],
)
def test_a_constant_must_win_by_more_than_a_standard_error(losses: list[float], than: list[float], better: bool):
    assert _is_better(torch.tensor(losses), torch.tensor(than)) == better


def test_a_memory_that_does_harm_when_all_else_is_off_is_no_open_question():
    """Routes off costs 3 and more, everything off 1: the memory's noise is worth less than nothing there."""
    rng = np.random.default_rng(0)
    base = np.zeros(200)
    losses = {
        (): base,
        ("off", "noise"): base - 0.5,
        ("off", ROUTES): base + 3 + rng.normal(size=200),
        ("off", ROUTES, "noise"): base + 1,
    }
    player = Player(name="noise", members=("noise",), site=None)
    part = Part(losses, [player], ["noise"], 4, 500, 0, Level())
    conditional = part.deciding(player, "conditional")
    assert conditional is not None
    assert conditional.high < part.margin

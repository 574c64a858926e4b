"""What several processes cannot divide is refused by name."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from mnemoscope.contracts.processes import Processes
from mnemoscope.training import TrainConfig, train
from mnemoscope.training.lessons import Carried, Episodic, Plain
from mnemoscope.training.metrics import MetricsConfig
from mnemoscope.training.ranks import ALONE, joined
from mnemoscope.training.ranks.refusing import BY_ROWS, BY_WEIGHTS, REFUSED, refuse_indivisible, uncallable
from mnemoscope.training.ranks.several import Replicated, Sharded
from mnemoscope.training.remedies import REMEDIES, BottleneckRank, BranchDropout, NecessityMargin
from tests.unit.training.small import CONFIG, SmallTask, small_model

CPU, TWO = torch.device("cpu"), Processes(rank=0, count=2)
DDP, FSDP = Replicated(TWO, CPU), Sharded(TWO, CPU)


class OneNumber(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))


def test_every_remedy_is_known_to_be_divisible_or_not():
    assert {*BY_ROWS, *BY_WEIGHTS, *REFUSED} == set(REMEDIES)
    assert len(BY_ROWS) + len(BY_WEIGHTS) + len(REFUSED) == len(REMEDIES)


@pytest.mark.parametrize(
    ("ranks", "changed", "named"),
    [
        (DDP, {"config": replace(CONFIG, batch_size=1)}, "batch_size must be at least 2"),
        (DDP, {"lesson": Carried()}, "the lesson Carried keeps states"),
        (DDP, {"lesson": Episodic()}, "the lesson Episodic keeps states"),
        (DDP, {"remedies": [NecessityMargin()]}, "the remedy necessity_margin compares"),
        (DDP, {"model": nn.Sequential(nn.BatchNorm1d(2))}, "0, a BatchNorm1d, takes statistics"),
        (FSDP, {"remedies": [BottleneckRank()]}, "the remedy bottleneck_rank needs whole weights"),
        (FSDP, {"config": replace(CONFIG, optimiser="muon")}, "optimiser muon needs whole matrices"),
        (FSDP, {"config": replace(CONFIG, orthogonal_gradient=1.0)}, "orthogonal_gradient needs whole matrices"),
        (FSDP, {"config": replace(CONFIG, precision="bf16-true")}, "must be 32-true or bf16-mixed, got bf16-true"),
        (FSDP, {"config": replace(CONFIG, metrics=MetricsConfig())}, "the metric effective_dimension needs"),
        (FSDP, {"model": OneNumber()}, "scale is a single number"),
    ],
)
def test_what_is_refused_is_named(ranks: Any, changed: dict[str, Any], named: str):
    given = {"model": small_model(), "config": CONFIG, "remedies": [BranchDropout()], "lesson": Plain()}
    refuse_indivisible(ranks, **given)
    with pytest.raises(ValueError, match=named):
        refuse_indivisible(ranks, **(given | changed))
    refuse_indivisible(ALONE, **(given | changed))


def test_weights_of_the_model_may_be_treated_where_they_are_whole():
    refuse_indivisible(DDP, small_model(), replace(CONFIG, optimiser="muon"), [BottleneckRank()], Plain())


def test_a_callback_cannot_call_a_sharded_model():
    model = nn.Linear(2, 2)
    with uncallable(model), pytest.raises(ValueError, match="a callback runs the model, whose weights are sharded"):
        model(torch.ones(2))
    assert model(torch.ones(2)).shape == (2,)


def test_a_strategy_needs_processes():
    with pytest.raises(ValueError, match=r"strategy ddp needs several processes.*torchrun"):
        train(small_model(), SmallTask(), TrainConfig(steps=1, warmup_steps=0), strategy="ddp", progress=False)
    with pytest.raises(ValueError, match="must be one of ddp, fsdp, got 'zero'"), joined(CPU, "zero"):  # pyright: ignore[reportArgumentType]
        pass
    with joined(CPU) as ranks:
        assert ranks is ALONE

"""A stack of conditions gives the losses of single runs, or is not made."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mnemoscope.contracts import Batch, ReadPoint
from mnemoscope.examination import NextTokenLoss, Point
from mnemoscope.examination.interventions.reads import Constant, GateClamp, PositionConstant, Resample, Window, Zero
from mnemoscope.examination.running.batching import TOLERANCE, Batcher, row_dependence
from mnemoscope.examination.running.editing import Edit
from mnemoscope.examination.running.replay import Replayer
from mnemoscope.examination.subject.losses import Scores
from mnemoscope.models import StackConfig, build

B, T, VOCAB, D = 4, 12, 11, 8
LAYOUT = "(attention(window=4), gated_delta) * 2, gated_delta | attention, bank(n_slots=4)"
READ, CONTRIBUTION, GATE = (
    Point("blocks.1.mixer.read"),
    Point("blocks.3.mixer.contribution"),
    Point("blocks.4.mixer.memory.gate"),
)


def tokens(seed: int = 0) -> Tensor:
    return torch.randint(0, VOCAB, (B, T + 1), generator=torch.Generator().manual_seed(seed))


def batches() -> list[object]:
    x = tokens()
    numpy = Batch(inputs=x[:, :-1].numpy(), targets=x[:, 1:].numpy(), about={"item": np.zeros((B, T), int)})
    return [x, numpy, Batch(inputs=x[:, :-1], targets=x[:, 1:])]


def replayer(points: Sequence[Point] = (READ, CONTRIBUTION, GATE, Point("blocks.1.mixer"))) -> Replayer:
    model = build(StackConfig.of(LAYOUT, vocab_size=VOCAB, d_model=D), seed=0).eval()
    return Replayer(model, NextTokenLoss(), points)


CONDITIONS: list[list[Edit]] = [
    [Edit(READ, Zero())],
    [Edit(CONTRIBUTION, Zero())],
    [Edit(READ, Constant(torch.full((4, 2), 3.0)))],
    [Edit(Point("blocks.1.mixer"), Window(2))],
    [Edit(READ, PositionConstant(torch.linspace(-4, 4, T * D).view(T, 4, 2)))],
    [Edit(READ, Resample())],
    [Edit(READ, Resample(2)), Edit(CONTRIBUTION, Constant(torch.full((D,), -2.0)))],
    [Edit(CONTRIBUTION, Constant(torch.full((D,), 0.7)))],
    [Edit(GATE, GateClamp(0.0, 0.0)), Edit(READ, Constant(torch.full((4, 2), -9.0)))],
    [],
]


def assert_same(several: Sequence[Scores], single: Sequence[Scores]) -> None:
    assert len(several) == len(single)
    for one, other in zip(several, single, strict=True):
        torch.testing.assert_close(one.per_sequence, other.per_sequence, rtol=TOLERANCE, atol=TOLERANCE)
        torch.testing.assert_close(one.per_token, other.per_token, rtol=1e-4, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize("kind", range(3))
@torch.no_grad()
def test_stacked_losses_are_those_of_single_runs(kind: int):
    runner, data = replayer(), batches()[kind]
    batcher = Batcher(runner)
    for seed in range(2):
        tape = runner.record(data if seed == 0 else tokens(seed))
        single = [runner.run(tape, edits) for edits in CONDITIONS]
        assert len({round(float(scores.per_sequence.sum()), 4) for scores in single}) == len(CONDITIONS)
        assert_same(batcher.run_many(tape, CONDITIONS), single)
    assert batcher.path == "stacked where they fit"
    assert runner.path == "from a record, checked to the bit"


@torch.no_grad()
def test_later_tapes_share_passes_and_no_more_copies_than_fit():
    runner, rows = replayer(), []
    original = runner.model.forward
    runner.model.forward = lambda x: rows.append(len(x)) or original(x)
    batcher = Batcher(runner, max_values=3 * runner.record(tokens()).n_largest)
    assert batcher.n_at_once(runner.record(tokens())) == 3
    conditions = [[Edit(READ, Constant(torch.full((4, 2), float(i))))] for i in range(7)]
    batcher.run_many(runner.record(tokens()), conditions)
    tape = runner.record(tokens(1))
    rows.clear()
    batcher.run_many(tape, conditions)
    assert rows == [3 * B, 3 * B, B]
    rows.clear()
    Batcher(runner, max_values=1).run_many(tape, conditions)
    assert rows == [B] * 7


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.read, self.head = nn.Embedding(VOCAB, D), ReadPoint(), nn.Linear(D, VOCAB)

    def mixed(self, x: Tensor) -> Tensor:
        return x

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.mixed(self.read(self.embedding(tokens))))


class BatchNormalised(Plain):
    """Statistics of the batch, in evaluation mode too."""

    def mixed(self, x: Tensor) -> Tensor:
        return (x - x.mean((0, 1))) / (0.1 + x.std((0, 1)))


class Neighbourly(Plain):
    """A row sees the row before."""

    def mixed(self, x: Tensor) -> Tensor:
        return x + 0.1 * x.roll(1, dims=0)


class Growing(Plain):
    """Only how many rows there are matters."""

    def mixed(self, x: Tensor) -> Tensor:
        return x * len(x)


class NeighbourlyWhenLarge(Plain):
    """Rows see each other only where an intervention makes values large."""

    def mixed(self, x: Tensor) -> Tensor:
        return x + (x.clamp_min(50.0) - 50.0).mean(0)


def drawn(kind: type[Plain]) -> Replayer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Replayer(kind().eval(), NextTokenLoss(), [Point("read")])


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (BatchNormalised, "other rows change"),
        (Neighbourly, "other rows change"),
        (Growing, "the batch grows"),
        (NeighbourlyWhenLarge, "a stack of batches gives other losses"),
    ],
)
@torch.no_grad()
def test_rows_that_see_each_other_run_alone(kind: type[Plain], why: str):
    runner = drawn(kind)
    batcher, tape = Batcher(runner), runner.record(tokens())
    conditions = [[Edit(Point("read"), Constant(torch.full((D,), value)))] for value in (0.0, 1.0, 100.0)]
    assert_same(batcher.run_many(tape, conditions), [runner.run(tape, edits) for edits in conditions])
    assert why in batcher.path
    assert_same(batcher.run_many(tape, conditions), [runner.run(tape, edits) for edits in conditions])


@torch.no_grad()
def test_independent_rows_pass():
    runner = drawn(Plain)
    assert row_dependence(runner, runner.record(tokens())) is None


@torch.no_grad()
def test_losses_that_are_not_finite_stay_with_their_condition():
    runner = drawn(Plain)
    tape = runner.record(tokens())
    conditions = [[Edit(Point("read"), Constant(torch.full((D,), value)))] for value in (0.0, float("inf"), 1.0)]
    batcher = Batcher(runner)
    for _ in range(2):
        scores = batcher.run_many(tape, conditions)
        assert [bool(torch.isfinite(each.per_sequence).all()) for each in scores] == [True, False, True]
    assert batcher.alone is None


@torch.no_grad()
def test_batches_that_cannot_be_taken_apart_run_alone():
    runner = drawn(Plain)
    runner.loss = lambda model, batch: NextTokenLoss()(model, batch[0])
    tape = runner.record((tokens(),))
    conditions = [[Edit(Point("read"), Zero())], [Edit(Point("read"), Constant(torch.ones(D)))]]
    batcher = Batcher(runner)
    for one, edits in zip(batcher.run_many(tape, conditions), conditions, strict=True):
        assert torch.equal(one.per_sequence, runner.run(tape, edits).per_sequence)
    assert "cannot be taken" in batcher.path

"""Losses of vectors, by hand."""

import math

import pytest
import torch
from torch import Tensor, nn

from mnemoscope.contracts import Batch
from mnemoscope.examination.subject.losses import score
from mnemoscope.examination.subject.vectors import VectorLoss, variance

NAN = math.nan


class Fixed(nn.Module):
    """Says the inputs again."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def batch(inputs, targets) -> Batch:
    return Batch(inputs=torch.tensor(inputs), targets=torch.tensor(targets))


def test_squared_errors_are_means_over_what_is_scored():
    data = batch([[[1.0, 2.0], [3.0, 4.0]]], [[[0.0, NAN], [1.0, 1.0]]])
    scores = score(VectorLoss(kind="numbers"), Fixed(), data)
    assert scores.per_sequence.tolist() == pytest.approx([(1 + 4 + 9) / 3])
    assert scores.per_token is not None
    assert scores.per_token.tolist() == [pytest.approx([1.0, 6.5])]
    halved = score(VectorLoss(kind="numbers", unit=2.0), Fixed(), data)
    assert halved.per_sequence.tolist() == pytest.approx([14 / 6])


def test_bits_cost_their_surprise_and_are_right_where_all_are():
    data = batch([[[0.0, 2.0], [-1.0, 1.0], [0.0, 0.0]]], [[[1.0, 1.0], [1.0, NAN], [NAN, NAN]]])
    scores = score(VectorLoss(kind="bits"), Fixed(), data, accuracy=True)
    nats = [math.log(2), math.log1p(math.exp(-2)), math.log1p(math.exp(1))]
    assert scores.per_sequence.tolist() == pytest.approx([sum(nats) / 3])
    assert scores.correct is not None
    assert scores.correct.tolist() == [[True, False, False]]
    assert math.isnan(scores.per_token[0, 2])


@pytest.mark.parametrize("kind", ["bits", "numbers"])
def test_no_constant_vector_costs_less_than_the_best_one(kind):
    generator = torch.Generator().manual_seed(0)
    targets = (torch.rand(6, 5, 3, generator=generator) < 0.3).float()
    targets[0, :3] = NAN
    targets[2, :, 1] = NAN
    data, loss = Batch(inputs=torch.zeros(6, 5, 3), targets=targets), VectorLoss(kind=kind)
    (best,) = loss.constant_output([], [data])
    low = float(best.per_sequence.mean())
    for _ in range(200):
        constant = torch.randn(3, generator=generator)
        other = loss.scores(Fixed(), Batch(inputs=constant.expand(6, 5, 3), targets=targets))
        assert float(other.per_sequence.mean()) >= low - 1e-6


def test_a_bit_that_never_changes_costs_nothing():
    data = batch([[[0.0], [0.0]]], [[[1.0], [1.0]]])
    (best,) = VectorLoss(kind="bits").constant_output([data], [data])
    assert float(best.per_sequence.mean()) < 1e-9


def test_in_units_of_the_variance_the_best_constant_costs_one():
    generator = torch.Generator().manual_seed(0)
    data = Batch(inputs=torch.zeros(6, 5, 1), targets=3 * torch.randn(6, 5, 1, generator=generator))
    loss = VectorLoss(kind="numbers", unit=variance([data]))
    (best,) = loss.constant_output([], [data])
    assert float(best.per_sequence.mean()) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (batch([[[1.0, 2.0]]], [[[1.0]]]), r"targets of shape \(1, 1, 1\) .* got \(1, 1, 2\)"),
        (batch([[[1.0]], [[1.0]]], [[[1.0]], [[NAN]]]), "sequence 1 of a batch has none"),
        (batch([[1]], [[1]]), "takes a Batch of vectors"),
        (torch.zeros(1, 2), "takes a Batch of vectors .* got Tensor"),
    ],
)
def test_data_that_do_not_fit_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        score(VectorLoss(kind="numbers"), Fixed(), data)


def test_bits_have_no_unit():
    with pytest.raises(ValueError, match=r"above 0, and 1 for bits, got 2\.0"):
        VectorLoss(kind="bits", unit=2.0)

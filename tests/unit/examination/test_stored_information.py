"""The probe finds what was planted, nothing where nothing is, and never more than an input that holds it already."""

import math

import pytest
import torch
from torch import Tensor

from mnemoscope.examination.measures.stored_information import Gains, stored_information

N_SEQUENCES, PER_SEQUENCE, N_ANSWERS = 150, 4, 6


class Planted:
    """Answers, and vectors that hold them or not."""

    def __init__(self, seed: int, n_answers: int = N_ANSWERS) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        n = N_SEQUENCES * PER_SEQUENCE
        self.answers = torch.randint(0, n_answers, (n,), generator=self.generator)
        self.sequence = torch.arange(n) // PER_SEQUENCE
        self.n_answers = n_answers

    def noise(self, width: int) -> Tensor:
        return torch.randn(len(self.answers), width, generator=self.generator)

    def holding(self, width: int, loudness: float = 5.0, answers: Tensor | None = None) -> Tensor:
        codes = torch.randn(self.n_answers, width, generator=self.generator)
        codes = loudness * codes / codes.norm(dim=-1, keepdim=True)
        return codes[self.answers if answers is None else answers] + 0.3 * self.noise(width)

    def gains(self, read: Tensor, own: Tensor, seed: int = 0) -> Gains:
        generator = torch.Generator().manual_seed(seed)
        found = stored_information(read, own, self.answers, self.sequence, generator)
        assert found is not None
        return found


@pytest.mark.parametrize("width", [16, 200])
def test_planted_information_is_found_in_full(width: int):
    planted = Planted(0)
    found = planted.gains(planted.holding(width), planted.noise(width))
    assert float(found.gain.mean()) == pytest.approx(math.log(N_ANSWERS), abs=0.1)
    assert float(found.shuffled.mean()) == pytest.approx(0.0, abs=0.05)
    assert found.n_answers == N_ANSWERS
    assert found.sequence.tolist() == [int(s) for s in planted.sequence if s % 3 == 2]


def test_half_of_the_information_is_half_of_the_nats():
    planted = Planted(1, n_answers=4)
    found = planted.gains(planted.holding(16, answers=planted.answers // 2), planted.noise(8))
    assert float(found.gain.mean()) == pytest.approx(math.log(2), abs=0.1)


@pytest.mark.parametrize("width", [16, 200])
def test_nothing_is_found_where_nothing_is(width: int):
    planted = Planted(2)
    found = planted.gains(planted.noise(width), planted.noise(width))
    assert float(found.gain.mean()) == pytest.approx(0.0, abs=0.05)
    assert float(found.shuffled.mean()) == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("width", [16, 200])
def test_an_input_that_holds_the_answer_leaves_nothing_to_gain(width: int):
    planted = Planted(3)
    found = planted.gains(planted.holding(width), planted.holding(width))
    assert float(found.gain.mean()) == pytest.approx(0.0, abs=0.05)


def test_a_read_that_only_copies_a_wide_input_adds_nothing():
    planted = Planted(4)
    own = planted.holding(400, loudness=2.5) + planted.noise(400)
    copied = own @ torch.randn(400, 400, generator=planted.generator) / 20
    alone = planted.gains(own, planted.noise(8))
    assert float(alone.gain.mean()) > 0.1, "the input must tell something, but not all"
    assert float(alone.gain.mean()) < math.log(N_ANSWERS) - 0.3
    assert abs(float(planted.gains(copied, own).gain.mean())) < 0.06


def test_answers_of_a_sequence_do_not_pass_for_information_in_another_sequences_read():
    planted = Planted(5)
    by_sequence = torch.randint(0, N_ANSWERS, (N_SEQUENCES,), generator=planted.generator)
    planted.answers = by_sequence[planted.sequence]
    found = planted.gains(planted.holding(16), planted.noise(8))
    assert float(found.shuffled.mean()) == pytest.approx(0.0, abs=0.1)


def test_the_generator_decides_everything():
    planted = Planted(6)
    read, own = planted.holding(200, loudness=1.0), planted.noise(200)
    first, again = (planted.gains(read, own) for _ in range(2))
    assert torch.equal(first.gain, again.gain)
    assert torch.equal(first.shuffled, again.shuffled)
    assert not torch.equal(first.shuffled, planted.gains(read, own, seed=1).shuffled)


def test_scaling_shifting_and_rotating_change_nothing_much():
    planted = Planted(7)
    read, own = planted.holding(8, loudness=1.0), planted.noise(8)
    rotation, _ = torch.linalg.qr(torch.randn(8, 8, generator=planted.generator))
    plain = float(planted.gains(read, own).gain.mean())
    assert float(planted.gains(100 * read - 7, 0.01 * own).gain.mean()) == pytest.approx(plain, abs=1e-3)
    assert float(planted.gains(read @ rotation, own).gain.mean()) == pytest.approx(plain, abs=0.05)


def test_constant_features_do_no_harm():
    planted = Planted(8)
    found = planted.gains(torch.ones(len(planted.answers), 4), torch.zeros(len(planted.answers), 4))
    assert float(found.gain.mean()) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(("n_sequences", "n_answers"), [(7, 6), (100, 1)])
def test_too_little_to_tell_gives_none(n_sequences: int, n_answers: int):
    sequence = torch.arange(n_sequences)
    answers, x = sequence % n_answers, torch.ones(n_sequences, 3)
    assert stored_information(x, x, answers, sequence, torch.Generator()) is None


def test_only_the_commonest_answers_count():
    answers = torch.cat([torch.arange(128).repeat(3), torch.arange(128, 140)])
    x = torch.ones(len(answers), 2)
    found = stored_information(x, x, answers, torch.arange(len(answers)), torch.Generator().manual_seed(0))
    assert found is not None
    assert found.n_answers == 128
    assert len(found.gain) == 128

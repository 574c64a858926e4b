"""Losses by condition and subset, and which positions belong to a subset."""

import numpy as np
import pytest
import torch

from mnemoscope.contracts import Batch
from mnemoscope.examination.judgement.subsets import at_load, checked, demanding, known_subsets, marked
from mnemoscope.examination.judgement.tally import Tally
from mnemoscope.examination.subject.losses import Scores

NAN = torch.nan


def scores(rows: list[list[float]]) -> Scores:
    per_token = torch.tensor(rows)
    return Scores(per_token.nanmean(1), per_token)


def batch(distance: list[list[int]], load: list[int]) -> Batch:
    tokens = torch.zeros(len(distance), len(distance[0]), dtype=torch.int64)
    about = {"distance": torch.tensor(distance), "load": torch.tensor(load)[:, None].expand_as(tokens)}
    return Batch(inputs=tokens, targets=tokens, about=about)


def test_a_subset_averages_over_its_own_positions():
    tally = Tally({"demanding": demanding(4)})
    seen = batch([[1, 5, 9], [0, 1, 2]], [3, 3])
    tally.see(seen, {(): scores([[1.0, 2.0, 4.0], [1.0, 1.0, 1.0]]), ("off", "a"): scores([[1.0, 5.0, 7.0]] * 2)})
    assert tally.losses()[()].tolist() == pytest.approx([7 / 3, 1.0])
    assert tally.losses("demanding")[()].tolist() == [3.0]
    assert tally.losses("demanding")["off", "a"].tolist() == [6.0]
    assert tally.belonging("demanding").tolist() == [True, False]
    assert tally.share("demanding") == pytest.approx(2 / 6)


def test_positions_without_a_target_belong_to_nothing():
    tally = Tally({"demanding": demanding(4)})
    tally.see(batch([[5, 5]], [1]), {(): scores([[NAN, 2.0]])})
    assert tally.losses("demanding")[()].tolist() == [2.0]
    assert tally.share("demanding") == 1.0


def test_sequence_subsets_need_no_positions():
    tally = Tally({"load 1": at_load(1)})
    tally.see(batch([[1], [1]], [1, 2]), {(): Scores(torch.tensor([3.0, 4.0]), None)})
    assert tally.losses("load 1")[()].tolist() == [3.0]
    assert tally.share("load 1") is None
    assert tally.curves() == {}


def test_an_unfinished_batch_does_not_count():
    tally = Tally({})
    tally.see(batch([[1]], [1]), {(): scores([[1.0]]), ("off", "a"): scores([[2.0]])})
    # A failure in the middle of a batch leaves one condition longer than the other.
    with pytest.raises(AttributeError):
        tally.see(batch([[1]], [1]), {(): scores([[9.0]]), ("off", "a"): None})
    assert [len(losses) for losses in tally.losses().values()] == [1, 1]
    assert [len(curve) for curve in tally.curves().values()] == [1, 1]


def test_a_forgotten_condition_is_gone_from_every_subset():
    tally = Tally({"demanding": demanding(1)})
    tally.see(batch([[1]], [1]), {(): scores([[1.0]]), ("off", "a"): scores([[2.0]])})
    tally.forget(("off", "a"))
    assert ("off", "a") not in tally.losses()
    assert ("off", "a") not in tally.losses("demanding")
    assert ("off", "a") not in tally.curves()


def test_curves_are_kept_where_lengths_agree():
    tally = Tally({})
    tally.see(batch([[1, 1]], [1]), {(): scores([[1.0, NAN]])})
    assert tally.curves()[()].shape == (1, 2)
    tally.see(batch([[1]], [1]), {(): scores([[1.0]])})
    assert tally.curves() == {}


def test_the_data_name_their_own_subsets():
    assert set(known_subsets([batch([[1]], [2]), batch([[1]], [5])], 4)) == {"demanding", "lowest load"}
    assert set(known_subsets([batch([[1]], [2])], 4)) == {"demanding"}
    assert known_subsets([torch.zeros(1, 2)], 4) == {}
    lowest = known_subsets([batch([[1], [1]], [7, 2])], 4)["lowest load"]
    assert lowest(batch([[1], [1]], [7, 2])).tolist() == [False, True]


@pytest.mark.parametrize("wrong", [torch.zeros(2, 3), torch.zeros(3, dtype=torch.bool), torch.zeros(2, 2).bool()])
def test_a_subset_must_give_booleans_for_sequences_or_positions(wrong: torch.Tensor):
    with pytest.raises(ValueError, match=r"subset 'mine' must give booleans of shape \(2,\) or \(2, 3\)"):
        marked(lambda batch: wrong, "mine", None, 2, 3)


def test_names_of_the_examination_are_taken():
    with pytest.raises(ValueError, match="must not be called 'demanding'"):
        checked({"demanding": demanding(1)})


def test_losses_are_double_precision():
    tally = Tally({})
    tally.see(batch([[1]], [1]), {(): scores([[1.0]])})
    assert tally.losses()[()].dtype == np.float64

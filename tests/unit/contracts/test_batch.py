import numpy as np
import pytest
import torch

from mnemoscope.contracts import IGNORE, Batch


@pytest.mark.parametrize("make", [np.zeros, torch.zeros])
def test_a_batch_knows_its_size(make):
    batch = Batch(inputs=make((3, 5)), targets=make((3, 5)))
    assert batch.size == 3


def test_arrays_and_tensors_may_meet():
    assert Batch(inputs=np.zeros((2, 4)), targets=torch.zeros(2, 4)).size == 2


@pytest.mark.parametrize("shape", [(3, 4), (2, 5), (3,), (3, 5, 1)])
def test_targets_of_another_shape_are_refused(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"must have one shape \(b, t\).* got \(3, 5\) and .*; pad targets with -100"):
        Batch(inputs=np.zeros((3, 5)), targets=np.zeros(shape))


def test_a_batch_is_frozen():
    batch = Batch(inputs=np.zeros((1, 1)), targets=np.zeros((1, 1)))
    with pytest.raises(AttributeError):
        batch.inputs = None  # type: ignore[misc]


def test_the_ignored_target_is_that_of_torchs_cross_entropy():
    loss = torch.nn.functional.cross_entropy(torch.zeros(2, 3), torch.tensor([0, IGNORE]))
    assert torch.isclose(loss, torch.tensor(3.0).log())


def test_vectors_share_sequences_and_tokens_alone():
    assert Batch(inputs=np.zeros((2, 5, 3)), targets=np.zeros((2, 5, 1))).size == 2
    with pytest.raises(ValueError, match=r"got \(2, 5, 3\) and \(2, 4, 3\)"):
        Batch(inputs=np.zeros((2, 5, 3)), targets=np.zeros((2, 4, 3)))
    with pytest.raises(ValueError, match=r"got \(2, 5, 3\) and \(2, 5\)"):
        Batch(inputs=np.zeros((2, 5, 3)), targets=np.zeros((2, 5)))


@pytest.mark.parametrize(("name", "shape"), [("distnace", (2, 5)), ("distance", (2, 4)), ("item", (2,))])
def test_what_is_known_has_a_public_name_and_the_shape_of_the_targets(name: str, shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"Batch.about must hold arrays of shape \(2, 5\) named distance"):
        Batch(inputs=np.zeros((2, 5)), targets=np.zeros((2, 5)), about={name: np.zeros(shape)})

"""Usage, allocation and temporal links against loops, closed forms and what they are for."""

import pytest
import torch
from torch import Tensor

from mnemoscope.ops.usage import (
    allocation,
    allocation_plain,
    follow,
    follow_plain,
    least_used,
    preceding,
    retained,
)
from tests.oracle import dnc
from tests.tolerances import FLOAT32, FLOAT32_GRADIENT, FLOAT64, assert_close
from tests.unit.ops.test_addressing import draw, weighted_gradients

B, M, H = 2, 6, 3


def usages(kind: str) -> Tensor:
    usage = torch.rand(B, M, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    match kind:
        case "distinct":
            return usage
        case "some zero":
            return usage * torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0, 1.0], dtype=torch.float64)
        case "one zero":
            return usage * torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0, 1.0], dtype=torch.float64)
        case "all zero":
            return torch.zeros_like(usage)
        case "all full":
            return torch.ones_like(usage)
        case other:
            raise ValueError(other)


KINDS = ("distinct", "some zero", "one zero", "all zero", "all full")


@pytest.mark.parametrize("form", [allocation, allocation_plain])
@pytest.mark.parametrize("kind", KINDS)
def test_allocation_and_its_gradient_are_those_of_the_loop(form, kind: str):
    usage = usages(kind).requires_grad_()
    ours, theirs = form(usage), torch.stack([torch.stack(dnc.allocation(list(row))) for row in usage])
    assert_close(ours, theirs, FLOAT64)
    for mine, exact in zip(weighted_gradients([ours], [usage]), weighted_gradients([theirs], [usage]), strict=True):
        assert_close(mine, exact, FLOAT64)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_allocation_over_few_slots(m: int):
    usage = usages("distinct")[:, :m].requires_grad_()
    ours, theirs = allocation(usage), allocation_plain(usage)
    assert_close(ours, theirs, FLOAT64)
    assert_close(weighted_gradients([ours], [usage])[0], weighted_gradients([theirs], [usage])[0], FLOAT64)


def test_the_first_free_slot_gets_everything():
    assert torch.equal(allocation(usages("all zero")), torch.eye(M, dtype=torch.float64)[:1].expand(B, M))
    assert torch.equal(allocation(usages("one zero")), torch.eye(M, dtype=torch.float64)[4:5].expand(B, M))


def test_a_full_memory_has_nothing_to_allocate():
    assert not allocation(usages("all full")).any()


def test_allocation_in_float32_agrees_with_float64():
    for kind in KINDS:
        usage = usages(kind).requires_grad_()
        single = usages(kind).float().requires_grad_()
        ours, exact = allocation(single), allocation(usage)
        assert_close(ours, exact, FLOAT32)
        gradient = weighted_gradients([ours.double()], [single])[0]
        assert_close(gradient, weighted_gradients([exact], [usage])[0], FLOAT32_GRADIENT)


def test_least_used_slots_are_taken_from_the_left():
    usage = torch.tensor([[0.5, 0.0, 0.2, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0, 1.0]])
    assert least_used(usage, 2).tolist() == [[0, 1, 0, 1, 0], [1, 1, 0, 0, 0]]


def test_what_is_read_and_freed_is_not_retained():
    weights = torch.tensor([[[1.0, 0.0, 0.5], [0.0, 0.0, 1.0]]]).double()
    assert_close(retained(weights, torch.tensor([[1.0, 0.0]]).double()), torch.tensor([[0.0, 1.0, 0.5]]), FLOAT64)
    assert_close(retained(weights, torch.tensor([[1.0, 0.5]]).double()), torch.tensor([[0.0, 1.0, 0.25]]), FLOAT64)


def linking(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Links with an empty diagonal, the weights of a write, precedence before it, and the last reads."""
    link = draw(B, M, M).softmax(-1) * (1 - torch.eye(M, dtype=torch.float64))
    parts = [link, *(0.7 * draw(B, M, seed=seed).softmax(-1) for seed in (1, 2)), draw(B, H, M, seed=3).softmax(-1)]
    return [part.to(dtype).requires_grad_() for part in parts]


def links_by_loops(link: Tensor, weights: Tensor, precedence: Tensor, read: Tensor) -> tuple[Tensor, ...]:
    links, forwards, backwards = [], [], []
    for b in range(B):
        rows = dnc.links([list(row) for row in link[b]], list(weights[b]), list(precedence[b]))
        ways = [dnc.followed(rows, list(head)) for head in read[b]]
        links.append(torch.stack([torch.stack(row) for row in rows]))
        forwards.append(torch.stack([torch.stack(way[0]) for way in ways]))
        backwards.append(torch.stack([torch.stack(way[1]) for way in ways]))
    return torch.stack(links), torch.stack(forwards), torch.stack(backwards)


@pytest.mark.parametrize("form", [follow, follow_plain])
def test_links_and_their_gradients_are_those_of_the_loops(form):
    inputs = linking()
    ours, theirs = form(*inputs), links_by_loops(*inputs)
    for mine, exact in zip(ours, theirs, strict=True):
        assert_close(mine, exact, FLOAT64)
    for mine, exact in zip(weighted_gradients([*ours], inputs), weighted_gradients([*theirs], inputs), strict=True):
        assert_close(mine, exact, FLOAT64)


def test_links_in_float32_agree_with_float64():
    ours, exact = follow(*linking(torch.float32)), follow(*linking())
    for mine, theirs in zip(ours, exact, strict=True):
        assert_close(mine, theirs, FLOAT32)


def test_links_lead_through_a_list_in_both_directions():
    """Slots written one after the other at full strength: forwards is the next one written, backwards the last."""
    order, eye = [3, 0, 5, 1], torch.eye(M, dtype=torch.float64)
    link, precedence = torch.zeros(1, M, M, dtype=torch.float64), torch.zeros(1, M, dtype=torch.float64)
    for slot in order:
        link, *_ = follow(link, eye[slot : slot + 1], precedence, eye[None])
        precedence = preceding(precedence, eye[slot : slot + 1])
    nothing = torch.zeros(1, M, dtype=torch.float64)
    _, forwards, backwards = follow(link, nothing, precedence, eye[None, order])
    assert_close(forwards[0, :3], eye[order[1:]], FLOAT64)
    assert_close(backwards[0, 1:], eye[order[:-1]], FLOAT64)
    assert not forwards[0, 3].any()
    assert_close(precedence[0], eye[order[-1]], FLOAT64)


def test_a_write_of_everything_forgets_its_links():
    link, _, precedence, read = linking()
    place = torch.eye(M, dtype=torch.float64)[2:3].expand(B, M)
    links = follow(link, place, precedence, read)[0]
    expected = precedence.clone()
    expected[:, 2] = 0
    assert_close(links[:, 2], expected, FLOAT64)
    assert not links[:, :, 2].any()

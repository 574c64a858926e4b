"""A memory alone that recalls: what it stores under what, what learns, and that questions are only read."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mnemoscope.experiments.recall.recaller import (
    Recaller,
    Recalling,
    curve_steps,
    held_out,
    memory_use_of,
    recalled,
    trained,
)
from mnemoscope.memories.omega import OmegaConfig
from mnemoscope.tasks.cued_recall import CuedRecallConfig

MEMORY = OmegaConfig(n_heads=1, chunk_tokens=2, window=1, convolution=2)
TASK = CuedRecallConfig(n_keys=6, n_values=4, n_pairs=3)
SMALL = Recalling(memory=MEMORY, tasks=(TASK,), width=16, steps=150, learning_rate=1e-2, every=50)


def test_a_write_that_learns_recalls_and_the_controls_do_not():
    """At a size that takes seconds; chance is 1 / 4."""
    model, curve = trained(SMALL, 0)
    test = held_out(TASK, 64, 0)
    use = memory_use_of(model, test)
    assert len(curve) == len(curve_steps(SMALL)) == 3
    assert use.memory.mean > 0.9
    assert use.reset.mean < 0.5
    assert use.wrong.mean < 0.5
    assert use.used
    assert float(np.mean(recalled(model, test))) == pytest.approx(use.memory.mean)


def test_what_learns():
    storage, questions = torch.tensor([[0, 7, 1, 8]]), torch.tensor([[1, 0]])
    for detach in (False, True):
        torch.manual_seed(0)
        model = Recaller(replace(SMALL, memory=replace(MEMORY, detach_write=detach)))
        model.answers(questions, model.written(storage)).square().sum().backward()
        of_gates = [gate.grad for gate in model.memory.gates.parameters()]
        assert all((grad is None) == detach for grad in of_gates)
        queries, keys, values = _parts(model.memory.qkv.weight.grad)
        assert bool(queries.abs().sum() > 0)
        assert bool((keys.abs().sum() == 0) & (values.abs().sum() == 0)) == detach
        assert model.memory.convolution.weight.grad is None


def test_keys_are_those_of_the_token_before():
    model = Recaller(SMALL)
    x = torch.randn(1, 4, 3 * SMALL.width)
    y, _ = model.memory.convolution(x, model.memory.convolution.init_tail(1))
    (q, k, v), (asked, keys, values) = x.chunk(3, dim=-1), y.chunk(3, dim=-1)
    assert torch.equal(asked, q)
    assert torch.equal(values, v)
    assert torch.equal(keys[:, 1:], k[:, :-1])
    assert not keys[:, 0].any()


def test_questions_are_only_read():
    torch.manual_seed(1)
    model = Recaller(SMALL)
    state = model.written(torch.tensor([[0, 7, 1, 8]]))
    both = model.answers(torch.tensor([[1, 0]]), state)
    torch.testing.assert_close(both[:, 1:], model.answers(torch.tensor([[0, 0]]), state)[:, 1:])


def test_tasks_alternate_and_an_entry_is_the_mean_since_the_last():
    """With one step between entries, means of two are those of the longer interval."""
    two = replace(SMALL, tasks=(TASK, replace(TASK, n_pairs=2)), steps=4, every=1)
    fine, coarse = trained(two, 0)[1], trained(replace(two, every=2), 0)[1]
    assert coarse == pytest.approx(np.asarray(fine).reshape(2, 2).mean(1).tolist())
    assert trained(replace(two, tasks=(TASK,)), 0)[1] != fine
    assert trained(replace(two, alone=4), 0)[1] == trained(replace(two, tasks=(TASK,)), 0)[1]
    assert curve_steps(replace(two, steps=5, every=2)) == [2, 4, 5]


def test_what_cannot_be_recalled():
    with pytest.raises(ValueError, match=r"Recalling\.memory: must have n_heads=1 and convolution=2, got 2 and 4"):
        replace(SMALL, memory=OmegaConfig(n_heads=2))
    for tasks in ((), (TASK, CuedRecallConfig())):
        with pytest.raises(ValueError, match=r"Recalling\.tasks: must be at least one, all with as many keys"):
            replace(SMALL, tasks=tasks)


def _parts(grad: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
    assert grad is not None
    return grad.chunk(3)

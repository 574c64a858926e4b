"""E6: cued recall with a write that learns, and with one that is cut off."""

from dataclasses import replace

import pytest
import torch

from mnemoscope.experiments.detached_writes import DETACHED_WRITES, Recall, Recaller, memory_use_of, trained
from mnemoscope.tasks.cued_recall import CuedRecallConfig

SMALL = Recall(
    task=CuedRecallConfig(n_keys=6, n_values=4, n_pairs=3),
    width=16,
    chunk_tokens=2,
    steps=150,
    learning_rate=1e-2,
    test_sequences=64,
    every=50,
)


def test_a_write_that_learns_recalls_and_the_controls_do_not():
    """At a size that takes seconds; chance is 1 / 4."""
    model, curve = trained(SMALL, 0, detach_write=False)
    use = memory_use_of(model, SMALL, 0)
    assert len(curve) == 3
    assert use.memory.mean > 0.9
    assert use.reset.mean < 0.5
    assert use.wrong.mean < 0.5
    assert use.used


def test_what_learns():
    storage, questions = torch.tensor([[0, 7, 1, 8]]), torch.tensor([[1, 0]])
    for detach in (False, True):
        torch.manual_seed(0)
        model = Recaller(SMALL, detach_write=detach)
        model.answers(questions, model.written(storage)).square().sum().backward()
        of_gates = [gate.grad for gate in model.memory.gates.parameters()]
        assert all((grad is None) == detach for grad in of_gates)
        queries, keys, values = _parts(model.memory.qkv.weight.grad)
        assert bool(queries.abs().sum() > 0)
        assert bool((keys.abs().sum() == 0) & (values.abs().sum() == 0)) == detach
        assert model.memory.convolution.weight.grad is None


def test_keys_are_those_of_the_token_before():
    model = Recaller(SMALL, detach_write=False)
    x = torch.randn(1, 4, 3 * SMALL.width)
    y, _ = model.memory.convolution(x, model.memory.convolution.init_tail(1))
    (q, k, v), (asked, keys, values) = x.chunk(3, dim=-1), y.chunk(3, dim=-1)
    assert torch.equal(asked, q)
    assert torch.equal(values, v)
    assert torch.equal(keys[:, 1:], k[:, :-1])
    assert not keys[:, 0].any()


def test_questions_are_only_read():
    torch.manual_seed(1)
    model = Recaller(SMALL, detach_write=False)
    state = model.written(torch.tensor([[0, 7, 1, 8]]))
    both = model.answers(torch.tensor([[1, 0]]), state)
    torch.testing.assert_close(both[:, 1:], model.answers(torch.tensor([[0, 0]]), state)[:, 1:])


def test_every_claim_is_measured_and_a_seed_gives_the_same_figures():
    tiny = replace(SMALL, steps=5, every=2, test_sequences=8)
    measured, again = (DETACHED_WRITES.measure(tiny, 1) for _ in range(2))
    assert {claim.figure for claim in DETACHED_WRITES.claims} == measured.figures.keys()
    assert list(measured.series["step"]) == [2, 4, 5]
    assert {len(values) for values in measured.series.values()} == {3}
    assert again.figures == measured.figures
    assert again.series == measured.series
    assert DETACHED_WRITES.measure(tiny, 2).figures != measured.figures


def test_the_settings_of_the_pilot():
    settings = DETACHED_WRITES.sizes["small"]
    assert (settings.task.n_keys, settings.task.n_values, settings.task.n_pairs) == (64, 64, 16)
    assert (settings.width, settings.chunk_tokens, settings.steps, settings.batch_size) == (32, 8, 400, 32)
    assert settings.learning_rate == pytest.approx(3e-3)


def _parts(grad: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
    assert grad is not None
    return grad.chunk(3)

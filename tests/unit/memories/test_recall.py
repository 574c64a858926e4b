"""To be read without being written to."""

import pytest
import torch

from mnemoscope.contracts import Recalling
from mnemoscope.memories import MemoryConfig, OmegaConfig, OmegaMlpConfig
from mnemoscope.models.context import ContextConfig
from mnemoscope.models.mixers import build_mixer
from tests.tolerances import FLOAT64, assert_close
from tests.unit.memories.cases import CASES, cases, inputs, mixer_of, run_steps, tensors

recalling = cases(*(name for name in CASES if isinstance(mixer_of(name), Recalling)))


@pytest.mark.parametrize(
    "memory",
    [
        OmegaConfig(n_heads=2, chunk_tokens=4, features="monomial", degree=2),
        OmegaMlpConfig(n_heads=2, chunk_tokens=4, expansion=1),
    ],
    ids=lambda config: config.kind,
)
def test_a_memory_with_chunks_is_a_context_like_any_other(memory: MemoryConfig):
    torch.manual_seed(0)
    context = build_mixer(ContextConfig(memory=memory, segment_tokens=6, n_heads=2), 16).double()
    x = inputs(20)
    whole, last = context(x)
    stepped, state = run_steps(context, x, context.init_state(2))
    assert_close(whole, stepped, FLOAT64)
    for ours, theirs in zip(tensors(last), tensors(state), strict=True):
        assert_close(ours, theirs, FLOAT64)
    gradients = torch.autograd.grad(whole[:, -1].square().sum(), [p for p in context.parameters() if p.numel()])
    assert all(gradient.any() for gradient in gradients)


@recalling
@torch.no_grad()
def test_a_recall_is_the_read_of_a_step_that_writes_nothing(case: str):
    """With the state as the step left it, the step's own query recalls what the step read."""
    mixer, x = mixer_of(case), inputs(13)
    _, state = mixer(x[:, :12])
    stepped, after = mixer.step(x[:, 12], state)
    tail = mixer.init_recall(2)
    recalled, _ = mixer.recall(x, after, tail)
    assert_close(recalled[:, 12], stepped, FLOAT64)


@recalling
@torch.no_grad()
def test_a_recall_does_not_depend_on_its_split(case: str):
    mixer, x = mixer_of(case), inputs(13)
    _, state = mixer(inputs(20, seed=4))
    before = [tensor.clone() for tensor in tensors(state)]
    whole, last = mixer.recall(x, state, mixer.init_recall(2))
    first, tail = mixer.recall(x[:, :5], state, mixer.init_recall(2))
    second, tail = mixer.recall(x[:, 5:], state, tail)
    assert_close(torch.cat([first, second], dim=1), whole, FLOAT64)
    assert_close(tail, last, FLOAT64)
    assert all(torch.equal(now, then) for now, then in zip(tensors(state), before, strict=True))

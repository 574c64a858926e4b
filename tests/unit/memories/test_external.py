"""Memories beside a controller: what they refuse, how they start, what they do at the edges."""

import os
import re
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mnemoscope.memories import DNC, MANN, NTM, DNCConfig, MANNConfig, NTMConfig
from mnemoscope.memories.controllers import LstmState
from mnemoscope.ops.dnc import DncMemory
from mnemoscope.ops.dnc_fused import dnc_memory
from tests.tolerances import BFLOAT16, FLOAT32, FLOAT32_GRADIENT, assert_close

D = 6
REFUSED = [
    (lambda: NTMConfig(n_slots=0), "ntm.n_slots must be at least 1, got 0; use 1 or more"),
    (lambda: NTMConfig(shift=2), "ntm.shift must be odd, from 1 to n_slots=128, got 2; use 1 for no shift"),
    (lambda: NTMConfig(n_slots=3, shift=5), "ntm.shift must be odd, from 1 to n_slots=3, got 5"),
    (lambda: NTMConfig(hidden=0), "ntm.hidden must be at least 1, got 0"),
    (lambda: DNCConfig(clip=0.0), "dnc.clip must be positive, or None for no bound, got 0.0"),
    (
        lambda: MANNConfig(controller="feed_forward", forget_bias=0.0),
        'mann.forget_bias must be left at 1.0 where controller="feed_forward"',
    ),
    (lambda: DNCConfig(n_read=0), "dnc.n_read must be at least 1, got 0"),
    (lambda: DNCConfig(mask_floor=0.1), "dnc.mask_floor must be in [0, 1), and 0 where masking=False, got 0.1"),
    (lambda: DNCConfig(masking=True, mask_floor=1.0), "dnc.mask_floor must be in [0, 1)"),
    (lambda: MANNConfig(n_slots=3, n_heads=4), "mann.n_heads must be at most n_slots=3"),
    (lambda: MANNConfig(usage_decay=1.0), "mann.usage_decay must be in [0, 1), got 1.0; use 0.95 to 0.99"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_what_cannot_work_is_refused(make: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        make()


def small(kind: str, **options) -> NTM | DNC | MANN:
    torch.manual_seed(0)
    sizes = {"n_slots": 5, "word": 4, "hidden": 7, **options}
    match kind:
        case "ntm":
            return NTM(NTMConfig(**sizes), D)
        case "dnc":
            return DNC(DNCConfig(**{"n_read": 2, **sizes}), D)
        case "mann":
            return MANN(MANNConfig(**{"n_heads": 2, **sizes}), D)
        case other:
            raise ValueError(other)


every_kind = pytest.mark.parametrize("kind", ["ntm", "dnc", "mann"])


def trained(memory: torch.nn.Module) -> list[Tensor]:
    return [weight for weight in memory.parameters() if weight.requires_grad]


def tokens(n_tokens: int) -> Tensor:
    return torch.randn(3, n_tokens, D, generator=torch.Generator().manual_seed(1))


@every_kind
def test_the_forget_gate_starts_open(kind: str):
    bias = small(kind, forget_bias=3.0).controller.inputs.bias
    assert torch.equal(bias[7:14], torch.full((7,), 3.0))
    assert not torch.equal(bias[:7], torch.full((7,), 3.0))


@every_kind
def test_a_fresh_memory_has_finite_gradients(kind: str):
    """Nothing is written yet: every slot is empty or equal to every other."""
    memory = small(kind)
    for n_tokens in (1, 2, 30):
        loss = memory(tokens(n_tokens))[0].square().sum()
        for gradient in torch.autograd.grad(loss, trained(memory), allow_unused=True):
            assert gradient is None or gradient.isfinite().all()


@every_kind
def test_huge_inputs_stay_finite(kind: str):
    memory, x = small(kind, clip=None), (1e4 * tokens(20)).requires_grad_()
    y, _ = memory(x)
    assert y.isfinite().all()
    for gradient in torch.autograd.grad(y.square().sum(), [x, *trained(memory)]):
        assert gradient.isfinite().all()


def test_the_start_of_a_memory():
    constant, random, learned = (small("ntm", memory=memory) for memory in ("constant", "random", "learned"))
    assert torch.equal(constant.init_state(3).memory, torch.full((3, 5, 4), 1e-6))
    assert "first_memory" not in dict(constant.named_parameters())
    for memory in (random, learned):
        assert isinstance(memory, NTM)
        start = memory.init_state(3).memory
        assert torch.equal(start, memory.first_memory.expand(3, 5, 4))
        assert start.std() > 0.1
    assert not random.first_memory.requires_grad
    assert learned.first_memory.requires_grad


def test_weights_start_as_a_distribution_that_is_not_even():
    weights = small("ntm", n_slots=64).init_state(1).weights
    assert_close(weights.sum(-1), torch.ones(1, 2), FLOAT32)
    assert (weights.amax(-1) > 2 / 64).all()


def test_a_bound_holds_the_controls():
    memory = small("mann", clip=0.1)
    cell = memory.controller.cell(torch.float32)
    state = memory.init_state(3)
    projected = memory.controller.project(100 * tokens(1))[:, 0]
    _, controls, after = memory.controller.step(projected, state.reads.flatten(1), state.controller, cell)
    assert controls.abs().max() <= 0.1
    assert isinstance(after, LstmState)


def test_a_written_key_is_found_again():
    """A memory-augmented network reads what it has just written more than anything else."""
    memory = small("mann", n_heads=1, n_slots=8)
    _, state = memory(tokens(1))
    assert state.usage.argmax(-1).tolist() == [0, 0, 0]
    assert state.weights[:, 0].argmax(-1).tolist() == [0, 0, 0]
    assert not state.memory[:, 1:].any()


def test_the_least_used_slot_is_emptied_before_it_is_written():
    memory = small("mann", n_heads=1, n_slots=3)
    with torch.no_grad():
        memory.reuse.fill_(-1e3)
        _, state = memory(tokens(4))
        oldest = state.usage.argmin(-1)
        _, after = memory(tokens(1), state)
    for b, slot in enumerate(oldest.tolist()):
        others = [i for i in range(3) if i != slot]
        assert torch.equal(after.memory[b, others], state.memory[b, others])
        assert after.memory[b, slot].abs().max() <= 1
        assert not torch.equal(after.memory[b, slot], state.memory[b, slot])


@every_kind
def test_gradients_flow_under_autocast(kind: str):
    memory, x = small(kind), tokens(9)
    exact = memory(x)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, state = memory(x)
        grads = torch.autograd.grad(y.float().square().sum(), trained(memory))
    assert_close(y, exact, BFLOAT16)
    assert state.memory.dtype == torch.float32
    assert all(gradient.isfinite().all() for gradient in grads)


COMPARE = """
import torch
from mnemoscope.memories import DNCConfig, MANNConfig, NTMConfig, build_memory

torch.set_num_threads(1)
sizes = {"n_slots": 5, "word": 4, "hidden": 7}
amended = {"controller": "feed_forward", "masking": True, "deallocation": True, "sharpness": True}
for config in (NTMConfig(**sizes), DNCConfig(**sizes), DNCConfig(**sizes, **amended), MANNConfig(**sizes)):
    torch.manual_seed(0)
    memory, x, results = build_memory(config, 6).double(), torch.randn(2, 4, 6).double(), []
    for model in (memory, torch.compile(memory, backend="aot_eager", fullgraph=True)):
        y, state = model(x)
        y, state = model(x, state)
        loss = y.square().sum() + state.memory.square().sum()
        results.append([y, state.memory, *torch.autograd.grad(loss, list(memory.parameters()))])
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-9, atol=1e-9)
"""


@pytest.mark.long
def test_the_graph_is_captured_whole():
    # In a process of its own, since checked shapes would break the graph.
    environment = os.environ | {"JAXTYPING_DISABLE": "1"}
    subprocess.run([sys.executable, "-c", COMPARE], env=environment, check=True, timeout=600)


def test_what_replaces_a_read_does_not_reach_the_next_token():
    memory, x = small("ntm"), tokens(5)
    whole, state = memory(x)
    handle = memory.read.register_forward_hook(lambda _module, _args, output: torch.zeros_like(output))
    silenced, after = memory(x)
    handle.remove()
    assert not silenced.any()
    assert_close(after.reads, state.reads, FLOAT32)
    assert whole.any()


def test_replaced_weights_and_memories_are_what_is_read():
    memory, x = small("dnc"), tokens(5)
    plain, state = memory(x)
    with torch.no_grad():
        handle = memory.state.register_forward_hook(lambda _module, _args, output: 3 * output)
        tripled, after = memory(x)
        handle.remove()
    assert_close(tripled, 3 * plain, FLOAT32)
    assert_close(after.memory, 3 * state.memory, FLOAT32)
    handle = memory.addressing.register_forward_hook(lambda _module, _args, output: torch.zeros_like(output))
    assert not memory(x)[0].any()
    handle.remove()


def test_a_dnc_recalls_in_order_of_writing():
    """Controls set by hand: write two words into free slots, look the first up by content, then step forwards."""
    memory = small("dnc", n_read=1, word=4)
    options, words = memory.options, 3 * torch.eye(4)[:2]
    raw = torch.full((1, 5, options.n_controls), 0.0)
    keys, unit, positive, modes = raw.split(options.groups, dim=-1)
    unit[..., 4:5] = -20
    unit[..., 5:6], unit[..., 6:7], positive[...] = 20, -20, 20
    for t in (0, 1):
        keys[0, t, 8:12], unit[0, t, 6] = words[t], 20
    # Read by content under the first word, then forwards along the links, then backwards.
    keys[0, 2, :4], modes[0, 2] = words[0], torch.tensor([-20.0, 20.0, -20.0])
    modes[0, 3], modes[0, 4] = torch.tensor([-20.0, -20.0, 20.0]), torch.tensor([20.0, -20.0, -20.0])
    start = memory.init_state(1)
    reads, _ = dnc_memory(raw, DncMemory(*start[:6]), options)
    expected = torch.stack([words[0], words[1], words[0]])
    torch.testing.assert_close(reads[0, 2:, 0], expected, atol=0.05, rtol=0)


def test_float32_gradients_of_many_tokens_agree_with_float64():
    exact, single = small("dnc", n_slots=12).double(), small("dnc", n_slots=12)
    x = tokens(60)
    grads = [
        torch.autograd.grad(memory(x.to(memory.out.weight.dtype))[0].square().mean(), trained(memory))
        for memory in (exact, single)
    ]
    for theirs, ours in zip(*grads, strict=True):
        assert_close(ours, theirs, FLOAT32_GRADIENT)

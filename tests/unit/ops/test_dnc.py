"""A differentiable neural computer in one piece against its plain form, and one token of it against a peer."""

from importlib import import_module
from itertools import product

import pytest
import torch
from torch import Tensor

from mnemoscope.ops.dnc import DncMemory, DncOptions, controls_of, dnc_step
from mnemoscope.ops.dnc_fused import Machine, Worker, dnc_machine, dnc_memory
from tests.tolerances import FLOAT32, FLOAT32_GRADIENT, FLOAT64, PEER_FLOAT32, assert_close
from tests.unit.ops.test_addressing import draw, weighted_gradients

B, M, WORD = 2, 6, 5
OPTIONS = [
    DncOptions(n_read=n, word=WORD, mask_floor=floor, deallocation=deallocation, sharpness=sharpness)
    for n, floor, deallocation, sharpness in product((1, 3), (None, 0.1), (False, True), (False, True))
]
every_option = pytest.mark.parametrize("options", OPTIONS, ids=str)


def memory_of(options: DncOptions, dtype: torch.dtype = torch.float64) -> DncMemory:
    """Full: usages distinct, links without a diagonal, weights that sum to less than one."""
    link = 0.5 * draw(B, M, M).softmax(-1) * (1 - torch.eye(M, dtype=torch.float64))
    parts = (
        draw(B, M, WORD, seed=1),
        draw(B, M, seed=2).sigmoid(),
        link,
        0.8 * draw(B, M, seed=3).softmax(-1),
        0.8 * draw(B, M, seed=4).softmax(-1),
        0.8 * draw(B, options.n_read, M, seed=5).softmax(-1),
    )
    return DncMemory(*(part.to(dtype).requires_grad_() for part in parts))


def by_steps(raw: Tensor, last: DncMemory, options: DncOptions) -> tuple[Tensor, DncMemory]:
    reads = []
    for controls in raw.unbind(1):
        read, last = dnc_step(controls, last, options)
        reads.append(read)
    return torch.stack(reads, dim=1), last


@every_option
@pytest.mark.parametrize("n_tokens", [1, 2, 7])
def test_the_fused_memory_and_its_gradients_are_those_of_the_plain_one(options: DncOptions, n_tokens: int):
    raw, last = draw(B, n_tokens, options.n_controls).requires_grad_(), memory_of(options)
    # Usage passes no gradient to the last write where memory is deallocated.
    inputs = [raw, *(part for name, part in last._asdict().items() if name != "write" or not options.deallocation)]
    (reads, after), (plain_reads, plain_after) = dnc_memory(raw, last, options), by_steps(raw, last, options)
    for ours, theirs in zip((reads, *after), (plain_reads, *plain_after), strict=True):
        assert_close(ours, theirs, FLOAT64)
    grads = weighted_gradients([reads, *after], inputs)
    for ours, theirs in zip(grads, weighted_gradients([plain_reads, *plain_after], inputs), strict=True):
        assert_close(ours, theirs, FLOAT64)


@pytest.mark.parametrize("options", [OPTIONS[0], OPTIONS[-1]], ids=str)
def test_float32_agrees_with_float64(options: DncOptions):
    results = {}
    for dtype in (torch.float32, torch.float64):
        raw, last = draw(B, 9, options.n_controls).to(dtype).requires_grad_(), memory_of(options, dtype)
        reads, after = dnc_memory(raw, last, options)
        results[dtype] = [reads, *after], weighted_gradients([reads.double()], [raw, last.memory, last.link])
    (ours, grads), (exact, exact_grads) = results.values()
    for mine, theirs in zip(ours, exact, strict=True):
        assert_close(mine, theirs, FLOAT32)
    for mine, theirs in zip(grads, exact_grads, strict=True):
        assert_close(mine, theirs, FLOAT32_GRADIENT)


@pytest.mark.parametrize("options", [OPTIONS[0], OPTIONS[-1]], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_most_extreme_controls_stay_finite(options: DncOptions, dtype: torch.dtype):
    """From an empty memory, with every gate shut or open to the last bit."""
    n = options.n_read
    shapes = ((M, WORD), (M,), (M, M), (M,), (M,), (n, M))
    raw = (1e3 * draw(B, 12, options.n_controls).sign()).to(dtype).requires_grad_()
    reads, after = dnc_memory(raw, DncMemory(*(torch.zeros(B, *shape, dtype=dtype) for shape in shapes)), options)
    gradient = torch.autograd.grad((reads.square().sum() + after.memory.square().sum()), raw)[0]
    assert all(part.isfinite().all() for part in (reads, *after, gradient))


def test_no_cell_is_freed_that_is_not_read():
    """Free gates wide open, but reads elsewhere: usage stays."""
    options = OPTIONS[0]
    last = memory_of(options)._replace(weights=torch.eye(M, dtype=torch.float64)[2].expand(B, 1, M))
    raw = torch.zeros(B, 1, options.n_controls, dtype=torch.float64)
    raw[:, 0, options.groups[0] + WORD] = 1e3
    usage = dnc_memory(raw, last, options)[1].usage
    kept = last.usage + last.write - last.usage * last.write
    assert not usage[:, 2].any()
    assert_close(usage[:, 3:], kept[:, 3:], FLOAT64)


@pytest.mark.parametrize("lstm", [True, False])
def test_the_controller_is_part_of_the_node(lstm: bool):
    """Against the same controller in plain torch, one token after the other."""
    options, hidden, clip = OPTIONS[3], 4, 0.4
    gates, back = 4 * hidden if lstm else hidden, options.n_read * WORD + hidden * lstm
    inputs = [
        draw(B, 5, gates).requires_grad_(),
        *(0.3 * draw(*shape, seed=7) for shape in ((back, gates), (hidden, options.n_controls), (options.n_controls,))),
        draw(B, options.n_read, WORD, seed=8),
        draw(B, hidden * lstm, seed=9),
        draw(B, hidden * lstm, seed=10),
    ]
    projected, recurrent, to_controls, bias, reads, h, c = (part.requires_grad_() for part in inputs)
    last, memory = Machine(reads, h, c, memory_of(options)), memory_of(options)
    ours, hiddens, after = dnc_machine(projected, last, Worker(recurrent, to_controls, bias, clip), options)
    theirs, outs = [], []
    for present in projected.unbind(1):
        gate = present + torch.cat([reads.flatten(1), h], dim=-1) @ recurrent
        if lstm:
            i, f, o, g = gate.chunk(4, dim=-1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = out = o.sigmoid() * c.tanh()
        else:
            out = gate.tanh()
        reads, memory = dnc_step((out @ to_controls + bias).clamp(-clip, clip), memory, options)
        theirs.append(reads)
        outs.append(out)
    ours, theirs = [ours, hiddens, *after[:3]], [torch.stack(theirs, 1), torch.stack(outs, 1), reads, h, c]
    for mine, exact in zip(ours, theirs, strict=True):
        assert_close(mine, exact, FLOAT64)
    wanted = [part for part in inputs if part.numel()]
    for mine, exact in zip(weighted_gradients(ours, wanted), weighted_gradients(theirs, wanted), strict=True):
        assert_close(mine, exact, FLOAT64)


@pytest.mark.parametrize("n_read", [1, 4])
def test_a_peer_computes_the_same(n_read: int):
    """The memory of the package `dnc`, given the same controls.

    It squashes keys and values by tanh and takes strengths without the 1; both are its controller's business and not
    used here. It adds 1e-6 to the product of lengths and to every usage; slots are not equally used here, of which it
    takes any first. Its modes stand in the order backwards, forwards, content.
    """
    options = DncOptions(n_read=n_read, word=WORD)
    last, raw = memory_of(options, torch.float32), draw(B, 6, options.n_controls).float()
    peer = import_module("dnc.memory").Memory(8, M, WORD, n_read)
    names = ("memory", "usage_vector", "link_matrix", "precedence", "write_weights", "read_weights")
    hidden = dict(zip(names, last, strict=True))
    for name in names[2:5]:
        hidden[name] = hidden[name].unsqueeze(1)
    for t in range(raw.shape[1]):
        to = controls_of(raw[:, t], options)
        reading, writing = slice(n_read), slice(n_read, None)
        hidden = peer.write(
            to.keys[:, writing],
            to.value,
            to.erase,
            to.free,
            to.strengths[:, reading],
            to.strengths[:, writing],
            to.write,
            to.allocate,
            hidden,
        )
        modes = to.modes[:, :, [0, 2, 1]]
        theirs, hidden = peer.read(to.keys[:, reading], to.strengths[:, reading], modes, hidden)
        ours, last = dnc_memory(raw[:, t : t + 1], last, options)
        assert_close(ours[:, 0], theirs, PEER_FLOAT32)
        for mine, name in zip(last, names, strict=True):
            assert_close(mine.flatten(), hidden[name].flatten(), PEER_FLOAT32)

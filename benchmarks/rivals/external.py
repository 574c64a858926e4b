"""Memories beside a controller: forward and backward of whole sequences, and of the memory alone.

Rivals: the `dnc` package, and, for the neural Turing machine, which it does not have, a twin that works as widely used
PyTorch implementations do: every head a layer of its own, and a Python loop over the batch for the circular shift.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.rivals.rivalry import Rivalry
from mnemoscope.memories import DNC, NTM, DNCConfig, NTMConfig
from mnemoscope.memories.controllers import LstmState
from mnemoscope.ops.dnc import DncMemory, DncOptions, controls_of
from mnemoscope.ops.dnc_fused import dnc_memory

B, T, D_MODEL = 32, 20, 20
SLOTS, WORD, HIDDEN = 128, 20, 100
"""The copy task of Graves et al. 2014 as Collier & Beel 2018 train it."""


def gradients(outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    loss = sum((output * torch.randn(output.shape, generator=generator)).sum() / B for output in outputs)
    return list(torch.autograd.grad(loss, inputs))


def trained_step(module: torch.nn.Module, x: Tensor, forward: Callable[[Tensor], Tensor] | None = None) -> list[Tensor]:
    y = forward(x) if forward else module(x)[0]
    wanted = [weight for weight in module.parameters() if weight.requires_grad]
    return [y, *gradients([y], wanted)]


def whole_dnc(n_read: int) -> Rivalry:
    from dnc import DNC as Peer

    x = torch.randn(B, T, D_MODEL)
    ours = DNC(DNCConfig(n_slots=SLOTS, word=WORD, n_read=n_read, hidden=HIDDEN), D_MODEL)
    peer = Peer(
        input_size=D_MODEL,
        hidden_size=HIDDEN,
        num_layers=1,
        num_hidden_layers=1,
        nr_cells=SLOTS,
        cell_size=WORD,
        read_heads=n_read,
        batch_first=True,
    )
    return Rivalry(
        work=f"DNC, {SLOTS} x {WORD}, {n_read} reads, LSTM {HIDDEN}, B{B} T{T}",
        rival=f"dnc {version('dnc')}",
        bar=3,
        ours=partial(trained_step, ours, x),
        theirs=partial(trained_step, peer, x),
        tolerance=None,
        difference="keys, values squashed",
    )


def memory_of_dnc(n_read: int) -> Rivalry:
    from dnc.memory import Memory

    options = DncOptions(n_read=n_read, word=WORD)
    # A draw in which no two usages differ by rounding alone: which of them is taken first would differ as well.
    torch.manual_seed(1)
    controls = torch.randn(B, T, options.n_controls, requires_grad=True)
    weights = torch.rand(3, B, SLOTS) / SLOTS
    link = torch.rand(B, SLOTS, SLOTS) / SLOTS
    link.diagonal(dim1=1, dim2=2).zero_()
    reading = torch.rand(B, n_read, SLOTS) / SLOTS
    start = DncMemory(torch.randn(B, SLOTS, WORD), torch.rand(B, SLOTS), link, weights[0], weights[1], reading)
    peer = Memory(HIDDEN, SLOTS, WORD, n_read)

    def ours() -> list[Tensor]:
        reads = dnc_memory(controls, start, options)[0]
        return [reads, *gradients([reads], [controls])]

    def theirs() -> list[Tensor]:
        names = ("memory", "usage_vector", "link_matrix", "precedence", "write_weights", "read_weights")
        hidden = dict(zip(names, start, strict=True))
        for name in names[2:5]:
            hidden[name] = hidden[name].unsqueeze(1)
        reads = []
        for raw in controls.unbind(1):
            to = controls_of(raw, options)
            hidden = peer.write(
                to.keys[:, n_read:], to.value, to.erase, to.free, to.strengths[:, :n_read], to.strengths[:, n_read:],
                to.write, to.allocate, hidden,
            )  # fmt: skip
            modes = to.modes[:, :, [0, 2, 1]]
            read, hidden = peer.read(to.keys[:, :n_read], to.strengths[:, :n_read], modes, hidden)
            reads.append(read)
        stacked = torch.stack(reads, dim=1)
        return [stacked, *gradients([stacked], [controls])]

    return Rivalry(
        work=f"DNC memory alone, {SLOTS} x {WORD}, {n_read} reads, B{B} T{T}",
        rival=f"dnc {version('dnc')}",
        bar=3,
        ours=ours,
        theirs=theirs,
        tolerance=1e-3,
    )


def shift_each(weights: Tensor, kernels: Tensor) -> Tensor:
    """Circular convolution of one sequence after the other."""
    shifted = []
    for weight, kernel in zip(weights, kernels, strict=True):
        around = torch.cat([weight[-1:], weight, weight[:1]])
        shifted.append(F.conv1d(around.view(1, 1, -1), kernel.flip(0).view(1, 1, -1)).view(-1))
    return torch.stack(shifted)


def ntm_by_element(ours: NTM, x: Tensor) -> Tensor:
    """The same machine with the same weights: a linear layer per control, and a loop over sequences in every shift."""
    config, linear = ours.config, ours.controller.controls
    word = config.word
    state, outputs = ours.init_state(x.shape[0]), []
    memory, places, read = state.memory, list(state.weights.unbind(1)), state.reads[:, 0]
    assert isinstance(state.controller, LstmState)
    h, c = state.controller
    # Keys of both heads and the addition; gates and erasure; strengths and exponents; shifts.
    sizes = [word, word, word, 1, 1, word, 1, 1, 1, 1, config.shift, config.shift]
    layers = list(zip(linear.weight.split(sizes), linear.bias.split(sizes), strict=True))
    for x_t in x.unbind(1):
        gates = F.linear(x_t, ours.controller.inputs.weight, ours.controller.inputs.bias)
        gates = gates + F.linear(torch.cat([read, h], dim=-1), ours.controller.recurrent.weight)
        i, f, o, g = gates.chunk(4, dim=-1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        parts = [F.linear(h, weight, bias).clamp(-20, 20) for weight, bias in layers]
        for head in (0, 1):
            key, gate = parts[head].tanh(), parts[3 + head].sigmoid()
            strength, exponent = F.softplus(parts[6 + head]), 1 + F.softplus(parts[8 + head])
            content = (strength * F.cosine_similarity(memory, key.unsqueeze(1), dim=-1)).softmax(-1)
            moved = shift_each(gate * content + (1 - gate) * places[head], parts[10 + head].softmax(-1))
            powers = moved**exponent
            places[head] = powers / powers.sum(-1, keepdim=True)
            if head == 0:
                place, erase, add = places[0].unsqueeze(-1), parts[5].sigmoid(), parts[2].tanh()
                memory = memory * (1 - place @ erase.unsqueeze(1)) + place @ add.unsqueeze(1)
        read = (places[1].unsqueeze(1) @ memory).squeeze(1)
        outputs.append(ours.out(read))
    return torch.stack(outputs, dim=1)


def whole_ntm() -> Rivalry:
    x = torch.randn(B, T, D_MODEL)
    ours = NTM(NTMConfig(n_slots=SLOTS, word=WORD, hidden=HIDDEN, memory="learned"), D_MODEL)
    return Rivalry(
        work=f"NTM, {SLOTS} x {WORD}, LSTM {HIDDEN}, B{B} T{T}",
        rival="a loop over the batch",
        bar=3,
        ours=partial(trained_step, ours, x),
        theirs=partial(trained_step, ours, x, partial(ntm_by_element, ours)),
        tolerance=1e-3,
    )


def rivalries() -> Iterator[Rivalry]:
    torch.manual_seed(0)
    for n_read in (1, 4):
        yield whole_dnc(n_read)
    for n_read in (1, 4):
        yield memory_of_dnc(n_read)
    yield whole_ntm()

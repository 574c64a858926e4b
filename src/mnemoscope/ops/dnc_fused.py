"""Differentiable neural computers over many tokens, as one node of the graph with a gradient written by hand.

On a CPU a token is some three hundred small operations: to keep a record of each, to add up the gradients of weights
token by token, and to make fresh matrices of links for every gradient costs more than the work itself. The equations
are those of `dnc.dnc_step`; the gradients of its parts stand beside them in `addressing` and `usage`.
"""

from collections.abc import Iterable, Iterator
from itertools import accumulate, islice
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from mnemoscope.ops.addressing import (
    Found,
    Sought,
    find,
    find_backward,
    in_own_precision,
    seek,
    seek_backward,
    softmax_backward,
)
from mnemoscope.ops.dnc import SHARPNESS_FLOOR, DncMemory, DncOptions, activated, named
from mnemoscope.ops.usage import Allocated, allocate, allocate_backward, follow_backward, relink


class Worker(NamedTuple):
    """A controller of which the part that the input decides is computed already; LSTM gates in the order i, f, o, g.

    Args:
        recurrent: from what was read and, in an LSTM, from the last output to the gates.
        controls: from the output to the controls.
        bias: of the controls.
        clip: bound of the controls; None for none.
    """

    recurrent: Float[Tensor, "back gates"]
    controls: Float[Tensor, "hidden controls"]
    bias: Float[Tensor, "controls"]
    clip: float | None


class Machine(NamedTuple):
    """Between two tokens: what was read last, output and cell of the controller (empty without an LSTM), the memory."""

    reads: Float[Tensor, "b read word"]
    h: Float[Tensor, "b lstm"]
    c: Float[Tensor, "b lstm"]
    memory: DncMemory


def dnc_memory(
    raw: Float[Tensor, "b t controls"], last: DncMemory, options: DncOptions
) -> tuple[Float[Tensor, "b t h word"], DncMemory]:
    """Reads of all tokens, and the memory after the last; equals `dnc_step`, token by token.

    Cost: per token one look-up of 1 + n_read keys (two products with masks), n_read reads, and 2 n_read products of the
    links with a vector; everything else passes over the links twice.
    """
    reads, *memory = _Memory.apply(raw, *last, options)  # pyright: ignore[reportGeneralTypeIssues]
    return reads, DncMemory(*memory)


def dnc_machine(
    projected: Float[Tensor, "b t gates"], last: Machine, worker: Worker, options: DncOptions
) -> tuple[Float[Tensor, "b t h word"], Float[Tensor, "b t hidden"], Machine]:
    """Reads and controller outputs of all tokens, and the machine after the last.

    Args:
        projected: what the inputs give to the controller's gates.
        last: the machine before the first token.
        worker: the controller.
        options: of the memory.
    """
    weights = (worker.recurrent, worker.controls, worker.bias)
    reads, hidden, c, *memory = _Machine.apply(projected, *weights, *last[:3], *last.memory, worker.clip, options)  # pyright: ignore[reportGeneralTypeIssues]
    h = hidden[:, -1].clone() if last.h.shape[1] else last.h
    return reads, hidden, Machine(reads[:, -1].clone(), h, c, DncMemory(*memory))


class Step(NamedTuple):
    """What the gradient of one token needs besides the memory before and after it."""

    raw: Tensor
    plain: Tensor
    unit: Tensor
    positive: Tensor
    modes: Tensor
    taken: Allocated
    sought: Sought
    known: Found
    found: Found
    freed: Tensor
    psi: Tensor
    grown: Tensor
    place: Tensor
    change: Tensor
    logs: Tensor
    ways: Tensor

    @classmethod
    def of(cls, take: Iterator[Tensor]) -> "Step":
        """From the next tensors of a record that `flat` has made."""
        raw, plain, unit, positive, modes = islice(take, 5)
        taken, sought = Allocated(*islice(take, 4)), Sought(*islice(take, 3))
        known, found = Found(*islice(take, 3)), Found(*islice(take, 3))
        freed, psi, grown, place, change, logs, ways = islice(take, 7)
        groups = (plain, unit, positive, modes)
        return cls(raw, *groups, taken, sought, known, found, freed, psi, grown, place, change, logs, ways)


def flat(parts: Iterable[Any]) -> list[Tensor]:
    """All tensors, in order."""
    return [tensor for part in parts for tensor in ([part] if isinstance(part, Tensor) else flat(part))]


def step_forward(
    raw: Tensor, last: DncMemory, options: DncOptions, scale: Tensor | None
) -> tuple[Tensor, DncMemory, Step]:
    """Reads, memory and record of one token; `scale` are the inverse lengths of the slots, if they are known."""
    groups = activated(raw, options)
    to, n = named(*groups, options), options.n_read
    masks = (None, None) if to.mask is None else to.mask.split([n, 1], dim=1)

    freed = 1 - to.free.unsqueeze(-1) * last.weights
    psi = freed.prod(1)
    grown = torch.addcmul(last.usage, last.write, 1 - last.usage)
    usage = grown * psi

    taken, sought = allocate(usage), seek(to.keys, to.mask)
    known = find(last.memory, sought.compared[:, n:], to.strengths[:, n:], masks[1], scale)
    place = torch.lerp(known.weights.squeeze(1), taken.weights, to.allocate)
    write = to.write * place
    kept = psi.unsqueeze(-1) * last.memory if options.deallocation else last.memory
    change = torch.addcmul(to.value, to.erase, kept, value=-1)
    memory = torch.addcmul(kept, write.unsqueeze(-1), change)

    link = relink(last.link, write, last.precedence)
    precedence = torch.addcmul(write, 1 - write.sum(-1, keepdim=True), last.precedence)
    # Forwards and backwards stand side by side.
    along = torch.cat([torch.bmm(last.weights, link.mT), torch.bmm(last.weights, link)], dim=1)
    logs = along
    if to.sharpness is not None:
        logs = (along + SHARPNESS_FLOOR).log_()
        along = (to.sharpness.unsqueeze(-1) * logs).softmax(-1)
    found = find(memory, sought.compared[:, :n], to.strengths[:, :n], masks[0])
    ways = torch.stack([along[:, n:], found.weights, along[:, :n]], dim=2)
    weights = (to.modes.unsqueeze(-1) * ways).sum(2)

    done = DncMemory(memory, usage, link, precedence, write, weights)
    step = Step(raw, *groups, taken, sought, known, found, freed, psi, grown, place, change, logs, ways)
    return torch.bmm(weights, memory), done, step


def step_backward(
    d_reads: Tensor,
    d: DncMemory,
    step: Step,
    memories: tuple[DncMemory, DncMemory],
    options: DncOptions,
    work: Tensor | None,
) -> tuple[Tensor, DncMemory]:
    """Gradients to the controls and to the memory before, given those of the reads and of the memory after.

    With a matrix to `work` in, gradients of links are overwritten.
    """
    last, done = memories
    to, n = named(step.plain, step.unit, step.positive, step.modes, options), options.n_read
    masks = (None, None) if to.mask is None else to.mask.split([n, 1], dim=1)
    compared, strengths = step.sought.compared, to.strengths

    # Reads, the three ways to a place, and content.
    d_memory = torch.baddbmm(d.memory, done.weights.mT, d_reads)
    d_weights = torch.baddbmm(d.weights, d_reads, done.memory.mT).unsqueeze(2)
    d_modes = (d_weights * step.ways).sum(-1)
    d_ways = to.modes.unsqueeze(-1) * d_weights
    reading = find_backward(
        d_ways[:, :, 1], step.found, done.memory, compared[:, :n], strengths[:, :n], masks[0], d_memory
    )

    # Links.
    d_along = torch.cat([d_ways[:, :, 2], d_ways[:, :, 0]], dim=1)
    d_sharpness = None if to.sharpness is None else _sharpened_backward(d_along, step.ways, step.logs, to.sharpness)
    d_link, d_write, d_precedence, d_last = follow_backward(
        d.link, d_along[:, :n], d_along[:, n:], last.link, done.write, last.precedence, last.weights, done.link, work
    )
    d_write.add_(d.write).add_(d.precedence).sub_((d.precedence * last.precedence).sum(-1, keepdim=True))
    d_precedence.addcmul_(d.precedence, 1 - done.write.sum(-1, keepdim=True))

    # The write; `d_memory` turns from the gradient of what is written into that of what was kept.
    kept = step.psi.unsqueeze(-1) * last.memory if options.deallocation else last.memory
    d_write.add_((d_memory * step.change).sum(-1))
    d_change = done.write.unsqueeze(-1) * d_memory
    d_value, d_erase = d_change.sum(1), (d_change * kept).sum(1).neg_()
    d_memory.addcmul_(d_change, to.erase, value=-1)
    d_gate = (d_write * step.place).sum(-1, keepdim=True)
    d_place = to.write * d_write
    d_allocate = (d_place * (step.taken.weights - step.known.weights.squeeze(1))).sum(-1, keepdim=True)
    d_taken = to.allocate * d_place

    # Usage, and the look-up before the write.
    d_usage = allocate_backward(d_taken, step.taken).add_(d.usage)
    d_grown, d_psi = d_usage * step.psi, d_usage.mul_(step.grown)
    if options.deallocation:
        d_psi.add_((d_memory * last.memory).sum(-1))
        d_memory.mul_(step.psi.unsqueeze(-1))
    d_found = (d_place - d_taken).unsqueeze(1)
    writing = find_backward(d_found, step.known, last.memory, compared[:, n:], strengths[:, n:], masks[1], d_memory)
    d_freed = d_psi.unsqueeze(1) * _products_of_others(step.freed)
    d_free = (d_freed * last.weights).sum(-1).neg_()
    d_last.addcmul_(to.free.unsqueeze(-1), d_freed, value=-1)
    d_last_write = torch.zeros_like(d_grown) if options.deallocation else d_grown * (1 - last.usage)

    # Controls.
    joined = [
        None if a is None or b is None else torch.cat([a, b], dim=1) for a, b in zip(reading, writing, strict=True)
    ]
    d_compared, d_strengths, d_mask = joined
    assert d_compared is not None
    assert d_strengths is not None
    d_keys, d_mask = seek_backward(d_compared, step.sought, to.keys, to.mask, d_mask)
    unit = [d_erase, d_free, d_allocate, d_gate]
    if d_mask is not None:
        unit.append(d_mask.flatten(1).mul_(1 - (options.mask_floor or 0)))
    positive = d_strengths if d_sharpness is None else torch.cat([d_strengths, d_sharpness], dim=-1)
    d_raw = _activated_backward(step, [d_keys.flatten(1), d_value], torch.cat(unit, dim=-1), positive, d_modes, options)
    return d_raw, DncMemory(d_memory, d_grown.mul_(1 - last.write), d_link, d_precedence, d_last_write, d_last)


def _sharpened_backward(d_along: Tensor, ways: Tensor, logs: Tensor, sharpness: Tensor) -> Tensor:
    """Gradient to the exponents; the one to the sharpened weights becomes, in place, that to the weights before."""
    d_logits = softmax_backward(d_along, torch.cat([ways[:, :, 2], ways[:, :, 0]], dim=1))
    torch.mul(d_logits, sharpness.unsqueeze(-1), out=d_along).div_(logs.exp())
    return (d_logits * logs).sum(-1)


def _products_of_others(parts: Tensor) -> Tensor:
    """Along the second axis, the product of all but each; no quotient, because a part may be zero."""
    if parts.shape[1] == 1:
        return torch.ones_like(parts)
    heads = parts.unbind(1)
    before = list(accumulate(heads[:-1], torch.mul))
    after = list(accumulate(heads[:0:-1], torch.mul))[::-1]
    between = [left * right for left, right in zip(before[:-1], after[1:], strict=True)]
    return torch.stack([after[0], *between, before[-1]], dim=1)


def _activated_backward(
    step: Step, plain: list[Tensor], unit: Tensor, positive: Tensor, modes: Tensor, options: DncOptions
) -> Tensor:
    unit = sigmoid_backward(unit, step.unit)
    positive = positive * (1 - (1 - step.positive).exp())
    return torch.cat([*plain, unit, positive, softmax_backward(modes, step.modes).flatten(1)], dim=-1)


sigmoid_backward, tanh_backward = torch.ops.aten.sigmoid_backward, torch.ops.aten.tanh_backward

N_STEP, N_MEMORY, N_WORK = 25, 6, 7
"""Tensors in the records of a token's `Step`, `DncMemory` and controller."""


class _Memory(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, raw: Tensor, *rest: Any) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        last, ctx.options = DncMemory(*rest[:-1]), rest[-1]
        reads, record, scale = [], [*last], None
        for controls in raw.unbind(1):
            read, last, step = step_forward(controls, last, ctx.options, scale)
            scale = step.found.scale if ctx.options.mask_floor is None else None
            reads.append(read)
            record += [*flat(step), *last]
        ctx.save_for_backward(*record)
        return torch.stack(reads, dim=1), *last

    @staticmethod
    @once_differentiable
    @in_own_precision
    def backward(ctx: Any, d_reads: Tensor, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        record, d, work, d_raws = ctx.saved_tensors, DncMemory(*grads), None, []
        length = N_MEMORY + N_STEP
        for t in reversed(range(d_reads.shape[1])):
            take = iter(record[t * length : (t + 1) * length + N_MEMORY])
            last, step, done = DncMemory(*islice(take, N_MEMORY)), Step.of(take), DncMemory(*islice(take, N_MEMORY))
            d_raw, d = step_backward(d_reads[:, t], d, step, (last, done), ctx.options, work)
            work = torch.empty_like(d.link) if work is None else work
            d_raws.append(d_raw)
        return torch.stack(d_raws[::-1], dim=1), *d, None


class _Machine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, projected: Tensor, *rest: Any) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        recurrent, to_controls, bias, read, h, c, *memory, clip, options = rest
        last, lstm = DncMemory(*memory), h.shape[1] > 0
        reads, hidden, record, scale = [], [], [recurrent, to_controls, *last], None
        for inputs in projected.unbind(1):
            back = torch.cat([read.flatten(1), h], dim=-1)
            gates = torch.addmm(inputs, back, recurrent)
            if lstm:
                squashed, candidate = gates[:, : 3 * h.shape[1]].sigmoid(), gates[:, 3 * h.shape[1] :].tanh()
                i, f, o = squashed.chunk(3, dim=-1)
                before, c = c, torch.addcmul(f * c, i, candidate)
                squeezed = c.tanh()
                h = out = o * squeezed
            else:
                out = gates.tanh()
                squashed = candidate = before = squeezed = c
            raw = torch.addmm(bias, out, to_controls)
            controls = raw if clip is None else raw.clamp(-clip, clip)
            read, last, step = step_forward(controls, last, options, scale)
            scale = step.found.scale if options.mask_floor is None else None
            reads.append(read)
            hidden.append(out)
            record += [back, squashed, candidate, before, squeezed, out, raw, *flat(step), *last]
        ctx.clip, ctx.options = clip, options
        ctx.save_for_backward(*record)
        return torch.stack(reads, dim=1), torch.stack(hidden, dim=1), c.clone(), *last

    @staticmethod
    @once_differentiable
    @in_own_precision
    def backward(ctx: Any, d_reads: Tensor, d_hidden: Tensor, d_c: Tensor, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        recurrent, to_controls, *record = ctx.saved_tensors
        d, work, n_tokens = DncMemory(*grads), None, d_reads.shape[1]
        d_read, d_h = torch.zeros_like(d_reads[:, 0]), torch.zeros_like(d_c)
        # A token's record: the memory before it, its controller, its step; the controls are the controller's last.
        length = N_MEMORY + N_WORK + N_STEP
        within = None
        if ctx.clip is not None:
            within = torch.stack(record[N_MEMORY + N_WORK - 1 :: length]).abs() <= ctx.clip
        backs, outs, d_gates, d_raws = [], [], [], []
        for t in reversed(range(n_tokens)):
            take = iter(record[t * length : (t + 1) * length + N_MEMORY])
            last, (back, squashed, candidate, before, squeezed, out, _) = DncMemory(*islice(take, 6)), islice(take, 7)
            step, done = Step.of(take), DncMemory(*islice(take, N_MEMORY))
            d_raw, d = step_backward(d_reads[:, t] + d_read, d, step, (last, done), ctx.options, work)
            work = torch.empty_like(d.link) if work is None else work
            if within is not None:
                d_raw.mul_(within[t])
            d_out = torch.addmm(d_hidden[:, t], d_raw, to_controls.mT)
            if d_c.shape[1]:
                i, f, o = squashed.chunk(3, dim=-1)
                d_out.add_(d_h)
                d_c = d_c + tanh_backward(d_out * o, squeezed)
                d_squashed = torch.cat([d_c * candidate, d_c * before, d_out * squeezed], dim=-1)
                d_candidate = tanh_backward(d_c * i, candidate)
                d_gate = torch.cat([sigmoid_backward(d_squashed, squashed), d_candidate], dim=-1)
                d_c = d_c * f
            else:
                d_gate = tanh_backward(d_out, out)
            d_back = d_gate @ recurrent.mT
            d_read, d_h = d_back.split([d_back.shape[-1] - d_c.shape[1], d_c.shape[1]], dim=-1)
            d_read = d_read.unflatten(-1, d_reads.shape[2:])
            backs.append(back)
            outs.append(out)
            d_gates.append(d_gate)
            d_raws.append(d_raw)
        # The gradients of the weights, for all tokens at once.
        d_recurrent = torch.cat(backs).mT @ torch.cat(d_gates)
        d_raw = torch.cat(d_raws)
        weights = (d_recurrent, torch.cat(outs).mT @ d_raw, d_raw.sum(0))
        return torch.stack(d_gates[::-1], dim=1), *weights, d_read, d_h, d_c, *d, None, None

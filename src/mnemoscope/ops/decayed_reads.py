"""Reads of a matrix memory whose whole state decays by one number a token, in matrix products over chunks.

    S_t = a_t S_{t-1} + k_t u_t^T          r_t = S_t^T q_t

The decays come as logarithms per position, in units that may change from chunk to chunk, so that state-space duality
(decays below one) and exponential gates (any size, scaled by a running maximum) are read by the same code.
"""

import math
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import register_flop_formula


class Scales(NamedTuple):
    """Logarithms of what writes and reads count for, per head, in float64.

    They are long sums of which differences count: in float32 a weight would lose a digit or two.

    The read at position i of a chunk gives write j <= i of that chunk the weight exp(read_i - write_j), and the state
    before the chunk exp(read_i + start). The state after it gives write j exp(end - write_j) and the state before it
    exp(end + start). None of these weights may exceed 1.

    Args:
        read: of the reads, per position.
        write: of the writes, per position; infinite for no write.
        start: of the state before each chunk; a constant.
        end: of the state after each chunk.
    """

    read: Float[Tensor, "b n c h"]
    write: Float[Tensor, "b n c h"]
    start: Float[Tensor, "b n h"]
    end: Float[Tensor, "b n h"]


def chunks(x: Float[Tensor, "b t *rest"], c: int, fill: float = 0.0) -> Float[Tensor, "b n c *rest"]:
    """Cut time into chunks of c tokens; the last is filled up."""
    gap = -x.shape[1] % c
    if gap:
        # To pad by nothing would copy.
        x = F.pad(x, (0, 0) * (x.ndim - 2) + (0, gap), value=fill)
    return x.unflatten(1, (-1, c))


def joined(x: Float[Tensor, "b n c *rest"], n_tokens: int) -> Float[Tensor, "b t *rest"]:
    """Chunks as one stretch of time, without what filled up the last."""
    x = x.flatten(1, 2)
    # The gradient of a slice is a copy, even if the slice is everything.
    return x if x.shape[1] == n_tokens else x[:, :n_tokens]


def decayed_reads(
    q: Float[Tensor, "b n c g k"],
    k: Float[Tensor, "b n c g k"],
    v: Float[Tensor, "b n c h v"],
    write_strength: Float[Tensor, "b n c h"],
    scales: Scales,
    state: Float[Tensor, "b h k v"],
) -> tuple[Float[Tensor, "b n c h v"], Float[Tensor, "b h k v"]]:
    """The reads of all chunks and the last state, for writes u = write_strength v and one query and key a group.

    One chunk after the other, each in products that hold all sequences and heads. Only the states between chunks are
    kept; the gradient is written by hand, forms the rest again, and refuses to be differentiated.

    Cost: per head O(t (c v + k v)) multiply-adds for chunks of c tokens, per group O(t c k) more.
    """
    read, last, _ = _reads(q, k, v, write_strength, *scales, state)
    return read, last


# Reads and gradient are operators of their own, opaque to a compiler: what they gain is in which tensors they reuse.
# Letters: g groups, r heads of a group. Heads of a group share query and key, so in products with the state their
# values stand side by side, (r v).


class _Chunks:
    """The inputs by chunk, and scratch tensors that every chunk uses again.

    An operation on a chunk takes microseconds, and so does a view: what can be is cut up once, before the loop.
    """

    def __init__(self, q: Tensor, k: Tensor, v: Tensor, strength: Tensor, scales: tuple[Tensor, ...]) -> None:
        b, _, c, g, width = q.shape
        r, w = v.shape[3] // g, v.shape[4]
        self.sizes = b, g, r, c, width, w
        self.q, self.k = (rearrange(x, "b n c g k -> n (b g) c k").unbind() for x in (q, k))
        self.v, self.strength = self.split(v), self.split(strength.unsqueeze(-1))
        self._set_weights(scales, strength)
        # What is written: (b g r) c v for products within the chunk, (b g) c (r v) for those with the state.
        self.u, self._u = self.head_by_head()
        self.lasting, self._lasting = self.side_by_side()
        self.between = v.new_empty(b, g, r, c, c)
        self.local = v.new_empty(b * g * r, c, c)
        self.scores = v.new_empty(b * g, c, c)
        self._local, self._scores = self.local.view(self.between.shape), self.scores.view(b, g, 1, c, c)

    def _set_weights(self, scales: tuple[Tensor, ...], strength: Tensor) -> None:
        _, g, *_ = self.sizes
        # exp2 is more than twice as fast as exp on a CPU.
        reading, writing, start, end = (x * math.log2(math.e) for x in scales)
        from_start, to_end, kept = (
            x.exp2().to(strength.dtype) for x in (reading + start.unsqueeze(2), end.unsqueeze(2) - writing, end + start)
        )
        self.from_start, self.to_end, self._lasting_strength = (
            self.split(x.unsqueeze(-1)) for x in (from_start, to_end, strength * to_end)
        )
        self.kept = rearrange(kept, "b n (g r) -> n (b g) 1 r 1", g=g).unbind()
        # Whole numbers, whose differences are exact, and what is left; nothing is left of an infinite one.
        whole = reading.round(), writing.round()
        rest = reading - whole[0], (writing - whole[1]).nan_to_num(0.0)
        by_head = [rearrange(x.to(strength.dtype), "b n c (g r) -> n b g r c", g=g) for x in (*whole, *rest)]
        self._reading = [x.unsqueeze(-1).unbind() for x in by_head[0::2]]
        self._writing = [x.unsqueeze(-2).unbind() for x in by_head[1::2]]

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """x (b n c h v) as chunks b g c r v, without a copy."""
        _, g, r, *_ = self.sizes
        return x.unflatten(3, (g, r)).transpose(2, 3).unbind(1)

    def head_by_head(self) -> tuple[Tensor, Tensor]:
        """A scratch tensor (b g r) c v, and its view b g c r v."""
        b, g, r, c, _, w = self.sizes
        scratch = self.v[0].new_empty(b * g * r, c, w)
        return scratch, scratch.view(b, g, r, c, w).transpose(2, 3)

    def side_by_side(self) -> tuple[Tensor, Tensor]:
        """A scratch tensor (b g) c (r v), and its view b g c r v."""
        b, g, r, c, _, w = self.sizes
        scratch = self.v[0].new_empty(b * g, c, r * w)
        return scratch, scratch.view(b, g, c, r, w)

    def load(self, n: int) -> None:
        """Form what reads and gradient of chunk n both need: the weights, and what is written."""
        (whole, rest), (whole_written, rest_written) = self._reading, self._writing
        torch.sub(whole[n], whole_written[n], out=self.between).add_(rest[n]).sub_(rest_written[n])
        # Above the diagonal this may be positive and overflow; the scores are zero there.
        self.between.clamp_(max=0).exp2_()
        torch.bmm(self.q[n], self.k[n].mT, out=self.scores).tril_()
        torch.mul(self.between, self._scores, out=self._local)
        torch.mul(self.v[n], self.strength[n], out=self._u)
        torch.mul(self.v[n], self._lasting_strength[n], out=self._lasting)


class _States:
    """States between chunks or their gradients, n (b g) k (r v), and views of them."""

    def __init__(self, chunks: _Chunks, n: int) -> None:
        b, g, r, _, width, w = chunks.sizes
        self.all = chunks.lasting.new_empty(n, b * g, width, r * w)
        heads = self.all.view(n, b * g, width, r, w)
        self.items, self.heads = self.all.unbind(), heads.unbind()
        self._by_name = heads.view(n, b, g, width, r, w)

    def put(self, n: int, state: Tensor) -> None:
        """Take over a state b (g r) k v."""
        _, _, g, _, r, _ = self._by_name.shape
        self._by_name[n].copy_(rearrange(state, "b (g r) k v -> b g k r v", g=g, r=r))

    def take(self, n: int) -> Tensor:
        """Hand out a copy as b (g r) k v."""
        return rearrange(self._by_name[n], "b g k r v -> b (g r) k v").clone(memory_format=torch.contiguous_format)


def _forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    write_strength: Tensor,
    reading: Tensor,
    writing: Tensor,
    start: Tensor,
    end: Tensor,
    state: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Reads, last state, and the states between chunks, n (b g) k (r v)."""
    n_chunks = q.shape[1]
    chunks, read = _Chunks(q, k, v, write_strength, (reading, writing, start, end)), v.new_empty(v.shape)
    states = _States(chunks, n_chunks + 1)
    states.put(0, state)
    (local, local_view), (looked_up, looked_up_view) = chunks.head_by_head(), chunks.side_by_side()
    for n, out in enumerate(chunks.split(read)):
        chunks.load(n)
        torch.bmm(chunks.q[n], states.items[n], out=looked_up)
        torch.bmm(chunks.local, chunks.u, out=local)
        torch.addcmul(local_view, looked_up_view, chunks.from_start[n], out=out)
        torch.mul(states.heads[n], chunks.kept[n], out=states.heads[n + 1])
        states.items[n + 1].baddbmm_(chunks.k[n].mT, chunks.lasting)
    return read, states.take(n_chunks), states.all


def _backward(
    grad_read: Tensor,
    grad_last: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    write_strength: Tensor,
    reading: Tensor,
    writing: Tensor,
    start: Tensor,
    end: Tensor,
    states: Tensor,
    read: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, write_strength, reading, writing, end and the first state.

    A read is proportional to the exponential of its scale, what follows from a write to that of minus its scale, and a
    state to that of its end, so the gradients of these logarithms are inner products of values with their gradients.
    """
    (_, n_chunks, _, g, _), r = q.shape, v.shape[3] // q.shape[3]
    chunks = _Chunks(q, k, v, write_strength, (reading, writing, start, end))
    grad_q, grad_k = (q.new_empty(n_chunks, *chunks.q[0].shape) for _ in range(2))
    grad_v, (grad_strength, grad_reading) = v.new_empty(v.shape), (v.new_empty(*v.shape[:-1], 1) for _ in range(2))
    moments = v.new_empty(n_chunks, *chunks.kept[0].shape)
    all_given, all_read, all_grad_v, all_grad_strength, all_grad_reading = (
        chunks.split(x) for x in (grad_read, read, grad_v, grad_strength, grad_reading)
    )
    (given, given_view), (local, local_view) = chunks.head_by_head(), chunks.head_by_head()
    (of_start, of_start_view), (of_end, of_end_view) = chunks.side_by_side(), chunks.side_by_side()
    grad_u, later, moment = torch.empty_like(of_end_view), _States(chunks, 1), _States(chunks, 1)
    later.put(0, grad_last)
    between_chunks, after = states.unbind(), later.items[0]
    grad_scores, by_head = torch.empty_like(chunks.local), chunks.between.shape
    for n in reversed(range(n_chunks)):
        chunks.load(n)
        given_view.copy_(all_given[n])
        torch.sum(torch.mul(all_given[n], all_read[n], out=grad_u), -1, keepdim=True, out=all_grad_reading[n])
        torch.mul(all_given[n], chunks.from_start[n], out=of_start_view)
        torch.bmm(chunks.local.mT, given, out=local)
        torch.bmm(chunks.k[n], after, out=of_end)
        torch.addcmul(local_view, of_end_view, chunks.to_end[n], out=grad_u)
        torch.mul(grad_u, chunks.strength[n], out=all_grad_v[n])
        torch.sum(grad_u.mul_(chunks.v[n]), -1, keepdim=True, out=all_grad_strength[n])
        scores = torch.bmm(given, chunks.u.mT, out=grad_scores).view(by_head).mul_(chunks.between)
        scores = (scores.sum(2) if r > 1 else grad_scores).view_as(chunks.scores).tril_()
        torch.bmm(of_start, between_chunks[n].mT, out=grad_q[n]).baddbmm_(scores, chunks.k[n])
        torch.bmm(chunks.lasting, after.mT, out=grad_k[n]).baddbmm_(scores.mT, chunks.q[n])
        torch.mul(after, between_chunks[n + 1], out=moment.items[0])
        torch.sum(moment.heads[0], (1, 3), keepdim=True, out=moments[n])
        later.heads[0].mul_(chunks.kept[n])
        after.baddbmm_(chunks.q[n].mT, of_start)
    grad_q, grad_k = (rearrange(x, "n (b g) c k -> b n c g k", g=g).contiguous() for x in (grad_q, grad_k))
    grad_strength, grad_reading = grad_strength.squeeze(-1), grad_reading.squeeze(-1)
    return (
        grad_q,
        grad_k,
        grad_v,
        grad_strength,
        grad_reading.to(reading.dtype, copy=True),
        (-grad_strength).mul_(write_strength).to(writing.dtype),
        rearrange(moments, "n (b g) 1 r 1 -> b n (g r)", g=g).to(end.dtype).contiguous(),
        later.take(0),
    )


_reads = torch.library.custom_op(
    "mnemoscope::decayed_reads",
    _forward,
    mutates_args=(),
    schema="(Tensor q, Tensor k, Tensor v, Tensor write_strength, Tensor reading, Tensor writing, Tensor start,"
    " Tensor end, Tensor state) -> (Tensor, Tensor, Tensor)",
)
_reads_backward = torch.library.custom_op(
    "mnemoscope::decayed_reads_backward",
    _backward,
    mutates_args=(),
    schema="(Tensor grad_read, Tensor grad_last, Tensor q, Tensor k, Tensor v, Tensor write_strength, Tensor reading,"
    " Tensor writing, Tensor start, Tensor end, Tensor states, Tensor read)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)


@_reads.register_fake
def _(q, k, v, write_strength, reading, writing, start, end, state):
    b, n, _, g, w = q.shape
    states = q.new_empty(n + 1, b * g, w, v.shape[3] // g * v.shape[4])
    return v.new_empty(v.shape), state.new_empty(state.shape), states


@_reads_backward.register_fake
def _(grad_read, grad_last, q, k, v, write_strength, reading, writing, start, end, states, read):
    return tuple(x.new_empty(x.shape) for x in (q, k, v, write_strength, reading, writing, end, grad_last))


def _save(ctx, inputs, output):
    *tensors, _ = inputs
    read, _, states = output
    ctx.save_for_backward(*tensors, states, read)
    ctx.set_materialize_grads(False)


def _differentiate(ctx, grad_read, grad_last, _):
    # Once: under checkpointing what was saved can be had a single time.
    saved = ctx.saved_tensors
    _, k, v = saved[:3]
    grad_read = torch.zeros_like(v) if grad_read is None else grad_read
    grad_last = v.new_zeros(v.shape[0], v.shape[3], k.shape[4], v.shape[4]) if grad_last is None else grad_last
    *grads, grad_end, grad_state = _reads_backward(grad_read, grad_last, *saved)
    return *grads, None, grad_end, grad_state


_reads.register_autograd(_differentiate, setup_context=_save)
for device in ("cpu", "cuda"):
    # Inside, nothing is cast: what a product rounds, the recurrence would carry on.
    _reads.register_autocast(device, torch.float32)


@register_flop_formula(torch.ops.mnemoscope.decayed_reads)
def decayed_reads_flops(
    q: tuple[int, ...], k: tuple[int, ...], v: tuple[int, ...], *_: object, **_shapes: object
) -> int:
    """Operations of the products, from the shapes of q, k and v in chunks: scores, local reads, states, lookups."""
    (b, n, c, g, width), (h, w) = q, v[3:]
    return 2 * b * n * c * (g * c * width + h * c * w + 2 * h * width * w)


@register_flop_formula(torch.ops.mnemoscope.decayed_reads_backward)
def _backward_flops(
    _read: object, _last: object, q: tuple[int, ...], k: object, v: tuple[int, ...], *_: object, **_shapes: object
) -> int:
    (b, n, c, g, width), (h, w) = q, v[3:]
    return 2 * b * n * c * (3 * g * c * width + 2 * h * c * w + 4 * h * width * w)

"""One chunk of a network that is written while it reads, forward and backward, without the weights of any token.

With o "orders" of state (the running network; with momentum also S, below it), all as rows of one matrix X a layer:

    z = k M_0                    error and d_z by backpropagation at M_0, for every token of the chunk's window
    z_q = (c * q) X + ((q k^T) * w) d_z            h_q = act(z_q)
    r   = (c * h_q) X' + ((h_q h^T) * w) error
    X  <- mix X + (p * k)^T d_z                    X' <- mix X' + (p * h)^T error

The backward pass is written out: autograd would form and add up a dense gradient of X for each of its uses.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.ops.decay_products import decay_products
from mnemoscope.ops.memory_network import Shape, activate, slopes, through_slopes, through_slopes_backward


class Coefficients(NamedTuple):
    """What the gates of a chunk of c tokens, seeing x tokens, come to.

    Args:
        recall: share of every order of state at the chunk's start in what each token reads.
        weight: share of every seen token's write in what each token reads; negative, since writing goes downhill.
        impress: share of every seen token's write in every order of state at the chunk's end; negative.
        mix: share of every order of state at the chunk's start in each at its end.
    """

    recall: Float[Tensor, "*n c o"]
    weight: Float[Tensor, "*n c x"]
    impress: Float[Tensor, "*n x o"]
    mix: Float[Tensor, "*n o o"]


def coefficients(
    step_size: Float[Tensor, "*n c"],
    log_retention: Float[Tensor, "*n c"],
    log_momentum: Float[Tensor, "*n c"] | None,
    window_weight: Float[Tensor, "*n x"],
) -> Coefficients:
    """The coefficients of chunks; a token sees itself and the x - c tokens before it.

    With A and B the products of retentions and of momenta over every stretch, E = diag(step sizes) and G the band of
    window weights, writes weigh -A B E G, and the momentum at the start weighs A B[:, 0] m_1.
    """
    c, x = step_size.shape[-1], window_weight.shape[-1]
    band = torch.ones(c, x, dtype=torch.bool, device=step_size.device).tril(x - c).triu()
    steps = -step_size.unsqueeze(-1) * window_weight.unsqueeze(-2) * band
    retained, kept = decay_products(log_retention), log_retention.cumsum(-1).exp().unsqueeze(-1)
    if log_momentum is None:
        weight = retained @ steps
        return Coefficients(kept, weight, weight[..., -1:, :].mT, kept[..., -1:, :])
    carried = torch.cat([decay_products(log_momentum), log_momentum.cumsum(-1).exp().unsqueeze(-1)], dim=-1)
    both = torch.cat([retained @ carried, carried[..., -1:, :]], dim=-2)
    weight = both[..., :-1] @ steps
    recall = torch.cat([kept, both[..., :-1, -1:]], dim=-1)
    last = torch.cat([torch.zeros_like(kept[..., -1:, :]), both[..., -1:, -1:]], dim=-1)
    return Coefficients(
        recall, weight[..., :-1, :], weight[..., -2:, :].mT, torch.cat([recall[..., -1:, :], last], dim=-2)
    )


class ChunkInputs(NamedTuple):
    """What a chunk is given besides the state; the first axis is one of sequences times heads.

    Args:
        k: keys of the tokens that are seen.
        target: what the network, less its residual, is to give for them.
        recalled: queries times `recall`, one block of columns per order.
        local: products of queries and keys times `weight`.
        written: keys times `impress`.
        recall, weight, impress, mix: see `Coefficients`.
    """

    k: Float[Tensor, "n x k"]
    target: Float[Tensor, "n x v"]
    recalled: Float[Tensor, "n c ok"]
    local: Float[Tensor, "n c x"]
    written: Float[Tensor, "n x ok"]
    recall: Float[Tensor, "n c o"]
    weight: Float[Tensor, "n c x"]
    impress: Float[Tensor, "n x o"]
    mix: Float[Tensor, "n o o"]


def by_order(x: Float[Tensor, "*n t w"], shares: Float[Tensor, "*n t o"]) -> Float[Tensor, "*n t ow"]:
    """x times its share of every order, side by side."""
    return (shares.unsqueeze(-1) * x.unsqueeze(-2)).flatten(-2)


class Layers(NamedTuple):
    """Both layers of a network or of a state, with sequences and heads on one axis."""

    up: Float[Tensor, "n i u"]
    down: Float[Tensor, "n j v"]

    def first(self, orders: int) -> "Layers":
        """The running network, of all orders of state."""
        return Layers(self.up[:, : self.up.shape[1] // orders], self.down[:, : self.down.shape[1] // orders])


class Formed(NamedTuple):
    """What the forward pass of a chunk forms on its way, for the tokens seen (x) and for the queries (c)."""

    z: Float[Tensor, "n x u"]
    hidden: Float[Tensor, "n x e"]
    error: Float[Tensor, "n x v"]
    d_hidden: Float[Tensor, "n x e"]
    slope: Float[Tensor, "n x u"]
    z_q: Float[Tensor, "n c u"]
    hidden_q: Float[Tensor, "n c e"]
    scores: Float[Tensor, "n c x"]


class Chunk(torch.autograd.Function):
    """One chunk: (shape, *ChunkInputs, start of both layers or None, state of both layers) -> read, both states.

    Without a start, gradients are taken at the running network. The read leaves out the residual.
    """

    @staticmethod
    def forward(ctx: Any, shape: Shape, *tensors: Any) -> tuple[Tensor, Tensor, Tensor]:  # pyright: ignore
        """Backpropagate at the start, read, write."""
        chunk, start, state = ChunkInputs(*tensors[:-4]), Layers(*tensors[-4:-2]), Layers(*tensors[-2:])
        at = state.first(chunk.mix.shape[-1]) if tensors[-4] is None else start
        z = torch.bmm(chunk.k, at.up)
        hidden = activate(z, shape.gated)
        if shape.objective == "delta":
            error = torch.baddbmm(chunk.target, hidden, at.down, beta=-1)
        else:
            error = -chunk.target
        d_hidden = torch.bmm(error, at.down.mT)
        slope = slopes(z, shape.gated)
        d_z = through_slopes(d_hidden, slope, shape.gated)
        z_q = torch.baddbmm(torch.bmm(chunk.local, d_z), chunk.recalled, state.up)
        hidden_q = activate(z_q, shape.gated)
        scores = torch.bmm(hidden_q, hidden.mT)
        read = torch.baddbmm(torch.bmm(scores * chunk.weight, error), by_order(hidden_q, chunk.recall), state.down)
        next_up = _add(_mixed(chunk.mix, state.up), chunk.written.mT, d_z)
        next_down = _add(_mixed(chunk.mix, state.down), by_order(hidden, chunk.impress).mT, error)
        ctx.shape = shape
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *Formed(z, hidden, error, d_hidden, slope, z_q, hidden_q, scores))
        return read, next_up, next_down

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:  # pyright: ignore
        """The read, the states, and the gradients that were written, in this order."""
        tensors, shape = ctx.saved_tensors, ctx.shape
        chunk, state, formed = ChunkInputs(*tensors[:-12]), Layers(*tensors[-10:-8]), Formed(*tensors[-8:])
        inside, orders = tensors[-12] is not None, chunk.mix.shape[-1]
        at = Layers(*tensors[-12:-10]) if inside else state.first(orders)
        z, hidden, error, d_hidden, slope, z_q, hidden_q, scores = formed
        d_z = through_slopes(d_hidden, slope, shape.gated)
        g_read = torch.zeros_like(error[:, : scores.shape[1]]) if grads[0] is None else grads[0]

        g_scores, recalled_q = torch.bmm(g_read, error.mT), by_order(hidden_q, chunk.recall)
        g_weight, g_scores = g_scores * scores, g_scores * chunk.weight
        g_hidden_q, g_recall = _gathered(torch.bmm(g_read, state.down.mT), hidden_q, chunk.recall)
        g_z_q = through_slopes(_add(g_hidden_q, g_scores, hidden), slopes(z_q, shape.gated), shape.gated)
        g_hidden, g_d_z = torch.bmm(g_scores.mT, hidden_q), torch.bmm(chunk.local.mT, g_z_q)
        g_error = torch.bmm((scores * chunk.weight).mT, g_read)

        if grads[1] is None and grads[2] is None:
            # Nobody asks for what the last chunk leaves behind, as a rule.
            g_written = g_impress = g_mix = None
            back = Layers(torch.bmm(chunk.recalled.mT, g_z_q), torch.bmm(recalled_q.mT, g_read))
        else:
            after = Layers(*(torch.zeros_like(x) if g is None else g for g, x in zip(grads[1:], state, strict=True)))
            totals = g_hidden, g_error, g_d_z
            g_impress, g_mix = _backward_of_state(chunk, state, formed, after, totals)
            g_written = torch.bmm(d_z, after.up.mT)
            back_up = _add(_mixed(chunk.mix.mT, after.up), chunk.recalled.mT, g_z_q)
            back = Layers(back_up, _add(_mixed(chunk.mix.mT, after.down), recalled_q.mT, g_read))

        g_d_hidden, g_z = through_slopes_backward(g_d_z, d_hidden, slope, z, shape.gated)
        _add(g_error, g_d_hidden, at.down)
        if shape.objective == "delta":
            _add(g_hidden, g_error, at.down.mT)
        g_z = g_z + through_slopes(g_hidden, slope, shape.gated)
        g_at = Layers(*(torch.zeros_like(x) for x in at)) if inside else back.first(orders)
        # These may be slices, which `_add` cannot write into.
        g_at.up.baddbmm_(chunk.k.mT, g_z)
        g_at.down.baddbmm_(g_d_hidden.mT, error)
        if shape.objective == "delta":
            g_at.down.baddbmm_(hidden.mT, g_error)
        g_k, g_recalled, g_local = torch.bmm(g_z, at.up.mT), torch.bmm(g_z_q, state.up.mT), torch.bmm(g_z_q, d_z.mT)
        of_inputs = (g_k, -g_error, g_recalled, g_local, g_written, g_recall, g_weight, g_impress, g_mix)
        return (None, *of_inputs, *(g_at if inside else (None, None)), *back)


def _backward_of_state(
    chunk: ChunkInputs, state: Layers, formed: Formed, after: Layers, totals: tuple[Tensor, Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Adds to the gradients of `hidden`, `error` and `d_z` (the totals); returns those of impress and mix."""
    g_hidden, g_error, g_d_z = totals
    through, g_impress = _gathered(torch.bmm(formed.error, after.down.mT), formed.hidden, chunk.impress)
    g_hidden.add_(through)
    _add(g_error, by_order(formed.hidden, chunk.impress), after.down)
    _add(g_d_z, chunk.written, after.up)
    g_mix = _overlap(after.up, state.up, chunk.mix) + _overlap(after.down, state.down, chunk.mix)
    return g_impress, g_mix


def _add(total: Float[Tensor, "n i j"], a: Float[Tensor, "n i m"], b: Float[Tensor, "n m j"]) -> Float[Tensor, "n i j"]:
    """total + a b, in place; torch's counter of operations, which `flops` is held to, misses `baddbmm_`."""
    return torch.baddbmm(total, a, b, out=total)


def _mixed(mix: Float[Tensor, "n o o"], state: Float[Tensor, "n ok u"]) -> Float[Tensor, "n ok u"]:
    return torch.bmm(mix, state.reshape(state.shape[0], mix.shape[-1], -1)).view_as(state)


def _overlap(grad: Float[Tensor, "n ok u"], state: Float[Tensor, "n ok u"], mix: Tensor) -> Float[Tensor, "n o o"]:
    shape = mix.shape[:2]
    return torch.bmm(grad.reshape(*shape, -1), state.view(*shape, -1).mT)


def _gathered(
    grad: Float[Tensor, "n t oe"], x: Float[Tensor, "n t e"], shares: Float[Tensor, "n t o"]
) -> tuple[Float[Tensor, "n t e"], Float[Tensor, "n t o"]]:
    """Gradients of both factors of `by_order`."""
    grad = grad.unflatten(-1, (shares.shape[-1], -1))
    return (grad * shares.unsqueeze(-1)).sum(-2), (grad * x.unsqueeze(-2)).sum(-1)

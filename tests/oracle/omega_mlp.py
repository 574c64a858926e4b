"""A network as memory, as float64 loops from the equations with gradients by autograd; nothing of the package is used.

M(x) = [x +] gelu(x U) D, or [x +] (gelu(x U_1) * x U_2) D
S_t = m_t S_{t-1} - e_t grad L_t(M_start)          M_t = a_t M_{t-1} + S_t          r_t = M_t(q_t)
L_t(M) = sum_{t-w < i <= t} g_i |M(k_i) - v_i|^2, or -g_i <M(k_i), v_i>

Per chunk instead: r_t = M(q_t) for its tokens, then S <- m S - sum_t e_t grad L_t(M), M <- a M + S, where the logits of
m and a are means over the chunk.

Source: Behrouz et al. 2025, "ATLAS" (arXiv 2505.23735), equations 9 to 11 and 32.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from tests.oracle.convolution import causal_taps

NORM_EPSILON, WEIGHT_EPSILON = 1e-6, 1e-6


class Options(NamedTuple):
    """What the rule is."""

    chunk_tokens: int
    gated: bool = False
    residual: bool = True
    window: int = 1
    dot: bool = False
    per_chunk: bool = False


class Tokens(NamedTuple):
    """One sequence, one head: q, k (t k), v (t v), the others (t); momentum 0 is none."""

    q: Tensor
    k: Tensor
    v: Tensor
    step_size: Tensor
    retention: Tensor
    momentum: Tensor
    window_weight: Tensor


class ChunkTokens(NamedTuple):
    """The same for a rule per chunk; retention and momentum are logits, None for 1 and for 0."""

    q: Tensor
    k: Tensor
    v: Tensor
    step_size: Tensor
    retention: Tensor | None
    momentum: Tensor | None


def network(up: Tensor, down: Tensor, x: Tensor, options: Options) -> Tensor:
    z = x @ up
    if options.gated:
        half = z.shape[-1] // 2
        hidden = gelu(z[..., :half]) * z[..., half:]
    else:
        hidden = gelu(z)
    return hidden @ down + (x if options.residual else 0)


def gelu(z: Tensor) -> Tensor:
    return z * (1 + torch.erf(z / 2**0.5)) / 2


def rule(
    tokens: Tokens, up: Tensor, down: Tensor, options: Options, gains: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, list[Tensor]]:
    """Reads (t v) and the last network; `up` and `down` must require gradients."""
    running = [up, down]
    start, surprise, reads = running, [torch.zeros_like(up), torch.zeros_like(down)], []
    for t in range(tokens.q.shape[0]):
        if t % options.chunk_tokens == 0:
            if gains is not None:
                running = [normalised(weight, gain) for weight, gain in zip(running, gains, strict=True)]
            start = running
        objective = torch.zeros((), dtype=torch.float64)
        for i in range(max(0, t - options.window + 1), t + 1):
            answer = network(*start, tokens.k[i], options)
            one = -(answer * tokens.v[i]).sum() if options.dot else ((answer - tokens.v[i]) ** 2).sum()
            objective = objective + tokens.window_weight[i] * one
        gradients = torch.autograd.grad(objective, start, create_graph=True)
        for layer in range(2):
            surprise[layer] = tokens.momentum[t] * surprise[layer] - tokens.step_size[t] * gradients[layer]
        running = [tokens.retention[t] * running[layer] + surprise[layer] for layer in range(2)]
        reads.append(network(*running, tokens.q[t], options))
    return torch.stack(reads), running


def rule_per_chunk(
    tokens: ChunkTokens, up: Tensor, down: Tensor, options: Options, gains: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, list[Tensor]]:
    """Reads (t v) and the network that the last chunk found."""
    running, surprise, reads = [up, down], [torch.zeros_like(up), torch.zeros_like(down)], []
    for start in range(0, tokens.q.shape[0], options.chunk_tokens):
        chunk = range(start, min(start + options.chunk_tokens, tokens.q.shape[0]))
        if gains is not None:
            running = [normalised(weight, gain) for weight, gain in zip(running, gains, strict=True)]
        objective = torch.zeros((), dtype=torch.float64)
        for t in chunk:
            reads.append(network(*running, tokens.q[t], options))
            answer = network(*running, tokens.k[t], options)
            one = -(answer * tokens.v[t]).sum() if options.dot else ((answer - tokens.v[t]) ** 2).sum()
            objective = objective + tokens.step_size[t] * one
        if chunk.stop == tokens.q.shape[0]:
            break
        gradients = torch.autograd.grad(objective, running, create_graph=True)
        retention, momentum = (
            gate if gate is None else torch.stack([gate[t] for t in chunk]).mean().sigmoid()
            for gate in (tokens.retention, tokens.momentum)
        )
        for layer in range(2):
            carried = 0 if momentum is None else momentum * surprise[layer]
            surprise[layer] = carried - gradients[layer]
        running = [
            (running[layer] if retention is None else retention * running[layer]) + surprise[layer]
            for layer in range(2)
        ]
    return torch.stack(reads), running


def normalised(weight: Tensor, gain: Tensor) -> Tensor:
    """Every unit's incoming weights (a column) with mean 0 and standard deviation `gain`."""
    columns = []
    for unit in range(weight.shape[1]):
        centred = weight[:, unit] - weight[:, unit].mean()
        columns.append(gain[unit] * centred / ((centred**2).mean() + WEIGHT_EPSILON).sqrt())
    return torch.stack(columns, dim=1)


def memory(
    weights: Mapping[str, Tensor],
    x: Tensor,
    options: Options,
    n_heads: int,
    *,
    normalise: bool,
    features: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """A whole memory for one sequence x (t d), head by head; parts whose weights are absent are left out."""
    projected = causal_taps(x @ weights["qkv.weight"].T, weights["convolution.weight"])
    q_all, k_all, v_all = (projected * projected.sigmoid()).chunk(3, dim=1)
    width, gated_reads = q_all.shape[1] // n_heads, []
    for h in range(n_heads):
        channels = slice(h * width, (h + 1) * width)
        q, k, v = q_all[:, channels], k_all[:, channels], v_all[:, channels]
        if normalise:
            q, k = q / q.norm(dim=1, keepdim=True), k / k.norm(dim=1, keepdim=True)
        if features is not None:
            q, k = features(q), features(k)
        one = torch.ones(x.shape[0], dtype=torch.float64)
        gates, logits = [], []
        for name, absent in (("step_size", None), ("retention", one), ("momentum", 0 * one), ("window_weight", one)):
            logit = None
            if f"gates.{name}.weight" in weights:
                logit = x @ weights[f"gates.{name}.weight"][h] + weights[f"gates.{name}.bias"][h]
            logits.append(logit)
            gates.append(absent if logit is None else logit.sigmoid())
        gains = (weights["up_gain"][h], weights["down_gain"][h]) if "up_gain" in weights else None
        first = weights["up"][h], weights["down"][h]
        if options.per_chunk:
            read, _ = rule_per_chunk(ChunkTokens(q, k, v, gates[0], logits[1], logits[2]), *first, options, gains)
        else:
            read, _ = rule(Tokens(q, k, v, *gates), *first, options, gains)
        if "norm.weight" in weights:
            read = read / ((read**2).mean(1, keepdim=True) + NORM_EPSILON).sqrt() * weights["norm.weight"]
        if "output_gate.weight" in weights:
            gate = x @ weights["output_gate.weight"][channels].T
            read = read * gate * gate.sigmoid()
        gated_reads.append(read)
    return torch.cat(gated_reads, dim=1) @ weights["out.weight"].T

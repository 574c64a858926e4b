"""The Omega rule as a loop from the equations of ATLAS, in float64; inner gradients are those of the inner loss.

Symbols as in ATLAS (arXiv 2505.23735), equations 9, 11, 32, 33: retention alpha, momentum theta, step size eta, window
weights gamma, window c. Gradients are taken at the memory with which the present chunk began.
"""

import random
from collections.abc import Callable, Mapping
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from tests.oracle.convolution import causal_taps

EPSILON = 1e-6


class Settings(NamedTuple):
    """What the equations leave open."""

    chunk: int
    window: int
    objective: str = "delta"
    newton_schulz_steps: int = 0
    update_every: int = 1
    granularity: str = "token"


class Tokens(NamedTuple):
    """One sequence, one head: features of queries and keys (t D), values (t v), gates (t); theta None for none."""

    q: Tensor
    k: Tensor
    v: Tensor
    alpha: Tensor
    eta: Tensor
    gamma: Tensor
    theta: Tensor | None


def rule(tokens: Tokens, settings: Settings) -> tuple[Tensor, Tensor]:
    """Reads (t v) and the last memory (D v), from an empty memory."""
    with torch.enable_grad():
        memory = torch.zeros(tokens.k.shape[1], tokens.v.shape[1], dtype=torch.float64, requires_grad=True)
        surprise, reads = torch.zeros_like(memory), []
        for t in range(len(tokens.k)):
            if t % settings.chunk == 0:
                anchor = memory
            loss = inner_loss(anchor, tokens, range(max(0, t - settings.window + 1), t + 1), settings.objective)
            gradient = torch.autograd.grad(loss, anchor, create_graph=True)[0]
            theta = 0 if tokens.theta is None else tokens.theta[t]
            surprise = theta * surprise - tokens.eta[t] * gradient
            memory = tokens.alpha[t] * memory
            if not settings.newton_schulz_steps:
                memory = memory + surprise
            elif (t + 1) % settings.update_every == 0:
                scale = max(1.0, memory.shape[0] / memory.shape[1]) ** 0.5
                update = newton_schulz(surprise, settings.newton_schulz_steps)
                memory = memory + tokens.eta[t] * scale * update
            reads.append(tokens.q[t] @ memory)
        return torch.stack(reads), memory


def rule_per_chunk(tokens: Tokens, settings: Settings) -> tuple[Tensor, Tensor]:
    """The same where a whole chunk is one step: one alpha and one theta, of the mean logit of its tokens."""

    def pooled(gate: Tensor, chunk: slice) -> Tensor:
        return gate[chunk].logit().mean().sigmoid()

    with torch.enable_grad():
        memory = torch.zeros(tokens.k.shape[1], tokens.v.shape[1], dtype=torch.float64, requires_grad=True)
        surprise, reads = torch.zeros_like(memory), []
        for t in range(len(tokens.k)):
            if (t + 1) % settings.chunk == 0:
                first = t + 1 - settings.chunk
                losses = [
                    tokens.eta[i] * inner_loss(memory, tokens, range(i, i + 1), settings.objective)
                    for i in range(first, t + 1)
                ]
                weighted = torch.stack(losses).sum()
                gradient = torch.autograd.grad(weighted, memory, create_graph=True)[0]
                theta = 0 if tokens.theta is None else pooled(tokens.theta, slice(first, t + 1))
                surprise = theta * surprise - gradient
                update = surprise
                if settings.newton_schulz_steps:
                    scale = max(1.0, memory.shape[0] / memory.shape[1]) ** 0.5
                    update = tokens.eta[t] * scale * newton_schulz(surprise, settings.newton_schulz_steps)
                memory = pooled(tokens.alpha, slice(first, t + 1)) * memory + update
            reads.append(tokens.q[t] @ memory)
        return torch.stack(reads), memory


def inner_loss(memory: Tensor, tokens: Tokens, window: range, objective: str) -> Tensor:
    """The objective over the window."""
    total = memory.sum() * 0
    for i in window:
        prediction = tokens.k[i] @ memory
        if objective == "delta":
            total = total + tokens.gamma[i] * ((prediction - tokens.v[i]) ** 2).sum()
        else:
            total = total - tokens.gamma[i] * (prediction * tokens.v[i]).sum()
    return total


def newton_schulz(s: Tensor, steps: int) -> Tensor:
    """Muon's iteration, always on the side of the rows."""
    x = s / (s.square().sum() + 1e-14).sqrt()
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


def identity(x: Tensor) -> Tensor:
    return x


def elementwise(x: Tensor, scales: Tensor) -> Tensor:
    """One constant, then the powers of every channel."""
    powers = [scale * x**i for i, scale in enumerate(scales) if i]
    return torch.cat([scales[0].expand(len(x), 1), *powers], dim=1)


def tensor_powers(x: Tensor, scales: Tensor) -> Tensor:
    """All ordered products: more features than there are monomials, with the same inner products."""
    rows = [scales[0].expand(len(x), 1)]
    for degree in range(1, len(scales)):
        products = [x[:, list(channels)].prod(1) for channels in product(range(x.shape[1]), repeat=degree)]
        rows.append(scales[degree] * torch.stack(products, dim=1))
    return torch.cat(rows, dim=1)


def sketch(x: Tensor, scales: Tensor, n_features: int, seed: int) -> Tensor:
    """Feature r is the sum over degrees i of the product of the first i of its random projections."""
    width, degree = x.shape[1], len(scales) - 1
    # Drawn in whole words of 32 bits.
    bits = random.Random(seed).getrandbits(-(-width * degree * n_features // 32) * 32)
    features = []
    for r in range(n_features):
        projections = []
        for j in range(degree):
            places = [c * degree * n_features + j * n_features + r for c in range(width)]
            signs = torch.tensor([1.0 if bits >> place & 1 else -1.0 for place in places], dtype=torch.float64)
            projections.append(x @ signs)
        total = scales[0].expand(len(x))
        for i in range(1, degree + 1):
            total = total + scales[i] * torch.stack(projections[:i]).prod(0)
        features.append(total / n_features**0.5)
    return torch.stack(features, dim=1)


def memory(
    weights: Mapping[str, Tensor],
    x: Tensor,
    n_heads: int,
    *,
    settings: Settings,
    features: Callable[[Tensor, Mapping[str, Tensor]], Tensor],
    normalise: bool,
) -> Tensor:
    """A whole memory for one sequence x (t d), head by head; parts whose weights are absent are left out."""
    projected = causal_taps(x @ weights["qkv.weight"].T, weights["convolution.weight"])
    activated = projected * projected.sigmoid()
    q_all, k_all, v_all = activated.chunk(3, dim=1)
    width, gated_reads = q_all.shape[1] // n_heads, []

    def gate(name: str, head: int) -> Tensor | None:
        if f"gates.{name}.weight" not in weights:
            return None
        return (x @ weights[f"gates.{name}.weight"][head] + weights[f"gates.{name}.bias"][head]).sigmoid()

    for h in range(n_heads):
        channels = slice(h * width, (h + 1) * width)
        q, k, v = q_all[:, channels], k_all[:, channels], v_all[:, channels]
        if normalise:
            q, k = q / q.norm(dim=1, keepdim=True), k / k.norm(dim=1, keepdim=True)
        ones = torch.ones(len(x), dtype=torch.float64)
        alpha, gamma, eta = gate("retention", h), gate("window_weight", h), gate("step_size", h)
        assert eta is not None
        tokens = Tokens(
            features(q, weights),
            features(k, weights),
            v,
            ones if alpha is None else alpha,
            eta,
            ones if gamma is None else gamma,
            gate("momentum", h),
        )
        read, _ = (rule_per_chunk if settings.granularity == "chunk" else rule)(tokens, settings)
        if "norm.weight" in weights:
            mean_square = (read**2).mean(1, keepdim=True) + EPSILON
            read = read / mean_square.sqrt() * weights["norm.weight"]
        if "output_gate.weight" in weights:
            output_gate = x @ weights["output_gate.weight"][channels].T
            read = read * output_gate * output_gate.sigmoid()
        gated_reads.append(read)
    return torch.cat(gated_reads, dim=1) @ weights["out.weight"].T

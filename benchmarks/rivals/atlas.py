"""The Omega rule per chunk, written the way the guide's public code is: a loop over chunks, everything made within it.

Each turn projects its chunk to keys and values, lays the powers side by side (3 d features, of which d are the same
constant, where ours are 2 d + 1), and forms prediction, error, gradient, momentum and memory one after the other, all
of which the backward pass keeps. Unlike that code it lets gradients through what is written and reads causally, and so
computes what ours does: SiLU, L2 norms, and gates from the means of a chunk. The code's context gates and the cap on
the memory's norm, which ours has not, are left out of both.

Source: r3d91ll/Todd_Atlas, `src/model/omega_memory.py`, from the atlas specification (1.2), not its code.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from mnemoscope.memories import Omega


def looped(memory: Omega, x: Tensor) -> Tensor:
    """What a memory of one head with learned elementwise features contributes, from an empty one, shape (b, t, d)."""
    w_q, w_k, w_v = memory.qkv.weight.chunk(3)
    q = _powers(memory, F.normalize(F.silu(F.linear(x, w_q)), dim=-1))
    surprise = matrix = x.new_zeros(x.shape[0], q.shape[-1], w_v.shape[0])
    chunk, reads = memory.config.chunk_tokens, []
    for start in range(0, x.shape[1], chunk):
        tokens = x[:, start : start + chunk]
        k = _powers(memory, F.normalize(F.silu(F.linear(tokens, w_k)), dim=-1))
        v = F.silu(F.linear(tokens, w_v))
        retention, momentum = (_once(head, tokens) for head in (memory.gates.retention, memory.gates.momentum))
        error = torch.bmm(k, matrix) - v
        gradient = 2.0 * torch.bmm(k.transpose(1, 2), memory.gates.step_size(tokens).sigmoid() * error)
        found = torch.bmm(q[:, start : start + chunk - 1], matrix)
        surprise = momentum * surprise - gradient
        matrix = retention * matrix + surprise
        reads += [found, torch.bmm(q[:, start + chunk - 1 : start + chunk], matrix)]
    return memory.out(torch.cat(reads, dim=1))


def _once(head: torch.nn.Module | None, tokens: Tensor) -> Tensor:
    assert head is not None
    return head(tokens).mean(dim=1, keepdim=True).sigmoid()


def _powers(memory: Omega, x: Tensor) -> Tensor:
    scales, powers, power = memory.features.scales, [], torch.ones_like(x)
    assert scales is not None
    for degree, scale in enumerate(scales):
        # The constant stands in every channel; together they weigh as much as our one.
        powers.append(scale * power * (1 if degree else x.shape[-1] ** -0.5))
        power = power * x
    return torch.cat(powers, dim=-1)

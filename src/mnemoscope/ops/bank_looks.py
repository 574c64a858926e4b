"""Slots of a bank that look at one another and at the tokens so far, before anybody reads them.

    L_ti = softmax over [M; u_1..u_t] of (beta M_i . [M; u]), applied to [M; u]          slot i as token t finds it

The softmax over a growing set is a running mean: with l_ti = log of the sum of all exponentials so far,

    L_ti = exp(l_(t-1)i - l_ti) L_(t-1)i + exp(beta M_i . u_t - l_ti) u_t

so that a slot carries one number and one vector from token to token, whatever the length.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

CHUNK_TOKENS = 32
"""The result does not depend on it."""


class Looked(NamedTuple):
    """What slots have seen: the logarithm of the weight of it all, and its mean."""

    log_weight: Float[Tensor, "b m"]
    mean: Float[Tensor, "b m d"]


def look_at_slots(slots: Float[Tensor, "m d"], inverse_temperature: float, batch: int) -> Looked:
    """Before the first token: every slot has looked at all slots, itself included."""
    scores = inverse_temperature * (slots @ slots.T)
    mean = scores.softmax(-1) @ slots
    log_weight = scores.logsumexp(-1)
    return Looked(log_weight.expand(batch, -1).contiguous(), mean.expand(batch, -1, -1).contiguous())


def look_at_tokens(
    slots: Float[Tensor, "m d"], tokens: Float[Tensor, "b t d"], inverse_temperature: float, before: Looked
) -> tuple[Float[Tensor, "b t m d"], Looked]:
    """The slots as every token finds them, itself seen, and what they have seen in the end.

    Cost: t m d numbers a sequence, and products over chunks of tokens; equals `look_at_tokens_recurrent`.
    """
    found = list[Tensor]()
    for chunk in tokens.split(CHUNK_TOKENS, dim=1):
        scores = inverse_temperature * torch.einsum("md,btd->bmt", slots, chunk)
        log_weight = torch.logaddexp(scores.logcumsumexp(-1), before.log_weight.unsqueeze(-1))
        later = torch.ones(chunk.shape[1], chunk.shape[1], dtype=torch.bool, device=chunk.device).triu(1)
        # Row t, column s: the share of token s in what is seen at t; masked before the exponential, which may overflow.
        shares = (scores.unsqueeze(2) - log_weight.unsqueeze(3)).masked_fill(later, -torch.inf).exp()
        kept = (before.log_weight.unsqueeze(-1) - log_weight).exp()
        mean = torch.einsum("bmts,bsd->btmd", shares, chunk) + torch.einsum("bmt,bmd->btmd", kept, before.mean)
        found.append(mean)
        before = Looked(log_weight[..., -1].clone(), mean[:, -1].clone())
    return torch.cat(found, dim=1), before


def look_at_tokens_recurrent(
    slots: Float[Tensor, "m d"], tokens: Float[Tensor, "b t d"], inverse_temperature: float, before: Looked
) -> tuple[Float[Tensor, "b t m d"], Looked]:
    """One token at a time: the slow twin."""
    found = list[Tensor]()
    for token in tokens.unbind(1):
        scores = inverse_temperature * (token @ slots.T)
        log_weight = torch.logaddexp(before.log_weight, scores)
        kept, new = (before.log_weight - log_weight).exp(), (scores - log_weight).exp()
        mean = kept.unsqueeze(-1) * before.mean + new.unsqueeze(-1) * token.unsqueeze(1)
        before = Looked(log_weight, mean)
        found.append(mean)
    return torch.stack(found, dim=1), before

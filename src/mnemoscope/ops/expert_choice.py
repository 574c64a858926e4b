"""Slots that choose their tokens, without looking into the future.

    within a chunk   of a chunk of C tokens that is over, slot i takes the c tokens with the largest s_ti
    ahead            slot i takes token t if s_ti >= threshold_i and it has taken fewer than c of the chunk; threshold_i
                     is the c-th largest s_i of the chunk before, and of the first chunk what the caller says

Taken as it stands, expert choice ranks the tokens of a whole sequence: whether a token is taken depends on the tokens
behind it, and so does whatever is read from the slot meanwhile. The first form is causal only where nothing is read
before the chunk is over; a chunk that is not over takes nothing. The second never looks ahead.

Source: Zhou et al. 2022 (arXiv 2202.09368), section 3, whose choice is that of a whole batch.
Differs: the chunks; of equal scores, the earlier token is taken.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F


def chosen_within(scores: Float[Tensor, "b t m"], chunk_tokens: int, capacity: int) -> Bool[Tensor, "b t m"]:
    """Which tokens every slot takes, of chunks that are over; equals `chosen_within_plain`. No gradient.

    Args:
        scores: of every token for every slot.
        chunk_tokens: C, at least 1.
        capacity: c, from 1 to C: tokens of a chunk that a slot takes.

    Cost: sorts of C scores.
    """
    n_over = scores.shape[1] // chunk_tokens * chunk_tokens
    chunks = scores.detach()[:, :n_over].unflatten(1, (-1, chunk_tokens))
    order = chunks.sort(dim=2, descending=True, stable=True).indices[:, :, :capacity]
    taken = torch.zeros_like(chunks, dtype=torch.bool).scatter(2, order, True).flatten(1, 2)
    return F.pad(taken, (0, 0, 0, scores.shape[1] - n_over))


def chosen_within_plain(scores: Float[Tensor, "b t m"], chunk_tokens: int, capacity: int) -> Bool[Tensor, "b t m"]:
    """The slow twin of `chosen_within`."""
    taken = torch.zeros_like(scores, dtype=torch.bool)
    b, n_tokens, m = scores.shape
    for row in range(b):
        for start in range(0, n_tokens - chunk_tokens + 1, chunk_tokens):
            for slot in range(m):
                tokens = range(start, start + chunk_tokens)
                for t in sorted(tokens, key=lambda t: -float(scores[row, t, slot]))[:capacity]:
                    taken[row, t, slot] = True
    return taken


def chosen_ahead(
    scores: Float[Tensor, "b t m"], chunk_tokens: int, capacity: int, threshold: float
) -> Bool[Tensor, "b t m"]:
    """Which tokens every slot takes by what it took of the chunk before; equals `chosen_ahead_plain`. No gradient.

    Args:
        scores: of every token for every slot.
        chunk_tokens: C, at least 1.
        capacity: c, from 1 to C: tokens of a chunk that a slot takes at most.
        threshold: what is asked in the first chunk.

    Cost: the c largest of C scores.
    """
    n_tokens, seen = scores.shape[1], scores.detach()
    chunks = F.pad(seen, (0, 0, 0, -n_tokens % chunk_tokens), value=-torch.inf).unflatten(1, (-1, chunk_tokens))
    asked = chunks[:, :-1].topk(capacity, dim=2).values[:, :, -1]
    asked = torch.cat([torch.full_like(seen[:, :1], threshold), asked], dim=1)
    taken = chunks >= asked.unsqueeze(2)
    taken = taken & (taken.cumsum(2) <= capacity)
    return taken.flatten(1, 2)[:, :n_tokens]


def chosen_ahead_plain(
    scores: Float[Tensor, "b t m"], chunk_tokens: int, capacity: int, threshold: float
) -> Bool[Tensor, "b t m"]:
    """The slow twin of `chosen_ahead`."""
    taken = torch.zeros_like(scores, dtype=torch.bool)
    b, n_tokens, m = scores.shape
    for row in range(b):
        for slot in range(m):
            asked, chunk = threshold, list[float]()
            n_taken = 0
            for t in range(n_tokens):
                if len(chunk) == chunk_tokens:
                    asked, chunk, n_taken = sorted(chunk)[-capacity], [], 0
                score = float(scores[row, t, slot])
                chunk.append(score)
                if score >= asked and n_taken < capacity:
                    taken[row, t, slot], n_taken = True, n_taken + 1
    return taken


def chunk_capacity(chunk_tokens: int, n_slots: int, slots_per_token: float) -> int:
    """c: the tokens of a chunk that a slot takes where a token is to have `slots_per_token` slots on average."""
    return max(1, min(chunk_tokens, -int(-chunk_tokens * slots_per_token // n_slots)))

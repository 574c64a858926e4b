"""The Omega rule, fast: stretches of a sequence in matrix products, equal to the recurrence."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mnemoscope.ops.omega import Rule, Store, Writes
from mnemoscope.ops.omega_blocks import Flat, chunks, pieces
from mnemoscope.ops.omega_orthogonal import orthogonalised_chunks, orthogonalised_products
from mnemoscope.ops.precision import exact_read


@exact_read
def omega_chunked(
    q: Float[Tensor, "b t h k"], writes: Writes, store: Store | None, rule: Rule, position: int = 0
) -> tuple[Float[Tensor, "b t h v"], Store]:
    """Read after each write, in matrix products over blocks of chunks; equals `omega_recurrent`.

    Half-precision inputs are computed in float32.

    Args:
        q: features of the queries.
        writes: see `Writes`.
        store: where to go on from; None for an empty memory, at position 0.
        rule: see `Rule`.
        position: of the first token in its chunk.

    Returns:
        Reads in the dtype of `q`, and the store after the last token, in float32 at least.

    Cost: O(t (D V + r (D + V))) multiply-adds a head for blocks of r errors; a few products in sequence per block.
    """
    dtype, (b, n_tokens) = q.dtype, q.shape[:2]
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    q = rearrange(q.to(compute), "b t h k -> (b h) t k")
    flat = Flat.of(writes, compute)
    held = None if store is None else Store(*(rearrange(part.to(compute), "b h k v -> (b h) k v") for part in store))
    run = orthogonalised_chunks if rule.orthogonalise else chunks
    reads = []
    for start, stop, cut in pieces(n_tokens, q.shape[-1], rule, position):
        read, memory, surprise = run(q[:, start:stop], flat.at(start, stop), held, rule, cut)
        position = (position + stop - start) % rule.chunk_tokens
        begun = torch.zeros_like(memory) if held is None else held.anchor
        held = Store(memory if position == 0 else begun, memory, surprise)
        reads.append(read)
    assert held is not None, "at least one token"
    # Copies: parts of a joined tensor would keep the whole of it alive.
    parts = (rearrange(part, "(b h) k v -> b h k v", b=b).to(dtype, copy=True) for part in held)
    return rearrange(torch.cat(reads, dim=1), "(b h) t v -> b t h v", b=b).to(dtype), Store(*parts)


def omega_products(n_tokens: int, k: int, v: int, rule: Rule, momentum: bool) -> int:
    """Multiply-adds of the matrix products of `omega_chunked` from an empty memory, for one head."""
    total = 0
    for start, stop, (chunk, at_once, _) in pieces(n_tokens, k, rule, 0):
        n_blocks = (stop - start) // (chunk * at_once)
        if rule.orthogonalise:
            total += n_blocks * orthogonalised_products(chunk, k, v, rule)
            continue
        c, rows, states = chunk * at_once, at_once * (chunk + rule.window - 1), (1 + momentum) * k
        banded = (c + momentum) * c * (chunk + rule.window - 1) if rule.window > 1 else 0
        delta, several = rule.objective == "delta", rule.objective == "delta" and at_once > 1
        total += n_blocks * (momentum * c * c * (c + 1) + banded + c * rows * k + several * rows * rows * (k + v))
        # Nothing is read from an empty memory.
        n_reads = n_blocks - (start == 0)
        met = delta * rows * (states if several else k)
        total += n_blocks * (c + states) * rows * v + n_reads * (c * states + met) * v
    return total

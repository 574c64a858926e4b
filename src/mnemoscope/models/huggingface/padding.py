"""Padding: which tokens of a batch are none, by an attention mask of ones and zeros."""

from jaxtyping import Int, Shaped
from torch import Tensor


def require_read(mask: Shaped[Tensor, "..."], n_new: int) -> None:
    """Refuse a mask whose last `n_new` columns hide a token from a stream that goes on.

    Raises:
        ValueError: for such a mask, or one with more axes than (b, t).
    """
    _require_two_axes(mask)
    if not bool((mask[:, -n_new:] != 0).all()):
        raise ValueError(
            "attention_mask must be 1 for every token behind a cache, got 0 for some: what follows a cache is read; "
            "pad on the left of the first tokens instead (tokenizer.padding_side = 'left')"
        )


def left_padding(mask: Shaped[Tensor, "..."], n_tokens: int, keep: bool) -> Int[Tensor, "b"]:
    """Tokens of padding before the first real one, for every row.

    Padding behind the last real token is let through, since nothing before it depends on it.

    Args:
        mask: (b, t), 1 for tokens and 0 for padding.
        n_tokens: of the batch, t.
        keep: whether the rows are to be gone on from, which padding behind them forbids.

    Raises:
        ValueError: a mask of another shape, with zeros between ones, without ones, or with padding behind where the
            state is kept.
    """
    _require_two_axes(mask)
    if mask.shape[1] != n_tokens:
        raise ValueError(
            f"attention_mask must have a column for each of {n_tokens} tokens, got {mask.shape[1]}; cut both alike"
        )
    real = mask != 0
    first = real.int().argmax(1)
    behind = real.flip(1).int().argmax(1)
    if not bool(real.any(1).all()) or not bool((real.sum(1) == n_tokens - first - behind).all()):
        raise ValueError(
            "attention_mask must have one run of ones in every row, got a row without ones or with zeros between them; "
            "a stack reads a row token by token and cannot leave any out"
        )
    if keep and bool((behind > 0).any()):
        raise ValueError(
            "attention_mask must not end with 0 where a cache is kept, got padding on the right: the states would "
            "hold it; pad on the left (tokenizer.padding_side = 'left'), or pass use_cache=False"
        )
    return first


def _require_two_axes(mask: Shaped[Tensor, "..."]) -> None:
    if mask.ndim != 2:
        raise ValueError(
            f"attention_mask must be (b, t), 1 for tokens and 0 for padding, got {mask.ndim} axes; what a token may "
            "attend to is the stack's own to say"
        )

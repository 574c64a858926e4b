"""Attention that sees only the last tokens, by its mask: one run of the module, exact where keys are their tokens."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mnemoscope.examination.subject.adapters.huggingface import is_attention, keys_are_their_tokens
from mnemoscope.examination.subject.calls import HISTORY, Call, mapped_arguments, named_arguments

IMPLEMENTATIONS = ("eager", "sdpa")


def can_mask(module: nn.Module | None) -> bool:
    """Whether a module is attention whose history a mask can cut."""
    return module is not None and is_attention(module) and keys_are_their_tokens(module)


def masked(call: Call, window: int) -> Float[Tensor, "b t *d"]:
    """What an attention module puts out if every token sees the last `window` tokens, itself included.

    Equals the module run on the window of each token, with position embeddings cut alongside: keys and values are
    those of their tokens wherever these stand, and only their positions relative to the query count.

    Raises:
        ValueError: where the mask is not one that can be edited; the message says what was got.
    """
    assert call.module is not None
    module, arguments = call.module, dict(named_arguments(call))
    kept = next((name for name in HISTORY if arguments.get(name) is not None), None)
    if kept is not None:
        raise ValueError(
            f"a window needs attention without cached keys, got {kept}; call the model with use_cache=False"
        )
    n_tokens = call.value.shape[1]
    mask = arguments.get("attention_mask")
    edited = _within(mask, n_tokens, window, module, call.value)
    args, kwargs = mapped_arguments(call, lambda name, value: edited if name == "attention_mask" else value)
    if "attention_mask" not in arguments:
        kwargs["attention_mask"] = edited
    output = module.forward(*args, **kwargs)
    return output if isinstance(output, Tensor) else output[0]


def _within(mask: Any, n_tokens: int, window: int, module: nn.Module, like: Tensor) -> Tensor:
    implementation = getattr(getattr(module, "config", None), "_attn_implementation", "eager")
    if implementation not in IMPLEMENTATIONS:
        raise ValueError(
            f"a window needs attention by {' or '.join(IMPLEMENTATIONS)}, got {implementation}; load the model with "
            "attn_implementation='sdpa'"
        )
    ages = torch.arange(n_tokens, device=like.device)
    ages = ages[:, None] - ages[None, :]
    near: Bool[Tensor, "1 1 t t"] = ((ages >= 0) & (ages < window))[None, None]
    if mask is None:
        return near if implementation == "sdpa" else _additive(near, torch.zeros((), dtype=like.dtype))
    if not isinstance(mask, Tensor) or mask.ndim != 4 or tuple(mask.shape[-2:]) != (n_tokens, n_tokens):
        got = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(
            f"a window needs an attention mask (b, h, {n_tokens}, {n_tokens}), got {got}; load the model with "
            "attn_implementation='sdpa'"
        )
    return mask & near if mask.dtype == torch.bool else _additive(near, mask)


def _additive(near: Tensor, mask: Tensor) -> Tensor:
    return torch.where(near, mask.to(near.device), torch.finfo(mask.dtype).min)

"""Attention that sees fewer tokens in training: how a remedy narrows the window of a module, from outside.

    Attention of this library      its call is given a narrower window; or, where only some sequences of the batch are
                                   narrowed, it is computed both ways and each sequence takes its own
    any other `Windowed` memory    computed both ways
    Hugging Face attention         its attention mask is narrowed before the call

All are exact: the outputs are those of the module on the last tokens, at their positions. What is computed both ways
costs a second forward pass of the module, and fires the read points within it twice.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mnemoscope.contracts import Windowed
from mnemoscope.contracts.outputs import first_tensor, with_first_tensor
from mnemoscope.memories import Attention

IMPLEMENTATIONS = ("eager", "sdpa")
"""Attention of Hugging Face models whose masks can be edited."""


@dataclass(frozen=True, kw_only=True)
class Narrowing:
    """What one call of a module is to see.

    Args:
        window: tokens, the present one included; 0 for nothing: the output is zero.
        rows: the sequences that it is meant for, (b,); None for all.
    """

    window: int
    rows: Bool[Tensor, "b"] | None = None


Choose = Callable[[int, torch.device], Narrowing | None]
"""What a call of so many sequences on a device is to see; None for what it always sees."""


def narrow(path: str, module: nn.Module, choose: Choose) -> list[RemovableHandle]:
    """Narrow the window of a module in every training call. A window wider than the module's own changes nothing.

    Raises:
        ValueError: a module that is neither `Windowed` nor causal attention with an attention mask.
    """
    windowed = isinstance(module, Windowed)
    if not windowed and not _takes_mask(module):
        raise ValueError(
            f"remedy: {path} must be attention, or a memory that can answer with a window (`Windowed`), got "
            f"{type(module).__name__}; name the attention module itself, for instance 'model.layers.*.self_attn'"
        )

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        chosen = _chosen(module, args, kwargs, choose)
        if chosen is None or chosen.window == 0:
            return None
        if not windowed:
            return _with_mask(path, module, args, kwargs, chosen)
        return (args, {**kwargs, "window": chosen.window}) if _at_once(module, chosen) else None

    def after(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        chosen = _chosen(module, args, kwargs, choose)
        if chosen is None or (chosen.window > 0 and (not windowed or _at_once(module, chosen))):
            return None
        wide = first_tensor(output)
        near = torch.zeros_like(wide) if chosen.window == 0 else _near(path, module, args, kwargs, chosen.window)
        rows = chosen.rows
        return with_first_tensor(output, near if rows is None else torch.where(rows[:, None, None], near, wide))

    return [
        module.register_forward_pre_hook(before, with_kwargs=True),
        module.register_forward_hook(after, with_kwargs=True),
    ]


def _chosen(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], choose: Choose) -> Narrowing | None:
    if not module.training:
        return None
    x: Tensor = args[0] if args else kwargs[next(iter(inspect.signature(module.forward).parameters))]
    return choose(x.shape[0], x.device)


def _at_once(module: nn.Module, chosen: Narrowing) -> bool:
    return isinstance(module, Attention) and chosen.rows is None


def _near(path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], window: int) -> Tensor:
    """The outputs (b, t, d) of a `Windowed` module with a narrower window."""
    if isinstance(module, Attention):
        return module.forward(*args, **{**kwargs, "window": window})[0]
    given = dict(zip(inspect.signature(module.forward).parameters, args, strict=False)) | kwargs
    x, *carried = given.values()
    if any(part is not None for part in carried):
        raise ValueError(
            f"remedy: {path} ({type(module).__name__}) must start from an empty state to answer with a window, got a "
            "state that is carried; leave this site out, or reset the state at every sequence"
        )
    assert isinstance(module, Windowed)
    return module.windowed(x, window)


def _takes_mask(module: nn.Module) -> bool:
    """Whether a module is causal attention as Hugging Face models have it."""
    causal = getattr(module, "is_causal", False) is True
    return causal and "attention_mask" in inspect.signature(module.forward).parameters


def _with_mask(path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], chosen: Narrowing) -> Any:
    """The arguments of a call with the window cut into its attention mask."""
    names = list(inspect.signature(module.forward).parameters)
    given = dict(zip(names, args, strict=False)) | kwargs
    mask = _narrowed(path, module, given[names[0]], given.get("attention_mask"), chosen)
    at = names.index("attention_mask")
    if at < len(args):
        return (*args[:at], mask, *args[at + 1 :]), kwargs
    return args, {**kwargs, "attention_mask": mask}


def _narrowed(
    path: str, module: nn.Module, x: Float[Tensor, "b t d"], mask: Tensor | None, chosen: Narrowing
) -> Tensor:
    implementation = getattr(getattr(module, "config", None), "_attn_implementation", "eager")
    if implementation not in IMPLEMENTATIONS:
        raise ValueError(
            f"remedy: {path} must be attention by {' or '.join(IMPLEMENTATIONS)}, got {implementation}; load the model "
            "with attn_implementation='sdpa'"
        )
    n_tokens = x.shape[1]
    position = torch.arange(n_tokens, device=x.device)
    age = position[:, None] - position
    near: Bool[Tensor, "b 1 t t"] = (age < chosen.window)[None, None]
    if chosen.rows is not None:
        near = near | ~chosen.rows[:, None, None, None]
    seen = (age >= 0) & near
    if mask is None:
        if implementation == "sdpa":
            return seen
        mask = torch.zeros((), dtype=x.dtype, device=x.device).expand(1, 1, n_tokens, n_tokens)
    if mask.ndim != 4 or tuple(mask.shape[-2:]) != (n_tokens, n_tokens):
        raise ValueError(
            f"remedy: {path} must get an attention mask (b, h, {n_tokens}, {n_tokens}), got {tuple(mask.shape)}; call "
            "the model without cached keys (use_cache=False)"
        )
    return mask & seen if mask.dtype == torch.bool else mask.masked_fill(~seen, torch.finfo(mask.dtype).min)

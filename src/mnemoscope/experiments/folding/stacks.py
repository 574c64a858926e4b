"""What is left of a memory in one of our stacks, and the stack in which it stands; attention with a shorter window.

A gate behind the read stays, with the vector where it was; a memory whose output is a constant once its read is one
becomes that vector. A memory whose output also depends on its input in another way (a skip within it, say) cannot be
folded at its read; its output can.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.experiments.folding.anywhere import constant_of
from mnemoscope.experiments.folding.fitting import Fit
from mnemoscope.memories import (
    GLA,
    MLSTM,
    Attention,
    AttentionConfig,
    Bank,
    EnergyBank,
    GatedDelta,
    Omega,
    OmegaMlp,
    Retention,
)
from mnemoscope.memories.parts import NORM_EPSILON
from mnemoscope.models import FoldedConfig, ParallelConfig, SerialConfig, Stack, build

TOLERANCE = 1e-4
"""Within this part of its largest value an output counts as constant: rounding, at the length of a sequence."""


class Left(NamedTuple):
    """What is left of a memory: how it is built, and its weights by name."""

    config: FoldedConfig
    weights: dict[str, Tensor]


@torch.no_grad()
def folded_stack(stack: Stack, fit: Fit) -> Stack:
    """A stack of its own in which the memory is replaced by what is left of it.

    Raises:
        ValueError: a memory that is the context of attention, or whose output depends on more than its read and gate.
    """
    left = left_of(stack.get_submodule(fit.owner), fit)
    kept = {name: value for name, value in stack.state_dict().items() if not name.startswith(f"{fit.owner}.")}
    weights = kept | {f"{fit.owner}.{name}": value for name, value in left.weights.items()}
    return _with_mixer(stack, fit.owner, left.config, weights)


def shortened_stack(stack: Stack, owner: str, window: int) -> Stack:
    """A stack of its own, with the same weights, whose attention looks at the last `window` tokens alone.

    Attention keeps the tokens that it looks at, so a shorter window is a setting of it, and its state is bounded. What
    a recurrent memory has summed up cannot be told apart again, so its history cannot be cut by a setting.

    Args:
        stack: stays as it is.
        owner: path of the attention's module.
        window: tokens, the present one included; fewer than it looks at now.

    Raises:
        ValueError: another module than attention, or a window that is not shorter.
    """
    attention = stack.get_submodule(owner)
    if not isinstance(attention, Attention):
        raise ValueError(
            f"window: only attention keeps its tokens and can be given a shorter window; {owner} is "
            f"{type(attention).__name__}, whose state sums up all it has seen; fold or delete it, or train with "
            "another memory"
        )
    config = attention.config
    if window < 1 or window >= (config.window or window + 1):
        most = "all tokens" if config.window is None else f"{config.window} tokens"
        raise ValueError(
            f"window: the window of {owner} must be at least 1 token and shorter than now ({most}), got {window}"
        )
    smallest = None if config.smallest_window is None else min(config.smallest_window, window)
    config = dataclasses.replace(config, window=window, smallest_window=smallest)
    return _with_mixer(stack, owner, config, stack.state_dict())


def _with_mixer(stack: Stack, owner: str, config: FoldedConfig | AttentionConfig, weights: dict[str, Any]) -> Stack:
    """A stack with another part at a path, and these weights."""
    block, *path = owner.removeprefix("blocks.").split(".")
    mixers = list(stack.config.mixers)
    mixers[int(block)] = _replaced(mixers[int(block)], [part for part in path[1:] if part != "inner"], config, owner)
    changed = build(dataclasses.replace(stack.config, mixers=tuple(mixers)), seed=0)
    changed.to(stack.head.weight.device, stack.head.weight.dtype)
    changed.load_state_dict(weights)
    return changed.train(stack.training)


def left_of(memory: nn.Module, fit: Fit) -> Left:
    """What is left of a memory.

    Raises:
        ValueError: its output depends on more than its read and a gate that is known.
    """
    by_position = fit.way == "positions"
    positions = len(fit.constant) if by_position else None
    if fit.way == "zero":
        return Left(FoldedConfig(form="nothing"), {})
    if fit.way == "output":
        return Left(FoldedConfig(), {"vector.weight": fit.constant.reshape(1, -1)})
    rows = (fit.constant if by_position else fit.constant[None]).to(fit.output)
    gated = _gated(memory, rows, positions)
    if gated is not None:
        return gated
    vector = constant_of(fit.output, by_position=by_position, tolerance=TOLERANCE)
    if vector is None:
        raise ValueError(
            f"fold: with its read fixed, {type(memory).__name__} at {fit.owner} still depends on its input, and not by "
            "a gate that is known here; fold its output (--delete)"
        )
    return Left(FoldedConfig(positions=positions), {"vector.weight": vector.reshape(len(rows), -1)})


def _gated(memory: nn.Module, rows: Float[Tensor, "p ..."], positions: int | None) -> Left | None:
    """What is left where the gate is known; None where there is none, or none that is known."""
    match memory:
        case Bank() | EnergyBank() if memory.config.gated:
            of_input, of_read = memory.fusion.weight.split(memory.d_model, dim=1)
            weights = {
                "vector.weight": memory.out(rows),
                "gate_input.weight": of_input,
                "gate_bias.weight": memory.fusion.bias + rows @ of_read.T,
            }
            return Left(FoldedConfig(form="sigmoid_after", positions=positions), weights)
        case GatedDelta() | Omega() | OmegaMlp() if memory.config.output_gate:
            return _before("silu_before", memory.norm(rows), memory.output_gate, memory.out, positions)
        case GLA():
            return _before("silu_before", memory.norm(rows), memory.output_gate, memory.out, positions)
        case Retention():
            normed = F.layer_norm(rows, rows.shape[-1:], eps=NORM_EPSILON)
            return _before("silu_before", normed, memory.output_gate, memory.out, positions)
        case MLSTM() if memory.config.output_gate:
            normed = F.layer_norm(rows, rows.shape[-1:], eps=NORM_EPSILON)
            normed = memory.norm_scale * normed if memory.config.normalise_read else rows
            return _before("sigmoid_before", normed, memory.output_gate, memory.out, positions)
        case _:
            return None


def _before(form: Any, rows: Float[Tensor, "p ..."], gate: nn.Linear, out: nn.Linear, positions: int | None) -> Left:
    """A gate between the read and the output projection."""
    vector = rows.flatten(1)
    width = vector.shape[1]
    bias = vector.new_zeros(width) if gate.bias is None else gate.bias
    weights = {
        "vector.weight": vector,
        "gate_input.weight": gate.weight,
        "gate_bias.weight": bias[None],
        "out.weight": out.weight,
    }
    config = FoldedConfig(form=form, width=None if width == out.out_features else width, positions=positions)
    return Left(config, weights)


def _replaced(mixer: Any, path: Sequence[str], config: FoldedConfig | AttentionConfig, owner: str) -> Any:
    """A mixer's configuration with another one of its parts."""
    if not path:
        return config
    if not isinstance(mixer, ParallelConfig | SerialConfig):
        raise ValueError(
            f"fold: {owner} is read as the context of attention, which a constant cannot be; take the block's memory "
            "out of the layout and train again"
        )
    part = path[0]
    inner = _replaced(getattr(mixer, part), path[1:], config, owner)
    return dataclasses.replace(mixer, **{part: inner})

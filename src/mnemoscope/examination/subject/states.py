"""The states that models hold between calls, layer by layer, whatever holds them.

Hugging Face caches hold them in `cache.layers[i].recurrent_states` and `.conv_states` (Mamba, Mamba-2, gated delta
nets, short convolutions), in `cache.linear_cache[i]` (MiniMax), in `cache.rnn_state[i]` (xLSTM), in five tensors
(b, d, layers) (RWKV-4) and in attributes of the modules (RecurrentGemma). Our own stacks hold one state per block, and
any other module one state that is a layer by itself. Keys and values of attention are never part of a layer's state
here, except in our own stacks, whose attention layers are listed like the rest.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

Part = Literal["recurrent", "conv"]


class LayerState(NamedTuple):
    """What one layer remembers: its memory proper, and the last inputs of its short convolution or token shift."""

    recurrent: tuple[Tensor, ...]
    conv: tuple[Tensor, ...]


class AttributeStates(NamedTuple):
    """States that modules keep in attributes, by layer."""

    owners: dict[int, nn.Module]
    cache: Any


def states_in(held: Any) -> dict[int, LayerState]:
    """The live state of every layer that has one; writing into these tensors changes what the model remembers."""
    match held:
        case AttributeStates():
            layers = {layer: _of_attributes(owner) for layer, owner in held.owners.items()}
        case _ if _is_rwkv(held):
            layers = {layer: _of_rwkv(held, layer) for layer in range(held[0].shape[-1])}
        case _ if isinstance(getattr(held, "rnn_state", None), Mapping):
            layers = {layer: LayerState(tuple(state), ()) for layer, state in held.rnn_state.items()}
        case _ if isinstance(getattr(held, "linear_cache", None), Sequence):
            layers = {i: LayerState(_tensors(state), ()) for i, state in enumerate(held.linear_cache)}
        case _ if isinstance(getattr(held, "layers", None), Sequence):
            layers = {i: _of_cache_layer(layer) for i, layer in enumerate(held.layers)}
        case _ if isinstance(getattr(held, "blocks", None), Sequence):
            layers = {i: LayerState(_tensors(state), ()) for i, state in enumerate(held.blocks)}
        case _:
            layers = {0: LayerState(_tensors(held), ())}
    return {layer: state for layer, state in layers.items() if state.recurrent or state.conv}


def copied(states: Mapping[int, LayerState]) -> dict[int, LayerState]:
    """Copies that no later call changes."""
    return {
        layer: LayerState(*(tuple(tensor.detach().clone() for tensor in part) for part in state))
        for layer, state in states.items()
    }


@torch.no_grad()
def put_states(held: Any, states: Mapping[int, LayerState], parts: Sequence[Part] | None = None) -> None:
    """Overwrite the states of some layers in place.

    Args:
        held: what the model remembers.
        states: new states by layer.
        parts: which parts of them; None for the recurrent one, or the convolution's in a layer that has no other.

    Raises:
        ValueError: for a layer that has none, a part that it lacks, or another shape.
    """
    live = states_in(held)
    for layer, state in states.items():
        if layer not in live:
            raise ValueError(f"put_states: layer {layer} holds no state; layers that do: {sorted(live)}")
        for part in parts or (("recurrent",) if live[layer].recurrent else ("conv",)):
            targets, sources = getattr(live[layer], part), getattr(state, part)
            shapes = [tuple(tensor.shape) for tensor in targets], [tuple(tensor.shape) for tensor in sources]
            if not targets or shapes[0] != shapes[1]:
                raise ValueError(
                    f"put_states: the {part} state of layer {layer} must have shapes {shapes[0]}, got {shapes[1]}; "
                    "take it from the same model on a batch of the same size"
                )
            for target, source in zip(targets, sources, strict=True):
                target.copy_(source)


def layer_of(path: str) -> int:
    """The layer that a module belongs to, by the first number in its path."""
    return next((int(part) for part in path.split(".") if part.isdigit()), 0)


def _of_cache_layer(layer: Any) -> LayerState:
    recurrent, conv = getattr(layer, "recurrent_states", {}), getattr(layer, "conv_states", {})
    return LayerState(_tensors(list(recurrent.values())), _tensors(list(conv.values())))


def _of_attributes(owner: nn.Module) -> LayerState:
    memory: Any = getattr(owner, "rg_lru", None)
    return LayerState(_tensors(memory.recurrent_states), _tensors(getattr(owner, "conv1d_state", None)))


def _is_rwkv(held: Any) -> bool:
    if not isinstance(held, list) or len(held) != 5 or not all(isinstance(part, Tensor) for part in held):
        return False
    return all(part.ndim == 3 and part.shape == held[0].shape for part in held)


def _of_rwkv(held: list[Tensor], layer: int) -> LayerState:
    """Numerator, denominator and running maximum; and the last inputs of feed-forward part and attention."""
    return LayerState(tuple(part[:, :, layer] for part in held[2:]), tuple(part[:, :, layer] for part in held[:2]))


def _tensors(value: Any) -> tuple[Tensor, ...]:
    if isinstance(value, Tensor):
        return (value,)
    if isinstance(value, (list, tuple)):
        return tuple(tensor for item in value for tensor in _tensors(item))
    return ()

"""Hugging Face models without the habits that disturb an examination; everything is put back afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

HELD_IN_ATTRIBUTES = {"RecurrentGemmaRglru": "recurrent_states", "RecurrentGemmaRecurrentBlock": "conv1d_state"}
"""Classes that keep their state in an attribute from one forward to the next."""


@contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """No caches are made: they would be written in place under gradients, and history would hide in them.

    RecurrentGemma's states, which are attributes, are put back. RWKV-4 divides weights by powers of two when it first
    runs in evaluation mode; that is undone, exactly, if it was not so before.
    """
    configs = {id(config): config for module in model.modules() for config in _configs(module)}
    used_cache = [(config, config.use_cache) for config in configs.values()]
    held = [
        (module, name, getattr(module, name))
        for module in model.modules()
        if (name := HELD_IN_ATTRIBUTES.get(type(module).__name__)) is not None
    ]
    rescaled = [(module, bool(module.layers_are_rescaled)) for module in model.modules() if _rescales(module)]
    for config, _ in used_cache:
        config.use_cache = False
    try:
        yield
    finally:
        for config, used in used_cache:
            config.use_cache = used
        for module, name, state in held:
            setattr(module, name, state)
        for module, before in rescaled:
            _rescale(module, before)


def _configs(module: nn.Module) -> list[Any]:
    """Configs that say whether a cache is used: the module's own, and that of its language model."""
    config: Any = getattr(module, "config", None)
    found = [config, getattr(config, "text_config", None)]
    return [each for each in found if isinstance(getattr(each, "use_cache", None), bool)]


def _rescales(module: nn.Module) -> bool:
    return type(module).__name__ == "RwkvModel" and isinstance(getattr(module, "layers_are_rescaled", None), bool)


@torch.no_grad()
def _rescale(module: Any, rescaled: bool) -> None:
    """The model scales for evaluation when it is not training; it looks at the flag alone."""
    if module.layers_are_rescaled != rescaled:
        training = module.training
        module.training = not rescaled
        module._rescale_layers()
        module.training = training

"""Memories and routes of Hugging Face models, by the names of their classes; transformers itself is never imported."""

import re
from dataclasses import dataclass
from typing import Any

from torch import nn

from mnemoscope.examination.subject.adapters.table import (
    ATTENTION,
    KEYS_OF_SEVERAL_TOKENS,
    MIXERS,
    MIXES_TOKENS,
    WINDOWED_THROUGHOUT,
    Mixer,
)


@dataclass(frozen=True)
class Found:
    """A module of a model that a row of the table describes: `read` is the path of the submodule it names."""

    path: str
    mixer: Mixer
    read: str
    gate: str | None
    reach: int | None


@dataclass(frozen=True)
class Adapted:
    """What the table finds in a model; `strangers` are classes that seem to mix tokens and are in no row."""

    found: tuple[Found, ...]
    strangers: tuple[str, ...]


def adapted(model: nn.Module) -> Adapted:
    """Walk a model for modules of the table, in the order of the model."""
    found: list[Found] = []
    strangers: dict[str, None] = {}
    modules = dict(model.named_modules())
    for path, module in modules.items():
        if any(path.startswith(f"{outer.path}.") for outer in found):
            continue
        mixer = mixer_of(module)
        read = None if mixer is None else _read_path(path, module, mixer)
        if mixer is not None and read is not None:
            gate = None if mixer.gate is None else f"{path}.{mixer.gate}"
            found.append(Found(path, mixer, read, gate if gate in modules else None, reach_of(module)))
        elif _is_foreign(module) and re.search(MIXES_TOKENS, type(module).__name__):
            strangers[type(module).__name__] = None
    return Adapted(tuple(found), tuple(strangers))


def mixer_of(module: nn.Module) -> Mixer | None:
    """The row of the table for a module; None for a module of no row."""
    names = {cls.__name__ for cls in type(module).__mro__}
    for mixer in MIXERS:
        if names.intersection(mixer.classes):
            return mixer
    return ATTENTION if is_attention(module) else None


def is_attention(module: nn.Module) -> bool:
    """Whether a module is causal softmax attention of a Hugging Face model."""
    named = any(re.search("Attention(2D)?$", cls.__name__) for cls in _foreign_classes(module))
    return named and getattr(module, "is_causal", False) is True and _first_child(module, ATTENTION) is not None


def keys_are_their_tokens(module: nn.Module) -> bool:
    """Whether each key and value of an attention module comes from one token, so that masking is cutting."""
    inside = list(module.modules())[1:]
    return not any(re.search(KEYS_OF_SEVERAL_TOKENS, type(part).__name__) for part in inside)


def reach_of(module: nn.Module) -> int | None:
    """How many tokens an adapted module looks back to, the present one included; None for all."""
    mixer = mixer_of(module)
    if mixer is None:
        return None
    if mixer.role == "memory":
        return None if mixer.reach is None else int(getattr(module, mixer.reach))
    reach: Any = getattr(module, "sliding_window", None)
    if any(cls.__name__ in WINDOWED_THROUGHOUT for cls in type(module).__mro__):
        reach = getattr(getattr(module, "config", None), "sliding_window", None)
    return reach if isinstance(reach, int) and reach > 0 else None


def _read_path(path: str, module: nn.Module, mixer: Mixer) -> str | None:
    name = _first_child(module, mixer)
    return None if name is None else f"{path}.{name}" if path else name


def _first_child(module: nn.Module, mixer: Mixer) -> str | None:
    children = dict(module.named_children())
    return next((name for name in mixer.read if not isinstance(children.get(name), (nn.Identity, type(None)))), None)


def _foreign_classes(module: nn.Module) -> list[type]:
    """The classes of a module that come from Hugging Face: its own or one it inherits from."""
    return [cls for cls in type(module).__mro__ if cls.__module__.split(".")[0].startswith("transformers")]


def _is_foreign(module: nn.Module) -> bool:
    return bool(_foreign_classes(module))

"""Layouts as text: the way back from mixers to the line that `parse_layout` reads."""

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any

from mnemoscope.models.layout import COMPOSITIONS
from mnemoscope.models.mixers import MixerConfig, ParallelConfig, SerialConfig


def write_layout(mixers: Iterable[MixerConfig]) -> str:
    """The shortest layout of some mixers, first block first; `parse_layout` gives them back.

    Options that have their defaults are left out, and equal blocks in a row are written once, with a count.
    """
    counted = [(mixer, len(list(same))) for mixer, same in itertools.groupby(mixers)]
    return ", ".join(_block(mixer, times) for mixer, times in counted)


def _block(mixer: MixerConfig, times: int) -> str:
    text = _mixer(mixer)
    if times == 1:
        return text
    return f"({text}) * {times}" if " | " in text or " >> " in text else f"{text} * {times}"


def _mixer(mixer: MixerConfig) -> str:
    if mixer.kind not in COMPOSITIONS:
        return _call(mixer.kind, [], _options(mixer, skip=("kind",)))
    _, names = COMPOSITIONS[mixer.kind]
    parts: list[MixerConfig] = [getattr(mixer, name) for name in names]
    options = _options(mixer, skip=("kind", *names))
    if isinstance(mixer, ParallelConfig | SerialConfig) and not options and not any(map(_is_composed, parts)):
        return f" {'|' if isinstance(mixer, ParallelConfig) else '>>'} ".join(map(_mixer, parts))
    return _call(mixer.kind, [_mixer(part) for part in parts], options)


def _is_composed(mixer: MixerConfig) -> bool:
    return mixer.kind in COMPOSITIONS


def _options(config: Any, skip: tuple[str, ...]) -> list[str]:
    values = [(field, getattr(config, field.name)) for field in dataclasses.fields(config) if field.name not in skip]
    return [f"{field.name}={value!r}" for field, value in values if value != field.default]


def _call(name: str, parts: list[str], options: list[str]) -> str:
    given = ", ".join([*parts, *options])
    return f"{name}({given})" if given else name

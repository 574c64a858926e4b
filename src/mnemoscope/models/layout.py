"""Layouts: a stack's mixers in one line of text.

    attention(window=16), gated_delta                 two blocks, one memory each
    gated_delta | attention(window=16)                one block, memory beside attention under a gate
    gated_delta >> attention(window=16)               one block, attention over what the memory gives
    parallel(gated_delta, attention, gate_bias=2)     the same as |, with options
    (attention, gated_delta(n_heads=2) * 3) * 2       eight blocks, one attention to three memories
    context(gated_delta, segment_tokens=16)           one block, a memory as the context of attention
    delta_net                                         a named special case: gated_delta(retains=False)

The grammar is Python's, so precedence and quoting hold no surprises; nothing is evaluated.
"""

import ast
from collections.abc import Sequence
from typing import NoReturn

from mnemoscope.contracts.written import nearest, with_options
from mnemoscope.memories import MEMORIES
from mnemoscope.memories.atlas_compat import AtlasCompatConfig
from mnemoscope.memories.presets import PRESETS
from mnemoscope.models.context import ContextConfig
from mnemoscope.models.expert_workspace import ExpertWorkspaceConfig
from mnemoscope.models.folded import FoldedConfig
from mnemoscope.models.mixers import MixerConfig, ParallelConfig, SerialConfig

COMPOSITIONS = {
    "context": (ContextConfig, ("memory",)),
    "parallel": (ParallelConfig, ("memory", "beside")),
    "serial": (SerialConfig, ("first", "second")),
}
"""What puts mixers together, and the names of its parts in the order in which a layout gives them."""


def parse_layout(layout: str) -> tuple[MixerConfig, ...]:
    """The mixers of a layout, first block first.

    Raises:
        ValueError: where the text is not a layout, names an unknown memory, or gives it an unknown option, an option
            twice or an unsuitable value.
    """
    try:
        tree = ast.parse(layout.strip(), mode="eval").body
    except SyntaxError as error:
        raise ValueError(
            f"layout {layout!r} cannot be read at column {error.offset or 1}; write for instance "
            "'attention(window=16), gated_delta'"
        ) from error
    return _mixers(tree)


def _mixers(node: ast.expr) -> tuple[MixerConfig, ...]:
    match node:
        case ast.Tuple(elts=items):
            return tuple(mixer for item in items for mixer in _mixers(item))
        case ast.BinOp(left=left, op=ast.Mult(), right=ast.Constant(value=int(times))) if times >= 1:
            return _mixers(left) * times
        case _:
            return (_mixer(node),)


def _mixer(node: ast.expr) -> MixerConfig:
    match node:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return ParallelConfig(memory=_mixer(left), beside=_mixer(right))
        case ast.BinOp(left=left, op=ast.RShift(), right=right):
            return SerialConfig(first=_mixer(left), second=_mixer(right))
        case ast.Name(id=name):
            return _configure(name, [])
        case ast.Call(func=ast.Name(id=name), args=parts, keywords=keywords) if name in COMPOSITIONS:
            return _composed(name, parts, keywords)
        case ast.Call(func=ast.Name(id=name), args=[], keywords=keywords):
            return _configure(name, keywords)
        case _:
            _refuse(node)


def _composed(name: str, parts: Sequence[ast.expr], keywords: Sequence[ast.keyword]) -> MixerConfig:
    config_class, names = COMPOSITIONS[name]
    if len(parts) != len(names):
        raise ValueError(f"layout: {name} must be given {' and '.join(names)} in this order, got {len(parts)} of them")
    start = config_class(**dict(zip(names, map(_mixer, parts), strict=True)))
    return with_options("layout", name, start, keywords, skip=("kind", *names))


def _configure(name: str, keywords: Sequence[ast.keyword]) -> MixerConfig:
    for beside in (AtlasCompatConfig, ExpertWorkspaceConfig, FoldedConfig):
        if name == beside.kind:
            return with_options("layout", name, beside(), keywords)
    if name not in MEMORIES and name not in PRESETS:
        raise ValueError(f"layout names an unknown memory {name!r}{nearest(name, [*MEMORIES, *PRESETS])}")
    return with_options("layout", name, PRESETS[name] if name in PRESETS else MEMORIES[name][0](), keywords)


def _refuse(node: ast.expr) -> NoReturn:
    raise ValueError(
        f"layout: {ast.unparse(node)!r} is neither a memory, nor memory(option=value), nor a | b, nor a >> b, "
        "nor (a, b) * n"
    )

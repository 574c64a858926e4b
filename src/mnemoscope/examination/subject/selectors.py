"""Path patterns as people write them elsewhere: hook names of TransformerLens and paths of nnsight.

    model.layers.*.mixer                 a module's output, by its path
    model.transformer.h[0].attn.output   the same as nnsight has it; `.input` means what goes into the module
    blocks.0.attn.hook_z                 the attention of the first block, as TransformerLens has it

A selector that is a path or pattern of the model's own modules is taken as it stands.
"""

import difflib
import re
from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

from mnemoscope.contracts.outputs import PART
from mnemoscope.contracts.paths import matches


class Selector(NamedTuple):
    """A path pattern, whether the output or the input of its modules is meant, and which part of an output."""

    pattern: str
    end: Literal["output", "input"] = "output"
    part: str = ""


ATTENTIONS = ("attn", "self_attn", "attention", "self_attention", "mixer", "temporal_block", "seq_mixer")
FEED_FORWARDS = ("mlp", "feed_forward", "ffn", "ff", "block_sparse_moe", "channel_mixer")

HOOKS: dict[str, tuple[tuple[str, ...], Literal["output", "input"]]] = {
    "attn.hook_z": (ATTENTIONS, "output"),
    "attn.hook_result": (ATTENTIONS, "output"),
    "hook_attn_out": (ATTENTIONS, "output"),
    "hook_mlp_out": (FEED_FORWARDS, "output"),
    "hook_resid_pre": ((), "input"),
    "hook_resid_post": ((), "output"),
}
"""Hook names within a block: the submodule that is meant, by its usual names (none: the block), and which end of it.

`hook_z` is what the heads read, before the output projection: where a site is known for the attention, that is its
read.
"""


def selected(selector: str, paths: Collection[str]) -> Selector:
    """What a selector means in a model.

    Args:
        selector: a path pattern, a hook name of TransformerLens, or a path of nnsight; `path::part` for one of
            several outputs.
        paths: of the model's modules.

    Raises:
        ValueError: a hook name that has no module here; the message says what there is.
    """
    pattern, _, part = selector.partition(PART)
    if _is_there(pattern, paths):
        return Selector(pattern, part=part)
    if re.search(r"(^|\.)hook_\w+$", pattern):
        return _of_hook(pattern, paths)._replace(part=part)
    return _of_nnsight(pattern, part, paths)


def blocks(paths: Collection[str]) -> str:
    """The path of the list of blocks: of the lists with the most entries the outermost one; "" where there is none."""
    lists: dict[str, int] = {}
    for path in paths:
        outer, _, last = path.rpartition(".")
        if outer and last.isdigit():
            lists[outer] = lists.get(outer, 0) + 1
    if not lists:
        return ""
    shallowest = min(path.count(".") for path in lists)
    return max((path for path in lists if path.count(".") == shallowest), key=lambda path: lists[path])


def _is_there(pattern: str, paths: Collection[str]) -> bool:
    return any(matches(path, pattern) for path in paths)


def _of_nnsight(selector: str, part: str, paths: Collection[str]) -> Selector:
    """`[0]` is `.0`; `.output` or `.input` behind the path is an end, and an index behind that is one of several."""
    dotted = re.sub(r"\[(\d+|\*)\]", r".\1", selector)
    found = re.fullmatch(r"(?P<path>.+?)\.(?P<end>output|input)(?:\.(?P<part>\d+))?", dotted)
    end: Literal["output", "input"] = "output"
    if found and not _is_there(dotted, paths):
        dotted, end = found["path"], "input" if found["end"] == "input" else "output"
        # The first of several outputs is the one that is meant anyway, and a single output has no parts.
        part = part or (found["part"] or "0").removeprefix("0")
    inner = dotted.removeprefix("model.")
    if not _is_there(dotted, paths) and _is_there(inner, paths):
        dotted = inner
    return Selector(dotted, end, part)


def _of_hook(selector: str, paths: Collection[str]) -> Selector:
    found = re.fullmatch(r"blocks\.(?P<index>\d+|\*)\.(?P<hook>.+)", selector)
    if found is None or found["hook"] not in HOOKS:
        known = [f"blocks.N.{hook}" for hook in HOOKS]
        raise ValueError(
            f"examine: of the hook names of TransformerLens {', '.join(known)} are understood, got {selector!r}; "
            "write the path of a module instead"
        )
    names, end = HOOKS[found["hook"]]
    block = f"{blocks(paths)}.{found['index']}".lstrip(".")
    if not names and _is_there(block, paths):
        return Selector(block, end)
    for name in names:
        if _is_there(f"{block}.{name}", paths):
            return Selector(f"{block}.{name}", end)
    raise ValueError(
        f"examine: {selector!r} needs a module {' or '.join(names[:4]) or 'list'} in {block!r}, and there is none; "
        f"nearest: {_nearest(block, list(paths))}"
    )


def _nearest(path: str, paths: Sequence[str]) -> str:
    """Modules of that block, else the path most alike."""
    within = [other for other in paths if matches(other.rpartition(".")[0], path)]
    return ", ".join(within[:6] or difflib.get_close_matches(path, paths, n=1, cutoff=0.0)) or "none"

"""Parts of a site as sites of their own: heads, and ranges of channels.

    blocks.1.memory[heads]            every head on its own
    blocks.1.memory[head 2]           one of them, counted from 0
    blocks.1.memory[heads of 4]       where the module does not say how many there are
    blocks.1.memory[channels 0:16]    channels of the read, as Python counts them

A head is an index of the read's own axis of heads, (b, t, h, v) or (b, h, t, v); of a read (b, t, d) it is one of
n equal neighbouring groups of channels, as every library lays heads out. How many there are a module says by an
attribute (`n_heads`, `num_heads`, `num_v_heads`, ...), our memories by their config, attention of Hugging Face by its
own.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from mnemoscope.contracts import listening
from mnemoscope.contracts.outputs import first_tensor
from mnemoscope.contracts.paths import matches
from mnemoscope.examination.subject.adapters.huggingface import is_attention
from mnemoscope.examination.subject.adapters.table import ATTENTION
from mnemoscope.examination.subject.inputs import Rows, input_tensor
from mnemoscope.examination.subject.points import Channels, Point, Site

ATTRIBUTES = (
    "n_heads",
    "num_heads",
    "num_v_heads",
    "num_value_heads",
    "n_value_heads",
    "num_attention_heads",
    "n_head",
    "nhead",
)
"""Under which modules hold how many heads what they read has, the first that is there."""

HEADS = "heads"
"""The portion that means every head."""

_PORTION = r"\[(?P<words>heads|head (?P<head>\d+)|channels (?P<start>\d+):(?P<stop>\d+))(?: of (?P<n>\d+))?\]$"

Shape = tuple[int, ...]


class Portion(NamedTuple):
    """What a selector names of a site: every head, a head, or channels; and how many heads there are, if it says so."""

    words: str
    head: int | None = None
    channels: tuple[int, int] | None = None
    n_heads: int | None = None


def without_portion(selector: str) -> tuple[str, Portion | None]:
    """A selector without `[heads]`, `[head 2]` or `[channels 0:16]` behind it, and what that says.

    Raises:
        ValueError: words in brackets that are neither a portion nor an index.
    """
    found = re.search(_PORTION, selector)
    if found is None:
        strange = re.search(r"\[[^\[\]]*(head|channel)[^\[\]]*\]$", selector)
        if strange:
            raise ValueError(
                f"examine: a part of a site is written [heads], [head 2], [heads of 4] or [channels 0:16], got "
                f"{strange[0]} in {selector!r}"
            )
        return selector, None
    numbers = {name: int(value) for name, value in found.groupdict().items() if name != "words" and value is not None}
    channels = (numbers["start"], numbers["stop"]) if "start" in numbers else None
    return selector[: found.start()], Portion(found["words"], numbers.get("head"), channels, numbers.get("n"))


def fits(name: str, pattern: str) -> bool:
    """Whether the name of a site fits a pattern; one without a portion fits every part of the site as well."""
    (path, own), (wanted_path, wanted) = without_portion(name), without_portion(pattern)
    if not matches(path, wanted_path):
        return False
    if wanted is None or own is None:
        return wanted is None
    return own.words == wanted.words or (wanted.words == HEADS and own.head is not None)


def divided(
    model: nn.Module,
    run_once: Callable[[], object],
    sites: Sequence[Site],
    wanted: Mapping[str, Sequence[Portion]],
    all_heads: bool,
) -> tuple[tuple[Site, ...], tuple[str, ...]]:
    """Sites with parts in the place of those that are to be divided, and remarks about those that could not be.

    Args:
        model: any module.
        run_once: runs it on one batch; the shapes of reads are seen there.
        sites: whole ones.
        wanted: portions by the name of a site.
        all_heads: divide every other site into its heads as well, where it is known to have several.

    Raises:
        ValueError: a portion that a site does not have, or parts that overlap; the message says what there is.
    """
    chosen = [site for site in sites if all_heads or site.name in wanted]
    if not chosen:
        return tuple(sites), ()
    shapes = _shapes(model, [point for site in chosen for point in _points(site)], run_once)
    found: list[Site] = []
    remarks: list[str] = []
    for site in sites:
        try:
            portions = wanted.get(site.name, [Portion(HEADS)] if all_heads else [])
            parts = [part for portion in portions for part in _Division(model, site, shapes).parts(portion)]
        except ValueError as error:
            if site.name in wanted:
                raise
            parts, remarks = [], [*remarks, f"{str(error).removeprefix('examine: ')}; examined as a whole"]
        found += _apart(site, parts) if parts else [site]
    if all_heads and not any(site.of for site in found):
        raise ValueError(f"examine: no memory is known to have several heads: {'; '.join(remarks)}")
    return tuple(found), tuple(remarks)


def _points(site: Site) -> list[Point]:
    seen = [point for name, point in site.evidence.items() if name in ("gate", "addressing")]
    return [site.loci["read"], *seen, *([] if site.whole is None else [site.whole])]


def _apart(site: Site, parts: Sequence[Site]) -> list[Site]:
    """Each part once."""
    named = list({part.name: part for part in parts}.values())
    for i, one in enumerate(named):
        for other in named[:i]:
            assert one.channels is not None
            assert other.channels is not None
            if one.channels.overlaps(other.channels):
                raise ValueError(
                    f"examine: parts of a site must not overlap, got {other.name} and {one.name}; leave one out"
                )
    return named


@dataclass(frozen=True)
class _Axis:
    """Where heads lie: how many there are, on which axis, and whether that axis is theirs alone."""

    n: int
    axis: int
    own: bool
    width: int

    def head(self, index: int) -> Channels:
        """One of them."""
        return Channels(self.axis, index) if self.own else self._group(index)

    def _group(self, index: int) -> Channels:
        width = self.width // self.n
        return Channels(self.axis, index * width, (index + 1) * width)


class _Division:
    """A site and what is known of the shapes at its points."""

    def __init__(self, model: nn.Module, site: Site, shapes: Mapping[Point, Shape]) -> None:
        self.site, self.shapes = site, shapes
        self.modules = dict(model.named_modules())
        if site.loci["read"] not in shapes:
            raise ValueError(f"examine: {site.name} did not run, so its heads cannot be told apart; leave it out")
        self.shape = shapes[site.loci["read"]]

    def parts(self, portion: Portion) -> list[Site]:
        """The sites that a portion names."""
        if portion.channels is not None:
            return [self._channels(*portion.channels)]
        heads = self._heads(portion.n_heads)
        if portion.head is not None and portion.head >= heads.n:
            raise ValueError(
                f"examine: {self.site.name} has heads 0 to {heads.n - 1}, got head {portion.head}; nearest: "
                f"{self.site.name}[head {heads.n - 1}]"
            )
        chosen = range(heads.n) if portion.head is None else [portion.head]
        if heads.n == 1:
            raise ValueError(f"examine: {self.site.name} has a single head; write its name alone")
        return [self._head(index, heads) for index in chosen]

    def _channels(self, start: int, stop: int) -> Site:
        name, width = self.site.name, self.shape[-1]
        if len(self.shape) == 4:
            raise ValueError(
                f"examine: the read of {name} has shape {self.shape}, with heads on an axis of their own; name a head, "
                f"{name}[head 0]"
            )
        if not 0 <= start < stop <= width:
            first = min(start, width - 1)
            raise ValueError(
                f"examine: the read of {name} has channels 0:{width}, got {start}:{stop}; nearest: "
                f"{name}[channels {first}:{min(max(stop, first + 1), width)}]"
            )
        channels = Channels(len(self.shape) - 1, start, stop)
        return self._part(f"channels {start}:{stop}", f"channels {start}:{stop} of {width}", channels, {})

    def _head(self, index: int, heads: _Axis) -> Site:
        channels = heads.head(index)
        where = "" if channels.stop is None else f", channels {channels.start}:{channels.stop}"
        evidence = {
            name: replace(point, channels=of_head)
            for name, point in self.site.evidence.items()
            if (of_head := self._evidence(name, point, index, heads.n)) is not None
        }
        return self._part(f"head {index}", f"head {index} of {heads.n}{where}", channels, evidence, heads.n)

    def _evidence(self, name: str, point: Point, index: int, n: int) -> Channels | None:
        """The same head of a gate (b, t, h) or (b, t, h, 1), or of weights (b, t, h, m) or (b, h, t, m)."""
        shape = self.shapes.get(point, ())
        if name == "gate" and len(shape) == 3 and shape[2] == n:
            return Channels(2, index, index + 1)
        axes = [axis for axis in (2, 1) if len(shape) == 4 and shape[axis] == n]
        return Channels(axes[0], index) if axes else None

    def _part(self, words: str, portion: str, channels: Channels, evidence: dict[str, Point], n_parts: int = 0) -> Site:
        site = self.site
        shared = [name for name in ("gate", "addressing") if name in site.evidence and name not in evidence]
        left_out = dict.fromkeys(shared, "shared by the parts")
        if "contribution" in site.loci:
            left_out["contribution"] = "behind what mixes the parts"
        if site.owner is not None:
            left_out["state"] = "not taken apart; see the site as a whole"
        return replace(
            site,
            name=f"{site.name}[{words}]",
            loci={"read": replace(site.loci["read"], channels=channels)},
            evidence=evidence,
            of=site.name,
            portion=portion,
            n_parts=n_parts,
            left_out=left_out,
        )

    def _heads(self, given: int | None) -> _Axis:
        self._require_before_projection()
        known = self._number() if given is None else given
        if len(self.shape) == 4:
            return self._on_own_axis(given, known)
        width, name = self.shape[-1], self.site.name
        nearest = [n for n in range(2, width + 1) if width % n == 0]
        if known is None:
            raise ValueError(
                f"examine: {name} does not say how many heads it has; its read has {width} channels: write "
                f"{name}[heads of N], N one of {', '.join(map(str, nearest[:8])) or 'none'}"
            )
        if known < 1 or width % known:
            best = min(nearest or [1], key=lambda n: abs(n - known))
            raise ValueError(
                f"examine: the {width} channels of the read of {name} must be divisible by its heads, got {known}; "
                f"nearest: {name}[heads of {best}]"
            )
        return _Axis(known, len(self.shape) - 1, own=False, width=width)

    def _on_own_axis(self, given: int | None, known: int | None) -> _Axis:
        """(b, t, h, v) or (b, h, t, v); where the number of tokens tells, the shape counts and not what a module says.

        Where both fit, the heads come after the tokens.
        """
        tokens, name = self._n_tokens(), self.site.name
        by_tokens = [axis for axis in (2, 1) if tokens is not None and self.shape[3 - axis] == tokens]
        by_number = [axis for axis in (2, 1) if self.shape[axis] == known]
        both = [axis for axis in by_tokens if axis in by_number]
        axes = both or by_tokens or by_number
        n = self.shape[axes[0]] if axes else None
        if n is None or (given is not None and given != n):
            there = " or ".join(map(str, dict.fromkeys([self.shape[2], self.shape[1]] if n is None else [n])))
            raise ValueError(
                f"examine: the read of {name} has shape {self.shape}, where there can be {there} heads, got "
                f"{'no number' if known is None else known}; write {name}[heads of {n or self.shape[2]}]"
            )
        return _Axis(n, axes[0], own=True, width=n)

    def _n_tokens(self) -> int | None:
        """As the owner's output has them, where that is another tensor."""
        site, whole = self.site, self.site.whole
        if site.loci["read"].within is not None:
            return self.shape[1]
        output = self.shapes.get(whole, ()) if whole is not None and whole != site.loci["read"] else ()
        return output[1] if len(output) == 3 else None

    def _number(self) -> int | None:
        """How many heads the owner says that there are, or else the module where the read is seen, or around it."""
        path = self.site.loci["read"].path
        around = [self.site.owner, path, path.rpartition(".")[0]]
        for module in [self.modules[name] for name in around if name is not None and name in self.modules]:
            config: Any = getattr(module, "config", None)
            found = [getattr(module, name, None) for name in ATTRIBUTES] + [getattr(config, "n_heads", None)]
            if is_attention(module):
                found.append(getattr(config, "num_attention_heads", None))
            known = [n for n in found if type(n) is int and n >= 1]
            if known:
                return known[0]
        return None

    def _require_before_projection(self) -> None:
        """The output of attention as a whole has no heads any more."""
        site = self.site
        if site.owner is None or site.loci["read"] != site.whole or len(self.shape) != 3:
            return
        module = self.modules[site.owner]
        if isinstance(module, nn.MultiheadAttention):
            raise ValueError(
                f"examine: {site.name} mixes its heads in one function of torch, so they cannot be seen apart; use "
                "attention whose output projection is a module that is called, or write [channels 0:16]"
            )
        behind = next((name for name in ATTENTION.read if name in dict(module.named_children())), None)
        if behind is not None:
            n = self._number()
            raise ValueError(
                f"examine: the output of {site.name} is behind {behind}, which mixes its heads; nearest: "
                f"{site.name}.{behind}.input[heads{'' if n is None else f' of {n}'}]"
            )


def _shapes(model: nn.Module, points: Sequence[Point], run_once: Callable[[], object]) -> dict[Point, Shape]:
    """The shape of the first tensor at every point that is reached."""
    found: dict[Point, Shape] = {}
    modules = dict(model.named_modules())
    taps = {point.path: point for point in points if point.kind == "tap"}

    def hear(name: str, tensor: Tensor) -> Tensor:
        if name in taps:
            found.setdefault(taps[name], tuple(tensor.shape))
        return tensor

    with ExitStack() as stack:
        rows = Rows(modules, points, stack)
        for point in dict.fromkeys(points):
            if point.kind == "module":
                hook = partial(_note_output, found, point)
                stack.callback(modules[point.path].register_forward_hook(hook).remove)
            elif point.kind == "input":
                before = partial(_note_input, found, point, rows)
                stack.callback(modules[point.path].register_forward_pre_hook(before, with_kwargs=True).remove)
        stack.enter_context(listening(hear))
        run_once()
    return found


def _note_output(found: dict[Point, Shape], point: Point, module: nn.Module, args: Any, output: Any) -> None:
    found.setdefault(point, tuple(first_tensor(output, point.part).shape))


def _note_input(found: dict[Point, Shape], point: Point, rows: Rows, module: nn.Module, args: Any, kwargs: Any) -> None:
    found.setdefault(point, tuple(rows.split(point, input_tensor(args, kwargs)).shape))

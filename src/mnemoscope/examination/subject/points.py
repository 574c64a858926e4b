"""Where a model can be seen and changed: points, parts of their tensors, and the sites that points make up."""

from dataclasses import dataclass, field
from typing import Literal

from jaxtyping import Shaped
from torch import Tensor

from mnemoscope.contracts import Role
from mnemoscope.runs.examination import Locus


@dataclass(frozen=True)
class Channels:
    """A part of a tensor: some channels of an axis, or one index of it, such as a head that has an axis of its own.

    Args:
        axis: counted from 0, the batch.
        start: first index.
        stop: index after the last; None for `start` alone, without its axis: (b, t, h, v) is seen as (b, t, v).
    """

    axis: int
    start: int
    stop: int | None = None

    def of(self, value: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        """The part."""
        if self.stop is None:
            return value.select(self.axis, self.start)
        return value.narrow(self.axis, self.start, self.stop - self.start)

    def put(self, value: Shaped[Tensor, "..."], part: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        """The tensor with another part; differentiable in both, and the original stays as it is."""
        part = part.to(value.dtype)
        if self.stop is None:
            return value.select_scatter(part, self.axis, self.start)
        return value.slice_scatter(part, self.axis, self.start, self.stop)

    def overlaps(self, other: "Channels") -> bool:
        """Whether both hold the same index of the same axis."""
        ends = [
            self.start + 1 if self.stop is None else self.stop,
            other.start + 1 if other.stop is None else other.stop,
        ]
        return self.axis == other.axis and max(self.start, other.start) < min(ends)


@dataclass(frozen=True)
class Point:
    """A place whose tensor can be seen and replaced: the output of a module, its first tensor input, or a `tap`.

    `within` is for an input that its module is given as (b*t*h, d): the path of the module around it that is called
    with (b, t, ...). Interventions see (b, t, h, d). `part` is for a module that returns several tensors: the name or
    number of the one meant; None for the first. `channels` is for a part of the tensor: interventions see that part
    alone, and the rest stays.
    """

    path: str
    kind: Literal["module", "input", "tap"] = "module"
    within: str | None = None
    part: str | None = None
    channels: Channels | None = None

    def seen(self, value: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        """Of the tensor at this place, what belongs to the point."""
        return value if self.channels is None else self.channels.of(value)


@dataclass(frozen=True, kw_only=True)
class Site:
    """A memory, or a route that could replace one.

    Args:
        name: dotted path, or the prefix of its taps.
        role: memory or route.
        owner: path of the module that maps (b, t, d) to (b, t, d); None for taps, whose state cannot be edited.
        loci: where its read and its contribution can be replaced.
        evidence: other points by name: `gate`, `addressing` and `state`, where there are.
        reach: how many tokens it looks back to, the present one included; None for all, or where only a `Windowed`
            owner can say.
        part: which of the tensors that the owner returns is its output; None for the first.
        of: the site that this one is a part of (a head, say); "" for a whole one.
        portion: which part, in words; "" for a whole one.
        n_parts: of how many parts it is one, where these are all of the site; 0 otherwise.
        left_out: what can be had of the whole and not of this part, with the reason.
    """

    name: str
    role: Role
    owner: str | None
    loci: dict[Locus, Point]
    evidence: dict[str, Point] = field(default_factory=dict)
    reach: int | None = None
    part: str | None = None
    of: str = ""
    portion: str = ""
    n_parts: int = 0
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def whole(self) -> Point | None:
        """The output of the owner; None for taps."""
        return None if self.owner is None else Point(self.owner, part=self.part)

    @property
    def channels(self) -> Channels | None:
        """The part of the read that is on trial; None for all of it."""
        return self.loci["read"].channels


@dataclass(frozen=True, kw_only=True)
class Sites:
    """All memory sites and routes of a model; `routes_known` is False where nobody could say what the routes are.

    `remarks` say what was asked for and is not there.
    """

    memories: tuple[Site, ...]
    routes: tuple[Site, ...]
    routes_known: bool
    remarks: tuple[str, ...] = ()

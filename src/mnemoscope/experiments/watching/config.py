"""How closely memories are watched, and what is worth a warning."""

import math
from dataclasses import dataclass

from pydantic import ConfigDict


@dataclass(frozen=True, kw_only=True)
class WatchConfig:
    """Settings of a watch.

    Args:
        every: steps between probes, at least 1.
        max_share_of_time: a probe is left out while probes have taken more than this share of the time since the first
            step, in (0, 1]; None never leaves one out. With a bound the steps that are probed depend on the clock; what
            is trained never does.
        rise_by: the part of the training, in (0, 1], by which a memory must have begun to work.
        idle_below: a memory whose share is below this idles; in (0, 0.5). It works from twice as much on.
        margin: nats per scored token; where taking out all memories and routes costs less, every share is 0.
        starve_below: of an idle memory, a share of the gradient below this is a warning.
        shut_below: of an idle memory, a mean raw gate below this is a warning.
        flat_below: of an idle memory, a read whose variance is a smaller part of its energy is a warning; in (0, 0.5).
        rank_below: of an idle memory, a read of a smaller rank is a warning; at least 1.
        blow_up: a norm of the state so many times the median of the earlier ones is a warning; above 1.
        kept: readings that are kept, at least 1.

    Raises:
        ValueError: a value out of its range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    every: int = 50
    max_share_of_time: float | None = 0.05
    rise_by: float = 0.5
    idle_below: float = 0.05
    margin: float = 0.01
    starve_below: float = 1e-3
    shut_below: float = 0.01
    flat_below: float = 0.05
    rank_below: float = 1.5
    blow_up: float = 10.0
    kept: int = 50

    def __post_init__(self) -> None:
        for name in ("every", "kept"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        share = self.max_share_of_time
        self._require("max_share_of_time", share is None or 0 < share <= 1, "in (0, 1], or None")
        self._require("rise_by", 0 < self.rise_by <= 1, "in (0, 1]")
        for name in ("idle_below", "flat_below"):
            self._require(name, 0 < getattr(self, name) < 0.5, "in (0, 0.5)")
        for name in ("margin", "starve_below", "shut_below"):
            self._require(name, 0 < getattr(self, name) < math.inf, "positive and finite")
        self._require("rank_below", 1 <= self.rank_below < math.inf, "at least 1 and finite")
        self._require("blow_up", 1 < self.blow_up < math.inf, "above 1 and finite")

    def _require(self, name: str, valid: bool, rule: str) -> None:
        if not valid:
            raise ValueError(f"WatchConfig.{name}: must be {rule}, got {getattr(self, name)}")

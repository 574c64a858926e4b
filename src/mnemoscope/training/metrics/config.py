"""Which metrics of training are taken, and how often."""

from dataclasses import dataclass
from difflib import get_close_matches

from pydantic import ConfigDict

METRIC_NAMES = (
    "softmax_collapse",
    "gradient_weight_cosine",
    "effective_dimension",
    "raw_gate",
    "state_magnitude",
    "memory_rank",
    "attention_saturation",
    "grokking_phase",
)
"""Every metric; each has a file of its name in this folder, and its figures begin with its name and a dot."""


AS_PUBLISHED = "as_published"
"""Metrics that cannot say what is read from them, to be seen beside the others; only where it is asked for."""


@dataclass(frozen=True, kw_only=True)
class MetricsConfig:
    """Settings of the metrics of training.

    Args:
        every: steps between observed steps, at least 1.
        names: which of `METRIC_NAMES`, and maybe `AS_PUBLISHED`; what only an absent one needs (states, weights of
            attention) is not formed.
        detail: figures of every tensor and every site, beside those of the whole model.

    Raises:
        ValueError: a value out of its range, an unknown name or one that is given twice.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    every: int = 50
    names: tuple[str, ...] = METRIC_NAMES
    detail: bool = True

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"MetricsConfig.every: must be at least 1 step, got {self.every}; use 50")
        for name in self.names:
            if name not in (*METRIC_NAMES, AS_PUBLISHED):
                nearest = get_close_matches(name, METRIC_NAMES, n=1, cutoff=0.0)[0]
                raise ValueError(
                    f"MetricsConfig.names: must be of {', '.join(METRIC_NAMES)}, got {name!r}; did you mean {nearest}?"
                )
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"MetricsConfig.names: must not repeat, got {self.names}; name each metric once")

"""One row of the table of memories: the same work done by us and by a rival."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Rivalry:
    """The same work, two ways.

    Args:
        work: what is computed, with sizes.
        rival: who computes it the other way, with the version where it is a package.
        bar: how many times faster ours is to be.
        ours, theirs: do the work once and return what is to be compared (outputs and gradients).
        tolerance: largest absolute difference between the two that counts as the same work; None where the rival is
            documented to compute something else, and `difference` says what.
        difference: what the rival computes differently, empty where nothing.
        bytes_moved: for work without matrix products, the bytes that must be read and written at least once: the
            fraction of the machine's peak is then that of its copy rate. None for matrix products, which are counted.
        repeats: timed repeats of the pair.
    """

    work: str
    rival: str
    bar: float
    ours: Callable[[], Sequence[Tensor]]
    theirs: Callable[[], Sequence[Tensor]]
    tolerance: float | None = 1e-4
    difference: str = ""
    bytes_moved: int | None = None
    repeats: int = 7

"""Every memory against what users have today: forward and backward in float32 unless a row says otherwise."""

import importlib
from collections.abc import Iterator

from torch.utils.flop_counter import FlopCounterMode

from benchmarks.rivals.rivalry import Rivalry
from benchmarks.timing import Spread, copy_peak, matmul_peak, max_difference, print_table, time_interleaved

FAMILIES = (
    "convolutional",
    "external",
    "gated_delta",
    "linear",
    "mosaic",
    "mosaic_v2",
    "omega",
    "omega_mlp",
    "state_space",
)
"""Files of `benchmarks.rivals`."""


def rivalries_of(family: str) -> Iterator[Rivalry]:
    """The rows of a family, made one at a time: each may hold large tensors."""
    yield from importlib.import_module(f"benchmarks.rivals.{family}").rivalries()


def row(rivalry: Rivalry, matmul_rate: float, copy_rate: float) -> tuple[str, ...]:
    """Check that both do the same work, time them side by side, and put the figures in words."""
    with FlopCounterMode(display=False) as counter:
        ours = rivalry.ours()
    difference = max_difference(ours, rivalry.theirs()) if rivalry.tolerance is not None else None
    if difference is not None and not difference <= (rivalry.tolerance or 0):
        raise ValueError(f"{rivalry.work}: ours and {rivalry.rival} differ by {difference:.1e}: not the same work")
    seconds = time_interleaved({"ours": rivalry.ours, "theirs": rivalry.theirs}, rivalry.repeats)
    mine = Spread.of(seconds["ours"]).median
    ratio = Spread.of(seconds["theirs"] / seconds["ours"])
    if rivalry.bytes_moved is None:
        peak = f"{counter.get_total_flops() / mine / matmul_rate:.0%} matmul"
    else:
        peak = f"{rivalry.bytes_moved / mine / copy_rate:.0%} copy"
    return (
        rivalry.work,
        rivalry.rival,
        f"{difference:.1e}" if difference is not None else rivalry.difference,
        f"{1e3 * mine:.1f} ms",
        f"{1e3 * Spread.of(seconds['theirs']).median:.1f} ms",
        str(ratio),
        f"{rivalry.bar:g}",
        "reached" if ratio.median >= rivalry.bar else "MISSED",
        peak,
    )


def run(families: tuple[str, ...] = FAMILIES) -> None:
    """Print one table per family as soon as it is measured, one row per rivalry."""
    header = ("work", "rival", "max difference", "ours", "theirs", "theirs / ours (10-90 %)", "bar", "", "of peak")
    matmul_rate, copy_rate = matmul_peak(), copy_peak()
    for family in families:
        print_table(header, [row(rivalry, matmul_rate, copy_rate) for rivalry in rivalries_of(family)])
        print(flush=True)

"""Estimates for devices that are not here, from published rates: ranges, never points.

A device reaches a part of its published rates. The lower end of a range assumes `GOOD`: matrix products and memory
traffic overlap, and nothing waits for the host. The upper end assumes `POOR`: both add up, and every operation is
launched by itself, as eager code is. Published trainings of language models lie between them: 38 to 43 % of the peak in
bfloat16 on H100 (Llama team 2024, "The Llama 3 Herd of Models", arXiv 2407.21783, table 4).

Many devices: data parallel, each with a whole copy of the model and its own batch. Gradients are all-reduced in a ring,
which moves 2 (n - 1) / n of their bytes over every link (Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce
algorithms", section 3); the lower end hides it behind the backward pass, the upper end hides nothing.
"""

from dataclasses import dataclass
from typing import NamedTuple

from mnemoscope.experiments.devices import DeviceRates
from mnemoscope.experiments.planning.work import Work

DEVICES_OF_A_NODE = 8
NODE_LINK = 450e9
"""Bytes/s in one direction between devices of a node: NVLink of H100 and H200, half of the sheet's 900 GB/s."""

NETWORK_LINK = 50e9
"""Bytes/s per device between nodes: one 400 Gb/s port for each, as in an NVIDIA DGX H100."""


@dataclass(frozen=True, kw_only=True)
class Efficiency:
    """Which parts of the published rates are reached.

    Args:
        flops: of the dense rate of matrix products.
        bandwidth: of the memory's.
        link: of the links'.
        overlaps: traffic hides behind products, and all-reduction behind the backward pass.
        launch_seconds: of every operation, by the host; where `overlaps`, they are hidden.
    """

    flops: float
    bandwidth: float
    link: float
    overlaps: bool
    launch_seconds: float


GOOD = Efficiency(flops=0.6, bandwidth=0.9, link=0.9, overlaps=True, launch_seconds=0.0)
POOR = Efficiency(flops=0.3, bandwidth=0.5, link=0.5, overlaps=False, launch_seconds=10e-6)


class Range(NamedTuple):
    """Seconds, from `GOOD` to `POOR`."""

    low: float
    high: float

    def times(self, factor: float) -> "Range":
        """So many of them."""
        return Range(self.low * factor, self.high * factor)


def work_seconds(work: Work, rates: DeviceRates, precision: str) -> Range:
    """Of some work on one device.

    Args:
        work: as counted.
        rates: of the device.
        precision: of the training; "32-true" computes products outside the tensor cores, as torch does by default.
    """
    rate = rates.flops["float32" if precision == "32-true" else "bfloat16"]
    return Range(*(_seconds(work, rate, rates.bandwidth, reached) for reached in (GOOD, POOR)))


def step_seconds(work: Work, gradient_bytes: int, rates: DeviceRates, precision: str, count: int) -> Range:
    """Of a training step on so many devices, each with a batch of its own."""
    alone, reduced = work_seconds(work, rates, precision), all_reduce_seconds(gradient_bytes, count)
    return Range(max(alone.low, reduced.low), alone.high + reduced.high)


def all_reduce_bytes(gradient_bytes: int, count: int) -> float:
    """Sent by every device in a step."""
    return 2 * (count - 1) / count * gradient_bytes


def all_reduce_seconds(gradient_bytes: int, count: int) -> Range:
    """Of one all-reduction of the gradients."""
    link = NODE_LINK if count <= DEVICES_OF_A_NODE else NETWORK_LINK
    seconds = all_reduce_bytes(gradient_bytes, count) / link
    return Range(seconds / GOOD.link, seconds / POOR.link)


def _seconds(work: Work, rate: float, bandwidth: float, reached: Efficiency) -> float:
    products, traffic = work.flops / (rate * reached.flops), work.n_bytes / (bandwidth * reached.bandwidth)
    if reached.overlaps:
        return max(products, traffic)
    return products + traffic + work.n_ops * reached.launch_seconds

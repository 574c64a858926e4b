"""Published peak rates of devices: what a measured time is a fraction of, and what an estimate divides by.

Rates are those of matrix products of dense matrices. NVIDIA's data sheets print the rates of the tensor cores for
matrices of which half the entries are zero (footnote "with sparsity"); half of that is what dense ones reach. "float32"
is outside the tensor cores, "tf32" is what torch computes float32 products in if it is allowed to, "float64" is on
tensor cores.

Source: NVIDIA, "H100 Tensor Core GPU Datasheet" (column H100 SXM) and "H200 Tensor Core GPU Datasheet" (column H200
SXM); the dense figures stand in NVIDIA, "H100 Tensor Core GPU Architecture" (2022), table 2.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

PRECISIONS = ("float32", "tf32", "bfloat16", "float16", "float64")
"""Names of rates in `DeviceRates.flops`."""


@dataclass(frozen=True, kw_only=True)
class DeviceRates:
    """What a device can do at most, as its maker publishes it.

    Args:
        name: as in the data sheet.
        memory_bytes: of the device's own memory.
        bandwidth: of that memory, bytes/s.
        flops: dense floating-point operations/s by precision, one for each of `PRECISIONS`.
    """

    name: str
    memory_bytes: int
    bandwidth: float
    flops: Mapping[str, float]

    def __post_init__(self) -> None:
        for what, value in {"memory_bytes": self.memory_bytes, "bandwidth": self.bandwidth, **self.flops}.items():
            if not value > 0:
                raise ValueError(f"rates of {self.name}: {what} must be above 0, got {value}; look it up in its sheet")
        if set(self.flops) != set(PRECISIONS):
            raise ValueError(
                f"rates of {self.name}: flops must be given for {', '.join(PRECISIONS)}, got {', '.join(self.flops)}; "
                "add what is missing"
            )


_HOPPER_SXM = MappingProxyType(
    {"float32": 67e12, "tf32": 989e12 / 2, "bfloat16": 1979e12 / 2, "float16": 1979e12 / 2, "float64": 67e12}
)

PUBLISHED: Mapping[str, DeviceRates] = MappingProxyType(
    {
        "h100-sxm": DeviceRates(name="NVIDIA H100 SXM", memory_bytes=80 * 10**9, bandwidth=3.35e12, flops=_HOPPER_SXM),
        "h200": DeviceRates(name="NVIDIA H200 SXM", memory_bytes=141 * 10**9, bandwidth=4.8e12, flops=_HOPPER_SXM),
    }
)
"""By key."""


def published_for(device_name: str) -> DeviceRates | None:
    """The rates of a device by the name that torch gives it, such as "NVIDIA H200"; None where none are known.

    Only the SXM boards are known: those with PCIe or NVL in their names have other rates.
    """
    words = device_name.upper().split()
    if "PCIE" in words or "NVL" in words:
        return None
    keys = {"H100": "h100-sxm", "H200": "h200"}
    found = [key for word, key in keys.items() if word in words]
    return PUBLISHED[found[0]] if found else None

"""Where the verbs that compute many runs compute them."""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from mnemoscope.experiments.executors import Executor

Kind = Literal["local", "ray"]


def executor_of(kind: Kind, *, processes: int | None, address: str | None, gpus_per_run: float = 0.0) -> "Executor":
    """What the options ask for.

    Args:
        kind: processes on this machine, or a Ray cluster.
        processes: at once.
        address: of the cluster.
        gpus_per_run: of the cluster's.

    Raises:
        ValueError: an option that only the other has, or a value out of range.
    """
    from mnemoscope.experiments.executors import LocalPool, RayCluster

    if kind == "ray":
        return RayCluster(address=address, at_once=processes, gpus_per_run=gpus_per_run)
    if address is not None:
        raise ValueError(f"--address {address} is that of a Ray cluster; add --executor ray")
    if gpus_per_run:
        raise ValueError(f"--gpus-per-run {gpus_per_run:g} needs a Ray cluster; add --executor ray")
    return LocalPool(processes=processes)

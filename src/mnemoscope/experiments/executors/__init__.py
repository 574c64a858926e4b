"""Where runs are computed that do not depend on each other: the seeds of a trial, of a reproduction.

contract.py      what a job and an executor are
attempts.py      one attempt at a job: under a lease, on record, and never at what is finished
local.py         processes on this machine
ray_cluster.py   a Ray cluster
ray_nodes.py     what its nodes must have in common

Nothing here imports torch or Ray before a job is run.
"""

from mnemoscope.experiments.executors.contract import Ended, Executor, Runnable, Work
from mnemoscope.experiments.executors.local import LocalPool
from mnemoscope.experiments.executors.ray_cluster import RayCluster

__all__ = ["Ended", "Executor", "LocalPool", "RayCluster", "Runnable", "Work"]

"""What the nodes of a Ray cluster must have in common with this machine: versions, and the folder of the runs.

Every node is asked before anything is computed, and every job asks again where it begins: nodes come and go.
"""

import platform
import secrets
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from os.path import commonpath
from pathlib import Path
from typing import Any

import mnemoscope
from mnemoscope.experiments.executors.contract import J
from mnemoscope.runs import write_text

ANSWER_SECONDS = 180.0
"""A node that does not answer for so long is not used."""

SEEN_SECONDS = 5.0
"""How long a file may take from one machine to another."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a node must have.

    Args:
        probe: a file in the folder of the runs.
        nonce: its content.
        versions: of what computes.
        working_folder: of this machine, where relative paths of recipes begin.
    """

    probe: Path
    nonce: str
    versions: dict[str, str]
    working_folder: Path


def versions() -> dict[str, str]:
    """Of what computes, here."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"mnemoscope": mnemoscope.__version__, "torch": version("torch"), "python": python}


@contextmanager
def expected_of(jobs: Sequence[J]) -> Iterator[Expected]:
    """What nodes must have that run these jobs; the probe is there while the block runs."""
    folder = Path(commonpath([job.place.absolute().parent for job in jobs]))
    folder.mkdir(parents=True, exist_ok=True)
    nonce = secrets.token_hex(8)
    probe = folder / f".shared-{nonce}"
    write_text(probe, nonce)
    try:
        yield Expected(probe=probe, nonce=nonce, versions=versions(), working_folder=Path.cwd())
    finally:
        probe.unlink(missing_ok=True)


def check_here(expected: Expected) -> str:
    """What this machine lacks, with what to do about it; empty where it lacks nothing."""
    found = versions()
    differing = [name for name in found if found[name] != expected.versions[name]]
    if differing:
        theirs, ours = (
            ", ".join(f"{name} {which[name]}" for name in differing) for which in (found, expected.versions)
        )
        return f"has {theirs}, and the machine that asks has {ours}; install the same versions on all nodes"
    if not _sees(expected):
        return (
            f"{socket.gethostname()} does not see {expected.probe.parent}; name a folder on a file system that all "
            "nodes share, under the same path, with --out"
        )
    return ""


def check_nodes(ray: Any, expected: Expected, cpus: float, gpus: float) -> None:
    """Ask every node that has room for a job.

    Args:
        ray: the module, connected.
        expected: of every node.
        cpus: that the largest job needs.
        gpus: that every job needs.

    Raises:
        ValueError: no node has room, or one lacks something.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    fitting = [node for node in nodes if _room(node, "CPU") >= cpus and _room(node, "GPU") >= gpus]
    if not fitting:
        has = "; ".join(f"{_name(node)}: {_room(node, 'CPU'):g} CPUs, {_room(node, 'GPU'):g} GPUs" for node in nodes)
        raise ValueError(
            f"ray: a run needs {cpus:g} CPUs and {gpus:g} GPUs on one node, the cluster has {has or 'no node'}; start "
            "a larger node, or ask for less"
        )
    ask = ray.remote(max_retries=0)(check_here)
    strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    asked = {
        _name(node): ask.options(num_cpus=0, scheduling_strategy=strategy(node["NodeID"], soft=False)).remote(expected)
        for node in fitting
    }
    deadline = time.monotonic() + ANSWER_SECONDS
    lacking = [f"node {name} {lack}" for name, ref in asked.items() if (lack := _answer(ray, ref, deadline))]
    if lacking:
        raise ValueError("ray: " + "; ".join(lacking))


def _answer(ray: Any, ref: Any, deadline: float) -> str:
    try:
        return ray.get(ref, timeout=max(0.0, deadline - time.monotonic()))
    except ray.exceptions.GetTimeoutError:
        return f"did not answer within {ANSWER_SECONDS:.0f} s; see its logs, or take it out of the cluster"
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        reason = str(cause).strip().splitlines() or [type(cause).__name__]
        return f"cannot run jobs ({reason[-1]}); install the same mnemoscope in the Python that runs Ray there"


def _sees(expected: Expected) -> bool:
    deadline = time.monotonic() + SEEN_SECONDS
    while not (expected.probe.exists() and expected.probe.read_text(encoding="utf-8") == expected.nonce):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def _room(node: dict[str, Any], resource: str) -> float:
    return float(node["Resources"].get(resource, 0))


def _name(node: dict[str, Any]) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}, {node['NodeID'][:6]})"

"""What is installed here, what computes what and why, what is missing, and whether the basics work.

Nothing is installed or changed; one small file is written to the folder of runs and removed. Optional packages are
looked up, not imported, so that a broken one cannot stop the others from being reported.
"""

import importlib.metadata as metadata
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from packaging.requirements import Requirement
from torch import Tensor

from mnemoscope.experiments.devices import published_for
from mnemoscope.memories import MEMORIES, build_memory
from mnemoscope.memories.parts import Scan
from mnemoscope.models import StackConfig, build
from mnemoscope.runs.atomic import write_bytes

ALWAYS_SHOWN = ("torch", "transformers", "flash-linear-attention", "triton", "lightning-fabric")
EXTRAS = {
    "hf": "examining and exporting models of transformers, lm-eval",
    "gpu": "faster scans on a CUDA device",
    "text": "corpora and tokenisers from the hub",
    "images": "the task of sequential digits",
    "geometry": "UMAP pictures of embeddings",
    "ray": "trials and reproductions on a Ray cluster",
    "serve": "the run browser",
    "track": "TensorBoard, trackio and Weights & Biases as loggers",
}
"""What an extra gives. Its packages and the versions it asks for are those of the installed metadata."""
COMPILERS = ("c++", "g++", "clang++", "cl")
LEAST_FREE_BYTES = 1 << 30
SELF_CHECK_LAYOUT = "gated_delta, gla, mamba2, rwkv6, rwkv7, attention(window=4)"
LARGEST_DIFFERENCE = 1e-3
"""Between a scan and its recurrence in float32, relative to the largest logit."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at.

    Args:
        section: what it belongs to.
        name: what was looked at.
        found: what was seen.
        problem: whether something that is there does not work.
        advice: how to mend a problem, or what would be gained; empty where there is nothing to do.
    """

    section: str
    name: str
    found: str
    problem: bool = False
    advice: str = ""


def examine_machine(runs: Path) -> list[Check]:
    """Everything, in the order in which it is shown; a look that itself fails becomes a problem.

    Args:
        runs: the folder of runs; it need not exist.
    """
    looks: tuple[tuple[str, Callable[[], Iterator[Check]]], ...] = (
        ("versions", versions),
        ("devices", devices),
        ("kernels", lambda: kernels(_like_activations(best_device()))),
        ("extras", extras),
        ("torch.compile", compiler),
        ("runs", lambda: folder(runs)),
        ("self-check", self_check),
    )
    found: list[Check] = []
    for section, look in looks:
        try:
            found += look()
        except Exception as error:
            advice = "reinstall what the message names, or report it with the output of mnemoscope doctor --json"
            text = f"{type(error).__name__}: {error}"
            found.append(Check(section=section, name="look", found=text, problem=True, advice=advice))
    return found


def versions() -> Iterator[Check]:
    """Python, this package and those that matter most."""
    yield Check(section="versions", name="python", found=f"{platform.python_version()} on {platform.platform()}")
    yield Check(section="versions", name="mnemoscope", found=_version("mnemoscope") or "not installed, run from source")
    needs = {need.name: need for need in _requirements("")}
    for name in (*ALWAYS_SHOWN, *(name for name in needs if name not in ALWAYS_SHOWN)):
        yield _installed("versions", name, needs.get(name), required=name in needs)


def extras() -> Iterator[Check]:
    """What every extra asks for, and what is there of it."""
    for extra, gives in EXTRAS.items():
        needs = _requirements(extra)
        missing = [need.name for need in needs if _version(need.name) is None]
        old = [need for need in needs if (has := _version(need.name)) is not None and not need.specifier.contains(has)]
        install = f"pip install 'mnemoscope[{extra}]'"
        check = Check(section="extras", name=extra, found=", ".join(f"{n.name} {_version(n.name)}" for n in needs))
        if missing:
            check = replace(check, found=f"without {', '.join(missing)}", advice=f"for {gives}: {install}")
        if old:
            words = ", ".join(f"{need.name} {_version(need.name)}, needs {need.specifier}" for need in old)
            check = replace(check, found=words, problem=True, advice=f"{install} --upgrade")
        unknown = replace(
            check, found="not in the installed metadata", advice="install mnemoscope again: pip install -e ."
        )
        yield check if needs else unknown


def devices() -> Iterator[Check]:
    """Processor and accelerators."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = f"{cores} cores, {torch.get_num_threads()} threads of torch, {_ram()}"
    yield Check(section="devices", name="cpu", found=found)
    for n in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(n)
        rates = published_for(properties.name)
        peak = f"published peak {rates.flops['bfloat16'] / 1e12:.0f} TFLOP/s in bfloat16" if rates else "no known peak"
        capability = f"capability {properties.major}.{properties.minor}"
        parts = [properties.name, _size(properties.total_memory), capability, peak]
        yield Check(section="devices", name=f"cuda:{n}", found=", ".join(parts))
    if torch.backends.mps.is_available():
        yield Check(section="devices", name="mps", found="Apple GPU; scans run in our own forms")
    if shutil.which("nvidia-smi") and not torch.cuda.is_available():
        why = "built without CUDA" if torch.version.cuda is None else "sees no CUDA device"
        advice = "install torch for CUDA (https://pytorch.org/get-started/locally), and see whether nvidia-smi runs"
        found = f"a driver is installed, but torch {torch.__version__} {why}"
        yield Check(section="devices", name="cuda", found=found, problem=True, advice=advice)


def best_device() -> torch.device:
    """The first CUDA device, else the processor."""
    return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


def kernels(like: Tensor) -> Iterator[Check]:
    """What computes each mechanism on the device and in the dtype of a tensor, and why."""
    for name, (config, _) in MEMORIES.items():
        with torch.random.fork_rng(devices=[]):
            memory = build_memory(config(), 64)
        ways = {part.computed_by(like) for part in memory.modules() if isinstance(part, Scan)}
        found = ", ".join(sorted(ways)) or "torch (our own form; nothing else is used for it)"
        advice = "faster with pip install 'mnemoscope[gpu]'" if "not installed" in found else ""
        yield Check(section="kernels", name=name, found=found, advice=advice)


def compiler() -> Iterator[Check]:
    """What torch.compile needs: a C++ compiler for a processor, Triton for CUDA."""
    own = os.environ.get("CXX")
    here = [path for name in ((own,) if own else COMPILERS) if (path := shutil.which(name))]
    advice = "" if here else "for torch.compile on the processor: install g++ or clang, or set CXX"
    yield Check(section="torch.compile", name="C++ compiler", found=here[0] if here else "none", advice=advice)
    if torch.cuda.is_available():
        triton = _version("triton")
        advice = "" if triton else "for torch.compile on CUDA: pip install triton"
        yield Check(section="torch.compile", name="triton", found=triton or "none", advice=advice)
    yield Check(section="pages", name="browser", found="none is needed: pages are written as files and open in any")


def folder(runs: Path) -> Iterator[Check]:
    """Room in the folder of runs, and whether what is written there reaches the disk."""
    place = runs.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    little = free < LEAST_FREE_BYTES
    advice = f"a run with checkpoints may not fit: free {_size(LEAST_FREE_BYTES)}, or give --runs" if little else ""
    yield Check(section="runs", name="free space", found=f"{_size(free)} at {place}", problem=little, advice=advice)
    start = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=place) as trial:
            write_bytes(Path(trial) / "written", b"mnemoscope")
            whole = (Path(trial) / "written").read_bytes() == b"mnemoscope"
    except OSError as error:
        found, advice = f"{place}: {error.strerror}", "make the folder writable, or give --runs another folder"
        yield Check(section="runs", name="writing", found=found, problem=True, advice=advice)
        return
    found = f"written, synchronised and read back in {1e3 * (time.perf_counter() - start):.0f} ms"
    advice = "" if whole else "what was read back differs: use another disk"
    yield Check(section="runs", name="writing", found=found, problem=not whole, advice=advice)


@torch.no_grad()
def self_check() -> Iterator[Check]:
    """A small stack read at once and token by token, on every kind of device that is here."""
    stack = build(StackConfig.of(SELF_CHECK_LAYOUT, vocab_size=11, d_model=64), seed=0).eval()
    tokens = torch.randint(11, (1, 35), generator=torch.Generator().manual_seed(0))
    for device in dict.fromkeys((torch.device("cpu"), best_device())):
        start = time.perf_counter()
        stack, here = stack.to(device), tokens.to(device)
        state, stepped = stack.init_state(1), list[Tensor]()
        for token in here.unbind(1):
            logits, state = stack.step(token, state)
            stepped.append(logits)
        whole = stack(here)
        difference = float((whole - torch.stack(stepped, dim=1)).abs().max() / whole.abs().max())
        seconds = time.perf_counter() - start
        failed = not difference < LARGEST_DIFFERENCE
        found = f"scan and recurrence differ by {difference:.1e} ({seconds:.1f} s)"
        advice = f"must be below {LARGEST_DIFFERENCE:g}: report it with the output of mnemoscope doctor --json"
        yield Check(
            section="self-check", name=str(device), found=found, problem=failed, advice=advice if failed else ""
        )


def _like_activations(device: torch.device) -> Tensor:
    """Nothing, in the dtype in which a model usually computes there."""
    return torch.empty(0, device=device, dtype=torch.bfloat16 if device.type == "cuda" else torch.float32)


def _installed(section: str, name: str, need: Requirement | None, *, required: bool) -> Check:
    version = _version(name)
    if version is None:
        advice = f"pip install '{need or name}'" if required else ""
        return Check(section=section, name=name, found="not installed", problem=required, advice=advice)
    if need is not None and not need.specifier.contains(version, prereleases=True):
        found = f"{version}, needs {need.specifier}"
        return Check(section=section, name=name, found=found, problem=True, advice=f"pip install '{need}'")
    return Check(section=section, name=name, found=version)


def _requirements(extra: str) -> list[Requirement]:
    """What this package asks for under an extra, or for itself; nothing where it is not installed."""
    try:
        lines = metadata.requires("mnemoscope") or []
    except metadata.PackageNotFoundError:
        return []
    needs = [Requirement(line) for line in lines]
    if not extra:
        return [need for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return [
        need
        for need in needs
        if need.marker and not need.marker.evaluate({"extra": ""}) and need.marker.evaluate({"extra": extra})
    ]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _ram() -> str:
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" not in names:
        return "memory unknown"
    return f"{_size(os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE'))} of memory"


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.1f} GiB"

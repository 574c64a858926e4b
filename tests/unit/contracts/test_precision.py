"""float64 where there is none: what devices have, and that no room asks a model's device for it."""

import re
from pathlib import Path

import pytest
import torch

import mnemoscope
from mnemoscope.contracts import precision

MPS, CPU = torch.device("mps"), torch.device("cpu")
WATCHED = ("ops", "memories", "models", "training/metrics", "training/remedies", "examination")
ELSEWHERE = ("examination/geometry/", "examination/judgement/statistics.py", "examination/judgement/family.py")
"""Tables of numbers on the CPU, which no device holds."""

KNOWN = {
    "ops/approximate.py": 6,
    "ops/features.py": 1,
    "memories/feature_maps.py": 1,
    "memories/log_accumulator.py": 1,
    "training/metrics/grokking_phase.py": 1,
    "training/metrics/metrics.py": 1,
    "examination/protocol/probing.py": 1,
    "examination/subject/losses.py": 1,
}
"""Lines that make tensors on the CPU, which stay there or are converted before they go to a device."""


def test_the_gpu_of_a_mac_has_no_float64() -> None:
    assert (precision.has_float64(MPS), precision.has_float64(CPU)) == (False, True)
    assert (precision.wide_dtype(MPS), precision.wide_dtype(CPU)) == (torch.float32, torch.float64)


def test_what_is_wanted_in_float64_is_made_on_the_cpu_where_the_device_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(precision, "has_float64", lambda device: False)
    moved: list[torch.Tensor] = []
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: moved.append(tensor) or tensor)
    values = torch.tensor([0.1, 0.2])
    assert precision.in_float64(values).dtype == torch.float64
    assert moved == [values] or moved[0] is values
    assert precision.wide(values).dtype == torch.float32


def test_no_room_that_touches_a_models_device_asks_it_for_float64() -> None:
    root, found = Path(mnemoscope.__file__).parent, dict[str, int]()
    for room in WATCHED:
        for file in (root / room).rglob("*.py"):
            name = file.relative_to(root).as_posix()
            lines = file.read_text(encoding="utf-8").splitlines()
            asking = [line for line in lines if asks(line)]
            if asking and not name.startswith(ELSEWHERE):
                found[name] = len(asking)
    assert found == KNOWN


def asks(line: str) -> bool:
    converts = re.search(r"(?<!\.cpu\(\))\.double\(\)", line)
    makes = "dtype=torch.float64" in line or ".to(torch.float64)" in line
    return bool(converts or makes)

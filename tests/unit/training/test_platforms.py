"""What differs between systems: signals, files that are mapped, the generator of Apple's GPU. Simulated on Linux."""

import enum
import signal
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mnemoscope.training import stopping
from mnemoscope.training.randomness import forked_rng, rng_state, set_rng_state
from mnemoscope.training.stopping import StopSignals, requests
from mnemoscope.training.tensor_files import read_tensors

MPS = torch.device("mps")


def test_signals_that_a_system_lacks_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class OfWindows(enum.IntEnum):
        SIGINT = 2
        SIGTERM = 15
        SIGBREAK = 21

    assert [number.name for number in requests()] == ["SIGINT", "SIGTERM"]
    monkeypatch.setattr(stopping.signal, "Signals", OfWindows)
    assert [number.name for number in requests()] == ["SIGINT", "SIGTERM", "SIGBREAK"]


def test_a_signal_that_the_process_raises_itself_is_a_request() -> None:
    with StopSignals() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested == "SIGTERM"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_on_windows_no_file_of_tensors_stays_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, tensors = tmp_path / "model.safetensors", {"a": torch.arange(70_000.0)}
    save_file(tensors, path)
    mapped = read_tensors(path)
    assert is_mapped(path)
    del mapped
    monkeypatch.setattr(sys, "platform", "win32")
    read = read_tensors(path)
    assert not is_mapped(path)
    assert torch.equal(read["a"], tensors["a"])


def is_mapped(path: Path) -> bool:
    return str(path) in Path("/proc/self/maps").read_text(encoding="utf-8")


def test_the_generator_of_apples_gpu_is_seeded_restored_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(1)
    monkeypatch.setattr(torch.mps, "get_rng_state", generator.get_state)
    monkeypatch.setattr(torch.mps, "set_rng_state", generator.set_state)
    monkeypatch.setattr(torch.mps, "manual_seed", generator.manual_seed)
    before = generator.get_state()
    with forked_rng(MPS, 7):
        kept = rng_state(MPS)
        first = torch.rand(3, generator=generator)
        set_rng_state(MPS, kept)
        assert torch.equal(torch.rand(3, generator=generator), first)
    assert torch.equal(first, torch.rand(3, generator=torch.Generator().manual_seed(7)))
    assert torch.equal(generator.get_state(), before)
    set_rng_state(torch.device("cpu"), kept)
    assert torch.equal(generator.get_state(), before)

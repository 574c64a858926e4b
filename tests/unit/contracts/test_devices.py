"""Devices by name: what is not here is refused in one line."""

import pytest
import torch

from mnemoscope.contracts.devices import chosen_device, find_device


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with nothing but a CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: False)
    return monkeypatch


def test_a_cpu_is_always_there(bare: pytest.MonkeyPatch) -> None:
    assert find_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mps", r"device mps: there is no Apple GPU here \(this torch was built without it\); use cpu$"),
        ("cuda", r"device cuda: there is no CUDA device here \(.*\); use cpu, or install torch with CUDA"),
        ("cuda:1", r"device cuda:1: there is no CUDA device here"),
        ("gpu", r"device must be one of cpu, cuda, mps, or a GPU by its number \(cuda:1\), got 'gpu'"),
        ("meta", r"device must be one of .*, got 'meta'"),
        ("", r"device must be one of .*, got ''"),
    ],
)
def test_what_is_not_here_is_refused(bare: pytest.MonkeyPatch, name: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        find_device(name)
    assert "\n" not in str(refused.value)


def test_an_old_macos_is_told_from_a_torch_without_mps(bare: pytest.MonkeyPatch) -> None:
    bare.setattr(torch.backends.mps, "is_built", lambda: True)
    with pytest.raises(ValueError, match="macOS 14 or a GPU is missing"):
        find_device("mps")


def test_auto_is_cuda_where_there_is_a_device_and_else_the_cpu(bare: pytest.MonkeyPatch) -> None:
    assert chosen_device("auto") == chosen_device("cpu") == torch.device("cpu")
    with pytest.raises(ValueError, match="device cuda: there is no CUDA device here"):
        chosen_device("cuda")
    with pytest.raises(ValueError, match="device must be one of cpu, cuda, auto, got 'mps'"):
        chosen_device("mps")
    bare.setattr(torch.cuda, "is_available", lambda: True)
    bare.setattr(torch.cuda, "device_count", lambda: 1)
    assert chosen_device("auto") == chosen_device("cuda") == torch.device("cuda")


def test_devices_that_are_here_are_given(bare: pytest.MonkeyPatch) -> None:
    bare.setattr(torch.cuda, "is_available", lambda: True)
    bare.setattr(torch.cuda, "device_count", lambda: 2)
    bare.setattr(torch.backends.mps, "is_available", lambda: True)
    assert [str(find_device(name)) for name in ("cuda", "cuda:1", "mps")] == ["cuda", "cuda:1", "mps"]
    with pytest.raises(ValueError, match="has 2 CUDA devices, cuda:0 to cuda:1"):
        find_device("cuda:2")

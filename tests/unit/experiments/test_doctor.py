"""The doctor says what is here and what to install, and finds what does not work, on machines that are made up."""

import importlib.metadata as metadata
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from packaging.requirements import Requirement

from mnemoscope.experiments import doctor
from mnemoscope.experiments.doctor import Check
from mnemoscope.memories import MEMORIES
from mnemoscope.ops import kernels

Monkey = pytest.MonkeyPatch


def by_name(checks) -> dict[str, Check]:
    return {check.name: check for check in checks}


def have(monkeypatch: Monkey, **versions: str) -> None:
    """Pretend that exactly these distributions are installed."""

    def version(name: str) -> str:
        if name.replace("-", "_") not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name.replace("-", "_")]

    monkeypatch.setattr(doctor.metadata, "version", version)


def need(monkeypatch: Monkey, *lines: str) -> None:
    monkeypatch.setattr(doctor.metadata, "requires", lambda _: list(lines))


def test_absent_packages_are_said_to_be_absent(monkeypatch: Monkey):
    need(monkeypatch, "torch>=2.11", "numpy>=2.0", 'transformers>=5.0; extra == "hf"')
    have(monkeypatch, torch="2.11.0", numpy="2.1.0", mnemoscope="0.1.0")
    found = by_name(doctor.versions())
    assert found["transformers"].found == found["triton"].found == "not installed"
    assert not any(check.problem for check in found.values())
    hf = by_name(doctor.extras())["hf"]
    assert hf.found == "without transformers"
    assert not hf.problem
    assert "pip install 'mnemoscope[hf]'" in hf.advice


def test_what_is_required_and_absent_or_too_old_is_a_problem(monkeypatch: Monkey):
    need(monkeypatch, "torch>=2.11", "scipy>=1.13", 'transformers>=5.0; extra == "hf"')
    have(monkeypatch, torch="2.4.0", transformers="4.40.0")
    found = by_name(doctor.versions())
    assert found["torch"].problem
    assert found["torch"].found == "2.4.0, needs >=2.11"
    assert found["scipy"].problem
    assert found["scipy"].advice == "pip install 'scipy>=1.13'"
    assert found["mnemoscope"].found == "not installed, run from source"
    hf = by_name(doctor.extras())["hf"]
    assert hf.problem
    assert hf.found == "transformers 4.40.0, needs >=5.0"


def test_run_from_source_it_still_answers(monkeypatch: Monkey):
    def absent(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.metadata, "requires", absent)
    assert {check.found for check in doctor.extras()} == {"not in the installed metadata"}
    assert not any(check.problem for check in doctor.versions())


def test_the_extras_are_those_of_the_package():
    named = {extra for line in metadata.requires("mnemoscope") or [] for extra in doctor.EXTRAS if f"'{extra}'" in line}
    asked = {extra for extra in doctor.EXTRAS if doctor._requirements(extra)}
    assert named == asked
    assert all(Requirement(str(need)).name for extra in asked for need in doctor._requirements(extra))


@pytest.fixture
def h200(monkeypatch: Monkey) -> None:
    """One H200, as torch would describe it; tensors stay where they are."""
    card = SimpleNamespace(name="NVIDIA H200", total_memory=150_000_000_000, major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)


def test_a_gpu_is_described(h200: None):
    card = by_name(doctor.devices())["cuda:0"]
    assert card.found.startswith("NVIDIA H200, 139.7 GiB, capability 9.0, published peak 990 TFLOP/s")
    assert doctor.best_device() == torch.device("cuda:0")


def test_a_driver_without_torchs_cuda_is_a_problem(monkeypatch: Monkey):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/nvidia-smi" if name == "nvidia-smi" else None)
    check = by_name(doctor.devices())["cuda"]
    assert check.problem
    assert "install torch for CUDA" in check.advice


def test_every_mechanism_has_a_kernel_and_a_reason():
    found = by_name(doctor.kernels(torch.zeros(0)))
    assert set(found) == set(MEMORIES)
    assert found["gated_delta"].found == "torch (the tensors are on cpu, not on CUDA)"
    assert found["mlstm"].found.startswith("torch (our own form")


def test_on_a_gpu_without_the_package_it_says_what_to_install(monkeypatch: Monkey):
    monkeypatch.setattr(kernels, "on_cuda", lambda _: True)
    monkeypatch.setattr(kernels, "_package", lambda _: None)
    found = by_name(doctor.kernels(torch.zeros(0, dtype=torch.bfloat16)))
    assert "not installed" in found["gla"].found
    assert "pip install 'mnemoscope[gpu]'" in found["gla"].advice
    assert not found["gla"].problem
    assert not found["mlstm"].advice


def test_a_missing_compiler_is_advice(monkeypatch: Monkey):
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    check = by_name(doctor.compiler())["C++ compiler"]
    assert (check.found, check.problem) == ("none", False)
    assert "g++" in check.advice
    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/opt/{name}")
    monkeypatch.setenv("CXX", "mycc")
    assert by_name(doctor.compiler())["C++ compiler"].found == "/opt/mycc"


def test_a_folder_is_written_and_left_as_it_was(tmp_path: Path):
    checks = by_name(doctor.folder(tmp_path / "not" / "yet"))
    assert not any(check.problem for check in checks.values())
    assert str(tmp_path) in checks["free space"].found
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_a_problem(tmp_path: Path, monkeypatch: Monkey):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=5 << 20))
    checks = by_name(doctor.folder(tmp_path))
    assert checks["writing"].problem
    assert "No space left on device" in checks["writing"].found
    assert checks["free space"].problem
    assert list(tmp_path.iterdir()) == []


def test_scan_and_recurrence_agree_here_and_a_difference_is_found(monkeypatch: Monkey):
    (check,) = doctor.self_check()
    assert not check.problem
    monkeypatch.setattr(doctor, "LARGEST_DIFFERENCE", 0.0)
    (check,) = doctor.self_check()
    assert check.problem
    assert "must be below 0" in check.advice


def test_a_look_that_fails_is_a_problem_and_the_others_go_on(tmp_path: Path, monkeypatch: Monkey):
    def broken():
        raise RuntimeError("no driver")

    monkeypatch.setattr(doctor, "devices", broken)
    monkeypatch.setattr(doctor, "kernels", lambda _: iter(()))
    monkeypatch.setattr(doctor, "self_check", lambda: iter(()))
    checks = doctor.examine_machine(tmp_path)
    (failed,) = [check for check in checks if check.section == "devices"]
    assert failed.problem
    assert failed.found == "RuntimeError: no driver"
    assert {"versions", "extras", "torch.compile", "runs"} < {check.section for check in checks}

import pytest
import torch

from mnemoscope.contracts.processes import Processes, launched, process_group

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_without_a_launcher_a_process_is_alone(environment: pytest.MonkeyPatch):
    assert launched() == Processes(rank=0, count=1, local_rank=0)
    assert launched().is_first
    with process_group(torch.device("cpu")) as here:
        assert here.count == 1
        assert not torch.distributed.is_initialized()


def test_the_launcher_names_the_process(environment: pytest.MonkeyPatch):
    for name, value in zip(NAMES, ("5", "8", "1"), strict=True):
        environment.setenv(name, value)
    assert launched() == Processes(rank=5, count=8, local_rank=1)
    assert not launched().is_first
    environment.delenv("LOCAL_RANK")
    assert launched().local_rank == 5


@pytest.mark.parametrize("given", [("0", None), (None, "2"), ("2", "2"), ("-1", "2"), ("one", "2")])
def test_half_a_launcher_is_refused(environment: pytest.MonkeyPatch, given: tuple[str | None, str | None]):
    for name, value in zip(NAMES, given, strict=False):
        if value is not None:
            environment.setenv(name, value)
    with pytest.raises(ValueError, match="start with torchrun, or unset them"):
        launched()

"""The benchmark of a GPU runs from end to end, at sizes that measure nothing, and refuses what would take hours."""

from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu_tables import SCANS, TINY
from mnemoscope.models import StackConfig
from tests.gpu.devices import every_device


@pytest.mark.long
@every_device
def test_it_writes_a_page(device: str, tmp_path: Path):
    page = tmp_path / "gpu.md"
    assert gpu.main(["--tiny", "--device", device, "--out", str(page)]) == 0
    text = page.read_text()
    for scan in SCANS:
        assert text.count(f"| {scan} |") == len(TINY.lengths)
    for mechanism in TINY.mechanisms:
        assert f"| {mechanism} |" in text
    assert "measures nothing" in text
    assert "out of memory" not in text


def test_the_hybrid_has_half_a_billion_parameters():
    verdict = gpu.Verdict()
    with torch.device("meta"):
        stack = gpu.gpu_verdict._stack(verdict)
    assert isinstance(stack.config, StackConfig)
    assert 0.5e9 < sum(weight.numel() for weight in stack.parameters()) < 0.56e9


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--device", "cpu"], "add --tiny"),
        (["--device", "nonsense"], "--device must be"),
        (["--tiny", "--device", "cpu", "--out", "/nowhere/at/all.md"], "there is no folder /nowhere/at"),
    ],
)
def test_what_cannot_work_is_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        gpu.main(words)
    assert end.value.code == 2
    assert said in capsys.readouterr().err

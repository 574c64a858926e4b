"""The pages name what there is, and their snippets run."""

import re
from pathlib import Path

import pytest
import torch

from mnemoscope.memories import MEMORIES
from mnemoscope.memories.presets import PRESETS
from mnemoscope.models import build
from mnemoscope.runs import RunDirectory
from mnemoscope.training.lessons import LESSONS
from mnemoscope.training.metrics import METRIC_NAMES
from mnemoscope.training.remedies import REMEDIES

DOCS = Path(__file__).parents[2] / "docs"


def test_every_memory_is_on_its_page():
    page = (DOCS / "memories.md").read_text(encoding="utf-8")
    rows = "".join(line for line in page.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`(\w+)`", rows)) >= {*MEMORIES, *PRESETS}


def test_the_layouts_of_the_page_build():
    scope: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", (DOCS / "memories.md").read_text(encoding="utf-8"), re.DOTALL):
        for line in block.splitlines():
            exec(line, scope)  # one by one, since each line replaces the last
            if line.startswith("config"):
                model = build(scope["config"], seed=0)
                assert model(torch.zeros(1, 5, dtype=torch.int64)).isfinite().all()


def test_every_remedy_lesson_and_metric_is_on_the_page():
    page = (DOCS / "training.md").read_text(encoding="utf-8")
    rows = "".join(line for line in page.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`(\w+)`", rows)) >= {*REMEDIES, *LESSONS, *METRIC_NAMES}


def test_the_recipe_of_the_page_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    first = re.findall(r"```python\n(.*?)```", (DOCS / "training.md").read_text(encoding="utf-8"), re.DOTALL)[0]
    exec(first, {})
    (row,) = [row for row in RunDirectory(tmp_path / "runs/treated").read_metrics() if row["step"] == 4]
    assert {"remedy.gate_floor.strength", "raw_gate.mean", "validation_accuracy"} <= row.keys()

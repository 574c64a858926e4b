"""`mnemoscope examine` and `compare`, run as a user runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mnemoscope.cli.main import main
from tests.unit.cli.calling import called

FAST = ["--calibration", "16", "--test", "16", "--fit-steps", "2", "--batch", "4"]
RECALL = "task:mqar,vocab_size=16,length=16,n_pairs=2"
MODEL = """
import os, signal
import torch
from torch import nn

BATCHES = [torch.randint(16, (4, 9), generator=torch.Generator().manual_seed(n)) for n in range(20)]

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.out = nn.Embedding(16, 8), nn.Linear(8, 16)
        self.memory, self.mix = nn.GRU(8, 8, batch_first=True), nn.Linear(8, 8)

    def forward(self, tokens):
        x = self.embed(tokens)
        return self.out(x + self.memory(x)[0] + self.mix(x))

def model(): return Model()

def interrupted():
    def loss(model, batch):
        if batch is BATCHES[12]:
            os.kill(os.getpid(), signal.SIGINT)
        logits = model(batch[:, :-1])
        return nn.functional.cross_entropy(logits.transpose(1, 2), batch[:, 1:], reduction="none").mean(1)
    return Model(), BATCHES, loss
"""


def mnemoscope(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from mnemoscope.cli import main; main()", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.py").write_text(MODEL)
    return tmp_path


def test_a_model_of_a_file_is_examined_and_compared_with_itself(folder: Path):
    choice = ["--sites", "memory", "--routes", "none", "--group", "both=memory", "--subset", "late=position>=8"]
    done = called("examine", "model.py:model", "--data", RECALL, *choice, *FAST, cwd=folder)
    assert done.returncode == 0, done.stderr
    out = folder / "examinations" / "model-model"
    record = json.loads((out / "verdicts.json").read_text())
    assert [site["name"] for site in record["sites"]] == ["memory"]
    assert [group["name"] for group in record["groups"]] == ["both"]
    assert record["routes_known"]
    assert "late" in {subset["name"] for subset in record["subsets"]}
    assert (out / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert "test: effects on held-out sequences" in done.stderr
    assert "\x1b" not in done.stderr + done.stdout

    compared = called("compare", str(out), str(out / "verdicts.json"), cwd=folder)
    assert compared.returncode == 0, compared.stderr
    assert "memory: the effect of the optimal constant did not change by more than both" in compared.stdout
    assert "intervals of B - A are those of independent samples" in compared.stdout


def test_a_dry_run_writes_nothing(folder: Path):
    words = ["--sites", "memory", "--routes", "mix", "--max-minutes", "9", "--dry-run"]
    done = called("examine", "model.py:model", "--data", RECALL, *words, *FAST, cwd=folder)
    assert done.returncode == 0, done.stderr
    for expected in ("memory", "route", "constants to fit on 4 batches", "on 4 test batches", "--max-minutes 9", "KiB"):
        assert expected in done.stdout
    assert [path.name for path in folder.iterdir() if path.name != "__pycache__"] == ["model.py"]


@pytest.mark.long
def test_heads_are_planned_one_by_one_and_together(folder: Path):
    words = ["--sites", "memory[heads of 2]", "--routes", "mix", "--dry-run"]
    done = called("examine", "model.py:model", "--data", RECALL, *words, *FAST, cwd=folder)
    assert done.returncode == 0, done.stderr
    for expected in ("memory[head 0]", "memory[head 1]", "heads of memory"):
        assert expected in done.stdout
    unknown = called("examine", "model.py:model", "--data", RECALL, "--sites", "memory", "--heads", cwd=folder)
    assert unknown.returncode == 2
    assert "write memory[heads of N], N one of 2, 4, 8" in unknown.stderr


def test_ctrl_c_keeps_what_is_finished_and_says_what_is_missing(folder: Path):
    done = mnemoscope("examine", "model.py:interrupted", "--sites", "memory", *FAST, "--test", "64", cwd=folder)
    assert done.returncode == 130, done.stderr
    assert "missing: 8 of 16 test batches: interrupted" in done.stderr
    record = json.loads((folder / "examinations/model-interrupted/verdicts.json").read_text())
    assert record["n_test"] == 32
    assert record["missing"] == ["8 of 16 test batches: interrupted"]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("model.py:modle", "--data", RECALL), "did you mean 'model'?"),
        (("model.py", "--data", RECALL), "model.py:model"),
        (("model.py:model",), "brings no data"),
        (("model.py:model", "--data", "task:mqr"), "did you mean 'mqar'?"),
        (("model.py:model", "--data", "nothing.txt"), "nothing.txt"),
        (("model.py:model", "--data", RECALL, "--sites", "memry"), "nearest: memory"),
        (("model.py:model", "--data", RECALL, "--length", "9"), "length=64"),
        (("model.py:model", "--data", RECALL, "--group", "a"), "name=pattern"),
        (("model.py:model", "--data", RECALL, "--subset", "a=distanc>=4"), "did you mean 'distance'?"),
        (("model.py:interrupted", "--data", RECALL), "leave out --data"),
        (("modle.py:model", "--data", RECALL), "no file modle.py"),
        (("nowhere",), "there is no nowhere"),
    ],
)
def test_mistakes_end_with_2_and_one_line(
    folder: Path,
    words: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["mnemoscope", "examine", *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mnemoscope: ")]
    assert len(errors) == 1
    assert message in errors[0]


@pytest.mark.long
def test_a_hub_that_cannot_be_reached_is_said(folder: Path):
    done = mnemoscope("examine", "owner/name", "--data", "prose", cwd=folder)
    assert done.returncode == 2
    assert "the Hugging Face hub cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_cannot_be_compared_is_refused(folder: Path):
    done = called("compare", "model.py", ".", cwd=folder)
    assert done.returncode == 2
    assert "model.py" in done.stderr

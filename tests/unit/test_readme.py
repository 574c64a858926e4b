"""What the README says works."""

import re
import shlex
from pathlib import Path

import torch
from torch import Tensor, nn

import mnemoscope as ms
from tests.unit.cli.calling import called

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.GRU(8, 8, batch_first=True)
        self.attention = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.memory(x)[0] + self.attention(x)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(11, 8), nn.Linear(8, 11)
        self.layers = nn.ModuleList([Layer(), Layer()])
        self.read = nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.out(ms.tap("top.read", x))


def test_python_blocks_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    budget = ms.Budget(n_calibration=16, n_test=16, fit_steps=2, joint_fit_steps=2, windows=(1,), n_resamples=200)
    monkeypatch.setattr("mnemoscope.examination.session.Budget", lambda: budget)
    generator = torch.Generator().manual_seed(0)
    scope = {
        "model": Model(),
        "batches": [torch.randint(11, (8, 9), generator=generator) for _ in range(6)],
        "loss": lambda model, batch: model(batch).square().mean((1, 2)),
    }
    for block in blocks("python"):
        exec(block, scope)
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert "layers.0.memory" in capsys.readouterr().out


def test_the_command_lines_run(tmp_path):
    commands = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("mnemoscope")]
    assert len(commands) == 4
    for command in commands:
        words = shlex.split(command.replace("--steps 200", "--steps 3"))[1:]
        if words[0] == "examine":
            words += ["--calibration", "32", "--test", "32", "--fit-steps", "2"]
        done = called(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "text.html").exists()


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for block in blocks("bash"):
        for line in block.splitlines():
            if line.startswith("make "):
                assert f"\n{line.split()[1]}: " in makefile


def test_local_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_public_names_are_what_they_say():
    for name in ms.__all__:
        assert getattr(ms, name) is not None
    assert dir(ms) == sorted([*ms.__all__, "__version__"])

"""What need not run does not run, and nothing else changes."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from benchmarks.examination_effects import TINY, Hybrid
from mnemoscope.contracts import ReadPoint
from mnemoscope.examination import NextTokenLoss, Point
from mnemoscope.examination.interventions.reads import Constant, Window, Zero
from mnemoscope.examination.running.editing import Edit, edited
from mnemoscope.examination.running.replay import Replayer
from mnemoscope.examination.subject.losses import score
from mnemoscope.models import StackConfig, build

LAYOUT = "(attention, gated_delta) * 2"
VOCAB, D = 11, 8


@pytest.mark.long
def test_effects_are_those_of_plain_nnsight_calls():
    """In a process of its own: importing nnsight adds attributes to every object there is."""
    command = [sys.executable, "-m", "benchmarks.examination_effects"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert float(printed.split()[-1]) <= 1e-5


@torch.no_grad()
def test_every_condition_of_the_benchmark_is_another_one():
    hybrid = Hybrid(TINY)
    assert sum("(routes)" in key for key in hybrid.conditions) == 4
    losses = hybrid.examined(hybrid.batches[0])
    assert len({round(float(each.sum()), 5) for each in losses}) == len(losses) == 18
    assert hybrid.replayer.path == "from a record, checked to the bit"


def tokens() -> Tensor:
    return torch.randint(0, VOCAB, (3, 13), generator=torch.Generator().manual_seed(0))


def ran(replayer: Replayer, edits: list[Edit]) -> tuple[Tensor, Tensor, set[str]]:
    """Losses of the second run and of a full forward, and which modules computed something."""
    tape, names = replayer.record(tokens()), set[str]()
    replayer.run(tape, edits)
    originals = {path: module.forward for path, module in replayer.modules.items() if path}
    for path, original in originals.items():
        replayer.modules[path].forward = lambda *args, path=path, original=original, **kwargs: (
            names.add(path) or original(*args, **kwargs)
        )
    try:
        again = replayer.run(tape, edits).per_sequence
    finally:
        for path in originals:
            del replayer.modules[path].forward
    with edited(replayer.modules, edits):
        full = score(replayer.loss, replayer.model, tokens()).per_sequence
    return again, full, names


@torch.no_grad()
def test_what_leads_to_replaced_reads_does_not_run():
    model = build(StackConfig.of(LAYOUT, vocab_size=VOCAB, d_model=D), seed=0).eval()
    points = [Point(f"blocks.{i}.mixer.read") for i in (1, 2, 3)]
    again, full, names = ran(Replayer(model, NextTokenLoss(), points), [Edit(point, Zero()) for point in points])
    assert torch.equal(again, full)
    assert {"blocks.3.mixer.out", "blocks.3.mlp", "blocks.2.mixer.out"} <= names
    assert not {f"blocks.{i}.mixer.{name}" for i in (1, 2, 3) for name in ("qkv", "scan", "convolution")} & names


@torch.no_grad()
def test_a_window_is_computed_once():
    model = build(StackConfig.of(LAYOUT, vocab_size=VOCAB, d_model=D), seed=0).eval()
    point = Point("blocks.1.mixer")
    again, full, names = ran(Replayer(model, NextTokenLoss(), [point]), [Edit(point, Window(2))])
    assert torch.equal(again, full)
    assert "blocks.1.mixer.scan" not in names
    assert "blocks.3.mixer.scan" in names


class Mixer(nn.Module):
    """What is computed before the read is also used beside it, in a way that depends on `how`."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.gate, self.value, self.read = how, nn.Linear(D, D), nn.Linear(D, D), ReadPoint()

    def forward(self, x: Tensor) -> Tensor:
        """The gate is asked for before the read."""
        gate, value = self.gate(x), self.value(x).cumsum(1)
        if self.how == "branches" and float(gate.detach().sum()) > 1e9:
            return x
        return x + self.read(value) * (gate.sigmoid() if self.how == "gated" else 1.0)


class Chain(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(VOCAB, D), nn.Linear(D, VOCAB)
        self.mixers = nn.ModuleList(Mixer(how) for _ in range(3))

    def forward(self, tokens: Tensor) -> Tensor:
        """In a chain."""
        x = self.embedding(tokens)
        for mixer in self.mixers:
            x = mixer(x)
        return self.head(x)


@pytest.mark.parametrize(("how", "gates_run"), [("plain", False), ("gated", True), ("branches", True)])
@torch.no_grad()
def test_what_is_used_elsewhere_runs(how: str, gates_run: bool):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Chain(how).eval()
    points = [Point(f"mixers.{i}.read") for i in range(3)]
    replayer = Replayer(model, NextTokenLoss(), points)
    edits = [Edit(point, Constant(torch.full((D,), 0.7))) for point in points]
    again, full, names = ran(replayer, edits)
    assert torch.equal(again, full)
    assert ("mixers.2.gate" in names) == gates_run
    assert replayer.path == "from a record, checked to the bit"
    assert not any("forward" in vars(module) for module in model.modules())


def test_gradients_of_a_constant_are_those_of_a_full_forward():
    model = build(StackConfig.of(LAYOUT, vocab_size=VOCAB, d_model=D), seed=0).eval().double()
    points = [Point(f"blocks.{i}.mixer.read") for i in (1, 3)]
    constants = [torch.full((4, 2), 0.3, dtype=torch.float64, requires_grad=True) for _ in points]
    edits = [Edit(point, Constant(constant)) for point, constant in zip(points, constants, strict=True)]
    replayer = Replayer(model, NextTokenLoss(), points)
    with torch.no_grad():
        tape = replayer.record(tokens())
    spared = torch.autograd.grad(replayer.run(tape, edits).per_sequence.sum(), constants)
    with edited(replayer.modules, edits):
        full = torch.autograd.grad(score(NextTokenLoss(), model, tokens()).per_sequence.sum(), constants)
    for one, other in zip(spared, full, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)

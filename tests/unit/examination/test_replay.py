"""A replay gives the same numbers as a full forward, and is refused where it cannot."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mnemoscope.contracts import Batch, ReadPoint, tap
from mnemoscope.examination import NextTokenLoss, Point
from mnemoscope.examination.interventions.reads import Constant, Intervention, Resample, Window, Zero
from mnemoscope.examination.running.editing import Edit, edited
from mnemoscope.examination.running.replay import Replayer
from mnemoscope.examination.subject.losses import score
from mnemoscope.models import StackConfig, build

LAYOUT = "(attention(window=4), gated_delta) * 2, gated_delta | attention, bank(n_slots=4)"
POINTS = {
    "blocks.1.mixer.read": (4, 2),
    "blocks.3.mixer.contribution": (8,),
    "blocks.4.mixer.memory.gate": (8,),
    "blocks.5.mixer.read": (8,),
}


def batch(seed: int = 0, size: int = 3, length: int = 12) -> Batch:
    drawn = np.random.default_rng(seed).integers(0, 11, (size, length + 1))
    return Batch(inputs=torch.from_numpy(drawn[:, :-1]), targets=torch.from_numpy(drawn[:, 1:]))


@pytest.fixture
def model() -> nn.Module:
    return build(StackConfig.of(LAYOUT, vocab_size=11, d_model=8), seed=0).eval()


@pytest.mark.parametrize("path", POINTS)
@pytest.mark.parametrize("kind", ["zero", "constant", "resample"])
@torch.no_grad()
def test_replay_equals_the_full_forward(model: nn.Module, path: str, kind: str):
    point = Point(path)
    intervention: Intervention = {
        "zero": Zero(),
        "constant": Constant(torch.full(POINTS[path], 0.3)),
        "resample": Resample(),
    }[kind]
    edits = [Edit(point, intervention)]
    replayer, data = Replayer(model, NextTokenLoss(), [Point(path) for path in POINTS]), batch()
    replayed = replayer.run(replayer.record(data), edits).per_sequence
    with edited(dict(model.named_modules()), edits):
        full = score(NextTokenLoss(), model, data).per_sequence
    assert replayer.path.startswith("from a record")
    assert torch.equal(replayed, full)
    assert not torch.equal(replayed, score(NextTokenLoss(), model, data).per_sequence)


@torch.no_grad()
def test_only_what_follows_is_computed(model: nn.Module):
    replayer, ran = Replayer(model, NextTokenLoss(), [Point("blocks.3.mixer.read")]), []
    tape = replayer.record(batch())
    edits = [Edit(Point("blocks.3.mixer.read"), Zero())]
    replayer.run(tape, edits)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            original = module.forward
            module.forward = lambda x, name=name, original=original: ran.append(name) or original(x)
    replayer.run(tape, edits)
    assert ran
    assert not any(name.startswith(("blocks.0", "blocks.1", "blocks.2", "blocks.3.mixer.qkv")) for name in ran)


@torch.no_grad()
def test_joint_edits_begin_at_the_earliest(model: nn.Module):
    points = [Point("blocks.1.mixer.read"), Point("blocks.5.mixer.read")]
    edits = [Edit(point, Zero()) for point in points]
    replayer, data = Replayer(model, NextTokenLoss(), points), batch()
    with edited(dict(model.named_modules()), edits):
        full = score(NextTokenLoss(), model, data).per_sequence
    assert torch.equal(replayer.run(replayer.record(data), edits).per_sequence, full)


@torch.no_grad()
def test_window_of_a_memory_beside_others(model: nn.Module):
    edits = [Edit(Point("blocks.1.mixer"), Window(2)), Edit(Point("blocks.4.mixer.beside.inner"), Window(3))]
    replayer, data = Replayer(model, NextTokenLoss(), [edit.point for edit in edits]), batch()
    with edited(dict(model.named_modules()), edits):
        full = score(NextTokenLoss(), model, data).per_sequence
    assert torch.equal(replayer.run(replayer.record(data), edits).per_sequence, full)


def test_gradient_reaches_the_constant_through_a_replay(model: nn.Module):
    point, constant = Point("blocks.3.mixer.read"), torch.full((4, 2), 0.5, requires_grad=True)
    replayer, data = Replayer(model, NextTokenLoss(), [point]), batch()
    loss = replayer.run(replayer.record(data), [Edit(point, Constant(constant))]).per_sequence.mean()
    (gradient,) = torch.autograd.grad(loss, constant)
    bumped = [torch.full((4, 2), 0.5), torch.full((4, 2), 0.5)]
    bumped[0][1, 1], bumped[1][1, 1] = 0.51, 0.49
    with torch.no_grad():
        ends = [replayer.run(replayer.record(data), [Edit(point, Constant(c))]).per_sequence.mean() for c in bumped]
    assert gradient[1, 1] == pytest.approx(float(ends[0] - ends[1]) / 2e-2, rel=0.05, abs=1e-5)


class InPlace(nn.Module):
    """The output of a module is changed after it was recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Embedding(11, 8), nn.Linear(8, 11)
        self.read = ReadPoint()

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.first(tokens)
        x += 1
        return self.second(self.read(x))


class Random(InPlace):
    def forward(self, tokens: Tensor) -> Tensor:
        x = self.first(tokens)
        return self.second(self.read(x + 0.1 * torch.rand_like(x)))


class Counting(InPlace):
    """Counts its calls where nobody looks."""

    calls = iter(range(1, 1000))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.second(self.read(self.first(tokens))) * next(self.calls)


class CountingOpenly(InPlace):
    calls = 0

    def forward(self, tokens: Tensor) -> Tensor:
        self.calls += 1
        return self.second(self.read(self.first(tokens))) * self.calls


class Tapped(InPlace):
    def forward(self, tokens: Tensor) -> Tensor:
        return self.second(tap("memory.read", self.first(tokens)))


@pytest.mark.parametrize(("kind", "why"), [(InPlace, "in place"), (Random, "random")])
@torch.no_grad()
def test_unsafe_models_run_in_full_and_say_why(kind: type[InPlace], why: str):
    with torch.random.fork_rng():
        model, data, point = kind().eval(), batch(), Point("read")
        replayer = Replayer(model, NextTokenLoss(), [point])
        effect = replayer.run(replayer.record(data), [Edit(point, Zero())]).per_sequence
        assert why in replayer.path
        expected = nn.functional.cross_entropy(
            model.second.bias.expand(36, 11), data.targets.flatten(), reduction="none"
        )
        torch.testing.assert_close(effect, expected.view(3, 12).mean(1))


@torch.no_grad()
def test_hidden_state_behind_the_site_is_noticed():
    replayer = Replayer(Counting().eval(), NextTokenLoss(), [Point("read")])
    replayer.run(replayer.record(batch()), [Edit(Point("read"), Zero())])
    assert "differs" in replayer.path


@torch.no_grad()
def test_a_count_in_an_attribute_is_put_back_before_every_pass():
    replayer, point = Replayer(CountingOpenly().eval(), NextTokenLoss(), [Point("read")]), Point("read")
    tapes = [replayer.record(batch(seed)) for seed in range(2)]
    once = replayer.run(tapes[0], [Edit(point, Zero())]).per_sequence
    assert torch.equal(replayer.run(tapes[0], [Edit(point, Zero())]).per_sequence, once)
    assert "differs" in replayer.path


@torch.no_grad()
def test_random_models_see_the_same_numbers_under_every_condition():
    with torch.random.fork_rng():
        replayer = Replayer(Random().eval(), NextTokenLoss(), [Point("read")])
        tape = replayer.record(batch())
        again = replayer.run(tape, []).per_sequence
        assert torch.equal(again, tape.scores.per_sequence)


@torch.no_grad()
def test_taps_are_edited_and_replayed():
    model, data = Tapped().eval(), batch()
    point = Point("memory.read", "tap")
    replayer = Replayer(model, NextTokenLoss(), [point])
    tape = replayer.record(data, keep=[point])
    assert torch.equal(tape.values[point][0], model.first(data.inputs))
    zeroed = replayer.run(tape, [Edit(point, Zero())]).per_sequence
    assert replayer.path.startswith("from a record")
    assert not torch.equal(zeroed, tape.scores.per_sequence)

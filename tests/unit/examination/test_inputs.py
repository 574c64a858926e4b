"""Points at the input of a module are seen, replaced and replayed, by position or by keyword, with heads or without."""

import pytest
import torch
from torch import Tensor, nn

from mnemoscope.examination.interventions.reads import Call, Constant, Resample, Zero
from mnemoscope.examination.running.editing import Edit, edited
from mnemoscope.examination.running.replay import Replayer
from mnemoscope.examination.subject.losses import NextTokenLoss
from mnemoscope.examination.subject.sites import Point


class Heads(nn.Module):
    """Normalises heads on one axis with batch and time, as gated delta nets do."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.out = nn.LayerNorm(4), nn.Linear(8, 8)

    def forward(self, hidden_states: Tensor, scale: float = 1.0) -> Tensor:
        normed = self.norm(input=scale * hidden_states.cumsum(1).reshape(-1, 4))
        return self.out(normed.reshape(hidden_states.shape))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mixer, self.head = nn.Embedding(11, 8), Heads(), nn.Linear(8, 11)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.mixer(hidden_states=self.embed(tokens), scale=0.5))


FLAT = Point("mixer.norm", "input", within="mixer")
PLAIN = Point("mixer.out", "input")
TOKENS = torch.arange(15).view(3, 5) % 11


@pytest.fixture
def model() -> Model:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Model().eval()


def by_hand(model: Model, point: Point, kind: str) -> Tensor:
    read = 0.5 * model.embed(TOKENS).cumsum(1)
    normed = model.mixer.norm(read.view(3, 5, 2, 4)).flatten(2)
    if point == PLAIN:
        normed = {"zero": 0 * normed, "constant": torch.arange(8.0).expand(3, 5, 8), "resample": normed.roll(1, 0)}[
            kind
        ]
    else:
        constant = torch.arange(8.0).view(2, 4).expand(3, 5, 2, 4)
        heads = {"zero": 0 * read, "constant": constant, "resample": read.roll(1, 0)}[kind]
        normed = model.mixer.norm(heads.reshape(3, 5, 2, 4)).flatten(2)
    return model.head(model.mixer.out(normed))


@pytest.mark.parametrize("kind", ["zero", "constant", "resample"])
@pytest.mark.parametrize("point", [FLAT, PLAIN])
@torch.no_grad()
def test_edits_of_inputs_by_hand(model: Model, point: Point, kind: str):
    constant = torch.arange(8.0).view(2, 4) if point == FLAT else torch.arange(8.0)
    edit = Edit(point, {"zero": Zero(), "constant": Constant(constant), "resample": Resample()}[kind])
    with edited(dict(model.named_modules()), [edit]):
        got = model(TOKENS)
    torch.testing.assert_close(got, by_hand(model, point, kind))
    replayer = Replayer(model, NextTokenLoss(), [FLAT, PLAIN])
    tape = replayer.record(TOKENS, keep=[FLAT, PLAIN])
    with edited(dict(model.named_modules()), [edit]):
        full = NextTokenLoss()(model, TOKENS)
    assert torch.equal(replayer.run(tape, [edit]).per_sequence, full)
    assert replayer.path.startswith("from a record")
    assert tape.values[FLAT][0].shape == (3, 4, 2, 4)
    torch.testing.assert_close(tape.values[FLAT][0].flatten(2), 0.5 * model.embed(TOKENS[:, :-1]).cumsum(1))


@torch.no_grad()
def test_what_precedes_the_input_is_not_computed_again(model: Model):
    replayer = Replayer(model, NextTokenLoss(), [PLAIN])
    tape, ran = replayer.record(TOKENS), []
    replayer.run(tape, [Edit(PLAIN, Zero())])
    for name, module in model.named_modules():
        if isinstance(module, (nn.Embedding, nn.LayerNorm, nn.Linear)):
            original = module.forward
            module.forward = lambda *a, name=name, original=original, **k: ran.append(name) or original(*a, **k)
    replayer.run(tape, [Edit(PLAIN, Zero())])
    assert ran == ["mixer.out", "head"]


@torch.no_grad()
def test_hooks_are_gone_afterwards(model: Model):
    with pytest.raises(KeyError), edited(dict(model.named_modules()), [Edit(FLAT, Zero()), Edit(PLAIN, Zero())]):
        raise KeyError
    assert not any(module._forward_pre_hooks for module in model.modules())


class Silent(nn.Module):
    def forward(self) -> Tensor:
        return torch.zeros(1)


def test_a_module_without_tensors_has_no_input():
    silent = Silent()
    with (
        edited({"": silent}, [Edit(Point("", "input"), Zero())]),
        pytest.raises(ValueError, match="called with a tensor, got none"),
    ):
        silent()


def test_a_point_at_an_input_has_no_module_to_run_again(model: Model):
    class Seeing:
        call: Call

        def apply(self, call: Call) -> Tensor:
            self.call = call
            return call.value

    seeing = Seeing()
    with edited(dict(model.named_modules()), [Edit(PLAIN, seeing)]):
        model(TOKENS)
    assert seeing.call.module is None

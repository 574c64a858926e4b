"""Swapped and frozen histories are what surgery on an explicit state gives."""

import pytest
import torch
from torch import Tensor, nn

from mnemoscope.examination import NextTokenLoss, Point
from mnemoscope.examination.interventions.histories import HistorySwap, WriteFreeze
from mnemoscope.examination.interventions.reads import Call, unfolded
from mnemoscope.examination.running.editing import Edit, edited
from mnemoscope.examination.running.replay import Replayer
from mnemoscope.examination.subject.losses import score
from mnemoscope.memories.gla import GLA, GLAConfig
from mnemoscope.models import StackConfig, build

B, T, D = 3, 10, 4


class Gru(nn.Module):
    """A state that is not linear in what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.GRU(D, D, batch_first=True)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.inner(x, state)


MODULES = {
    "gru": Gru,
    "gla": lambda: GLA(GLAConfig(n_heads=2), D),
    "gla with convolution": lambda: GLA(GLAConfig(n_heads=2, convolution=3), D),
}


@pytest.fixture(params=list(MODULES))
def module(request: pytest.FixtureRequest) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MODULES[request.param]().double().eval()


def draw(seed: int, length: int = T) -> Tensor:
    return torch.randn(B, length, D, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def called(module: nn.Module, x: Tensor) -> Call:
    return Call(module, (x,), {}, module(x)[0])


@pytest.mark.parametrize(("at", "local"), [(1, 0), (4, 0), (T - 1, 0), (4, 1), (4, 3), (T - 1, 3)])
@torch.no_grad()
def test_swap_is_state_surgery(module: nn.Module, at: int, local: int):
    x, donor = draw(1), draw(2, T + 3)
    _, state = module(donor[:, : at - local])
    spliced = module(x[:, at - local :], state)[0][:, local:]
    expected = torch.cat([module(x)[0][:, :at], spliced], dim=1)
    got = HistorySwap(donor, at, local).apply(called(module, x))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-9)
    assert not torch.allclose(got[:, at:], module(x)[0][:, at:], atol=1e-6)


@torch.no_grad()
def test_swap_with_another_row_of_the_batch(module: nn.Module):
    x = draw(1)
    by_row = HistorySwap(1, 4).apply(called(module, x))
    assert torch.equal(by_row, HistorySwap(x.roll(1, 0), 4).apply(called(module, x)))
    own = HistorySwap(x, 4).apply(called(module, x))
    torch.testing.assert_close(own, module(x)[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("at", [1, 4, T - 2])
@torch.no_grad()
def test_freeze_is_stepping_from_one_state(module: nn.Module, at: int):
    x = draw(1)
    before, state = module(x[:, :at])
    steps = [module(x[:, p : p + 1], state)[0] for p in range(at, T)]
    got = WriteFreeze(at).apply(called(module, x))
    torch.testing.assert_close(got, torch.cat([before, *steps], dim=1), rtol=0, atol=1e-9)
    assert not torch.allclose(got[:, at + 1 :], module(x)[0][:, at + 1 :], atol=1e-6)


@pytest.mark.parametrize("local", [1, 2, 4])
@pytest.mark.parametrize("limit", [1, 90, 2**24])
@torch.no_grad()
def test_freeze_in_pieces_position_by_position(
    module: nn.Module, local: int, limit: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("mnemoscope.examination.interventions.reads.MAX_UNFOLDED_VALUES", limit)
    x, at = draw(1), 3
    seen = [torch.cat([x[:, : min(at, p)], x[:, max(min(at, p), p - local + 1) : p + 1]], dim=1) for p in range(T)]
    expected = torch.stack([module(part)[0][:, -1] for part in seen], dim=1)
    torch.testing.assert_close(WriteFreeze(at, local).apply(called(module, x)), expected, rtol=0, atol=1e-9)


@torch.no_grad()
def test_freeze_from_the_start_leaves_windows(module: nn.Module):
    call = called(module, draw(1))
    torch.testing.assert_close(WriteFreeze(0, 3).apply(call), unfolded(call, 3), rtol=0, atol=1e-12)
    assert torch.equal(WriteFreeze(T - 2, 2).apply(call), call.value)


@pytest.mark.parametrize("kind", ["swap", "freeze"])
@torch.no_grad()
def test_replay_equals_the_full_forward(kind: str):
    model = build(StackConfig.of("(gated_delta, attention) * 2", vocab_size=11, d_model=8), seed=0).eval()
    tokens = torch.randint(0, 11, (3, 13), generator=torch.Generator().manual_seed(0))
    edits = [Edit(Point("blocks.2.mixer"), HistorySwap(1, 5) if kind == "swap" else WriteFreeze(5))]
    replayer = Replayer(model, NextTokenLoss(), [edits[0].point])
    replayed = replayer.run(replayer.record(tokens), edits).per_sequence
    with edited(dict(model.named_modules()), edits):
        full = score(NextTokenLoss(), model, tokens).per_sequence
    assert replayer.path.startswith("from a record")
    assert torch.equal(replayed, full)
    assert not torch.equal(full, score(NextTokenLoss(), model, tokens).per_sequence)


@torch.no_grad()
def test_refusals_say_why(module: nn.Module):
    x = draw(1)
    call = called(module, x)
    with pytest.raises(ValueError, match="more than local"):
        HistorySwap(x, 2, 2)
    with pytest.raises(ValueError, match="a token sees itself"):
        WriteFreeze(2, 0)
    with pytest.raises(ValueError, match="donor must be"):
        HistorySwap(x[:2], 4).apply(call)
    with pytest.raises(ValueError, match="donor must be"):
        HistorySwap(x[:, :3], 4).apply(call)
    for intervention in (HistorySwap(x, T), WriteFreeze(T)):
        with pytest.raises(ValueError, match="one of the 10 tokens"):
            intervention.apply(call)
    with pytest.raises(ValueError, match="no module"):
        WriteFreeze(2).apply(Call(None, (), {}, x))

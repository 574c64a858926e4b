"""Expert choice: slots take their share of a chunk, writes wait for its end, and nothing sees the future."""

import pytest
import torch
from torch import Tensor, nn

from mnemoscope.memories import SlotMemory, SlotMemoryConfig
from mnemoscope.training.remedies import ExpertChoice
from tests.tolerances import CAUSAL, FLOAT64, assert_close

D, C = 8, 4


def slots(routing: str = "softmax") -> SlotMemory:
    torch.manual_seed(0)
    in_chunks = {"chunk_tokens": C, "slots_per_token": 2} if routing == "expert_choice" else {}
    return SlotMemory(SlotMemoryConfig(n_slots=3, routing=routing, **in_chunks), D).double()  # pyright: ignore[reportArgumentType]


def inputs(n_tokens: int) -> Tensor:
    return torch.randn(2, n_tokens, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def under_choice(model: nn.Module, **settings: object) -> nn.Module:
    remedy = ExpertChoice(chunk_tokens=C, slots_per_token=2, **settings)  # pyright: ignore[reportArgumentType]
    remedy.attach(model).on_step(1, 1)
    return model


class ReadAtOnce(nn.Module):
    """Reads three vectors under shares that are used at once."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Sequential(nn.Linear(D, 3), nn.Softmax(-1)).double()
        self.bank = nn.Parameter(torch.randn(3, D, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.router(x) @ self.bank


class WrittenInChunks(ReadAtOnce):
    """A token reads the sum of what was written before its chunk."""

    def forward(self, x: Tensor) -> Tensor:
        written = torch.einsum("btm,btd->btmd", self.router(x), x)
        chunks = [piece.sum(1, keepdim=True) for piece in written.split(C, dim=1)]
        before = torch.cat([torch.zeros_like(chunks[0]), *chunks[:-1]], dim=1).cumsum(1)
        return torch.einsum("btd,btmd->btm", x, before.repeat_interleave(C, dim=1)[:, : x.shape[1]])


@pytest.mark.parametrize("n_tokens", [1, 4, 11])
def test_slots_under_choice_are_those_that_were_built_with_it(n_tokens: int):
    usual, built, x = slots(), slots("expert_choice"), inputs(n_tokens)
    built.load_state_dict(usual.state_dict())
    without = usual(x)[0]
    with_choice = under_choice(usual)(x)[0]
    assert_close(with_choice, built(x)[0], FLOAT64)
    assert not torch.allclose(with_choice, without)
    usual.eval()
    assert torch.equal(usual(x)[0], without)


def test_a_call_that_fails_leaves_no_trace():
    memory = slots()
    before = memory.in_chunks, memory.chunk_tokens, memory.capacity
    under_choice(memory)
    with pytest.raises(RuntimeError, match="shapes"):
        memory(inputs(3)[..., :5])
    assert (memory.in_chunks, memory.chunk_tokens, memory.capacity) == before


def changes(model: nn.Module, changed: int, n_tokens: int) -> list[int]:
    """Tokens whose outputs differ once one token has."""
    x = inputs(n_tokens)
    other = x.clone()
    other[:, changed] = -2 * other[:, changed]
    ours, theirs = (model(given)[0] if isinstance(model, SlotMemory) else model(given) for given in (x, other))
    return (ours - theirs).abs().amax((0, 2)).gt(CAUSAL.absolute).nonzero().flatten().tolist()


@pytest.mark.parametrize("changed", [0, 3, 5, 11])
def test_a_token_reaches_itself_and_what_comes_after_its_chunk(changed: int):
    delayed, after = under_choice(WrittenInChunks(), sites=("router",), delayed=True), (changed // C + 1) * C
    for model in (under_choice(slots()), delayed):
        reached = changes(model, changed, n_tokens=16)
        assert set(reached) <= {changed, *range(after, 16)}
        assert after == 12 or after in reached


@pytest.mark.parametrize("changed", [0, 3, 5, 11])
def test_ahead_of_time_a_token_reaches_itself_and_later_tokens_of_its_chunk_and_the_next(changed: int):
    reached = changes(under_choice(ReadAtOnce(), sites=("router",)), changed, n_tokens=20)
    assert changed in reached
    assert set(reached) <= set(range(changed, (changed // C + 2) * C))


def test_choice_within_a_chunk_is_not_causal_where_shares_are_used_at_once():
    model = under_choice(ReadAtOnce(), sites=("router",), delayed=True)
    assert any(t < changed for changed in range(8) for t in changes(model, changed, n_tokens=8))


def test_what_is_not_taken_is_zero_and_has_no_gradient():
    model = nn.Sequential(nn.Identity())
    shares = torch.tensor([0.7, 0.2, 0.1, 0.6, 0.1, 0.3]).view(1, 6, 1).repeat(1, 1, 2).requires_grad_()
    remedy = ExpertChoice(sites=("0",), chunk_tokens=3, delayed=True)
    treatment = remedy.attach(model)
    treatment.on_step(1, 1)
    left = model(shares)
    left.sum().backward()
    taken = [1.0, 1, 0, 1, 0, 1]  # two of each chunk of three, for two slots
    assert shares.grad is not None
    assert shares.grad[0, :, 0].tolist() == taken
    torch.testing.assert_close(left, shares.detach() * shares.grad)
    assert treatment.figures() == {"strength": 1.0, "drawn": 1.0}


def test_strength_is_the_share_of_the_steps():
    model, x = nn.Sequential(nn.Identity()), torch.rand(1, 8, 3)
    treatment = ExpertChoice(sites=("0",), strength=0.5, final_strength=0.0, shape="linear").attach(model)
    torch.manual_seed(0)
    drawn = []
    for step in range(1, 401):
        treatment.on_step(step, 400)
        assert torch.equal(model(x), x) is not treatment.drawn
        drawn.append(treatment.drawn)
    assert 30 < sum(drawn[:100]) < 60
    assert sum(drawn[-100:]) < 20
    before = torch.get_rng_state()
    treatment.on_step(400, 400)
    assert torch.equal(torch.get_rng_state(), before)
    assert not treatment.drawn


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strength": 1.5}, "ExpertChoice.strength: is a probability"),
        ({"chunk_tokens": 0}, "ExpertChoice.chunk_tokens: must be at least 1, got 0"),
        ({"slots_per_token": 0.0}, "ExpertChoice.slots_per_token: must be at least 0.001, got 0.0"),
    ],
)
def test_numbers_that_cannot_be_are_refused(settings: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        ExpertChoice(**settings)  # pyright: ignore[reportArgumentType]


def test_places_that_cannot_choose_are_refused():
    with pytest.raises(ValueError, match="the model has no slot memory; build it with"):
        ExpertChoice().attach(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"0 must have routing=\"softmax\", got 'expert_choice'"):
        ExpertChoice().attach(nn.Sequential(slots("expert_choice")))
    model = nn.Sequential(nn.Identity())
    ExpertChoice(sites=("0",)).attach(model)
    with pytest.raises(ValueError, match=r"must have three axes, batch, time and slots, got \(2, 3\)"):
        model(torch.ones(2, 3))

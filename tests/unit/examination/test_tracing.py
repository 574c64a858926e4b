"""A memory of the token before, whose worth at every position is known."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.contracts import Batch, ReadPoint, tap
from mnemoscope.examination.budget import Budget
from mnemoscope.examination.protocol.traced import _added
from mnemoscope.examination.tracing import trace_model
from mnemoscope.memories import build_memory
from mnemoscope.memories.contextual import ContextualConfig
from mnemoscope.memories.persistent import PersistentConfig

N, T = 4, 12
SMALL = Budget(n_calibration=64, fit_steps=40, joint_fit_steps=20)


class Before(nn.Module):
    """Reads the token before; what it keeps is the present one."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.state, self.addressing = ReadPoint(), ReadPoint(), ReadPoint()

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.diag(torch.ones(x.shape[1] - 1), -1).expand(len(x), 2, -1, -1)
        return self.read(self.addressing(weights).mean(1) @ self.state(x))


class Idle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.read = ReadPoint()

    def forward(self, x: Tensor) -> Tensor:
        return self.read(torch.ones_like(x))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.memory, self.idle = Before(), Idle()
        self.scale = nn.Parameter(torch.tensor(4.0))

    def forward(self, tokens: Tensor) -> Tensor:
        x = F.one_hot(tokens, N).float()
        return self.scale * self.memory(x) + 0 * self.idle(x)


def batch(n: int, seed: int, length: int = T) -> Batch:
    tokens = torch.randint(N, (n, length), generator=torch.Generator().manual_seed(seed))
    before = torch.cat([torch.full((n, 1), -100), tokens[:, :-1]], dim=1)
    return Batch(inputs=tokens, targets=before)


CALIBRATION = [batch(16, seed) for seed in range(4)]


@pytest.mark.parametrize("by", ["optimal_constant", "mean", "resample"])
def test_each_token_costs_what_the_memory_told(by):
    model, one = Model(), batch(1, 9)
    found = trace_model(model, one, CALIBRATION, replaced_by=by, budget=SMALL)
    memory, idle, together = found.sites
    own = math.log(1 + 3 * math.exp(-4))
    assert found.losses[0] is None
    assert found.losses[1:] == pytest.approx([own] * (T - 1), abs=1e-5)
    assert idle.losses[1:] == pytest.approx(found.losses[1:], abs=1e-5)
    assert together.members == ["memory", "idle"]
    assert together.losses[1:] == pytest.approx(memory.losses[1:], abs=0.05)
    if by == "resample":  # right by luck, or wrong by as much as it was sure: the mean over eight sequences
        assert {round((loss - own) / 4 * 8) for loss in memory.losses[1:]} <= set(range(9))
        assert max(memory.losses[1:]) > 1.5
    else:
        assert memory.losses[1:] == pytest.approx([math.log(N)] * (T - 1), abs=0.35)


def test_what_was_written_read_and_looked_at():
    model, one = Model(), batch(1, 9)
    memory = trace_model(model, one, CALIBRATION, budget=SMALL).sites[0]
    tokens = one.inputs[0].tolist()
    assert memory.read == pytest.approx([0.0] + [1.0] * (T - 1))
    changed = [math.sqrt(2) * (a != b) for a, b in itertools.pairwise(tokens)]
    assert memory.written == pytest.approx([1.0, *changed])
    assert [[(a.at, a.weight) for a in at] for at in memory.addresses] == [[]] + [[(i, 1.0)] for i in range(T - 1)]
    assert memory.n_addresses == T
    assert memory.unmeasured == {}


def test_what_cannot_be_had_says_why():
    idle = trace_model(Model(), batch(1, 9), CALIBRATION, budget=SMALL).sites[1]
    assert idle.written is None
    assert idle.addresses is None
    assert "no step" in idle.unmeasured["written"]
    assert "no distribution" in idle.unmeasured["addresses"]


def test_the_model_comes_back_as_it_was():
    model = Model().train()
    trace_model(model, batch(1, 9), CALIBRATION, budget=SMALL)
    assert model.training
    assert model.memory.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert model.scale.requires_grad
    assert model.scale.grad is None


class Tapped(nn.Module):
    def forward(self, tokens: Tensor) -> Tensor:
        x = F.one_hot(tokens, N).float()
        return 4 * tap("layer.read", F.pad(tap("layer.state", x)[:, :-1], (0, 0, 1, 0)))


def test_taps_are_traced_too():
    (site,) = trace_model(Tapped(), batch(1, 9), CALIBRATION, budget=SMALL).sites
    assert site.name == "layer"
    assert site.written[0] == pytest.approx(1.0)
    assert site.read == pytest.approx([0.0] + [1.0] * (T - 1))


class Around(nn.Module):
    """Around a memory of ours."""

    def __init__(self, config) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.memory = nn.Embedding(N, 8), build_memory(config, 8)
        self.out = nn.Linear(8, N)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(self.memory(self.embed(tokens))[0])


def test_a_memory_that_keeps_pairs_writes_one_a_token():
    (site,) = trace_model(Around(ContextualConfig(n_heads=2)), batch(1, 9), CALIBRATION, budget=SMALL).sites
    assert len(site.written) == T
    assert min(site.written) > 0
    # A pair's key and value are new with every token: what was kept before does not count again.
    assert max(site.written[2:]) < 3 * min(site.written[2:])
    assert all(place.at < i for i, places in enumerate(site.addresses) for place in places)


def test_learned_slots_are_not_written_to():
    (site,) = trace_model(Around(PersistentConfig(n_heads=2)), batch(1, 9), CALIBRATION, budget=SMALL).sites
    assert site.written is None
    assert "learned" in site.unmeasured["written"]


def test_what_moved_on_or_grew_is_only_what_is_new():
    old = torch.arange(6.0).view(1, 3, 2)
    new = torch.tensor([[[9.0, 9.0]]])
    assert torch.equal(_added(old, torch.cat([old, new], dim=1)), new)
    assert torch.equal(_added(old, torch.cat([old[:, 1:], new], dim=1)), new)
    assert torch.equal(_added(old, 2 * old), old.double())


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="at least 2 batches of other sequences"):
        trace_model(Model(), batch(1, 9), CALIBRATION[:1])
    with pytest.raises(ValueError, match="one sequence is traced, got a batch of 2"):
        trace_model(Model(), batch(2, 9), CALIBRATION, replaced_by="mean")
    with pytest.raises(ValueError, match="these have 12 tokens, this one 20"):
        trace_model(Model(), batch(1, 9, 20), CALIBRATION, replaced_by="resample")
    with pytest.raises(ValueError, match="must know positions"):
        trace_model(Model(), batch(1, 9), CALIBRATION, loss=lambda model, of: model(of.inputs).mean((1, 2)))

"""The whole examination: on models that were not written here, with any loss, and with bad input."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mnemoscope as ms
from mnemoscope.contracts import IGNORE, Batch
from mnemoscope.examination import Budget, examine
from mnemoscope.examination.protocol.conditions import ROUTES, coalitions, profile
from mnemoscope.examination.running.replay import Replayer
from mnemoscope.examination.subject.losses import NextTokenLoss, constant_output_scores, score
from mnemoscope.examination.subject.sites import Point
from mnemoscope.models import StackConfig, build

TINY = Budget(n_calibration=16, n_test=24, fit_steps=6, joint_fit_steps=3, windows=(1, 2), n_resamples=200)


def batches(n: int = 6, size: int = 8, length: int = 12) -> list[Batch]:
    drawn = np.random.default_rng(0).integers(0, 11, (n, size, length + 1))
    return [Batch(inputs=torch.from_numpy(x[:, :-1]), targets=torch.from_numpy(x[:, 1:])) for x in drawn]


class Recurrent(nn.Module):
    """A user's model: an LSTM beside attention, unannounced, for regression."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.memory = nn.LSTM(8, 8, batch_first=True)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.out = nn.Linear(8, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        remembered, _ = self.memory(x)
        future = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        attended, _ = self.attention(x, x, x, attn_mask=future, need_weights=False)
        return self.out(x + remembered + attended).squeeze(-1)


def squared_error(model: nn.Module, batch: Batch) -> Tensor:
    return (model(batch.inputs) - batch.targets / 11.0).square().mean(1)


@pytest.fixture
def recurrent() -> Recurrent:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Recurrent()


def test_a_users_model_with_a_users_loss(recurrent: Recurrent):
    examination = examine(recurrent, batches(), loss=squared_error, sites=["memory"], routes=["attention"], budget=TINY)
    (site,) = examination.sites
    assert site.module == "LSTM"
    assert site.horizon_method == "unfolded"
    assert [point.window for point in site.horizon] == [1, 2, 4]
    assert examination.constant_output_loss is None
    assert examination.replay.startswith("from a record")
    assert examination.routes[0].name == "attention"
    with torch.no_grad():
        test = batches()[2:5]
        base = torch.cat([squared_error(recurrent, batch) for batch in test])
    assert examination.base_loss.value == pytest.approx(float(base.mean()))


def test_zero_effect_equals_zeroing_by_hand(recurrent: Recurrent):
    examination = examine(recurrent, batches(), loss=squared_error, sites=["memory"], routes=["attention"], budget=TINY)
    test = batches()[2:5]
    with torch.no_grad():
        base = torch.cat([squared_error(recurrent, batch) for batch in test])
        handle = recurrent.memory.register_forward_hook(lambda m, a, output: (0 * output[0], output[1]))
        zeroed = torch.cat([squared_error(recurrent, batch) for batch in test])
        handle.remove()
    zero = examination.sites[0].effects["read"]["zero"]
    assert zero.value == pytest.approx(float((zeroed - base).mean()), rel=1e-5)
    assert zero.low <= zero.value <= zero.high


def test_horizon_of_an_unannounced_module_by_hand(recurrent: Recurrent):
    examination = examine(recurrent, batches(), loss=squared_error, sites=["memory"], routes=["attention"], budget=TINY)

    def amnesic(module: nn.LSTM, args: tuple[Tensor], output: tuple[Tensor, object]):
        (x,) = args
        rows = [module.forward(x[:, max(0, t - 1) : t + 1])[0][:, -1] for t in range(x.shape[1])]
        return torch.stack(rows, dim=1), output[1]

    test = batches()[2:5]
    with torch.no_grad():
        base = torch.cat([squared_error(recurrent, batch) for batch in test])
        handle = recurrent.memory.register_forward_hook(amnesic)
        cut = torch.cat([squared_error(recurrent, batch) for batch in test])
        handle.remove()
    horizon = {point.window: point.effect.value for point in examination.sites[0].horizon}
    assert horizon[2] == pytest.approx(float((cut - base).mean()), rel=1e-4, abs=1e-7)


def test_unknown_routes_give_effects_without_verdicts(recurrent: Recurrent):
    examination = examine(recurrent, batches(), loss=squared_error, sites=["memory"], budget=TINY)
    assert not examination.routes_known
    assert examination.sites[0].share is None
    assert examination.sites[0].verdict in (None, "inconclusive", "local-only", "load-bearing")


def test_a_module_that_sees_the_future_has_no_horizon(recurrent: Recurrent):
    recurrent.memory = nn.LSTM(8, 4, batch_first=True, bidirectional=True)
    examination = examine(recurrent, batches(), loss=squared_error, sites=["memory"], routes=[], budget=TINY)
    assert examination.sites[0].horizon == []
    assert any("later inputs" in warning for warning in examination.warnings)


def test_same_seed_same_record(recurrent: Recurrent):
    first, second = (
        examine(recurrent, batches(), loss=squared_error, sites=["memory"], routes=["attention"], budget=TINY)
        for _ in range(2)
    )
    assert first.model_dump(exclude={"seconds"}) == second.model_dump(exclude={"seconds"})


@pytest.mark.parametrize(
    "layout",
    [
        "gated_delta, attention(window=4)",
        pytest.param("bank(n_slots=4) | attention, gated_delta", marks=pytest.mark.long),
    ],
)
def test_our_stacks_are_examined_at_both_loci(layout: str):
    model = build(StackConfig.of(layout, vocab_size=11, d_model=8), seed=0)
    examination = ms.examine(model, batches(), budget=TINY)
    for site in examination.sites:
        assert set(site.effects) == {"read", "contribution"}
        assert {"optimal_constant", "zero", "mean", "resample"} <= set(site.effects["contribution"])
        assert site.verdict is not None
    assert examination.base is not None
    assert examination.base.positions == list(range(12))
    assert np.mean(examination.base.loss) == pytest.approx(examination.base_loss.value, rel=1e-5)


def test_banks_together_are_held_against_their_mean_slots():
    """They have no history to cut, so that without it nothing could say that a level of banks holds anything."""
    model = build(StackConfig.of("bank(n_slots=3), bank(n_slots=3), gated_delta", vocab_size=11, d_model=8), seed=0)
    groups = {"banks": ["blocks.[01].mixer"], "mixed": ["blocks.[12].mixer"]}
    examination = ms.examine(model, batches(), groups=groups, budget=TINY)
    compared = {group.name: {each.name for each in group.comparisons} for group in examination.groups}
    assert "single_vector" in compared["banks"]
    assert "single_vector" not in compared["mixed"]


def test_shares_of_memories_and_routes_add_up(recurrent: Recurrent):
    model = build(StackConfig.of("gated_delta, attention", vocab_size=11, d_model=8), seed=0)
    as_routes = ["blocks.0.mixer"]
    one = examine(model, batches(), local_window=1, budget=TINY)
    other = examine(model, batches(), sites=["blocks.1.mixer"], routes=as_routes, local_window=1, budget=TINY)
    assert one.headroom.value > 0 or one.memories_share is None
    assert other.routes[0].name == "blocks.0.mixer"


def test_coalitions_are_those_that_shares_and_conditional_effects_need():
    a, b, c = (frozenset({name}) for name in "abc")
    groups = coalitions([a, b, c], a | b | c, has_routes=True)
    assert frozenset({"a", "b", "c", ROUTES}) in groups
    assert frozenset({"b", "c", ROUTES}) in groups
    assert frozenset({"a", ROUTES}) in groups
    assert len(groups) == 3 + 3 + 1 + 1 + 3 + 3 + 1
    assert coalitions([a], a, has_routes=False) == [a]


def test_constant_output_loss_is_that_of_the_frequencies_of_all_targets():
    inputs = torch.zeros(2, 4, dtype=torch.int64)
    fitted = Batch(inputs=inputs, targets=torch.tensor([[0, 0, 0, 1], [0, IGNORE, 0, 1]]))
    held_out = Batch(inputs=inputs, targets=torch.tensor([[0, 1, IGNORE, IGNORE], [0, 0, 0, 0]]))
    (scores,) = constant_output_scores([fitted], [held_out])
    p = np.array([10, 3]) / 13
    expected = torch.tensor([-(np.log(p[0]) + np.log(p[1])) / 2, -np.log(p[0])], dtype=torch.float64)
    torch.testing.assert_close(scores.per_sequence, expected)


def test_the_callers_no_grad_does_not_stop_the_fit(recurrent: Recurrent):
    arguments = {"loss": squared_error, "sites": ["memory"], "routes": [], "budget": TINY}
    expected = examine(recurrent, batches(), **arguments).sites
    with torch.no_grad():
        assert examine(recurrent, batches(), **arguments).sites == expected


class Division(nn.Module):
    """Divides by the norm of what it read: zero in its place is no number."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.read, self.out = nn.Embedding(11, 8), ms.ReadPoint(), nn.Linear(8, 11)
        self.addressing = ms.ReadPoint()

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.read(self.embed(tokens))
        return self.out(x / x.norm(dim=-1, keepdim=True))


def test_interventions_without_a_finite_loss_are_left_out_and_root_memories_found():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        examination = examine(Division(), batches(), routes=[], budget=TINY)
    (site,) = examination.sites
    assert site.name == "model"
    assert site.module == "Division"
    assert "zero" not in site.effects["read"]
    assert any("zero" in warning and "not finite" in warning for warning in examination.warnings)


class Leaving(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)

    def forward(self, tokens: Tensor) -> Tensor:
        self.left = self.embed(tokens)
        return self.left * 2


class SideChannel(nn.Module):
    """Reads what an earlier module left in an attribute: a replay of that module leaves nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.read, self.out = Leaving(), ms.ReadPoint(), nn.Linear(8, 11)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(self.read(self.first(tokens)) + self.first.left.flip(1))


@pytest.mark.parametrize("tape_bytes", [0, 2**30])
def test_state_left_in_an_attribute_is_never_replayed(tape_bytes: int):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = SideChannel()
    examination = examine(model, batches(), routes=[], budget=replace(TINY, tape_bytes=tape_bytes))
    assert "differs" in examination.replay


def test_a_module_called_twice_is_profiled_over_both_calls():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.memory, self.out = nn.Embedding(11, 8), nn.Linear(8, 8), nn.Linear(8, 11)

        def forward(self, tokens: Tensor) -> Tensor:
            x = self.embed(tokens)
            return self.out(self.memory(self.memory(x) + 3))

    model, point = Twice().eval(), Point("memory")
    replayer, seen = Replayer(model, NextTokenLoss(), [point]), []
    handle = model.memory.register_forward_hook(lambda m, a, output: seen.append(output.detach()))
    tape = replayer.record(batches()[0], keep=[point])
    handle.remove()
    torch.testing.assert_close(profile([tape], point).mean, torch.stack(seen).mean((0, 1, 2)))


@pytest.mark.parametrize("window", [0, -1, 12, 100])
def test_local_windows_out_of_range_are_refused(recurrent: Recurrent, window: int):
    with pytest.raises(ValueError, match="local_window must be at least 1 and below the 12 tokens"):
        examine(recurrent, batches(), loss=squared_error, sites=["memory"], local_window=window, budget=TINY)


def test_a_module_that_objects_to_other_lengths_has_no_horizon(recurrent: Recurrent):
    class Fixed(nn.LSTM):
        def forward(self, x: Tensor):
            assert x.shape[1] == 12
            return super().forward(x)

    recurrent.memory = Fixed(8, 8, batch_first=True)
    examination = examine(recurrent, batches(), loss=squared_error, sites=["memory"], routes=[], budget=TINY)
    assert examination.sites[0].horizon_method == "none"
    assert any("AssertionError" in warning for warning in examination.warnings)


class HuggingFaceLike(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stack = build(StackConfig.of("attention, gated_delta", vocab_size=11, d_model=8), seed=0)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None):
        from types import SimpleNamespace

        return SimpleNamespace(logits=self.stack(input_ids))


def test_tokens_batches_and_dictionaries_have_one_loss():
    plain, wrapped = (
        build(StackConfig.of("attention, gated_delta", vocab_size=11, d_model=8), seed=0),
        HuggingFaceLike(),
    )
    tokens = torch.from_numpy(np.random.default_rng(0).integers(0, 11, (4, 9)))
    loss = NextTokenLoss()
    with torch.no_grad():
        by_batch = loss(plain, Batch(inputs=tokens[:, :-1], targets=tokens[:, 1:]))
        torch.testing.assert_close(loss(plain, tokens), by_batch)
        torch.testing.assert_close(loss(wrapped, {"input_ids": tokens}), by_batch)
        labels = tokens.clone()
        labels[:, :5] = IGNORE
        masked = loss(wrapped, {"input_ids": tokens, "labels": labels})
        tail = Batch(inputs=tokens[:, :-1], targets=tokens[:, 1:].clone())
        tail.targets[:, :4] = IGNORE
        torch.testing.assert_close(masked, loss(plain, tail))
        padded = {"input_ids": tokens, "attention_mask": (labels != IGNORE).long()}
        torch.testing.assert_close(loss(wrapped, padded), masked)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batches": []}, "at least 4 batches"),
        ({"batches": batches(6, size=1)}, "at least 2 sequences"),
        ({"loss": lambda model, batch: model(batch.inputs).mean()}, "one value per sequence"),
        ({"sites": ["memry"]}, "nearest: memory"),
        ({"sites": None}, "found no memory site"),
        ({"loss": None}, "logits"),
        ({"batches": ["text"] * 6, "loss": None}, "input_ids"),
    ],
)
def test_bad_input_is_refused_with_the_way_out(recurrent: Recurrent, change: dict[str, object], message: str):
    arguments = {"batches": batches(), "loss": squared_error, "sites": ["memory"], "routes": [], "budget": TINY}
    arguments |= change
    with pytest.raises(ValueError, match=message):
        examine(recurrent, arguments.pop("batches"), **arguments)


def test_a_sequence_without_scored_position_is_named():
    model = build(StackConfig.of("gated_delta", vocab_size=11, d_model=8), seed=0)
    empty = Batch(inputs=torch.zeros(2, 3, dtype=torch.int64), targets=torch.tensor([[1, 2, 3], [IGNORE] * 3]))
    with pytest.raises(ValueError, match="sequence 1 of a batch has none"):
        score(NextTokenLoss(), model, empty)


@pytest.mark.parametrize("change", [{"n_test": 1}, {"fit_steps": 0}, {"n_resamples": 10}, {"windows": (0,)}])
def test_bad_budgets_are_refused(change: dict[str, object]):
    with pytest.raises(ValueError, match="budget"):
        Budget(**change)

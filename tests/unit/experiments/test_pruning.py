"""Pruning: gates against numbers by hand, a decorative branch beside a necessary one, masks that hold, the verbs."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mnemoscope.cli.lottery import Lottery as LotteryVerb
from mnemoscope.cli.prune import Prune
from mnemoscope.cli.rows import numbers, print_rows
from mnemoscope.contracts import Batch
from mnemoscope.experiments.trained import lottery as tickets
from mnemoscope.experiments.trained import pruning_gates as gates
from mnemoscope.experiments.trained.lottery import LotteryConfig, lottery, magnitude_masks, with_masks
from mnemoscope.experiments.trained.pruning_gates import (
    GatedRow,
    PruneConfig,
    Pruning,
    conclusion,
    open_probability,
    prune,
    prune_run,
    pruning_table,
    sampled_gate,
    settled_gate,
)
from mnemoscope.models import StackConfig, build
from mnemoscope.runs import Estimate, RunDirectory
from mnemoscope.tasks import MqarConfig
from mnemoscope.training import Recipe, TrainConfig, load_run, train_recipe


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_gates_against_numbers_by_hand():
    # 2/3 ln(0.1 / 1.1) = -1.598597, so P(open) at a = 0 is 1 / (1 + exp(-1.598597)) = 0.831823
    assert open_probability(f64(0.0)).item() == pytest.approx(0.831823, abs=1e-6)
    assert open_probability(f64(-1.5985968)).item() == pytest.approx(0.5, abs=1e-6)
    # u = 1/2 leaves s = sigmoid(1.5 a); at a = 0, g = 0.5 * 1.2 - 0.1
    assert sampled_gate(f64(0.0), f64(0.5)).item() == pytest.approx(0.5)
    # a = 1, u = 0.2: s = sigmoid(1.5 (ln 0.25 + 1)) = sigmoid(-0.579442) = 0.359061, g = 0.330873
    assert sampled_gate(f64(1.0), f64(0.2)).item() == pytest.approx(0.330873, abs=1e-6)
    assert sampled_gate(f64(-9.0, 9.0), f64(0.5, 0.5)).tolist() == [0.0, 1.0]
    # closed from sigmoid(a) = 1/12, a = -ln 11, down; fully open from a = ln 11 up
    assert settled_gate(f64(-math.log(11) - 1e-6, math.log(11) + 1e-6)).tolist() == [0.0, 1.0]
    assert settled_gate(f64(0.0)).item() == pytest.approx(0.5)


def test_samples_are_open_as_often_as_the_closed_form_says():
    uniform = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    for a in (-2.0, 0.0, 1.3):
        share = float((sampled_gate(torch.full_like(uniform, a), uniform) > 0).double().mean())
        assert share == pytest.approx(open_probability(f64(a)).item(), abs=2e-5)


class Branches(nn.Module):
    """One branch sees the token that is asked for; the other sees a clock, and adds something all the same."""

    def __init__(self) -> None:
        super().__init__()
        self.necessary, self.decorative = nn.Linear(6, 6), nn.Linear(6, 6)
        with torch.no_grad():
            self.necessary.weight.copy_(6 * torch.eye(6))
            self.decorative.weight.mul_(0.1)

    def forward(self, tokens: Tensor) -> Tensor:
        clock = torch.arange(tokens.shape[1]).expand_as(tokens) % 6
        seen, time = (nn.functional.one_hot(of, 6).float() for of in (tokens, clock))
        return self.necessary(seen) + self.decorative(time)


def copies(step: int) -> Batch:
    tokens = torch.randint(6, (8, 10), generator=torch.Generator().manual_seed(step))
    return Batch(inputs=tokens, targets=tokens)


CONFIG = PruneConfig(lambdas=(0.05, 0.2), steps=80, n_test=8)
PATTERNS = ["necessary", "decorative"]


def test_the_gate_closes_the_decorative_branch_and_not_the_necessary_one(tmp_path: Path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Branches()
    before, rng = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    said = list[str]()
    found = prune(model, copies, [copies(-1)], CONFIG, sites=PATTERNS, kept=tmp_path, say=said.append)
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.training
    assert not model.necessary._forward_hooks
    assert [row.closed for row in found.rows] == [["decorative"], ["decorative"]]
    assert all(row.gates["necessary"] > 0.5 for row in found.rows)
    assert found.dispensable == ["decorative"]
    assert "the model can live without" in conclusion(found)
    assert pruning_table(found)[1][0] == "0.05"
    said.clear()
    again = prune(model, copies, [copies(-1)], CONFIG, sites=PATTERNS, kept=tmp_path, say=said.append)
    assert again == found
    assert said == []


def test_a_stopped_pruning_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real, asked = gates.learn_gates, list[float]()

    def stopping(*args: Any, **more: Any) -> Any:
        asked.append(args[4])
        if asked == [0.0, 0.05]:
            raise KeyboardInterrupt
        return real(*args, **more)

    monkeypatch.setattr(gates, "learn_gates", stopping)
    config = PruneConfig(lambdas=(0.05,), steps=1, n_test=8)
    with pytest.raises(KeyboardInterrupt):
        prune(Branches(), copies, [copies(-1)], config, sites=PATTERNS, kept=tmp_path)
    prune(Branches(), copies, [copies(-1)], config, sites=PATTERNS, kept=tmp_path)
    assert asked == [0.0, 0.05, 0.05]


def row(penalty: float, high: float, **values: float) -> GatedRow:
    change = Estimate(value=high - 0.001, low=high - 0.002, high=high)
    return GatedRow(penalty=penalty, gates=values, open_probability=values, loss=change, change=change)


def test_only_lambdas_that_the_loss_bears_count():
    def found(*rows: GatedRow) -> Pruning:
        return Pruning(subject="x", sites=["a", "b"], epsilon=0.01, n_test=8, losses=[], rows=list(rows))

    borne = row(0.1, 0.005, a=0.0, b=0.9)
    assert found(borne, row(1.0, 3.0, a=0.0, b=0.0)).dispensable == ["a"]
    assert found(borne, row(0.01, 0.0, a=0.3, b=1.0)).dispensable == []
    assert found(row(1.0, 3.0, a=0.0, b=0.0)).dispensable == []
    assert "no lambda leaves the loss" in conclusion(found(row(1.0, 3.0, a=0.0, b=0.0)))
    assert "no site is closed" in conclusion(found(row(0.1, 0.0, a=0.2, b=0.2)))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "recall"
    recipe = Recipe(
        name="tiny",
        model=StackConfig.of("attention(window=4), gated_delta(n_heads=1)", vocab_size=16, d_model=8),
        task=MqarConfig(vocab_size=16, length=12, n_pairs=2, power_a=1.0),
        train=TrainConfig(steps=6, batch_size=4, warmup_steps=1, eval_sequences=4, checkpoint_every=2, seed=3),
    )
    train_recipe(recipe, folder, progress=False)
    return folder


def silent(line: str) -> None:
    pass


def test_a_run_is_pruned_into_a_run_directory(run: Path, tmp_path: Path):
    config = PruneConfig(lambdas=(0.5,), steps=2, batch_size=4, n_test=16)
    found = prune_run(run, tmp_path / "out", config, silent)
    assert found.sites == ["blocks.1.mixer"]
    there = RunDirectory.open(tmp_path / "out")
    assert there.read_manifest().exit_state == "finished"
    assert there.read_manifest().kind == "pruning"
    more = PruneConfig(lambdas=(0.5, 0.7), steps=2, batch_size=4, n_test=16)
    assert [each.penalty for each in prune_run(run, tmp_path / "out", more, silent).rows] == [0.5, 0.7]
    with pytest.raises(ValueError, match=r"steps \(was 2, got 3\); choose another --out"):
        prune_run(run, tmp_path / "out", PruneConfig(steps=3, batch_size=4, n_test=16), silent)


def test_masks_take_the_smallest_magnitudes_of_each_memory():
    model: Any = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.1, -5.0], [0.3, -0.2]]))
        model[1].weight.copy_(torch.tensor([[10.0, 20.0], [-40.0, 30.0]]))
    masks = magnitude_masks(model, ["0", "1"], 0.5)
    assert masks["0.weight"].tolist() == [[0, 1], [1, 0]]
    assert masks["1.weight"].tolist() == [[0, 0], [1, 1]]
    assert set(masks) == {"0.weight", "1.weight"}


def test_masks_hold_against_the_optimiser():
    model = nn.Linear(3, 3)
    mask = torch.tensor([[1.0, 0, 1], [0, 0, 1], [1, 1, 0]])
    start = model.weight.detach().clone()
    masked: Any = with_masks(nn.Sequential(model), {"0.weight": mask})
    assert torch.equal(masked[0].weight, start * mask)
    optimiser = torch.optim.AdamW(masked.parameters(), lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        masked(torch.ones(2, 3)).square().sum().backward()
        optimiser.step()
    now = masked[0].weight.detach()
    assert bool((now[mask == 0] == 0).all())
    assert bool((now != start)[mask == 1].all())


def test_the_lottery_rewinds_exactly_and_keeps_its_masks(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    starts, real = list[dict[str, Tensor]](), tickets.train

    def noting(model: nn.Module, *args: Any, **more: Any) -> Any:
        starts.append(copy.deepcopy(model.state_dict()))
        return real(model, *args, **more)

    monkeypatch.setattr(tickets, "train", noting)
    found = lottery(run, tmp_path / "out", LotteryConfig(shares=(0.0, 0.5), n_test=16), silent)
    trained = load_run(run)
    initial = build(trained.recipe.model, trained.recipe.train.seed).state_dict()
    masks = magnitude_masks(trained.model, ["blocks.1.mixer"], 0.5)
    assert masks
    for name, value in starts[1].items():
        plain = name.replace(".parametrizations", "").removesuffix(".original")
        if name.endswith(".0.mask"):
            assert torch.equal(value, masks[plain.removesuffix(".0.mask")])
        else:
            assert torch.equal(value, initial[plain])
    assert found.memories == ["blocks.1.mixer"]
    dense, half = found.tickets
    assert dense.change.value == pytest.approx(0, abs=1e-6)
    assert (dense.n_kept, half.n_kept) == (dense.n_weights, round(0.5 * dense.n_weights))
    assert RunDirectory.open(tmp_path / "out" / "share-0.5").read_manifest().exit_state == "finished"
    lottery(run, tmp_path / "out", LotteryConfig(shares=(0.5,), n_test=16), silent)
    assert len(starts) == 2


def test_a_stopped_lottery_goes_on(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Stopped:
        exit_state = "interrupted"

    with monkeypatch.context() as patched:
        patched.setattr(tickets, "train", lambda *args, **more: Stopped())
        with pytest.raises(KeyboardInterrupt):
            lottery(run, tmp_path, LotteryConfig(shares=(1.0,), n_test=16), silent)
    assert RunDirectory.open(tmp_path).read_manifest().exit_state == "interrupted"
    (ticket,) = lottery(run, tmp_path, LotteryConfig(shares=(1.0,), n_test=16), silent).tickets
    assert ticket.n_kept == 0


def test_the_verbs(run: Path, tmp_path: Path, capsys: Any):
    assert Prune(target=run, lambdas="0.5", steps=1, out=tmp_path / "p").run() == 0
    shown = capsys.readouterr().out
    assert "gate blocks.1.mixer" in shown
    assert "pruning.json" in shown
    assert LotteryVerb(target=run, shares="0.5", out=tmp_path / "l").run() == 0
    shown = capsys.readouterr().out
    assert "weights left" in shown
    assert "lottery.json" in shown


def test_mistakes():
    assert numbers("x", "1,0.5,1") == (1.0, 0.5)
    with pytest.raises(ValueError, match="separated by commas, got 'a'"):
        numbers("x", "a")
    with pytest.raises(ValueError, match="lambdas must be numbers above 0"):
        PruneConfig(lambdas=(0.0,))
    with pytest.raises(ValueError, match="shares must be from 0 to 1"):
        LotteryConfig(shares=(1.5,))
    with pytest.raises(ValueError, match="found no memory site"):
        prune(Branches(), copies, [copies(-1)], CONFIG)


def test_rows_are_aligned(capsys: Any):
    print_rows([("a", "long"), ("wide", "x")])
    assert capsys.readouterr().out == "a     long\nwide  x\n"

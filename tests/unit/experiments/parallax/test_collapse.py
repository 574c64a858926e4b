"""The collapse experiment on a tiny cortex, and what it measures on banks whose state is known."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mnemoscope.experiments.parallax import asked
from mnemoscope.experiments.parallax import collapse as collapsing
from mnemoscope.experiments.parallax.arms import ARMS, LOOKING, CortexStudy, trained
from mnemoscope.experiments.parallax.asked import CollapseStudy, curves, of_arm, of_deletion, of_gates
from mnemoscope.experiments.parallax.bidirectional import PARALLAX_BIDIRECTIONAL, bidirectional
from mnemoscope.experiments.parallax.changed import best_slots, losses, with_gate_of, without_slots
from mnemoscope.experiments.parallax.collapse import PARALLAX_COLLAPSE, collapse, compared, tables
from mnemoscope.experiments.parallax.collapse_tables import correlation, over_seeds_table
from mnemoscope.experiments.parallax.summary import FIGURES, PARALLAX_SUMMARY, SummaryStudy, summary
from mnemoscope.experiments.parallax.watched import BankWatch, distance_from, look
from mnemoscope.experiments.published import on_text
from mnemoscope.experiments.reproducing import Result
from mnemoscope.memories import EnergyBank, EnergyBankConfig
from mnemoscope.models import BankedCortexConfig, Stack, build

TINY = CollapseStudy(
    cortex=CortexStudy(length=8, d_model=8, n_heads=2, n_slots=5, steps=2, batch_size=2, n_looks=2, n_test=8),
    arms=("bare", "A0", "A1"),
    n_calibration=8,
    fit_steps=1,
)


def result_of(seed: int, **figures: float) -> Result:
    return Result(
        experiment="parallax-collapse", size="small", seed=seed, settings={}, figures=figures,
        series={}, texts={"verdict": ["constant-bias"]}, seconds=1.0, versions={},
    )  # fmt: skip


def banked(n_slots: int = 6) -> Stack:
    bank = EnergyBankConfig(n_slots=n_slots)
    return build(BankedCortexConfig(vocab_size=256, d_model=8, n_heads=2, beside=bank).stack, 0).eval()


def bank(model: Stack) -> EnergyBank:
    found = model.blocks[-1].mixer
    assert isinstance(found, EnergyBank)
    return found


def test_a_seed_trains_its_arms_and_asks_all_but_the_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The examination takes longest; `test_a_seed_trains_its_arms_once_and_asks_everything` makes it."""
    judged = SimpleNamespace(figures={"folded": 0.0}, series={})
    monkeypatch.setattr(collapsing, "of_verdict", lambda *_: ("constant-bias", judged))
    measured = collapse(TINY, 0, tmp_path)
    assert measured.texts == {"verdict": ["constant-bias"]}
    assert {"bank_worth", "A1_over_A0", "deleted_90%", "A0_with_gate_of_A1", "distance_gained"} <= set(measured.figures)
    assert measured.figures["A0_over_A0"] == 0
    assert measured.figures["bank_worth"] == measured.figures["bare_loss"] - measured.figures["A0_loss"]
    assert sorted(folder.name.removeprefix("prose-") for folder in (tmp_path / "parallax-arms").iterdir()) == [
        "A0",
        "A1",
        "bare",
        "deleted",
        "gates",
    ]


@pytest.mark.long
def test_a_seed_trains_its_arms_once_and_asks_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    measured = collapse(TINY, 0, tmp_path)
    wanted = {claim.figure for claim in PARALLAX_COLLAPSE.claims}
    others = [figure for figure in wanted if figure.split("_")[0] in set(ARMS) - set(TINY.arms)]
    absent = {"gate_worth", "correlation", "A0_with_gate_of_A5", "A1_with_gate_of_A2"}
    absent |= {"A0_gate_over_control", "A1_gate_over_control"}
    assert wanted - set(others) - absent <= set(measured.figures)
    assert measured.figures["A0_over_A0"] == 0
    assert measured.figures["tokens"] == 2 * 2 * 8
    assert len(measured.series["A0: cosine"]) == 2
    assert "bare: cosine" not in measured.series
    assert measured.texts["verdict"][0]
    kept = sorted((tmp_path / "parallax-runs").iterdir())
    assert [folder.name for folder in kept] == ["prose-A0", "prose-A1", "prose-bare"]
    assert (kept[0] / "seed-0" / "verdicts.json").is_file()
    monkeypatch.setattr(asked, "look", None)
    monkeypatch.setattr(asked, "losses", None)
    assert collapse(TINY, 0, tmp_path) == measured, "every answer is kept, nothing is asked again"
    arms, over_seeds = tables(TINY, [result_of(0, **measured.figures)])
    assert [row[0].split(":")[0] for row in arms.rows] == list(TINY.arms)
    assert over_seeds.rows[1][1] == "constant-bias (seed 0)"


def test_a_stopped_command_asks_again_only_what_was_not_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    answered = of_arm(TINY.cortex, "bare", 0, tmp_path)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(asked, "look", killed)
    with pytest.raises(KeyboardInterrupt):
        collapse(TINY, 0, tmp_path)
    assert sorted(folder.name for folder in (tmp_path / "parallax-arms").iterdir()) == ["prose-bare"]
    assert (tmp_path / "parallax-runs" / "prose-A0" / "seed-0" / "manifest.json").is_file(), "the training is kept"
    again = of_arm(TINY.cortex, "bare", 0, tmp_path)
    assert again == answered
    with pytest.raises(ValueError, match="name another --out folder, or remove the file"):
        of_arm(replace(TINY.cortex, n_test=4), "bare", 0, tmp_path)


def test_the_summary_is_that_of_three_arms_without_an_examination(tmp_path: Path):
    measured = summary(SummaryStudy(cortex=TINY.cortex), 0, tmp_path)
    assert {claim.figure for claim in PARALLAX_SUMMARY.claims} == set(FIGURES) <= set(measured.figures)
    assert measured.figures["A1_over_A0"] == measured.figures["A1_loss"] - measured.figures["A0_loss"]
    assert {x for plot in PARALLAX_SUMMARY.plots for x in plot.lines} == {"A0: bank", "A1: bank, spectrum spread"}
    kept = tmp_path / "parallax-summary"
    assert sorted(folder.name for folder in kept.iterdir()) == ["parallax-arms", "parallax-runs"], "of other steps"
    assert not list(kept.rglob("verdicts.json"))


def test_steps_of_the_summary_are_those_of_the_whole():
    whole, part = CortexStudy(), SummaryStudy().cortex
    assert replace(part, batch_size=whole.batch_size) == whole
    assert on_text(PARALLAX_SUMMARY, "code").sizes["small"].cortex.corpus == "code"


def test_losses_are_compared_with_that_of_the_bank():
    figures = {f"{arm}_loss": loss for arm, loss in {"bare": 2.0, "A0": 1.5, "A1": 1.75, "A5": 1.25, "A6": 1.5}.items()}
    found = compared(("bare", "A0", "A1", "A5", "A6"), figures)
    assert found["A1_over_A0"] == 0.25
    assert found["bank_worth"] == 0.5
    assert found["gate_worth"] == 0.25
    assert "correlation" not in found, "two banks are too few"


def test_all_arms_are_recipes_that_differ_where_they_should():
    study = CortexStudy(n_slots=5, d_model=8, n_heads=2)
    recipes = {arm: study.recipe(arm) for arm in ARMS}
    assert len({recipe.name for recipe in recipes.values()}) == len(ARMS)
    assert {arm for arm in ARMS if recipes[arm].remedies} == {"A1", "A2", "A3-1", "A3-4", "A3-8", "A4"}
    assert all(recipes[arm].model == recipes["A0"].model for arm in ("A1", "A2", "A3-1", "A3-4", "A3-8", "A4"))
    assert [study.bank(arm) for arm in ("A5", "A6", "A7")] == [
        EnergyBankConfig(n_slots=1),
        EnergyBankConfig(n_slots=1, gated=False),
        EnergyBankConfig(n_slots=5, fixed=True),
    ]
    assert CortexStudy().tokens >= 1_120_000


def test_another_text_is_taken():
    assert on_text(PARALLAX_COLLAPSE, "code").sizes["small"].cortex.corpus == "code"


def test_one_vector_looks_uniform_and_deleting_its_copies_costs_nothing():
    model = banked()
    with torch.no_grad():
        bank(model).slots.copy_(torch.ones(8).expand(6, 8))
    tokens = torch.randint(256, (3, 8))
    looked = look(model, tokens)
    assert looked.cosine == pytest.approx(1)
    assert looked.entropy == pytest.approx(1)
    assert looked.read_rank == 0
    whole = losses(model, (tokens, tokens))
    without = without_slots(model, 0.9, torch.Generator().manual_seed(0))
    assert bank(without).slots.shape == (1, 8)
    assert losses(without, (tokens, tokens)).numpy() == pytest.approx(whole.numpy(), abs=1e-5)
    assert bank(model).slots.shape == (6, 8), "the model itself stays"


def test_looking_leaves_the_model_as_it_was():
    model = banked().train()
    watch = BankWatch(TINY.cortex.task, every=2)
    before, state = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()
    look(model, torch.randint(256, (2, 8), generator=torch.Generator().manual_seed(0)))
    assert model.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert watch.state() == {}
    with pytest.raises(ValueError, match="has no state"):
        watch.set_state({"x": torch.zeros(1)})


def test_the_best_slots_alone_are_read_and_only_within_the_block():
    model, tokens = banked(), torch.randint(256, (2, 8))
    seen: list[torch.Tensor] = []
    with best_slots(model, 2):
        handle = bank(model).addressing.register_forward_hook(lambda _m, _a, weights: seen.append(weights))
        model(tokens)
        handle.remove()
    assert ((seen[0] > 0).sum(-1) == 2).all()
    assert seen[0].sum(-1).detach().numpy() == pytest.approx(np.ones((2, 8)), abs=1e-6)
    assert not bank(model).addressing._forward_hooks


def test_gates_are_exchanged_and_nothing_else():
    model, other = banked(), banked()
    with torch.no_grad():
        bank(other).fusion.bias.fill_(3)
    changed = with_gate_of(model, other)
    assert torch.equal(bank(changed).fusion.bias, bank(other).fusion.bias)
    assert torch.equal(bank(changed).slots, bank(model).slots)
    assert not torch.equal(bank(model).fusion.bias, bank(other).fusion.bias)


def test_a_gate_is_held_against_that_of_a_bank_as_diverse():
    figures = {f"{arm}_loss": 1.0 for arm in ("A0", "A1")}
    swapped = {"A0_with_gate_of_A1": 0.5, "A0_with_gate_of_A5": 0.125, "A1_with_gate_of_A0": 0.25}
    found = compared(("A0", "A1"), figures | swapped)
    assert found["A0_gate_over_control"] == 0.375
    assert "A1_gate_over_control" not in found, "A2 was not trained"
    distances = {"A0_distance": 0.25, "A1_distance": 1.0}
    assert compared(("A0", "A1"), figures | distances)["distance_gained"] == 0.75


def test_gates_are_asked_of_the_arms_that_there_are(tmp_path: Path):
    study = replace(TINY, cortex=replace(TINY.cortex, steps=1), arms=("A0", "A1", "A5"))
    assert set(of_gates(study, 0, tmp_path).figures) == {
        "A0_with_gate_of_A1",
        "A1_with_gate_of_A0",
        "A0_with_gate_of_A5",
    }


def test_slots_that_look_are_an_arm_of_their_own(tmp_path: Path):
    study = replace(TINY.cortex, steps=1)
    assert LOOKING not in ARMS
    assert study.bank(LOOKING) == EnergyBankConfig(n_slots=5, bidirectional=True)
    measured = bidirectional(study, 0, tmp_path)
    assert {claim.figure for claim in PARALLAX_BIDIRECTIONAL.claims} <= set(measured.figures)
    assert measured.figures["A5_over_looking"] == measured.figures["A5_loss"] - measured.figures["A0b_loss"]
    assert of_deletion(study, 0, tmp_path).figures.keys() == {"deleted_10%", "deleted_50%", "deleted_90%"}
    assert on_text(PARALLAX_BIDIRECTIONAL, "code").sizes["small"].corpus == "code"


def test_distance_is_0_within_the_states_and_1_of_what_points_anywhere():
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(200, 20, generator=generator) * torch.tensor([1.0] * 5 + [0.0] * 15)
    assert distance_from(states, states[:50]) == pytest.approx(0, abs=1e-9)
    anywhere = torch.randn(4000, 20, generator=generator)
    assert distance_from(states, anywhere) == pytest.approx(1, abs=0.03)
    assert distance_from(states, torch.zeros(3, 20)) == 0


def test_correlations():
    assert correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert correlation([1, 1, 1], [3, 2, 1]) == 0
    found = [result_of(seed, correlation=value) for seed, value in enumerate((-0.9, -0.5, -0.7))]
    row = over_seeds_table(ARMS, found).rows[0]
    half = 4.302653 * 0.2 / 3**0.5
    assert row[1] == f"-0.700 [{-0.7 - half:.3f}, {-0.7 + half:.3f}]"
    assert over_seeds_table(ARMS, found[:1]).rows[0][1] == "-0.900"


def test_a_run_that_is_there_is_not_trained_again(tmp_path: Path):
    study = replace(TINY.cortex, steps=1)
    recipe = study.recipe("A0")
    trained(tmp_path, study, recipe, 0)
    folder = tmp_path / "parallax-runs" / recipe.name / "seed-0"
    before = (folder / "manifest.json").read_bytes()
    trained(tmp_path, study, recipe, 0)
    assert (folder / "manifest.json").read_bytes() == before
    assert set(curves(folder, "A0")) >= {"A0: step", "A0: distance"}

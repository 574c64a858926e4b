from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mnemoscope.experiments.parallax.bridge import BANK, PARALLAX_BRIDGE, BridgeStudy, bridge, count, scores, settling
from mnemoscope.experiments.published import on_text
from mnemoscope.models import build
from mnemoscope.tasks import MqarConfig

TINY = BridgeStudy(
    length=8,
    recall=MqarConfig(vocab_size=16, length=16, n_pairs=2, power_a=1.0),
    d_model=16,
    n_slots=6,
    iterations=(2, 3),
    recall_steps=1,
    text_steps=1,
    tokens_a_step=16,
    n_test=4,
    n_settling=5,
)


def test_a_seed_scores_its_arms_on_both_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of four arms: `test_a_seed_scores_every_arm` has all."""
    few = {name: TINY.arms[name] for name in (BANK, "slot", "accumulator", "workspace_2")}
    monkeypatch.setattr(BridgeStudy, "arms", few)
    measured = bridge(replace(TINY, iterations=(2,)), 0, tmp_path)
    assert {f"{arm}_{which}" for arm in few for which in ("recall", "text")} <= set(measured.figures)
    assert measured.figures["slot_recall_gain"] == measured.figures["slot_recall"] - measured.figures["bank_recall"]
    constant = {what: [measured.figures[f"{arm}_{what}"] for arm in (BANK, "slot")] for what in ("recall", "text")}
    assert measured.figures["loop_recall_gain"] == measured.figures["workspace_2_recall"] - max(constant["recall"])
    assert measured.figures["accumulator_text_gain"] == min(constant["text"]) - measured.figures["accumulator_text"]
    assert measured.figures["ratio_over_q"] <= 1e-9
    assert sum(measured.series["tokens that need them"]) == pytest.approx(1)
    kept = tmp_path / "parallax-runs"
    assert sorted(folder.name for folder in kept.iterdir()) == sorted(
        f"bridge-{which}-{arm}" for arm in few for which in ("recall", "prose")
    )


@pytest.mark.long
def test_a_seed_scores_every_arm(tmp_path: Path):
    measured = bridge(TINY, 0, tmp_path)
    named = {
        claim.figure for claim in PARALLAX_BRIDGE.claims if "_4_" not in claim.figure and "_16_" not in claim.figure
    }
    assert named <= set(measured.figures)
    assert measured.figures["ratio_over_q"] <= 1e-9
    assert measured.figures["lyapunov_over_log_q"] <= 1e-9
    assert len(measured.series["iteration"]) == 5
    assert sum(measured.series["tokens that need them"]) == pytest.approx(1)


def test_arms_have_the_parameters_of_the_bank():
    study = BridgeStudy()
    for which in ("recall", "text"):
        wanted = count(study.cortex(which, "bank"))
        assert all(count(study.cortex(which, arm)) == pytest.approx(wanted, rel=0.02) for arm in study.arms)


def test_scores_are_of_scored_tokens():
    model = build(TINY.cortex("recall", "slot").stack, 0).eval()
    inputs = torch.randint(16, (3, 16))
    targets = torch.full_like(inputs, -100)
    with torch.no_grad():
        logits = model(inputs)
    targets[:, 5] = logits[:, 5].argmax(-1)
    accuracy, loss = scores(model, inputs, targets)
    assert accuracy == 1
    assert loss == pytest.approx(-float(logits[:, 5].log_softmax(-1).amax(-1).mean()), rel=1e-5)


def test_a_loop_that_settles_is_seen_to_settle():
    model = build(replace(TINY, iterations=(2,)).cortex("recall", "workspace_2").stack, 0).eval()
    figures, series = settling(model, torch.randint(16, (2, 8)), 66, 0)
    assert figures["apart"] < 1e-9
    assert figures["needed_most"] < 66
    assert series["move 50%"][-1] < 1e-3 * series["move 50%"][0]


def test_another_text_is_taken():
    assert on_text(PARALLAX_BRIDGE, "code").sizes["small"].corpus == "code"

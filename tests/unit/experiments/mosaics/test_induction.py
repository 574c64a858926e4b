from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mnemoscope.experiments.mosaics.arms import count
from mnemoscope.experiments.mosaics.induction import (
    FAILED,
    MOSAIC_INDUCTION,
    READERS,
    SOLVED,
    InductionStudy,
    commonest,
    induction,
    right,
)
from mnemoscope.experiments.mosaics.trained import trained
from mnemoscope.models import build_model
from mnemoscope.tasks import build_task, task_rng

TINY = InductionStudy(vocab_size=8, length=16, n_triggers=2, d_model=16, n_heads=2, steps=2, batch_size=2, n_test=8)


@pytest.mark.parametrize("depths", [(1,), pytest.param((1, 2), marks=pytest.mark.long)])
def test_a_seed_scores_every_network_at_every_depth(tmp_path: Path, depths: tuple[int, ...]):
    measured = induction(replace(TINY, depths=depths), 0, tmp_path)
    claimed = {claim.figure for claim in MOSAIC_INDUCTION.claims}
    assert {figure for figure in claimed if "_2_" not in figure or 2 in depths} <= set(measured.figures)
    for depth in depths:
        best = max(measured.figures[f"{reader}_{depth}_accuracy"] for reader in ("learned", "rotary", "alibi"))
        assert measured.figures[f"best_{depth}_accuracy"] == best
        assert all(len(measured.series[f"{reader}_{depth}: accuracy"]) == 2 for reader in READERS)
        assert (tmp_path / "mosaic-runs" / f"induction-{depth}-mosaic" / "seed-0").is_dir()


def test_transformers_have_the_parameters_of_the_mosaic_of_their_depth():
    study = replace(TINY, d_model=64)
    for depth in (1, 2):
        mosaic, rotary = (count(build_model(study.recipe(r, depth).model, 0)) for r in ("mosaic", "rotary"))
        assert rotary == pytest.approx(mosaic, rel=0.015)


def test_right_counts_scored_tokens_alone():
    model = build_model(TINY.recipe("rotary", 1).model, 0).eval()
    inputs = torch.randint(8, (70, 16))
    targets = torch.full_like(inputs, -100)
    with torch.no_grad():
        chosen = model(inputs).argmax(-1)
    targets[:, 3], targets[:, 9] = chosen[:, 3], (chosen[:, 9] + 1) % 8
    targets[69, 12] = chosen[69, 12]
    assert right(model, inputs, targets) == pytest.approx(71 / 141)


def test_the_commonest_token_so_far_is_a_baseline():
    inputs, targets = np.array([[3, 5, 5, 2, 3, 3]]), np.full((1, 6), -100)
    targets[0, 2], targets[0, 3], targets[0, 5] = 5, 3, 3
    assert commonest(inputs, targets) == pytest.approx(2 / 3)


@pytest.mark.long
def test_one_block_of_a_mosaic_solves_it_and_one_of_a_transformer_with_alibi_does_not(tmp_path: Path):
    study = replace(MOSAIC_INDUCTION.sizes["small"], steps=200)
    batch = build_task(study.task).batch(task_rng(0, "test", 0), 128, "test")
    inputs, targets = torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets)
    mosaic, alibi = (
        right(trained(tmp_path, study.recipe(reader, 1), 0).model.eval(), inputs, targets)
        for reader in ("mosaic", "alibi")
    )
    assert mosaic > SOLVED
    assert alibi < FAILED

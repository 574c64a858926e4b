"""How networks begin, and what of them stays as it is."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mnemoscope.experiments.geometry.path_star_models import Network, build_network, node2vec_rows
from mnemoscope.memories import GatedDeltaConfig, OmegaConfig
from mnemoscope.tasks.path_star import PathStar
from tests.unit.experiments.geometry.small_path_stars import NETWORK, TASK


def test_scales_of_tokens_and_positions():
    task = PathStar(replace(TASK, n_arms=200))
    drawn = build_network(replace(NETWORK, token_std=None, weight_std=None), task, seed=0)
    small = build_network(replace(NETWORK, token_std=0.02, position_std=50.0), task, seed=0)
    assert drawn.positions is not None
    assert small.positions is not None
    assert drawn.embedding.weight.std().item() == pytest.approx(0.25, rel=0.05)
    torch.testing.assert_close(small.embedding.weight, drawn.embedding.weight * 0.08)
    torch.testing.assert_close(small.positions.weight, drawn.positions.weight * 4)
    assert small.positions.weight.std().item() == pytest.approx(1, rel=0.2)
    assert small.head.weight is small.embedding.weight
    for ours, theirs in zip(small.blocks.named_parameters(), drawn.blocks.named_parameters(), strict=True):
        (name, weight), (_, before) = ours, theirs
        if "norm" not in name and weight.ndim == 2 and weight.numel():
            torch.testing.assert_close(weight, before * (0.02 / before.std()))
            assert weight.std().item() == pytest.approx(0.02)
        if "mlp" in name and weight.ndim == 1 and "norm" not in name:
            assert not weight.any()
            assert before.any()


def test_a_matrix_of_zeros_stays():
    mixer = OmegaConfig(n_heads=2)
    model = build_network(replace(NETWORK, mixer=mixer, positions="none"), PathStar(TASK), seed=0)
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_sinusoids_are_fixed():
    model = build_network(replace(NETWORK, positions="sinusoidal"), PathStar(TASK), seed=0)
    assert model.positions is not None
    table = model.positions.weight
    assert not table.requires_grad
    assert table[0, 0::2].abs().max() == 0
    assert bool((table[0, 1::2] == 1).all())
    assert table[3, 0].item() == pytest.approx(np.sin(3))
    assert table[3, 3].item() == pytest.approx(np.cos(3 / 10_000 ** (2 / 16)))


def test_a_frozen_embedding_is_the_drawn_one():
    task = PathStar(TASK)
    plain, frozen = (build_network(replace(NETWORK, freeze=freeze), task, seed=1) for freeze in (False, True))
    assert torch.equal(plain.embedding.weight, frozen.embedding.weight)
    assert plain.embedding.weight.requires_grad
    trained = {name for name, p in frozen.named_parameters() if p.requires_grad}
    assert not any(name.startswith(("embedding", "head")) for name in trained)
    assert {"positions.weight", "norm.weight"} < trained


def test_a_transplant_has_the_rows_of_node2vec():
    task = PathStar(TASK)
    rows = node2vec_rows(task, 16, seed=2)
    model = build_network(replace(NETWORK, transplant="node2vec"), task, seed=2)
    assert torch.equal(model.embedding.weight[: TASK.n_nodes], rows)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(TASK.n_nodes))
    paths = np.concatenate(list(task.paths.values()))
    own = (rows[paths[:, 1]] * rows[paths[:, 3]]).sum(dim=1).mean()
    other = (rows[paths[:, 1]] * rows[np.roll(paths[:, 3], 1)]).sum(dim=1).mean()
    assert own > other + 0.5


def test_a_mixer_that_sees_to_order_and_no_residual():
    network = replace(NETWORK, mixer=GatedDeltaConfig(n_heads=2), positions="none", residual=False, mlp_ratio=0.0)
    model = build_network(network, PathStar(TASK), seed=0)
    assert model.positions is None
    assert [block.residual for block in model.blocks] == [False]
    assert model.blocks[0].mlp is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": 0}, r"Network\.layers: must be at least 1, got 0"),
        ({"token_std": 0.0}, r"Network\.token_std: must be positive and finite, got 0\.0"),
        ({"positions": "none", "position_std": 2.0}, r"Network\.position_std: must be 1 where positions are 'none'"),
    ],
)
def test_what_cannot_be(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        replace(Network(), **options)

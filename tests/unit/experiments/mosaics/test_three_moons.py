from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mnemoscope.experiments.mosaics.foreseeing import errors, foreseen, repeating, rollout, skies, validation_skies
from mnemoscope.experiments.mosaics.moons_training import MoonsTraining, clipped_loss, train_moons, trained_moons
from mnemoscope.experiments.mosaics.three_moons import THREE_MOONS, ThreeMoonsStudy, disentanglement, together
from mnemoscope.experiments.reproducing import reproduce
from mnemoscope.experiments.reproduction_page import write_page
from mnemoscope.models.moons import MoonsNetwork, MoonsNetworkConfig, build_moons_network
from mnemoscope.tasks.three_moons import RolloutProtocol, rollout_errors


def identity(n_heads: int = 3) -> MoonsNetwork:
    return build_moons_network(MoonsNetworkConfig(n_heads=n_heads), 0).set_identity()


@pytest.mark.parametrize("protocol", ["exact", "official"])
def test_the_stream_errs_as_a_predictor_that_reads_everything_anew(protocol: RolloutProtocol):
    network, watched = build_moons_network(MoonsNetworkConfig(), 7), validation_skies(2, 80)

    def predict(seen: NDArray[np.float32], n_known: int) -> NDArray[np.float32]:
        """Pairs are (k_i, v_i) with v_i that of observation i + 1, zero from `n_known` on."""
        x = torch.from_numpy(seen.copy())
        shown = torch.cat([x[:, :n_known], torch.zeros_like(x[:, n_known:])], dim=1)
        memory = network.memory
        with torch.no_grad():
            k = memory.keys.project(x).unflatten(-1, (3, 2)).transpose(1, 2) * 50**0.5
            v = memory.value(shown[:, 1:]).unflatten(-1, (3, 2)).transpose(1, 2)
            weights = (k[:, :, -1:] @ k[:, :, :-1].transpose(2, 3)).softmax(-1)
            return memory.out((weights @ v).squeeze(2).flatten(1)).numpy()

    contexts = (3, 30, 55)
    wanted = rollout_errors(predict, watched.seen, contexts, protocol=protocol)
    assert errors(network, watched, contexts, protocol) == pytest.approx(wanted, abs=2e-6)


def test_identities_err_as_the_specification_has_measured():
    """Three heads drop after each period, one head after the whole sky; repeating never does."""
    watched, contexts = validation_skies(32, 340), (46, 136, 268)
    assert errors(identity(), watched, contexts) == pytest.approx([0.444, 0.283, 0.092], abs=0.02)
    assert errors(identity(1), watched, contexts) == pytest.approx([0.604, 0.609, 0.144], abs=0.02)
    assert errors(identity(), watched, (136,), "official") == pytest.approx([0.086], abs=0.02)
    assert repeating(watched, contexts) == pytest.approx([0.604, 0.606, 0.606], abs=0.02)


def test_what_is_foreseen_is_the_last_of_the_rollout():
    watched, network = skies((1.0, 2.0, 3.0), 1, 320, seed=1), identity()
    ahead = foreseen(network, watched, (10, 290))
    with torch.no_grad():
        read, state = network.memory(torch.from_numpy(watched.seen[:, :290]))
    assert ahead.shape == (1, 2, 6)
    assert ahead[:, 1] == pytest.approx(rollout(network, read[:, -1], state)[:, -1].numpy(), abs=1e-5)


@pytest.mark.parametrize("contexts", [(), (0, 5), (5, 4), (1, 76)])
def test_contexts_must_rise_and_leave_something_to_foresee(contexts: Sequence[int]):
    with pytest.raises(ValueError, match="rise from at least 1 to at most 75"):
        errors(identity(), validation_skies(1, 100), contexts)


def test_without_bias_correction_the_first_step_is_three_times_as_long():
    """|first step| is lr m / sqrt(v) = lr 0.1 g / sqrt(0.001 g^2) = 3.16 lr, against lr."""
    moved = {}
    for corrected in (False, True):
        settings = MoonsTraining(batch_size=2, length=30, steps=1, bias_correction=corrected, learning_rate=1e-3)
        before = build_moons_network(MoonsNetworkConfig(), 4).memory.out.parametrizations.weight.original
        after = train_moons(settings, 3, 4).network.memory.out.parametrizations.weight.original
        moved[corrected] = (after - before).abs().max().item()
    assert moved[True] == pytest.approx(1e-3, rel=1e-3)
    assert moved[False] == pytest.approx(0.1 / 0.001**0.5 * 1e-3, rel=1e-3)


def test_errors_beyond_the_clip_all_count_alike():
    assert clipped_loss(torch.tensor([[[3.0, 0.1]]]), torch.zeros(1, 1, 2)).item() == pytest.approx((0.25 + 0.01) / 2)


ORDER = np.eye(3)[[2, 0, 1]]


@pytest.mark.parametrize(
    ("keys", "values", "out", "expected"),
    [
        (ORDER, 2 * ORDER, ORDER.T, 1.0),
        (ORDER, ORDER, ORDER, 0.0),
        (ORDER, np.eye(3), ORDER.T, 0.0),
        (ORDER + 0.2, ORDER, ORDER.T, 0.0),
        (np.eye(3)[[0, 0, 1]], np.eye(3)[[0, 0, 1]], np.eye(3), 0.0),
    ],
)
def test_disentangled_is_one_moon_for_each_head_and_back(
    keys: NDArray[np.float64], values: NDArray[np.float64], out: NDArray[np.float64], expected: float
):
    assert disentanglement({"W_k": keys, "W_v": values, "W_z": out})["disentangled"] == expected


def test_a_seed_leaves_figures_matrices_and_a_picture_that_moves(tmp_path: Path):
    settings = ThreeMoonsStudy(
        training=MoonsTraining(batch_size=2, length=60, steps=2), n_sequences=2, every=60, n_seen=340, n_moments=3
    )
    tiny = replace(THREE_MOONS, sizes={"small": settings})
    found = reproduce(tiny, 1, "small", tmp_path, lambda line: None)
    assert {claim.figure for claim in tiny.claims} <= found[0].figures.keys()
    assert found[0].figures["repeat_136"] == pytest.approx(0.6, abs=0.1)
    page = write_page(tiny, "small", found, 1, tmp_path, "mnemoscope reproduce three-moons").read_text()
    assert "The sky ahead" in page
    assert page.count("W_k, W_v and W_z, by moon, seed 0") >= 2
    assert "period 3" in page


def test_a_sky_repeats_when_every_moon_has_come_round():
    assert together((1.0, 2.0, 3.0)) == 6
    assert together((0.5, 1.0, 2.5)) == 5
    assert together((0.5, 1.0, 2.0)) == 2


def test_a_trained_network_is_taken_from_where_it_was_left(tmp_path: Path):
    settings = MoonsTraining(batch_size=1, length=20, steps=2)
    first = trained_moons(tmp_path, settings, 3, 0)
    stored = tmp_path / "mosaic-runs" / "three-moons-3-heads" / "seed-0" / "model.safetensors"
    written = stored.stat().st_mtime_ns
    again = trained_moons(tmp_path, settings, 3, 0)
    assert stored.stat().st_mtime_ns == written
    assert again.losses == first.losses
    for ours, theirs in zip(again.network.parameters(), first.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    with pytest.raises(ValueError, match=r"was measured with .*'steps': 2"):
        trained_moons(tmp_path, replace(settings, steps=3), 3, 0)

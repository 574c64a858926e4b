import numpy as np
import pytest
import torch

from mnemoscope.experiments.mosaics.last_query import addressing_of, bin_names, bins, doublings, last_profile, shares
from mnemoscope.memories.contextual import ContextualConfig
from mnemoscope.models import StackConfig, build_model
from mnemoscope.models.mosaic import MosaicConfig

MOSAIC = MosaicConfig(vocab_size=11, d_model=8, n_layers=1, contextual=ContextualConfig(n_heads=2))
CONFIGS = {
    "mosaic": MOSAIC,
    "rotary": StackConfig.of("attention(n_heads=2)", vocab_size=11, d_model=8),
    "alibi": StackConfig.of("attention(n_heads=2, positions='alibi')", vocab_size=11, d_model=8),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_profile_is_the_last_row_of_what_the_model_reads_with_at_once(name: str):
    model = build_model(CONFIGS[name], 0).eval()
    tokens, seen = torch.randint(11, (35, 24)), list[torch.Tensor]()
    handle = addressing_of(model).register_forward_hook(lambda _, __, weights: seen.append(weights))
    with torch.no_grad():
        model(tokens)
    handle.remove()
    wanted = seen[0][:, :, -1, :23].mean(0)
    assert np.allclose(last_profile(model, tokens), wanted.numpy(), atol=1e-6)
    assert not addressing_of(model).observed


def test_a_query_of_a_mosaic_spends_all_on_what_came_before_and_that_of_attention_does_not():
    tokens = torch.randint(11, (3, 24))
    mosaic, rotary = (last_profile(build_model(CONFIGS[name], 0).eval(), tokens) for name in ("mosaic", "rotary"))
    assert np.allclose(mosaic.sum(1), 1)
    assert (rotary.sum(1) < 1 - 1e-3).all()


def test_shares_of_a_flat_profile_and_of_one_with_a_sink():
    flat = np.full((1, 100), 1 / 100)
    of_flat = shares(np.stack([flat, flat]), trained_length=41).means()
    assert of_flat == pytest.approx({"first": 0.01, "first_four": 0.04, "recent": 0.16, "uneven": 0, "far": 0.6})
    odd = flat.copy()
    odd[0, 4:84:2] = 0
    odd[0, 5:84:2] *= 2
    odd[0, 0] = 0.5
    found = shares(np.stack([odd, odd]), trained_length=101)
    assert found.first == 0.5
    assert found.first_four == pytest.approx(0.53)
    assert found.uneven == pytest.approx(1)
    assert found.far == 0


def test_what_the_chance_of_the_windows_adds_is_not_uneven():
    rng = np.random.default_rng(0)
    noisy = rng.dirichlet(np.full(400, 4.0), size=(2, 3))
    assert np.std(noisy[:, :, 4:-16] * 400, axis=2).min() > 0.4
    assert (shares(noisy, trained_length=401).uneven < 0.2).all()
    noisy[:, :, 100:200] *= 3
    assert (shares(noisy, trained_length=401).uneven > 0.5).all()


@pytest.mark.parametrize("n", [47, 127, 383, 1535])
def test_bins_cover_every_place_once_and_both_ends_finely(n: int):
    ranges = bins(n)
    assert [place for start, stop in ranges for place in range(start, stop)] == list(range(n))
    assert bin_names(ranges)[:3] == ["0", "1-3", "4-7"]
    assert ranges[-1] == (n - 1, n)
    profile = np.full((2, n), 1 / n)
    profile[1, -1] = 4 / n
    assert np.allclose(doublings(profile)[0], 0)
    assert doublings(profile)[1, -1] == pytest.approx(2)


def test_what_has_no_such_profile_is_refused():
    deep = StackConfig.of("attention, attention", vocab_size=11, d_model=8)
    null = MosaicConfig(vocab_size=11, d_model=8, n_layers=1, contextual=ContextualConfig(n_heads=2, start="learned"))
    for config in (deep, null, StackConfig.of("gla", vocab_size=11, d_model=8)):
        with pytest.raises(ValueError, match="last_profile: needs one block of attention or of a contextual memory"):
            last_profile(build_model(config, 0), torch.zeros((1, 4), dtype=torch.long))
    with pytest.raises(ValueError, match="at least 2 tokens, got 1"):
        last_profile(build_model(MOSAIC, 0), torch.zeros((1, 1), dtype=torch.long))
    with pytest.raises(ValueError, match="more than 20 tokens, got 20"):
        shares(np.full((2, 1, 20), 0.05), trained_length=21)

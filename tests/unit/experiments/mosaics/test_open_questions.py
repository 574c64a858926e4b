from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch.nn import functional as F

from mnemoscope.experiments.mosaics.middle_tier import (
    MOSAIC_MIDDLE_TIER,
    MiddleTierStudy,
    middle_tier,
    repeated,
    tier,
    told,
    worlds,
)
from mnemoscope.experiments.mosaics.open_questions import (
    LONG,
    MOSAIC_PERSISTENT_BIAS,
    MOSAIC_TIMESCALES,
    SHORT,
    PersistentBiasStudy,
    Scale,
    StoryMosaic,
    kept_by,
    losses_on_test,
    persistent_bias,
    retentions,
    timescales,
)
from mnemoscope.experiments.mosaics.trained import run_folder
from mnemoscope.models import build_mosaic
from mnemoscope.models.mosaic import Mosaic, MosaicConfig
from mnemoscope.runs import RunDirectory

TINY = StoryMosaic(length=48, d_model=16, n_heads=4, steps=1, batch_size=2, n_test=5)
TIER = MiddleTierStudy(mosaic=TINY, kept=(0, 1, 3), gradient_steps=2, learning_rates=(1e-2,))


def untrained(scale: Scale = "learned", n_slots: int | None = None) -> Mosaic:
    model = TINY.recipe(scale, n_slots).model
    assert isinstance(model, MosaicConfig)
    return build_mosaic(model, 0).eval()


def test_scales_are_what_their_names_say():
    assert retentions("learned", 4) is None
    assert retentions("short", 2) == (SHORT, SHORT)
    mixed = retentions("mixed", 4)
    assert mixed is not None
    assert mixed[0] == pytest.approx(SHORT)
    assert mixed[-1] == pytest.approx(LONG)
    assert list(mixed) == sorted(mixed)
    assert torch.tensor(kept_by(untrained("mixed")))[1] == pytest.approx(mixed)


def test_fixed_scales_stay_and_learned_ones_do_not(tmp_path: Path):
    measured = timescales(TINY, 0, tmp_path)
    for scale in ("long", "mixed"):
        model = TINY.trained(tmp_path, TINY.recipe(scale), 0)
        assert kept_by(model) == pytest.approx(kept_by(untrained(scale)), abs=1e-7)
    learned = kept_by(TINY.trained(tmp_path, TINY.recipe(), 0))
    assert learned != pytest.approx(kept_by(untrained()), abs=1e-7)
    better = min(measured.figures["short_loss"], measured.figures["long_loss"])
    assert measured.figures["mixed_gain"] == pytest.approx(better - measured.figures["mixed_loss"])
    assert {claim.figure for claim in MOSAIC_TIMESCALES.claims} <= set(measured.figures)
    assert {f"{scale}_told" for scale in get_args(Scale)} <= set(measured.figures)


@torch.no_grad()
def test_of_one_pair_a_persistent_unit_reads_one_vector():
    x = torch.randn(2, 9, 16)
    one, four = (untrained(n_slots=n).blocks[0].persistent for n in (1, 4))
    assert one is not None
    assert four is not None
    read = one(x)[0]
    assert torch.allclose(read, read[:1, :1].expand_as(read), atol=1e-6)
    assert four(x)[0].std(1).max() > 1e-3


def test_fewer_pairs_are_compared_with_all(tmp_path: Path):
    study = PersistentBiasStudy(mosaic=TINY, slots=(1, 4))
    measured = persistent_bias(study, 0, tmp_path)
    figures = measured.figures
    assert figures["loss_cost_1"] == pytest.approx(figures["loss_1"] - figures["loss_all"])
    assert measured.series["pairs"] == [1, 4, 56]
    assert figures["parameters_4"] - figures["parameters_1"] == 2 * 2 * 3 * 16
    model = TINY.trained(tmp_path, TINY.recipe(n_slots=4), 0)
    assert losses_on_test(model, TINY)["loss"] == pytest.approx(figures["loss_4"])


def test_without_stories_kept_the_tier_is_an_empty_memory():
    model, stories = untrained(), worlds(TIER)["second"].test
    with torch.no_grad():
        logits = model(stories[:, :-1])
    wanted = F.cross_entropy(logits.transpose(1, 2), stories[:, 1:], reduction="none")
    assert torch.allclose(told(model, stories, tier(model, stories[:0])), wanted.double(), atol=1e-5)


@torch.no_grad()
def test_the_tier_holds_the_pairs_of_every_story_and_is_read_before_the_first_word():
    model, kept = untrained(), worlds(TIER)["second"].kept
    state = tier(model, kept)
    memory = state.blocks[1].contextual
    assert memory.k.shape == memory.v.shape == (1, 4, 3 * 48, 4)
    _, alone = model.prefill(kept[1:2])
    assert torch.allclose(memory.k[:, :, 48:96], alone.blocks[1].contextual.k[:, :, :-1], atol=1e-5)
    assert torch.allclose(memory.v[:, :, 48:96], alone.blocks[1].contextual.v, atol=1e-5)
    word = kept[:2, :1]
    assert not torch.allclose(model.prefill(word, repeated(state, 2))[0], model(word), atol=1e-3)


def test_worlds_tell_the_same_in_other_words():
    there = worlds(TIER)
    meaning = dict(zip(there["first"].test.flatten().tolist(), there["second"].test.flatten().tolist(), strict=True))
    assert len(set(meaning.values())) == len(meaning)
    again = [[meaning[word] for word in story] for story in there["first"].test.tolist()]
    assert again == there["second"].test.tolist()
    assert sum(word != other for word, other in meaning.items()) > len(meaning) / 2


def test_what_is_kept_is_held_against_gradients_and_the_training_is_shared(tmp_path: Path):
    measured = middle_tier(TIER, 0, tmp_path)
    figures = measured.figures
    assert figures["gain"] == pytest.approx(figures["second_0"] - figures["second_3"])
    assert figures["second_taught"] < figures["second_0"]
    assert figures["of_gradients"] == pytest.approx(figures["gain"] / figures["gradient_gain"])
    ended = RunDirectory(run_folder(tmp_path, "open-learned-all", 0)).read_manifest().ended
    assert middle_tier(TIER, 0, tmp_path).figures == figures
    assert RunDirectory(run_folder(tmp_path, "open-learned-all", 0)).read_manifest().ended == ended


def test_claims_name_what_is_measured_of_the_small_studies():
    bars = {
        experiment.name: {claim.figure: (claim.least, claim.most) for claim in experiment.claims if claim.bar != "-"}
        for experiment in (MOSAIC_TIMESCALES, MOSAIC_MIDDLE_TIER, MOSAIC_PERSISTENT_BIAS)
    }
    assert bars == {
        "mosaic-timescales": {"mixed_gain": (0.03, None)},
        "mosaic-middle-tier": {"gain": (0.03, None), "harm": (None, 0.03)},
        "mosaic-persistent-bias": {"loss_cost_1": (None, 0.03)},
    }
    assert replace(MOSAIC_MIDDLE_TIER.sizes["small"], kept=TIER.kept).kept == (0, 1, 3)

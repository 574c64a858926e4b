"""What single studies compute, on networks and figures whose answer is known."""

from dataclasses import replace

import pytest
import torch

from mnemoscope.experiments.survey import forgetting, heads, hybrids, patching, saturation, window
from mnemoscope.experiments.trained.pruning_gates import GatedRow, Pruning
from mnemoscope.memories import AttentionConfig, GatedDeltaConfig
from mnemoscope.models import Stack, build_model
from mnemoscope.runs import Estimate
from mnemoscope.training.remedies.stochastic_window import StochasticWindow
from tests.unit.experiments.survey.tiny import SETTINGS, TRAINING, WINDOW


def test_what_is_left_of_a_first_write_is_that_of_the_head_that_forgets_most():
    settings = SETTINGS["survey-forgetting"]
    model = build_model(settings.recipe(4, 16).model, 0).eval()
    assert isinstance(model, Stack)
    mixer = model.blocks[0].mixer
    found = dict[float, float]()
    for rate in (-12.0, 6.0):
        with torch.no_grad():
            mixer.log_rate.fill_(-12.0)
            mixer.log_rate[1] = rate
        rise, found[rate], curve = forgetting.beyond(model, settings, 16)
        assert len(curve) == 16
        assert rise == pytest.approx(sum(curve[4:]) / 12 - sum(curve[2:4]) / 2, abs=1e-5)
    assert found[-12.0] > 0.99
    assert found[6.0] < 0.01
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_tokens_of_a_step_are_as_many_at_every_length():
    settings = replace(forgetting.SMALL, states=(4,))
    tokens = {length: settings.recipe(4, length).train.batch_size * length for length in settings.lengths}
    assert set(tokens.values()) == {64 * 16}


def test_rows_are_saturated_where_scores_are_large():
    settings = SETTINGS["survey-saturation"]
    recipe = settings.recipe("recall", "plain")
    shares = list[float]()
    for scale in (0.0, 100.0):
        model = build_model(recipe.model, 0)
        assert isinstance(model, Stack)
        with torch.no_grad():
            for block in model.blocks:
                block.mixer.qkv.weight.mul_(scale)
        rows = saturation.saturated_rows(model, settings, recipe)
        assert len(rows) == 2 * 64 * 4 * (settings.recall.length - 2)
        shares.append(float(rows.double().mean()))
    assert shares[0] == 0
    assert shares[1] > 0.3


def test_windows_of_the_hybrids():
    arms = window.recipes(window.SMALL)
    seen = {name: (recipe.model.mixers[1].window, recipe.remedies) for name, recipe in arms.items()}
    assert {name: tokens for name, (tokens, _) in seen.items()} == {
        "narrow": 4,
        "middle": 16,
        "wide": 32,
        "drawn": 32,
        "dropped": 32,
    }
    assert seen["drawn"][1] == (StochasticWindow(windows=(4, 8, 16, 32)),)
    assert [bool(remedies) for _, remedies in seen.values()] == [False, False, False, True, True]


def test_blocks_stand_where_their_word_says():
    mixers = hybrids.recalling(hybrids.SMALL)["1:7"].model.mixers
    assert [isinstance(mixer, AttentionConfig) for mixer in mixers] == [False] * 3 + [True] + [False] * 4
    counts = {ratio: hybrids.BLOCKS[ratio].count("a") for ratio in ("1:0", "1:1", "1:3", "1:7", "0:1")}
    assert counts == {"1:0": 8, "1:1": 4, "1:3": 2, "1:7": 1, "0:1": 0}
    assert [hybrids.BLOCKS[place].index("a") for place in ("first", "1:7", "last")] == [0, 3, 7]


@pytest.mark.parametrize(
    ("denoise", "use", "expected"),
    [
        ((0.9, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0)),
        ((0.9, 0.1, 0.0), (1.0, 0.8, 0.0), (0.8, 1.0)),
        ((0.9, 0.6, 0.0), (1.0, 0.05, 0.0), (0.0, 0.05)),
        ((0.3, 0.3, 0.3), (1.0, 1.0, 1.0), (0.0, 0.0)),
    ],
)
def test_contradictions_between_patching_and_use(
    denoise: tuple[float, ...], use: tuple[float, ...], expected: tuple[float, float]
):
    figures = {f"{arm}: denoise": value for arm, value in zip(patching.ARMS, denoise, strict=True)}
    figures |= {f"{arm}: use": value for arm, value in zip(patching.ARMS, use, strict=True)}
    found = patching.agreement(figures)
    assert (found["used_without_restoring"], found["least_use_where_restored"]) == expected
    assert found["best_restored"] == max(denoise)


def test_heads_that_can_go_are_counted_where_the_loss_bears_it():
    def row(penalty: float, closed: int, high: float) -> GatedRow:
        gates = {f"head {i}": 0.0 if i < closed else 1.0 for i in range(4)}
        change = Estimate(value=0.0, low=-0.01, high=high)
        return GatedRow(penalty=penalty, gates=gates, open_probability=gates, loss=change, change=change)

    found = Pruning(
        subject="x",
        sites=[f"head {i}" for i in range(4)],
        epsilon=0.02,
        n_test=8,
        losses=[0.0] * 8,
        rows=[row(0.01, 1, 0.01), row(0.1, 3, 0.019), row(1.0, 4, 0.3)],
    )
    assert heads.dispensable(found) == 0.75
    assert heads.dispensable(found.model_copy(update={"rows": [row(1.0, 4, 0.3)]})) == 0.0


def test_the_memory_that_is_patched_is_the_memory():
    recipe = window.recipes(WINDOW)["wide"]
    model = build_model(recipe.model, 0)
    assert isinstance(recipe.model.mixers[0], GatedDeltaConfig)
    assert recipe.model.mixers[0].convolution == patching.TAPS
    assert model.get_submodule(patching.MEMORY) is model.blocks[0].mixer
    assert TRAINING.device == "cpu"

"""What single studies compute, on networks and figures whose answer is known."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mnemoscope.contracts import Batch
from mnemoscope.experiments.survey import arms, forgetting, heads, hybrids, patching, saturation, undoing, window
from mnemoscope.experiments.trained.pruning_gates import GatedRow, Pruning
from mnemoscope.memories import AttentionConfig, GatedDeltaConfig
from mnemoscope.models import Model, Stack, build_model
from mnemoscope.runs import Estimate, Examination, SiteRecord
from mnemoscope.tasks import BigramsConfig, build_task
from mnemoscope.training.remedies.stochastic_window import StochasticWindow
from tests.unit.experiments.survey.tiny import SETTINGS, TEXT, WINDOW, untrained


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
        read = forgetting.beyond(model, settings, 16)
        found[rate] = read.left
        assert len(read.curve) == 16
    assert found[-12.0] > 0.99
    assert found[6.0] < 0.01
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_what_reads_the_past_wrongly_loses_by_reading_on(monkeypatch: pytest.MonkeyPatch):
    settings = SETTINGS["survey-forgetting"]
    model = build_model(settings.recipe(4, 16).model, 0).eval()
    measure = forgetting._losses

    def worse_when_long(model: Model, batch: Batch) -> torch.Tensor:
        return torch.full_like(measure(model, batch), 2.0 if batch.targets.shape[1] > 16 else 1.5)

    monkeypatch.setattr(forgetting, "_losses", worse_when_long)
    read = forgetting.beyond(model, settings, 16)
    assert (read.rise, read.fresh) == (pytest.approx(0.5), pytest.approx(1.5))


def test_bytes_are_read_afresh_from_multiples_of_the_training_length():
    numbers = np.arange(16).reshape(2, 8)
    again = forgetting.cut(Batch(inputs=numbers, targets=numbers + 1), 4)
    assert again.inputs.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]
    assert (np.asarray(again.targets) == np.asarray(again.inputs) + 1).all()


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
    given = window.recipes(window.SMALL)
    mixers = {name: recipe.model.mixers for name, recipe in given.items()}
    seen = {
        name: next(each.window for each in held if isinstance(each, AttentionConfig)) for name, held in mixers.items()
    }
    assert seen == {
        "narrow": 4,
        "middle": 16,
        "wide": 32,
        "last middle": 16,
        "last wide": 32,
        "last drawn": 32,
        "last dropped": 32,
    }
    assert given["last drawn"].remedies == (StochasticWindow(windows=(4, 8, 16, 32)),)
    assert [bool(recipe.remedies) for recipe in given.values()] == [False] * 5 + [True] * 2


def test_networks_whose_memory_stands_last_have_twice_the_steps():
    given = window.recipes(window.SMALL)
    assert {given[name].train.steps for name in window.FIRST} == {900}
    assert {given[name].train.steps for name in window.LAST} == {1800}
    assert {name: isinstance(recipe.model.mixers[0], GatedDeltaConfig) for name, recipe in given.items()} == {
        name: name in window.FIRST for name in window.ARMS
    }


def test_blocks_stand_where_their_word_says():
    mixers = hybrids.recalling(hybrids.SMALL)["1:7"].model.mixers
    assert [isinstance(mixer, AttentionConfig) for mixer in mixers] == [False] * 3 + [True] + [False] * 4
    counts = {ratio: hybrids.BLOCKS[ratio].count("a") for ratio in ("1:0", "1:1", "1:3", "1:7", "0:1")}
    assert counts == {"1:0": 8, "1:1": 4, "1:3": 2, "1:7": 1, "0:1": 0}
    assert [hybrids.BLOCKS[place].index("a") for place in ("first", "1:7", "last")] == [0, 3, 7]
    assert set(hybrids.reading(hybrids.SMALL)) == {f"text {place}" for place in ("1:1", "1:3", "1:7", "first", "last")}


@pytest.mark.parametrize(
    ("denoise", "use", "expected"),
    [
        ((0.9, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 2, 1)),
        ((0.9, 0.1, 0.0), (1.0, 0.8, 0.0), (0.8, 1.0, 2, 1)),
        ((0.9, 0.6, 0.0), (1.0, 0.05, 0.0), (0.0, 0.05, 1, 2)),
        ((0.3, 0.3, 0.3), (1.0, 1.0, 1.0), (math.nan, math.nan, 0, 0)),
        ((0.9, 0.9, 0.9), (1.0, 1.0, 1.0), (math.nan, 1.0, 0, 3)),
    ],
)
def test_contradictions_between_patching_and_use(
    denoise: tuple[float, ...], use: tuple[float, ...], expected: tuple[float, ...]
):
    figures = {f"{arm}: {figure}": 0.0 for arm in patching.ARMS for figure in ("denoise", "use", "accuracy")}
    figures |= {f"{arm}: denoise": value for arm, value in zip(window.FIRST, denoise, strict=True)}
    figures |= {f"{arm}: use": value for arm, value in zip(window.FIRST, use, strict=True)}
    figures |= {f"{arm}: accuracy": 1.0 for arm in window.FIRST}
    found = patching.agreement(figures)
    names = ("used_without_restoring", "least_use_where_restored", "silent", "spoken")
    assert tuple(found[name] for name in names) == pytest.approx(expected, nan_ok=True)


def test_patching_counts_only_networks_that_learned():
    figures = {f"{arm}: {figure}": 0.0 for arm in patching.ARMS for figure in ("denoise", "use", "accuracy")}
    assert patching.agreement(figures)["silent"] == 0


def test_a_share_without_headroom_is_none():
    def of(low: float) -> Examination:
        one = Estimate(value=0.1, low=low, high=0.2)
        site = SiteRecord(name="m", role="memory", module="M", effects={"read": {"optimal_constant": one}})
        return Examination.model_construct(sites=[site], groups=[], headroom=one, memories_share=one)

    assert arms.use_of_memory(of(0.05))["share"] == 0.1
    assert math.isnan(arms.use_of_memory(of(-0.01))["share"])
    assert arms.use_of_memory(of(-0.01))["headroom"] == -0.01


def test_a_text_is_read_where_the_worst_loss_is_below_that_of_a_bigram():
    task = build_task(TEXT)
    assert task.memoryless_loss is not None
    assert arms.below_bigram(task, [1.0, 1.5]) == pytest.approx(task.memoryless_loss - 1.5)
    assert math.isnan(arms.below_bigram(build_task(BigramsConfig()), [1.0]))


def test_the_same_network_sees_less_through_a_narrower_window():
    run = untrained(window.recipes(WINDOW)["wide"])
    whole = undoing.accuracy_within(run, WINDOW.task.length, 64)
    assert whole == arms.score(run, 64).accuracy
    narrow = build_model(window.recipes(WINDOW)["narrow"].model, 0)
    narrow.load_state_dict(run.model.state_dict())
    expected = arms.score(replace(run, model=narrow), 64).accuracy
    assert undoing.accuracy_within(run, window.NARROWEST, 64) == expected
    assert not any(module._forward_pre_hooks for module in run.model.modules())


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


@pytest.mark.parametrize("arm", window.ARMS)
def test_the_memory_that_is_patched_is_the_memory(arm: str):
    recipe = window.recipes(WINDOW)[arm]
    model = build_model(recipe.model, 0)
    assert isinstance(model, Stack)
    patched = model.get_submodule(patching.MEMORIES[arm])
    (place,) = (i for i, mixer in enumerate(recipe.model.mixers) if isinstance(mixer, GatedDeltaConfig))
    assert patched is model.blocks[place].mixer
    assert recipe.model.mixers[place].convolution == patching.TAPS

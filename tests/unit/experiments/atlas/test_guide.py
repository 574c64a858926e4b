"""The guide's keys: every one arrives in the recipe, in both modes, or is said to do nothing."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mnemoscope.experiments.atlas.guide import guide_recipe, guide_values
from mnemoscope.experiments.atlas.keys import KEYS, PUBLIC_DEFAULTS, Value, require_value
from mnemoscope.experiments.atlas.recipes import SIZED_RECIPES, TINY, TINY_RECIPES
from mnemoscope.experiments.recipes import find_recipe
from mnemoscope.models import build_model
from mnemoscope.tasks import build_task
from mnemoscope.training import Recipe

SMALL: dict[str, Value] = {"d_model": 32, "n_layers": 1, "d_ff": 64, "vocab_size": 100, "max_seq_len": 32}


def memory(recipe: Recipe) -> Any:
    return recipe.model.mixers[0].memory


def attention(recipe: Recipe) -> Any:
    return recipe.model.mixers[0].beside


def floor(recipe: Recipe) -> Any:
    return recipe.remedies[0]


def opened(gate: str) -> Callable[[Recipe], float]:
    """Where a gate starts in the module that is built."""

    def of(recipe: Recipe) -> float:
        inner = build_model(recipe.model, 0).get_submodule("blocks.0.mixer.memory.inner")
        heads = inner if recipe.lesson.detach_write else inner.gates
        return getattr(heads, gate).bias.sigmoid().item()

    return of


ARRIVES: dict[str, tuple[Value, Callable[[Recipe], object], object]] = {
    "d_model": (64, lambda r: build_model(r.model, 0).embedding.weight.shape[1], 64),
    "n_layers": (3, lambda r: len(build_model(r.model, 0).blocks), 3),
    "n_heads": (2, lambda r: attention(r).n_heads, 2),
    "d_ff": (96, lambda r: build_model(r.model, 0).blocks[0].mlp.inner.out_features, 96),
    "vocab_size": (200, lambda r: (r.model.vocab_size, r.task.vocab_size), (200, 200)),
    "max_seq_len": (48, lambda r: r.task.text_length, 48),
    "d_key": (16, lambda r: memory(r).head_width, 16),
    "d_value": (16, lambda r: memory(r).head_width, 16),
    "poly_degree": (3, lambda r: memory(r).degree, 3),
    "context_window": (8, lambda r: memory(r).chunk_tokens, 8),
    "window_size": (24, lambda r: attention(r).window, 24),
    "init_alpha": (0.95, opened("retention"), 0.95),
    "init_theta": (0.5, opened("momentum"), 0.5),
    "init_eta": (0.2, lambda r: opened("step_size")(r) * 16, 0.2),
    "max_steps": (5000, lambda r: r.train.steps, 5000),
    "learning_rate": (1e-3, lambda r: r.train.learning_rate, 1e-3),
    "weight_decay": (0.1, lambda r: r.train.weight_decay, 0.1),
    "warmup_steps": (7, lambda r: r.train.warmup_steps, 7),
    "grad_clip": (2.0, lambda r: r.train.grad_clip, 2.0),
    "batch_size": (4, lambda r: r.train.batch_size, 4),
    "dtype": ("bfloat16", lambda r: r.train.precision, "bf16-mixed"),
    "log_interval": (5, lambda r: r.train.log_every, 5),
    "checkpoint_interval": (11, lambda r: r.train.checkpoint_every, 11),
    "phase1_gate_floor": (0.6, lambda r: floor(r).phase_floor(1, 9), 0.6),
    "phase2_gate_floor": (0.2, lambda r: floor(r).phase_floor(3001, 9000), 0.2),
    "phase3_gate_floor": (0.01, lambda r: floor(r).phase_floor(7001, 9000), 0.01),
    "phase1_steps": (10, lambda r: (floor(r).phase_floor(10, 99), floor(r).phase_floor(11, 99)), (0.3, 0.1)),
    "phase2_steps": (10, lambda r: (floor(r).phase_floor(3010, 9000), floor(r).phase_floor(3011, 9000)), (0.1, 0.05)),
    "storage_gate_target": (0.6, lambda r: floor(r).mode_floor("storage"), 0.6),
    "retrieval_gate_floor": (0.5, lambda r: floor(r).mode_floor("retrieval"), 0.5),
    "storage_samples": (3, lambda r: r.task.n_storage, 3),
    "retrieval_samples": (2, lambda r: r.task.n_retrieval, 2),
    "reset_memory_between_episodes": (True, lambda r: r.lesson.between, "reset"),
    "num_masks": (8, lambda r: r.task.n_masks, 8),
    "retrieval_loss_weight": (10.0, lambda r: r.lesson.retrieval_weight, 10.0),
    "storage_loss_weight": (2.0, lambda r: r.lesson.storage_weight, 2.0),
    "use_stablemax": (True, lambda r: r.train.loss, "stablemax"),
    "use_orthogonal_grad": (True, lambda r: r.train.orthogonal_gradient, 1.0),
    "orthogonal_grad_strength": (0.25, lambda r: r.train.orthogonal_gradient, 0.25),
    "metrics_interval": (9, lambda r: (r.train.eval_every, r.train.metrics and r.train.metrics.every), (9, 9)),
    "dataset_path": ("prose", lambda r: r.task.corpus, "prose"),
    "tokenizer": ("bpe", lambda r: r.task.text_unit, "bpe"),
}
"""Another value than the guide's, and what of recipe or module must then be what."""

COMPANY: dict[str, dict[str, Value]] = {
    "tokenizer": {"vocab_size": 300},
    "d_key": {"d_value": 16},
    "d_value": {"d_key": 16},
    "orthogonal_grad_strength": {"use_orthogonal_grad": True},
}

WITHOUT_EFFECT = {"gradient_accumulation_steps", "enabled", "use_masked_retrieval", "use_omega"}
"""What their lines say."""


@pytest.mark.parametrize("key", ARRIVES)
def test_every_key_arrives(key: str):
    """D3: the value is in the recipe or the module that it makes, and the guide's is not the same."""
    value, of, wanted = ARRIVES[key]
    plain = guide_recipe(SMALL, name="plain")
    changed = guide_recipe({**SMALL, **COMPANY.get(key, {}), key: value}, name="changed")
    assert of(changed) == (pytest.approx(wanted, rel=1e-5) if isinstance(wanted, float) else wanted)
    assert of(plain) != of(changed)


def test_every_key_was_tried():
    assert {*ARRIVES, *WITHOUT_EFFECT} == set(KEYS)
    assert "nothing" in KEYS["gradient_accumulation_steps"].here
    assert KEYS["enabled"].needed is True
    assert KEYS["use_masked_retrieval"].needed is True
    assert KEYS["use_omega"].needed is True


@pytest.mark.parametrize("compat", [False, True])
def test_the_switch_of_perpgrad_alone_takes_all_and_a_strength_is_kept(compat: bool):
    on: dict[str, Value] = {**SMALL, "use_orthogonal_grad": True}
    strengths = [{}, {"orthogonal_grad_strength": 0.25}, {"orthogonal_grad_strength": 0.0}]
    recipes = [guide_recipe({**on, **strength}, name="x", compat=compat) for strength in strengths]
    assert [recipe.train.orthogonal_gradient for recipe in recipes] == [1.0, 0.25, 0.0]
    off = guide_recipe({**on, "use_orthogonal_grad": False}, name="x", compat=compat)
    assert off.train.orthogonal_gradient == 0


NOT_IN_COMPAT = [
    "phase1_gate_floor",
    "phase2_gate_floor",
    "phase3_gate_floor",
    "phase1_steps",
    "phase2_steps",
    "storage_gate_target",
    "retrieval_gate_floor",
]


@pytest.mark.parametrize("key", NOT_IN_COMPAT)
def test_what_the_public_code_does_not_read_changes_nothing_in_compat(key: str):
    """D3: as published."""
    value, *_ = ARRIVES[key]
    plain, changed = (guide_recipe(given, name="x", compat=True) for given in (SMALL, {**SMALL, key: value}))
    assert plain == changed
    assert "never" in KEYS[key].compat or "not read" in KEYS[key].compat
    remedy = floor(plain)
    assert (remedy.mode_floor("storage"), remedy.mode_floor("retrieval"), remedy.floor_mode) == (0.8, 0.3, "clamp")
    assert remedy.phase_floor(1, 10) == 0


def test_compat_differs_in_memory_lesson_order_and_defaults():
    ours, compat = (guide_recipe(SMALL, name="x", compat=mode) for mode in (False, True))
    assert (memory(ours).kind, memory(compat).kind) == ("omega", "atlas_compat")
    assert (ours.lesson.detach_write, compat.lesson.detach_write) == (False, True)
    assert memory(compat).detach_write
    assert memory(compat).reads_ahead
    assert (ours.task.order, compat.task.order) == ("shuffled", "stored")
    assert (ours.train.loss, compat.train.loss) == ("cross_entropy", "stablemax")
    assert (ours.train.orthogonal_gradient, compat.train.orthogonal_gradient) == (0, 1)
    assert compat.train.orthogonal_gradient_of == "all"
    assert (ours.task.n_masks, compat.task.n_masks) == (13, 1)
    assert floor(ours).floor_mode == "affine"  # D6: a floored gate keeps a gradient
    assert memory(ours).convolution >= 2  # D10
    assert ours.train.metrics is not None
    assert compat.train.metrics is not None
    assert set(compat.train.metrics.names) - set(ours.train.metrics.names) == {"as_published"}


def test_what_is_left_out_is_the_guides():
    values = guide_values({})
    assert values == {key: entry.guide for key, entry in KEYS.items() if entry.guide is not None}
    assert guide_values({}, compat=True) == {**values, **PUBLIC_DEFAULTS}


def test_all_phases_of_the_guide_are_followed_at_its_steps():
    remedy = floor(guide_recipe(SMALL, name="x"))
    assert [remedy.phase_floor(step, 100_000) for step in (1, 3000, 3001, 7000, 7001, 100_000)] == [
        0.3,
        0.3,
        0.1,
        0.1,
        0.05,
        0.05,
    ]


@pytest.mark.parametrize(
    ("modes", "floors"), [({}, {0.8, 0.3}), ({"storage_gate_target": 0.0, "retrieval_gate_floor": 0.2}, {0.3, 0.2})]
)
def test_the_higher_floor_acts_in_a_step(modes: dict[str, Value], floors: set[float]):
    """D3: the guide's phases are below its floors of storage and retrieval at every step, and so do nothing."""
    recipe = guide_recipe({**SMALL, **modes}, name="x")
    treatment = floor(recipe).attach(build_model(recipe.model, 0))
    found = set[float]()
    for step in (1, 3001, 7001):
        treatment.on_step(step, 100_000)
        for mode in ("storage", "retrieval"):
            treatment.set_mode(mode)
            found.add(treatment.floor)
    assert floor(recipe).phases_are_idle == (not modes)
    assert found == (floors if not modes else {0.3, 0.1, 0.05, 0.2})


REFUSED: list[tuple[dict[str, Value], bool, str]] = [
    ({"d_key": 16}, True, "d_key: must be d_model, as the public code asserts, = 32, got 16"),
    ({"d_key": 16, "d_value": 8}, False, "d_value: must be d_key = 16, got 8"),
    ({"init_alpha": 1.0}, False, "init_alpha: must be between 0 and 1, both excluded, got 1.0; the guide has 0.99"),
    ({"num_masks": 2.5}, False, "num_masks: must be a whole number of at least 1, got 2.5; the guide has 13"),
    ({"phase1_gate_floor": 1.0}, False, r"phase1_gate_floor: must be in \[0, 1\), got 1.0"),
    ({"dtype": "float16"}, False, "dtype: must be float32 or bfloat16, got 'float16'"),
    ({"max_steps": 100}, False, "warmup_steps: must be at most max_steps = 100, got 500"),
    ({"use_masked_retrieval": False}, False, "use_masked_retrieval: must be true here"),
    ({"init_etta": 1.0}, False, "unknown key 'init_etta'"),
]


@pytest.mark.parametrize(("given", "compat", "message"), REFUSED)
def test_values_that_cannot_be(given: dict[str, Value], compat: bool, message: str):
    with pytest.raises(ValueError, match=f"^atlas: {message}"):
        guide_recipe({**SMALL, **given}, name="x", compat=compat)


@pytest.mark.parametrize(("value", "taken"), [("3e-4", 3e-4), (3e-4, 3e-4), (1, 1.0)])
def test_numbers_that_yaml_takes_for_text(value: object, taken: float):
    assert require_value("here", "learning_rate", value) == taken


@pytest.mark.parametrize("value", [True, "fast", None, float("nan"), float("inf"), [1], 0])
def test_no_numbers(value: object):
    with pytest.raises(ValueError, match="here: must be positive and finite"):
        require_value("here", "learning_rate", value)


GUIDE_SIZES = {
    "atlas-10m": 13_197_592,
    "atlas-10m-compat": 13_708_572,
    "atlas-40m": 34_775_472,
    "atlas-40m-compat": 37_094_840,
    "atlas-389m": 352_031_840,
    "atlas-389m-compat": 385_373_296,
}


@pytest.mark.parametrize("name", SIZED_RECIPES)
def test_parameters_of_the_guides_sizes(name: str):
    """Exactly; and as published, what its project says: with the learned positions and norms that we do not have."""
    recipe = find_recipe(name)
    with torch.device("meta"):
        model = build_model(recipe.model, 0)
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    assert n_parameters == GUIDE_SIZES[name]
    if name in ("atlas-40m-compat", "atlas-389m-compat"):
        assert n_parameters == pytest.approx(float(name.split("-")[1].rstrip("m")) * 1e6, rel=0.08)


def test_the_sizes_have_tasks_that_their_text_is_long_enough_for():
    for name, recipe in SIZED_RECIPES.items():
        if not name.endswith("compat"):
            task = build_task(recipe.task)
            assert task.vocab_size == recipe.model.vocab_size
            assert (task.n_sequences("train") or 0) >= recipe.train.batch_size
            assert (task.n_sequences("validation") or 0) >= recipe.train.eval_sequences
            assert (task.n_sequences("test") or 0) >= 2


def test_tiny_recipes_put_the_same_memory_beside_as_context_and_before():
    kinds = {name: recipe.model.mixers[0].kind for name, recipe in TINY_RECIPES.items()}
    assert kinds == {
        "atlas-tiny": "parallel",
        "atlas-tiny-mac": "context",
        "atlas-tiny-mal": "serial",
        "atlas-tiny-compat": "parallel",
    }
    ours = TINY_RECIPES["atlas-tiny"].model.mixers[0].memory
    assert TINY_RECIPES["atlas-tiny-mac"].model.mixers[0].memory == ours
    assert TINY_RECIPES["atlas-tiny-mal"].model.mixers[0].first == ours
    assert TINY["dataset_path"] == "prose"

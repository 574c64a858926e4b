"""YAML files of the guide's project: read, refused, said, written, trained from."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from mnemoscope.experiments.atlas.importing import import_guide, write_recipe
from mnemoscope.experiments.atlas.keys import KEYS, SURROUNDINGS
from mnemoscope.experiments.recipes import find_recipe
from mnemoscope.models import build_model
from mnemoscope.runs import RunDirectory
from mnemoscope.training import load_run, train_recipe

OPTION_B = """
model:
  init_eta: 0.2               # Up from 0.1
  init_alpha: 0.95            # Down from 0.99

episodic:
  reset_memory_between_episodes: true  # Cleaner signal
"""

LANGUAGE = """
training:
  weight_decay: 0.0
  learning_rate: 3e-4

monitoring:
  stability:
    use_stablemax: false
    use_orthogonal_grad: true
    orthogonal_grad_strength: 0.5
  alerts:
    gate_dead_ratio: {threshold: 0.3, severity: warning}
kakeya:
  concepts: [honour, love]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "atlas.yaml"


def test_the_guides_snippets(file: Path):
    file.write_text(OPTION_B)
    imported = import_guide(file)
    assert [(key, value) for key, value, _ in imported.notes] == [
        ("model.init_eta", "0.2"),
        ("model.init_alpha", "0.95"),
        ("episodic.reset_memory_between_episodes", "true"),
    ]
    assert imported.defaults == ()
    memory = imported.recipe.model.mixers[0].memory
    assert (memory.initial_step_size, memory.initial_retention) == (pytest.approx(0.2 / 16), 0.95)
    assert imported.recipe.lesson.between == "reset"
    assert imported.recipe.name == "atlas"


def test_sections_within_sections_and_what_does_nothing(file: Path):
    file.write_text(LANGUAGE)
    imported = import_guide(file)
    train = imported.recipe.train
    assert (train.learning_rate, train.weight_decay, train.orthogonal_gradient) == (3e-4, 0.0, 0.5)
    does = {key: line for key, _, line in imported.notes}
    assert does["monitoring.alerts"].startswith("nothing: ")
    assert does["kakeya"].startswith("nothing: ")
    assert len(imported.notes) == 7


@pytest.mark.parametrize(("tokenizer", "text_unit"), [("bpe", "bpe"), ("t5-base", "word")])
def test_the_tokenizer_says_the_unit_of_the_text(tokenizer: str, text_unit: str, file: Path):
    file.write_text(f"data:\n  tokenizer: {tokenizer}\nmodel:\n  vocab_size: 600\n")
    imported = import_guide(file, corpus="prose")
    assert (imported.recipe.task.text_unit, imported.recipe.task.vocab_size) == (text_unit, 600)
    assert imported.recipe.model.vocab_size == 600
    assert "learned from the text's training split; any other name is not read" in imported.notes[0][2]


def test_keys_without_sections_and_another_text(file: Path):
    file.write_text("init_eta: 0.2\nretrieval_gate_floor: 0.5\n")
    recipe = import_guide(file, corpus="prose").recipe
    assert recipe.remedies[0].retrieval_floor == 0.5
    assert recipe.task.corpus == "prose"


def test_compat_says_what_is_not_read_and_what_is_on_when_left_out(file: Path):
    file.write_text("episodic:\n  retrieval_gate_floor: 0.5\n  num_masks: 13\n")
    imported = import_guide(file, compat=True)
    assert imported.notes[0][2] == "not read by the public code, which has 0.3 whatever is said"
    assert [(key, value) for key, value, _ in imported.defaults] == [
        ("monitoring.stability.use_stablemax", "true"),
        ("monitoring.stability.use_orthogonal_grad", "true"),
        ("monitoring.stability.orthogonal_grad_strength", "1.0"),
    ]
    assert imported.recipe.name == "atlas, as published"


def test_floors_of_phases_that_never_act_are_warned_of(file: Path):
    """D3: with the guide's own values; not where a mode's floor is lower, nor in compat, whose lines say it."""
    file.write_text("episodic: {phase1_steps: 10000}\n")
    (warning,) = import_guide(file).warnings
    assert warning.startswith("floors of the phases (0.3, 0.1, 0.05) change nothing")
    assert "retrieval_gate_floor 0.3" in warning
    assert import_guide(file, compat=True).warnings == ()
    file.write_text("episodic: {phase1_steps: 10000, retrieval_gate_floor: 0.2}\n")
    assert import_guide(file).warnings == ()


def test_every_key_is_taken_in_its_section(file: Path):
    """D3: all of them in one file."""
    given = {key: entry.guide for key, entry in KEYS.items() if entry.guide is not None}
    nested: dict = {}
    for key, value in given.items():
        place = nested
        for part in KEYS[key].section.split("."):
            place = place.setdefault(part, {})
        place[key] = value
    # JSON is YAML.
    file.write_text(json.dumps(nested))
    assert {key.rpartition(".")[2] for key, _, _ in import_guide(file).notes} == set(given)
    file.write_text("\n".join(f"{name.partition('.')[0]}: x" for name in SURROUNDINGS if "." not in name))
    assert len(import_guide(file).notes) == sum("." not in name for name in SURROUNDINGS)


REFUSED = {
    "model:\n  init_etta: 0.2\n": "unknown key 'model.init_etta'; did you mean 'init_eta'?",
    "model:\n  phase1_steps: 9\n": "phase1_steps must stand in episodic, got model.phase1_steps; move it there",
    "model:\n  init_eta: 0.2\n  init_eta: 0.3\n": "must be YAML, and cannot be read: 'init_eta' stands twice",
    "init_eta: 0.2\nmodel:\n  init_eta: 0.3\n": "init_eta must be given once, got it twice",
    "model: [1\n": "must be YAML, and cannot be read",
    "": "must hold sections such as model and episodic, got None",
    "just words\n": "must hold sections such as model and episodic, got just words",
    "model:\n": "unknown key 'model'",
    "model:\n  init_eta: fast\n": "model.init_eta: must be between 0 and 1, both excluded, got 'fast'; the guide has",
    "episodic:\n  num_masks: 512\n": "MaskedWordsConfig.n_masks",
    "training: !!python/object/apply:os.getcwd []\n": "must be YAML, and cannot be read",
}


@pytest.mark.parametrize("text", REFUSED)
def test_files_that_cannot_be(text: str, file: Path):
    file.write_text(text)
    with pytest.raises(ValueError, match=f"^{re.escape(str(file))}: .*{re.escape(REFUSED[text])}"):
        import_guide(file)


@pytest.mark.parametrize("compat", [False, True])
def test_what_is_written_is_a_recipe(compat: bool, file: Path, tmp_path: Path):
    file.write_text(OPTION_B)
    recipe = import_guide(file, compat=compat).recipe
    write_recipe(recipe, tmp_path / "recipe.json")
    assert find_recipe(str(tmp_path / "recipe.json")) == recipe


def test_the_public_codes_own_defaults_train(file: Path, tmp_path: Path):
    """StableMax and PerpGrad on all tensors, of which some never get a gradient."""
    file.write_text(
        "model: {d_model: 16, n_layers: 1, d_ff: 16, vocab_size: 50, max_seq_len: 16, window_size: 8}\n"
        "training: {max_steps: 2, warmup_steps: 1, batch_size: 2, log_interval: 1}\n"
        "episodic: {storage_samples: 2, retrieval_samples: 2}\n"
        "monitoring: {grokking: {metrics_interval: 1}}\n"
    )
    recipe = import_guide(file, compat=True, corpus="prose").recipe
    recipe = replace(recipe, lesson=replace(recipe.lesson, eval_words=8))
    before = build_model(recipe.model, recipe.train.seed).state_dict()
    train_recipe(recipe, tmp_path / "run", progress=False)
    after = load_run(tmp_path / "run").model.state_dict()
    prefix = "blocks.0.mixer.memory.inner."
    same = {
        name.removeprefix(prefix) for name in before if name.startswith(prefix) and (before[name] == after[name]).all()
    }
    assert {"value.weight", "retention.bias", "step_size.bias", "momentum.bias"} <= same
    assert not {"query.weight", "out.weight", "coefficients"} & same
    (found,) = RunDirectory(tmp_path / "run").read_metrics()[-1:]
    assert found["as_published.gate_mean"] >= 0.3
    assert found["as_published.grad_weight_cosine"] == 0

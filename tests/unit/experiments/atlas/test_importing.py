"""YAML files of the guide's project: read, refused, said, written, trained from."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from mnemoscope.cli.import_config import ImportConfig
from mnemoscope.experiments.atlas.importing import import_guide, write_recipe
from mnemoscope.experiments.atlas.keys import ANOTHER, KEYS, OTHER_NAMES, SURROUNDINGS
from mnemoscope.experiments.recipes import find_recipe
from mnemoscope.models import build_model
from mnemoscope.runs import RunDirectory
from mnemoscope.tasks import build_task
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

BASELINE = """
model: {d_model: 64, n_layers: 2, n_heads: 4, d_ff: 128, vocab_size: 600, max_seq_len: 48, d_key: 64, d_value: 64,
  poly_degree: 2, context_window: 8, init_alpha: 0.98, init_theta: 0.8, init_eta: 0.2, window_size: 24}
training: {max_steps: 900, learning_rate: 2e-4, weight_decay: 0.01, warmup_steps: 90, grad_clip: 0.5, batch_size: 4,
  gradient_accumulation_steps: 3, log_interval: 7, checkpoint_interval: 70, metrics_path: a/b.jsonl,
  checkpoint_dir: a/c, device: "cuda:3", dtype: bfloat16, compile_model: true}
episodic: {enabled: true, storage_samples: 3, retrieval_samples: 4, phase1_steps: 30, phase2_steps: 40,
  phase1_gate_floor: 0.4, phase2_gate_floor: 0.2, phase3_gate_floor: 0.1, storage_gate_target: 0.7,
  retrieval_gate_floor: 0.2, retrieval_loss_weight: 4.0, storage_loss_weight: 2.0, reset_memory_between_episodes: true,
  use_masked_retrieval: true, mask_token_id: 9, num_masks: 5, pad_token_id: 1}
monitoring:
  dashboard_enabled: false
  dashboard_port: 9000
  grokking: {enabled: true, metrics_interval: 60, track_embeddings: true, track_memory_matrices: false,
    track_hidden_states: true, effective_dim_ratio_target: 0.2, min_gate_mean: 0.2, min_retrieval_accuracy: 0.4}
  stability: {enabled: true, sc_threshold: 1e-6, nlm_cosine_threshold: 0.6, use_stablemax: false,
    use_orthogonal_grad: true, orthogonal_grad_strength: 0.4}
  alerts: {gate_collapse_risk: {threshold: 0.7, severity: critical}, memory_sparsity: {threshold: 0.4}}
  telegram: {enabled: false}
data: {dataset_path: texts/mine, num_workers: 1, max_seq_len: 48}
kakeya: {concepts: [sea, sky], extraction: {layers: [0], extract_memory: true, extract_hidden: true}}
"""
"""Every key of one of the two files that the guide calls its baseline, with other values."""

OF_THE_OTHER = """
curriculum:
  stage1: {enabled: true, task: masked, convergence_window: 10, convergence_threshold: 0.1, checkpoint_prefix: a}
  stage2: {enabled: true, task: by hand, n_samples: 5, coherence_threshold: 0.5, checkpoint_prefix: b}
  stage3: {enabled: true, task: writing, max_steps: 9, memory_query_before_generate: true,
    store_generations_in_memory: true, checkpoint_prefix: c}
"""
"""What the other has besides, with data.tokenizer_path."""

BASELINES = {"one": BASELINE, "other": BASELINE.replace("max_seq_len: 48}", "tokenizer_path: t}") + OF_THE_OTHER}

NEXT_TOKENS = """
model: {d_model: 32, n_layers: 1, n_heads: 2, d_ff: 64, vocab_size: 500, max_seq_len: 64, dropout: 0.1, use_omega: true}
training: {batch_size: 2, seq_len: 64, grad_accum_steps: 2, effective_batch_tokens: 256, betas: [0.9, 0.95],
  use_tnt: true, stage1_steps: 50, stage1_chunk_size: 32, stage2_steps: 5, stage2_chunk_size: 8, save_every: 11,
  log_every: 3, val_every: 13, val_patience: 2, memory_reset_every: 40}
data: {data_dir: prose, tokenizer: some/tokenizer, num_workers: 1, val_split: 0.1}
hardware: {devices: [0], distributed: false}
output: {run_dir: runs/x}
alerts: {enabled: false}
"""
"""Keys of the project's other trainer of the same model."""


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


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize("which", BASELINES)
def test_the_keys_of_the_guides_baseline_files(which: str, compat: bool, file: Path):
    file.write_text(BASELINES[which])
    imported = import_guide(file, compat=compat)
    said = {path: line for path, _, line in imported.notes}
    assert all(said.values())
    assert {"episodic.pad_token_id", "monitoring.grokking.min_gate_mean", "monitoring.stability.sc_threshold"} <= set(
        said
    )
    assert ("curriculum" in said) == ("data.tokenizer_path" in said) == (which == "other")
    recipe = imported.recipe
    assert (recipe.train.orthogonal_gradient, recipe.train.steps, recipe.task.corpus) == (0.4, 900, "texts/mine")
    assert imported.text == "texts/mine"
    assert imported.warnings[0] == "texts/mine: no such file here; put it there before you train"
    assert len(imported.warnings) == 1


def test_the_keys_of_the_trainer_of_next_tokens(file: Path):
    file.write_text(NEXT_TOKENS)
    imported = import_guide(file)
    train = imported.recipe.train
    assert (train.checkpoint_every, train.log_every, train.eval_every) == (11, 3, 13)
    assert imported.text == "prose, which needs no file"
    assert imported.warnings[0].startswith(
        "training.use_tnt, training.stage1_steps, training.stage2_steps: its trainer"
    )
    assert "for 100000 steps" in imported.warnings[0]


@pytest.mark.parametrize("path", ANOTHER)
def test_files_of_another_experiment_are_refused(path: str, file: Path):
    section, _, key = path.rpartition(".")
    file.write_text(f"{section}:\n  {key}: 1\n" if section else f"{key}:\n  prime: 97\n")
    with pytest.raises(
        ValueError, match=f"^{re.escape(str(file))}: {path}: of an(other experiment| older memory).*leave"
    ):
        import_guide(file)


def test_a_name_that_does_nothing_is_known_without_its_section(file: Path):
    file.write_text("device: cuda\nlog_every: 9\nbatch_size: 4\n")
    imported = import_guide(file)
    assert imported.notes[0][2] == "nothing: say --device when you train"
    assert imported.recipe.train.log_every == 9
    assert set(OTHER_NAMES.values()) <= set(KEYS)


@pytest.mark.parametrize("text", ["model:\n", "monitoring:\n  grokking:\n"])
def test_an_empty_section_has_no_keys(text: str, file: Path):
    file.write_text(text)
    assert import_guide(file).notes == ()


def test_the_text_is_said_and_a_default_is_warned_of(file: Path, tmp_path: Path):
    file.write_text("episodic: {retrieval_gate_floor: 0}\n")
    imported = import_guide(file)
    assert (imported.recipe.task.corpus, imported.text) == ("code", "code, which needs no file")
    (warning,) = imported.warnings
    assert warning.startswith("no data.dataset_path: trains on 'code', the one text that needs no file and is long")
    assert import_guide(file, corpus="code").warnings == ()
    there = tmp_path / "text.txt"
    there.write_text("words")
    assert import_guide(file, corpus=str(there)).warnings == ()
    (warning,) = import_guide(file, corpus=str(tmp_path / "no.txt")).warnings
    assert warning == f"{tmp_path / 'no.txt'}: no such file here; put it there before you train"


def test_the_guides_own_values_have_text_enough_by_default(file: Path):
    file.write_text("episodic: {enabled: true}\n")
    recipe = import_guide(file).recipe
    task = build_task(recipe.task)
    assert task.vocab_size == recipe.model.vocab_size == 32_000
    assert (task.n_sequences("train") or 0) >= recipe.train.batch_size == 32
    assert (task.n_sequences("validation") or 0) >= recipe.train.eval_sequences == 16
    with pytest.raises(ValueError, match="text 'prose': its validation split must hold 16 episodes of 5 texts of 512"):
        import_guide(file, corpus="prose")


@pytest.mark.parametrize(("corpus", "said"), [(None, "code, which needs no file"), ("my.txt", "my.txt")])
def test_the_command_says_the_text_also_of_a_file_without_keys(
    corpus: str | None, said: str, capsys: pytest.CaptureFixture[str], file: Path
):
    file.write_text("model:\n")
    assert ImportConfig(file=file, corpus=corpus).run() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{file}: 0 keys"
    assert lines[-4].startswith("warning: ")
    assert lines[-3] == f"text: {said}"


def test_a_recipe_goes_into_a_folder_that_is_there(file: Path, tmp_path: Path):
    file.write_text(OPTION_B)
    out = tmp_path / "no" / "recipe.json"
    with pytest.raises(ValueError, match=f"got {re.escape(str(out))}; make {re.escape(str(out.parent))}, or name"):
        ImportConfig(file=file, out=out).run()


def test_perpgrad_switch_and_strength(file: Path):
    """The public code's strength where only the switch is said; a strength alone changes nothing, and is warned of."""
    file.write_text("monitoring: {stability: {use_orthogonal_grad: true}}\n")
    imported = import_guide(file)
    assert imported.recipe.train.orthogonal_gradient == 1
    strength = "monitoring.stability.orthogonal_grad_strength"
    assert imported.defaults == ((strength, "1.0", "left out: the public code's own"),)
    file.write_text("orthogonal_grad_strength: 0.5\n")
    alone = import_guide(file)
    assert alone.recipe.train.orthogonal_gradient == 0
    assert (
        "orthogonal_grad_strength 0.5 changes nothing: use_orthogonal_grad is left out, and false; say "
        "use_orthogonal_grad: true" in alone.warnings
    )
    assert import_guide(file, compat=True).recipe.train.orthogonal_gradient == 0.5
    file.write_text("orthogonal_grad_strength: 0.5\nuse_orthogonal_grad: false\n")
    assert any("use_orthogonal_grad is false" in warning for warning in import_guide(file, compat=True).warnings)


@pytest.mark.parametrize("compat", [False, True])
def test_values_of_which_no_model_can_be_built(compat: bool, file: Path):
    file.write_text("model: {d_model: 64, n_heads: 3, vocab_size: 500}\n")
    required = "attention: d_model must be a multiple of n_heads=3, got 64"
    with pytest.raises(ValueError, match=f"^{re.escape(f'{file}: {required}')}"):
        import_guide(file, compat=compat)


@pytest.mark.parametrize(("tokenizer", "text_unit"), [("bpe", "bpe"), ("t5-base", "word")])
def test_the_tokenizer_says_the_unit_of_the_text(tokenizer: str, text_unit: str, file: Path):
    file.write_text(f"data:\n  tokenizer: {tokenizer}\nmodel:\n  vocab_size: 600\n  max_seq_len: 32\n")
    imported = import_guide(file, corpus="prose")
    assert (imported.recipe.task.text_unit, imported.recipe.task.vocab_size) == (text_unit, 600)
    assert imported.recipe.model.vocab_size == 600
    assert "learned from the text's training split; any other name is not read" in imported.notes[0][2]


def test_keys_without_sections_and_another_text(file: Path):
    file.write_text("init_eta: 0.2\nretrieval_gate_floor: 0.5\nmax_seq_len: 32\n")
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
    (warning,) = import_guide(file, corpus="code").warnings
    assert warning.startswith("floors of the phases (0.3, 0.1, 0.05) change nothing")
    assert "retrieval_gate_floor 0.3" in warning
    assert import_guide(file, compat=True, corpus="code").warnings == ()
    file.write_text("episodic: {phase1_steps: 10000, retrieval_gate_floor: 0.2}\n")
    assert import_guide(file, corpus="code").warnings == ()


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
    "init_eta: 0.2\nmodel:\n  init_eta: 0.3\n": "init_eta must be given once, got it twice (init_eta, model.init_eta)",
    "training:\n  log_every: 3\n  log_interval: 3\n": "got it twice (training.log_every, training.log_interval); keep",
    "modle:\n  d_model: 64\n": "unknown section 'modle'; did you mean 'model'?",
    "zzz:\n  d_model: 64\n": "unknown section 'zzz'; known: alerts, curriculum, data, early_stopping, episodic,",
    "stability:\n  use_stablemax: true\n": "stability must stand in monitoring, got stability; move it there",
    "model:\n  training:\n    max_steps: 9\n": "training must stand at the top, got model.training; move it there",
    "model: 3\n": "model: must be a section, with keys below it, got 3",
    "model:\n  d_model: {a: 1}\n": "model.d_model: must be a whole number of at least 1, got {'a': 1}",
    "model:\n  zzqqxx: 1\n": "unknown key 'model.zzqqxx'; known: alerts, batch_size, betas,",
    "model:\n  device: cpu\n": "device must stand in training, got model.device; move it there",
    "model:\n  use_omega: false\n": "model.use_omega: must be true here",
    "training:\n  batch_size: 999\n": "text 'code': its train split must hold 999 episodes of 5 texts of 512 tokens",
    "max_seq_len: 99999\n": "lower max_seq_len or storage_samples",
    "model: [1\n": "must be YAML, and cannot be read",
    "": "must hold sections such as model and episodic, got nothing",
    "just words\n": "must hold sections such as model and episodic, got just words",
    "model:\n  init_eta: fast\n": "model.init_eta: must be between 0 and 1, both excluded, got 'fast'; the guide has",
    "episodic:\n  num_masks: 512\n": "MaskedWordsConfig.n_masks",
    "training: !!python/object/apply:os.getcwd []\n": "must be YAML, and cannot be read",
}


@pytest.mark.parametrize("text", REFUSED)
def test_files_that_cannot_be(text: str, file: Path):
    file.write_text(text)
    with pytest.raises(ValueError, match=f"^{re.escape(str(file))}: .*{re.escape(REFUSED[text])}"):
        import_guide(file)


def test_all_names_are_listed_only_where_none_is_near(file: Path):
    file.write_text("model:\n  init_etta: 0.2\n")
    with pytest.raises(ValueError, match=r"did you mean 'init_eta'\?$"):
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

"""Runs on text under several tokenisers: comparable figures, and tokens that keep their meaning."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from mnemoscope.models import StackConfig
from mnemoscope.runs import RunDirectory
from mnemoscope.tasks import Text, TextConfig
from mnemoscope.training import Recipe, TrainConfig, load_run, train_recipe

TRAIN = TrainConfig(
    steps=4, batch_size=2, warmup_steps=1, eval_every=2, eval_sequences=4, log_every=1, checkpoint_every=2, threads=1
)


def recipe_of(path: Path, **options: str | int) -> Recipe:
    task = TextConfig(corpus=str(path), length=16, **options)  # pyright: ignore[reportArgumentType]
    model = StackConfig.of("gated_delta", vocab_size=Text(task).vocab_size, d_model=8)
    return Recipe(name="text", model=model, task=task, train=TRAIN)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("".join(f"the café has {n} chairs and {n % 7} tables\n" for n in range(400)), encoding="utf-8")
    return path


@pytest.mark.parametrize("tokeniser", ["bytes", "characters", "bpe"])
def test_a_run_shows_bits_per_byte_and_is_read_back_with_its_tokeniser(text: Path, tmp_path: Path, tokeniser: str):
    recipe = recipe_of(text, tokeniser=tokeniser)
    result = train_recipe(recipe, tmp_path / "run", progress=False)
    loaded = load_run(tmp_path / "run")
    assert isinstance(loaded.task, Text)
    expected = loaded.task.bits_per_byte(result.validation["validation_loss"], "validation")
    assert result.validation["validation_bits_per_byte"] == expected
    assert (expected == result.validation["validation_loss"] / math.log(2)) == (tokeniser == "bytes")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    trained = [row for row in rows if "bits_per_byte" in row]
    assert len(trained) == 4
    assert all(row["bits_per_byte"] == loaded.task.bits_per_byte(row["loss"], "train") for row in trained)
    assert RunDirectory(tmp_path / "run").read_manifest().data == loaded.task.manifest()


@pytest.mark.parametrize("tokeniser", ["characters", "bpe"])
def test_another_tokeniser_is_refused(text: Path, tmp_path: Path, tokeniser: str):
    recipe = recipe_of(text, tokeniser=tokeniser)
    train_recipe(recipe, tmp_path / "run", progress=False)
    # The same vocabulary size, or the model would be refused as too small.
    text.write_text(text.read_text(encoding="utf-8").translate(str.maketrans("c", "q")), encoding="utf-8")
    for again in (
        lambda: train_recipe(recipe, tmp_path / "run", resume=True, progress=False),
        lambda: load_run(tmp_path / "run"),
    ):
        with pytest.raises(ValueError, match=r"the model knows the tokens of the tokeniser with SHA-256 \w{64}, got"):
            again()


def test_a_run_from_before_there_were_tokenisers_goes_on(text: Path, tmp_path: Path):
    recipe = recipe_of(text)
    train_recipe(recipe, tmp_path / "run", progress=False)
    config_path = tmp_path / "run" / "config.json"
    config = json.loads(config_path.read_text())
    for name in ("tokeniser", "bpe_vocab"):
        del config["resolved"]["task"][name]
    config_path.write_text(json.dumps(config))
    assert train_recipe(recipe, tmp_path / "run", resume=True, progress=False).step == 4
    changed = replace(recipe, task=replace(recipe.task, tokeniser="characters"))  # pyright: ignore[reportCallIssue]
    with pytest.raises(ValueError, match=r"task\.tokeniser \(was bytes, got characters\)"):
        train_recipe(changed, tmp_path / "run", resume=True, progress=False)

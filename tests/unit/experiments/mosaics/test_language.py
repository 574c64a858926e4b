from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mnemoscope.experiments.mosaics import language as language_module
from mnemoscope.experiments.mosaics.arms import TITLES
from mnemoscope.experiments.mosaics.language import (
    MOSAIC_PROSE,
    MOSAIC_STORIES,
    PAIR,
    LanguageStudy,
    language,
    losses,
)
from mnemoscope.experiments.published import on_text
from mnemoscope.experiments.reproducing import Size, reproduce
from mnemoscope.experiments.reproduction_page import reproduction_of
from mnemoscope.models.mosaic import MosaicConfig, build_mosaic
from mnemoscope.tasks import TextConfig, build_task

TINY = LanguageStudy(
    depths=(1, 2), length=32, d_model=16, steps=4, batch_size=2, n_test=4, prompt_tokens=4, new_tokens=3, bpe_vocab=300
)


def test_losses_are_those_of_each_token():
    model = build_mosaic(MosaicConfig(vocab_size=11, d_model=8, n_layers=1), 0)
    x, y = torch.randint(11, (3, 7)), torch.randint(11, (3, 7))
    with torch.no_grad():
        wanted = -model(x).log_softmax(-1).gather(-1, y.unsqueeze(-1)).squeeze(-1)
    assert np.allclose(losses(model, x, y), wanted.numpy(), atol=1e-6)


def test_a_seed_gives_losses_by_position_and_prompts_that_are_gone_on_with(tmp_path: Path):
    measured = language(TINY, 0, tmp_path)
    for arm in PAIR:
        known = measured.series[f"{arm}_2: known"]
        assert len(known) == 32
        assert measured.figures[f"{arm}_2_loss"] == pytest.approx(np.mean(known))
    gain = measured.figures["transformer_1_loss"] - measured.figures["mosaic_1_loss"]
    assert measured.figures["gain_1"] == pytest.approx(gain)
    assert len(measured.texts["prompts"]) == len(measured.texts["mosaic_2"]) == 24
    assert all(len(text.split()) == 3 for text in measured.texts["transformer_2"])


@pytest.mark.parametrize("size", ["small", "paper"])
def test_a_text_of_few_windows_is_tested_on_all_and_gives_every_prompt(size: Size):
    """The prose that comes along has a test split of 30 windows of 256 tokens."""
    settings = MOSAIC_PROSE.sizes[size]
    task = build_task(settings.task)
    tests = language_module._tests(settings, task)
    n_windows = task.n_sequences("test")
    assert n_windows is not None
    assert n_windows < settings.n_test
    assert tests["known"][0].shape == (n_windows, settings.length)
    assert language_module._prompts(task, settings).shape == (24, settings.prompt_tokens)


def test_a_text_on_the_hub_is_read_as_far_as_the_training_goes():
    study = replace(MOSAIC_PROSE.sizes["small"], steps=10)
    on_hub = study.on(["hub:owner/name"]).task
    assert isinstance(on_hub, TextConfig)
    assert on_hub.max_bytes == 4 * 10 * study.batch_size * study.length
    assert study.on(["a.txt", "b.txt"]).other == "b.txt"
    assert study.on(["a.txt"]).other == "code"
    with pytest.raises(ValueError, match="leave out all but two --text"):
        study.on(["a.txt", "b.txt", "c.txt"])


@pytest.mark.long
def test_another_text_is_read_in_tokens_of_its_own(tmp_path: Path):
    text = tmp_path / "novel.txt"
    text.write_text("".join(f"On day {7 * i % 365} the clocks were striking {13 * i % 24}. " for i in range(2600)))
    tiny = on_text(replace(MOSAIC_STORIES, sizes={"small": replace(TINY, depths=(1,))}, claims=(), plots=()), str(text))
    found = reproduce(tiny, 1, "small", tmp_path / "out", lambda line: None)
    (table,) = reproduction_of(tiny, "small", found, 1, "").tables
    assert table.columns == ["Beginning", *(TITLES[arm] for arm in PAIR)]
    assert len(table.rows) == 24
    assert (tmp_path / "out" / "mosaic-runs" / "novel-1-mosaic" / "seed-0").is_dir()

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mnemoscope.experiments.mosaics.arms import TITLES
from mnemoscope.experiments.mosaics.language import MOSAIC_STORIES, PAIR, LanguageStudy, language, losses
from mnemoscope.experiments.published import on_text
from mnemoscope.experiments.reproducing import reproduce
from mnemoscope.experiments.reproduction_page import reproduction_of
from mnemoscope.models.mosaic import MosaicConfig, build_mosaic

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

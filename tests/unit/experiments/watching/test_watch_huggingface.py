from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import MambaConfig, MambaForCausalLM, Trainer, TrainingArguments

from mnemoscope.experiments.watching import MemoryWatch, WatchConfig
from mnemoscope.experiments.watching.huggingface import WatchCallback
from tests.unit.examination import tiny_huggingface  # noqa: F401  (no kernels of the hub)

MIXER = "backbone.layers.0.mixer"


def trained(folder: Path, watch: MemoryWatch | None) -> tuple[Trainer, list[Tensor]]:
    """Four steps of a small Mamba from the same weights on the same data."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "state_size": 4, "expand": 2}
    model: nn.Module = MambaForCausalLM(MambaConfig(vocab_size=11, **sizes))
    tokens = torch.randint(11, (16, 9), generator=torch.Generator().manual_seed(1))
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=4,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        logging_steps=2,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        seed=3,
    )
    data = [{"input_ids": row, "labels": row} for row in tokens]
    callbacks = [] if watch is None else [WatchCallback(watch)]
    trainer = Trainer(model, arguments, train_dataset=data, callbacks=callbacks)
    trainer.train()
    return trainer, [tensor.clone() for tensor in model.state_dict().values()]


def test_a_trainer_is_watched_and_learns_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    tokens = torch.randint(11, (8, 9), generator=torch.Generator().manual_seed(2))
    config = WatchConfig(every=2, max_share_of_time=None)
    watch = MemoryWatch([{"input_ids": tokens}], config=config)
    trainer, watched = trained(tmp_path / "watched", watch)
    _, alone = trained(tmp_path / "alone", None)
    assert all(torch.equal(a, b) for a, b in zip(watched, alone, strict=True))
    rows = [row for row in trainer.state.log_history if "watch.loss" in row]
    assert [row["step"] for row in rows] == [2, 4]
    assert rows[0][f"watch.gradient_share.{MIXER}"] == 1.0
    assert [(alarm.step, alarm.kind) for alarm in watch.warnings] == [(2, "idle")]
    assert f"warning: step 2: {MIXER}: it idles" in capsys.readouterr().err

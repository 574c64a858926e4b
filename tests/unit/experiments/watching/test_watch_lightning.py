from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.contracts import IGNORE
from mnemoscope.experiments.watching import MemoryWatch, WatchConfig
from mnemoscope.experiments.watching.lightning import lightning_callback
from tests.unit.experiments.watching.first_token import gated_model, probe_batches

pytestmark = pytest.mark.filterwarnings("ignore:.*")  # of Lightning, about loaders, loggers and torch
MEMORY = "blocks.0.mixer.memory"
CONFIG = WatchConfig(every=2, max_share_of_time=None)


@pytest.fixture(scope="module")
def library() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LITLOGGER_DISABLED", "1")
        import lightning.pytorch

        yield lightning.pytorch


def fitted(library: Any, folder: Path, watch: MemoryWatch | None, start: Path | None = None, steps: int = 4) -> Any:
    class Module(library.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = gated_model()

        def training_step(self, batch: list[Tensor], index: int) -> Tensor:
            inputs, targets = batch
            return F.cross_entropy(self.model(inputs).flatten(0, 1), targets.flatten(), ignore_index=IGNORE)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=1e-2)

    def subject(module: Module) -> nn.Module:
        return module.model

    data = [(batch.inputs, batch.targets) for batch in probe_batches(8, 4)]
    trainer = library.Trainer(
        max_steps=steps,
        accelerator="cpu",
        accumulate_grad_batches=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[] if watch is None else [lightning_callback(watch, subject=subject)],
        default_root_dir=folder,
    )
    trainer.fit(Module(), torch.utils.data.DataLoader(data, batch_size=None), ckpt_path=start)
    return trainer


def test_a_trainer_is_watched_and_learns_the_same(library: Any, tmp_path: Path):
    probe = list(probe_batches(1, 8))
    watch = MemoryWatch(probe, config=CONFIG)
    watched, alone = fitted(library, tmp_path, watch), fitted(library, tmp_path, None)
    ours, theirs = (trainer.lightning_module.state_dict().values() for trainer in (watched, alone))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert [reading.step for reading in watch.history] == [2, 4]
    share = watch.history[-1].memories[MEMORY]["share"]
    assert float(watched.logged_metrics[f"watch.share.{MEMORY}"]) == pytest.approx(share)
    file = tmp_path / "last.ckpt"
    watched.save_checkpoint(file)
    other = MemoryWatch(probe, config=CONFIG)
    fitted(library, tmp_path, other, file, steps=6)
    assert [reading.step for reading in other.history] == [2, 4, 6]
    assert list(other.history)[:2] == list(watch.history)


def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch):
    def nothing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("mnemoscope.experiments.watching.lightning.import_module", nothing)
    with pytest.raises(ImportError, match=r"one of the packages lightning\.pytorch, pytorch_lightning"):
        lightning_callback(MemoryWatch(list(probe_batches(1))), package=None)

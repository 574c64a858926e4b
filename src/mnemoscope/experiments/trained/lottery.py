"""Magnitude pruning and the lottery ticket (D18): how small a memory could be and still be learned.

Definition. Of the weight matrices of every memory of a trained model, the share p with the smallest magnitudes is set
to 0 for good; what is left is rewound to its initial values, and the whole model is trained again on the same data in
the same order:

    m = 1[|w_trained| above the p-quantile of its memory]     w_0 <- m * w_initial     w_(t+1) = m * (w_t + step)

What it says: the capacity that the task needs of the memory. How to read it: a loss that stays the same at a large p
means that a memory of fewer parameters would do; with p = 1 nothing of the memory's matrices is left, so the change
there is close to what retraining without it costs (D19). Traps: not causal for the trained model, which may use what
another training does without; others are trained again too and compensate; it says that a smaller memory suffices, not
that these initial values matter, for which tickets from other initial values would have to do worse; one seed. Cost:
one whole training for each share.

Source: Frankle & Carbin 2019 (arXiv 1803.03635), one-shot pruning with rewinding to the initial weights.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mnemoscope.examination import Budget, find_sites
from mnemoscope.examination.judgement.statistics import Bootstrap
from mnemoscope.examination.subject.losses import Loss, NextTokenLoss, score
from mnemoscope.experiments.held_out import Data, as_trained, of_task
from mnemoscope.experiments.trained.kept import kept_run
from mnemoscope.models import build_model
from mnemoscope.runs import Estimate, RunDirectory, write_record
from mnemoscope.runs.record import SCHEMA_VERSION, Record
from mnemoscope.training import TrainedRun, load_run, train
from mnemoscope.training.checkpoint import load_checkpoint, restore_model

LOTTERY = "lottery.json"

Say = Callable[[str], None]
Masks = Mapping[str, Tensor]
"""By path of the parameter: 1 where a weight stays, else 0."""


@dataclass(frozen=True, kw_only=True)
class LotteryConfig:
    """Which shares are pruned.

    Args:
        shares: of the weights of each memory, from 0 to 1.
        n_test: held-out sequences.
        seed: of the held-out sequences.
    """

    shares: tuple[float, ...] = (0.5, 0.8, 0.95)
    n_test: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.shares or any(not 0 <= share <= 1 for share in self.shares):
            raise ValueError(f"lottery: shares must be from 0 to 1, got {self.shares}; try 0.5,0.8,0.95")
        if self.n_test < 8:
            raise ValueError(f"lottery: n_test must be at least 8, got {self.n_test}")


class Ticket(Record):
    """A share that was pruned: weights left of the memories' matrices, and the loss after training again."""

    share: float
    n_kept: int
    n_weights: int
    loss: Estimate
    change: Estimate


class Lottery(Record):
    """All shares beside the run itself, whose loss on the test sequences is `loss`."""

    schema_version: int = SCHEMA_VERSION
    subject: str
    memories: list[str]
    n_test: int
    loss: Estimate
    tickets: list[Ticket]


class Masked(nn.Module):
    """A parameter times a mask that never changes."""

    mask: Tensor

    def __init__(self, mask: Float[Tensor, "..."]) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Zero where the mask is."""
        return weight * self.mask


def magnitude_masks(model: nn.Module, memories: Sequence[str], share: float) -> dict[str, Tensor]:
    """Masks of all weight matrices inside the memories, the smallest magnitudes of each memory off.

    Of equal magnitudes the earlier go first, so that the share is met to one weight.
    """
    masks: dict[str, Tensor] = {}
    for memory in memories:
        inside = model.get_submodule(memory).named_parameters()
        weights = {f"{memory}.{name}": weight.detach() for name, weight in inside if weight.ndim >= 2}
        weights = {path: weight for path, weight in weights.items() if path not in masks}
        if not weights:
            continue
        order = torch.cat([weight.abs().flatten() for weight in weights.values()]).argsort(stable=True)
        kept = torch.ones(len(order))
        kept[order[: round(share * len(order))]] = 0
        parts = kept.split([weight.numel() for weight in weights.values()])
        masks |= {
            path: part.view_as(weight).to(weight) for (path, weight), part in zip(weights.items(), parts, strict=True)
        }
    return masks


def with_masks(model: nn.Module, masks: Masks) -> nn.Module:
    """The model with every masked parameter held at 0 where its mask is, whatever the optimiser does."""
    for path, mask in masks.items():
        module, name = path.rpartition(".")[::2]
        parametrize.register_parametrization(model.get_submodule(module), name, Masked(mask))
    return model


def lottery(run: str | Path, folder: Path, config: LotteryConfig, say: Say) -> Lottery:
    """Prune, rewind and retrain a run at every share; each training has a run directory of its own in the folder.

    Raises:
        ValueError: no such run, no memory, or a folder that holds something else.
        KeyboardInterrupt: a signal stopped it; the same call goes on from there.
    """
    trained = load_run(RunDirectory.open(run).path)
    budget = Budget(n_calibration=config.n_test, n_test=config.n_test)
    held_out = as_trained(of_task(trained.task, Data(seed=config.seed), budget), trained.recipe.train.loss)
    loss = held_out.loss or NextTokenLoss()
    memories = memory_modules(trained.model, loss, held_out.test[0])
    settings = {"run": str(run), "step": trained.step, "n_test": config.n_test, "seed": config.seed}
    with kept_run(folder, "lottery", settings, trained.task.manifest(), config.seed):
        before = _losses(trained.model, loss, held_out.test)
        bootstrap = Bootstrap(len(before), 2000, config.seed)
        found = Lottery(
            subject=trained.recipe.name,
            memories=list(memories),
            n_test=len(before),
            loss=bootstrap.mean(before.numpy()),
            tickets=[],
        )
        for share in config.shares:
            masks = magnitude_masks(trained.model, memories, share)
            model = retrained(trained, masks, folder / f"share-{share:g}", say)
            after = _losses(model, loss, held_out.test)
            ticket = Ticket(
                share=share,
                n_kept=int(sum(float(mask.sum()) for mask in masks.values())),
                n_weights=sum(mask.numel() for mask in masks.values()),
                loss=bootstrap.mean(after.numpy()),
                change=bootstrap.mean((after - before).numpy()),
            )
            found = found.model_copy(update={"tickets": [*found.tickets, ticket]})
            write_record(folder / LOTTERY, found)
    return found


def memory_modules(model: nn.Module, loss: Loss, batch: Any) -> list[str]:
    """Paths of the modules that the memory sites belong to.

    Raises:
        ValueError: there is none.
    """
    with torch.no_grad():
        sites = find_sites(model, lambda: score(loss, model, batch)).memories
    found = list(dict.fromkeys(site.owner for site in sites if site.owner is not None))
    if not found:
        raise ValueError("lottery: the model must have a memory with a module of its own, found none")
    return found


def retrained(trained: TrainedRun, masks: Masks, folder: Path, say: Say) -> nn.Module:
    """The run's initial model under masks, trained as the run was; from its folder if that is finished.

    Raises:
        KeyboardInterrupt: a signal stopped the training, after a checkpoint.
    """
    recipe, run = trained.recipe, RunDirectory(folder)
    model = with_masks(build_model(recipe.model, recipe.train.seed), masks)
    if not (run.manifest_path.exists() and run.read_manifest().exit_state == "finished"):
        begun = run.begun
        say(f"{folder.name}: {'go on training' if begun else 'train again'}")
        run = run if begun else RunDirectory.create(folder)
        if train(model, trained.task, recipe.train, run, begun, progress=False).exit_state == "interrupted":
            raise KeyboardInterrupt
    checkpoint = load_checkpoint(run.checkpoints_path)
    assert checkpoint is not None, f"{folder}: finished without a checkpoint"
    restore_model(checkpoint, model)
    return model.eval()


def lottery_table(found: Lottery) -> list[tuple[str, ...]]:
    """A row for each share."""
    head = ("pruned", "weights left", "loss (nats)", "change (nats)")
    rows = [
        (f"{of.share:.0%}", f"{of.n_kept:,} of {of.n_weights:,}", str(of.loss), str(of.change)) for of in found.tickets
    ]
    return [head, *rows]


@torch.no_grad()
def _losses(model: nn.Module, loss: Loss, test: Sequence[Any]) -> Float[Tensor, "n"]:
    return torch.cat([score(loss, model.eval(), batch).per_sequence for batch in test]).double()

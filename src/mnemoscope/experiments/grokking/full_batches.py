"""Full-batch training of a small network on a table of which a part is held out.

    inputs -> width -> width -> outputs       ReLU between, no biases

Source: Prieto et al., "Grokking at the Edge of Numerical Stability" (2025), with the settings of
LucasPrietoAl/grokking-at-the-edge-of-numerical-stability: all training rows in every step, AdamW with an eps too small
to hold back the steps of tiny gradients.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.tasks import task_rng
from mnemoscope.tasks.modular_arithmetic import ModularArithmetic, ModularArithmeticConfig
from mnemoscope.tasks.sparse_parity import SparseParity, SparseParityConfig
from mnemoscope.training.config import Loss
from mnemoscope.training.metrics.effective_dimension import effective_dimension
from mnemoscope.training.metrics.grokking_phase import CROSSED, FITTED, GrokkingPhase
from mnemoscope.training.metrics.softmax_collapse import softmax_collapse
from mnemoscope.training.objective import TOKENS
from mnemoscope.training.projection import project_gradients

PRIETO = "Prieto et al. 2025, arXiv 2501.04697"


@dataclass(frozen=True, kw_only=True)
class Training:
    """One way of training.

    Args:
        epochs: full batches.
        loss: "cross_entropy" or "stablemax".
        weight_decay: of AdamW.
        orthogonal_gradient: strength of PerpGrad; 0 for none.
        rescale_gradient: whether PerpGrad gives the gradient its norm back.
        learning_rate: of AdamW, constant.
        betas: of AdamW.
        eps: of AdamW.
        until_collapsed: share of training rows whose softmax has collapsed at which it ends before its epochs are over,
            at the next test; None for never.
    """

    epochs: int
    loss: Loss = "cross_entropy"
    weight_decay: float = 0.0
    orthogonal_gradient: float = 0.0
    rescale_gradient: bool = False
    learning_rate: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-25
    until_collapsed: float | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"Training.epochs: must be at least 1, got {self.epochs}; use 300")
        if self.until_collapsed is not None and self.loss != "cross_entropy":
            raise ValueError(f"Training.until_collapsed: is of cross-entropy, got {self.loss}; leave it out")


class Table(NamedTuple):
    """What is trained on, and what is held out."""

    inputs: Float[Tensor, "n inputs"]
    targets: Int[Tensor, "n"]
    held_inputs: Float[Tensor, "m inputs"]
    held_targets: Int[Tensor, "m"]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Accuracy on what was trained on and on all else at tested epochs, and the share of rows that collapsed.

    Of other losses than cross-entropy the share is NaN: it would say nothing. `dimension` is the effective dimension of
    the first layer as a share of its width: of the embedding, where inputs are one-hot.
    """

    epochs: Sequence[int]
    train: Sequence[float]
    test: Sequence[float]
    collapsed: Sequence[float] = ()
    dimension: Sequence[float] = ()

    def at(self, epoch: int, of: Sequence[float]) -> float:
        """A value at an epoch that was tested."""
        return of[self.epochs.index(epoch)]

    def since(self, least: float, of: Sequence[float]) -> float:
        """The first tested epoch with such a value; infinite without any."""
        found = (epoch for epoch, value in zip(self.epochs, of, strict=True) if value >= least)
        return float(next(found, torch.inf))

    @property
    def fitted_at(self) -> float:
        """The epoch from which on the training part was known until the rule was found, or to the end."""
        fitted = math.inf
        for epoch, train, test in zip(self.epochs, self.train, self.test, strict=True):
            fitted = math.inf if train < FITTED else min(fitted, float(epoch))
            if test >= CROSSED:
                break
        return fitted

    @property
    def is_strict(self) -> bool:
        """Whether it grokked in the strict sense; see `mnemoscope.training.metrics.grokking_phase`."""
        phase = GrokkingPhase()
        for epoch, train, test in zip(self.epochs, self.train, self.test, strict=True):
            phase.observe(epoch, test, train)
        return phase.strict


def network(n_inputs: int, width: int, n_outputs: int, seed: int) -> nn.Sequential:
    """The network with initial weights of the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sizes = ((n_inputs, width), (width, width), (width, n_outputs))
        layers = [nn.Linear(n, m, bias=False) for n, m in sizes]
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


def addition(modulus: int, train_fraction: float, seed: int) -> Table:
    """Modular addition: a and b as two one-hot vectors side by side, and c; the seed decides what is held out."""
    task = ModularArithmetic(ModularArithmeticConfig(modulus=modulus, train_fraction=train_fraction, split_seed=seed))
    held_out = [torch.from_numpy(task.equations(split)) for split in ("validation", "test")]
    tables = (torch.from_numpy(task.equations("train")), torch.cat(held_out))
    train, test = ((F.one_hot(rows[:, :2], modulus).flatten(1).float(), rows[:, 2]) for rows in tables)
    return Table(*train, *test)


def parity(n_bits: int, n_relevant: int, n_train: int, n_held_out: int, seed: int) -> Table:
    """Sparse parity: bits as 0 and 1, and whether the secret ones are odd; the seed decides which they are."""
    task = SparseParity(SparseParityConfig(n_bits=n_bits, n_relevant=n_relevant, n_train=n_train, data_seed=seed))
    train = task.batch(task_rng(0, "train", 0), n_train, "train")
    test = task.batch(task_rng(0, "test", 0), n_held_out, "test")
    parts = (torch.from_numpy(part.inputs[:, :-1]).float() for part in (train, test))
    answers = (torch.from_numpy(part.targets[:, -1]) for part in (train, test))
    return Table(next(parts), next(answers), next(parts), next(answers))


def fit(model: nn.Module, table: Table, training: Training, tested: Collection[int]) -> Curve:
    """Train the model in place and test it after some epochs; its last test may be one of a collapse."""
    weights = list(model.parameters())
    optimiser = torch.optim.AdamW(
        weights,
        lr=training.learning_rate,
        betas=training.betas,
        eps=training.eps,
        weight_decay=training.weight_decay,
        fused=True,
    )
    loss, rows = TOKENS[training.loss].loss, dict[int, tuple[float, float, float, float]]()
    for epoch in range(1, training.epochs + 1):
        optimiser.zero_grad()
        loss(model(table.inputs).unsqueeze(1), table.targets.unsqueeze(1)).backward()
        if training.orthogonal_gradient > 0:
            project_gradients(weights, training.orthogonal_gradient, rescale=training.rescale_gradient)
        optimiser.step()
        if epoch in tested:
            rows[epoch] = _tested(model, table, training.loss)
            if training.until_collapsed is not None and rows[epoch][2] >= training.until_collapsed:
                break
    train, test, collapsed, dimension = (list(column) for column in zip(*rows.values(), strict=True))
    return Curve(epochs=list(rows), train=train, test=test, collapsed=collapsed, dimension=dimension)


def geometric(epochs: int, *others: int) -> list[int]:
    """Epochs each a twentieth after the one before, the last one, and some others that are not beyond it."""
    found, epoch = {epochs, *(other for other in others if other <= epochs)}, 1
    while epoch < epochs:
        found.add(epoch)
        epoch = max(epoch + 1, epoch * 21 // 20)
    return sorted(found)


@torch.no_grad()
def _tested(model: nn.Module, table: Table, loss: Loss) -> tuple[float, float, float, float]:
    """Both accuracies, the share of training rows whose softmax collapsed, and the first layer's dimension."""
    logits = model(table.inputs)
    collapse = softmax_collapse(logits, table.targets) if loss == "cross_entropy" else None
    held_out = _accuracy(model(table.held_inputs), table.held_targets)
    collapsed = math.nan if collapse is None else collapse.share
    first = next(layer for layer in model.modules() if isinstance(layer, nn.Linear))
    dimension = effective_dimension(first.weight.T).share
    return _accuracy(logits, table.targets), held_out, collapsed, dimension


def _accuracy(logits: Float[Tensor, "n outputs"], targets: Int[Tensor, "n"]) -> float:
    return (logits.argmax(-1) == targets).double().mean().item()

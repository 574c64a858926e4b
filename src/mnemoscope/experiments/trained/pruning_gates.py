"""Learned pruning gates (D17): which memories a model can do without, once it may adapt.

Definition. The read of every site is multiplied by a gate g in [0, 1], learned together with a copy of the model:

    u ~ U(0, 1)    s = sigmoid((ln u - ln(1 - u) + a) / beta)    g = min(1, max(0, s (zeta - gamma) + gamma))
    P(g != 0) = sigmoid(a - beta ln(-gamma / zeta))              loss = task + lambda sum_sites P(g != 0)

with beta = 2/3, gamma = -0.1, zeta = 1.1; after training g = min(1, max(0, sigmoid(a) (zeta - gamma) + gamma)). Every
lambda starts from the same model and sees the same data in the same order, and so does an arm without penalty, which is
what losses are compared with.

What it says: a site that is closed at every lambda whose loss is no worse (the upper end of the change below epsilon)
is one that the model can live without. How to read it: beside the verdict, which says whether the model as it is uses
the memory; a memory that is used and can go was used for something that others can do as well. Traps: fine-tuning lets
others compensate, so an open gate says more than a closed one; a lambda that is too small closes nothing, and one above
what a site is worth (in nats per scored token) closes everything, so try several decades; few steps leave gates half
open; a gate scales, so that a norm behind it hides all but the last step to 0. Cost: one fine-tuning for each lambda
and one without, each as many steps as a training has, and a copy of the model.

Source: Voita et al. 2019 (arXiv 1905.09418), section 4; hard concrete gates: Louizos, Welling & Kingma 2018
(arXiv 1712.01312), equations 10 to 12.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemoscope.contracts import Batch
from mnemoscope.examination import Budget, NextTokenLoss, find_sites
from mnemoscope.examination.interventions.reads import Call
from mnemoscope.examination.judgement.statistics import Bootstrap
from mnemoscope.examination.running.editing import Edit, edited
from mnemoscope.examination.subject.losses import Loss, input_device, score
from mnemoscope.experiments.held_out import Data, as_trained, of_task
from mnemoscope.experiments.trained.kept import kept_run
from mnemoscope.runs import Estimate, RunDirectory, write_record
from mnemoscope.runs.reading import read_record
from mnemoscope.runs.record import SCHEMA_VERSION, Record
from mnemoscope.training import load_run
from mnemoscope.training.batches import draw as draw_batch
from mnemoscope.training.randomness import forked_rng

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1
START = 2.0
"""Of every a: gates begin open."""

PRUNING = "pruning.json"

Say = Callable[[str], None]
Draw = Callable[[int], Any]
"""The batch of a step, counted from 0; the same every time."""


@dataclass(frozen=True, kw_only=True)
class PruneConfig:
    """How gates are learned.

    Args:
        lambdas: penalties in nats for each site that is open; each above 0.
        steps: of every fine-tuning.
        batch_size: sequences of a step, where a run draws them.
        learning_rate: of the model's parameters (AdamW).
        gate_learning_rate: of the gates (Adam).
        epsilon: loss change in nats that counts as none.
        n_test: held-out sequences.
        seed: of data, gates, and what the model draws.
    """

    lambdas: tuple[float, ...] = (0.01, 0.1, 1.0)
    steps: int = 300
    batch_size: int = 64
    learning_rate: float = 1e-3
    gate_learning_rate: float = 0.1
    epsilon: float = 0.01
    n_test: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.lambdas or any(not 0 < each < math.inf for each in self.lambdas):
            raise ValueError(f"prune: lambdas must be numbers above 0, got {self.lambdas}; try 0.01,0.1,1")
        if self.steps < 1 or self.batch_size < 1 or self.n_test < 8:
            raise ValueError(
                f"prune: steps and batch_size must be at least 1 and n_test at least 8, got {self.steps}, "
                f"{self.batch_size} and {self.n_test}"
            )


class GatedRow(Record):
    """What came out at one lambda; `gates` are those after training, 0 where a site is closed."""

    penalty: float
    gates: dict[str, float]
    open_probability: dict[str, float]
    loss: Estimate
    change: Estimate

    @property
    def closed(self) -> list[str]:
        """Sites that are off."""
        return [name for name, gate in self.gates.items() if gate == 0]


class Pruning(Record):
    """All lambdas beside the arm without penalty; `losses` are its losses on the test sequences."""

    schema_version: int = SCHEMA_VERSION
    subject: str
    sites: list[str]
    epsilon: float
    n_test: int
    losses: list[float]
    rows: list[GatedRow]

    @property
    def borne(self) -> list[GatedRow]:
        """The lambdas whose loss is no worse."""
        return [row for row in self.rows if row.change.high < self.epsilon]

    @property
    def dispensable(self) -> list[str]:
        """Sites that are closed at every lambda whose loss is no worse."""
        return [name for name in self.sites if self.borne and all(name in row.closed for row in self.borne)]


def open_probability(a: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """P(g != 0)."""
    return torch.sigmoid(a - BETA * math.log(-GAMMA / ZETA))


def sampled_gate(a: Float[Tensor, "*n"], uniform: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """A gate for a draw between 0 and 1."""
    s = torch.sigmoid((uniform.log() - (-uniform).log1p() + a) / BETA)
    return (s * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def settled_gate(a: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """The gate after training, without noise."""
    return (torch.sigmoid(a) * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


class Scaled:
    """Multiplies what a site reads by a number that is set from outside."""

    def __init__(self) -> None:
        self.gate: Tensor | float = 1.0

    def apply(self, call: Call) -> Tensor:
        """Gate times value."""
        gate = self.gate
        return call.value * (gate.to(call.value) if isinstance(gate, Tensor) else gate)


def learn_gates(
    model: nn.Module,
    draw: Draw,
    test: Sequence[Any],
    config: PruneConfig,
    penalty: float,
    *,
    loss: Loss | None = None,
    sites: Sequence[str] | None = None,
) -> tuple[dict[str, float], Float[np.ndarray, "n"]]:
    """Fine-tune a copy of a model with a gate at every memory; the model itself is left as it is.

    Args:
        model: any module.
        draw: training batches.
        test: held-out batches.
        config: how.
        penalty: lambda.
        loss: one value per sequence; None for next-token cross-entropy.
        sites: path patterns of memories; None for those that are announced.

    Returns:
        a of every site by name, and the loss of every test sequence with the settled gates.

    Raises:
        ValueError: no memory site.
        ArithmeticError: the loss is no longer finite.
    """
    loss, copied = loss or NextTokenLoss(), copy.deepcopy(model)
    with torch.no_grad():
        memories = find_sites(copied, lambda: score(loss, copied, draw(0)), sites, []).memories
    modules, gates = dict(copied.named_modules()), {site.name: Scaled() for site in memories}
    edits = [Edit(site.loci["read"], gates[site.name]) for site in memories]
    device = input_device(copied)
    a = torch.full((len(gates),), START, device=device, requires_grad=True)
    learned = [parameter for parameter in copied.parameters() if parameter.requires_grad]
    optimisers = [torch.optim.Adam([a], lr=config.gate_learning_rate)]
    optimisers += [torch.optim.AdamW(learned, lr=config.learning_rate)] if learned else []
    generator = torch.Generator().manual_seed(config.seed)
    with forked_rng(device, config.seed), edited(modules, edits):
        copied.train()
        for step in range(config.steps):
            uniform = torch.rand(len(gates), generator=generator).clamp(1e-6, 1 - 1e-6).to(device)
            for gate, value in zip(gates.values(), sampled_gate(a, uniform), strict=True):
                gate.gate = value
            total = score(loss, copied, draw(step)).per_sequence.mean() + penalty * open_probability(a).sum()
            if not bool(torch.isfinite(total)):
                raise ArithmeticError(f"prune: the loss is not finite at step {step} of lambda {penalty:g}")
            for optimiser in optimisers:
                optimiser.zero_grad()
            total.backward()
            nn.utils.clip_grad_norm_(learned, 1.0)
            for optimiser in optimisers:
                optimiser.step()
        copied.eval()
        with torch.no_grad():
            for gate, value in zip(gates.values(), settled_gate(a).tolist(), strict=True):
                gate.gate = value
            losses = torch.cat([score(loss, copied, batch).per_sequence for batch in test])
    return dict(zip(gates, a.detach().tolist(), strict=True)), losses.double().cpu().numpy()


def prune(
    model: nn.Module,
    draw: Draw,
    test: Sequence[Any],
    config: PruneConfig,
    *,
    loss: Loss | None = None,
    sites: Sequence[str] | None = None,
    kept: Path | None = None,
    say: Say = lambda line: None,
) -> Pruning:
    """Learn gates without penalty and at every lambda; see `learn_gates`.

    Args:
        model: as there, and so are the next.
        draw: training batches.
        test: held-out batches.
        config: how.
        loss: one value per sequence.
        sites: path patterns of memories.
        kept: folder of finished lambdas, `pruning.json`; what is there is not done again. None keeps nothing.
        say: told of every finished lambda.
    """
    file = None if kept is None else kept / PRUNING
    found = read_record(file, Pruning) if file is not None and file.exists() else None
    if found is None:
        say("fine-tune without penalty")
        a, losses = learn_gates(model, draw, test, config, 0.0, loss=loss, sites=sites)
        found = Pruning(
            subject=type(model).__name__,
            sites=list(a),
            epsilon=config.epsilon,
            n_test=len(losses),
            losses=losses.tolist(),
            rows=[],
        )
        _keep(file, found)
    there = {row.penalty for row in found.rows}
    for penalty in config.lambdas:
        if penalty not in there:
            say(f"fine-tune at lambda {penalty:g}")
            a, losses = learn_gates(model, draw, test, config, penalty, loss=loss, sites=sites)
            row = _row(penalty, a, losses, np.asarray(found.losses), config.seed)
            found = found.model_copy(update={"rows": [*found.rows, row]})
            _keep(file, found)
    return found


def prune_run(
    run: str | Path, folder: Path, config: PruneConfig, say: Say, sites: Sequence[str] | None = None
) -> Pruning:
    """The same for a training run, on its own task; results in a run directory of their own.

    Raises:
        ValueError: no such run, or a folder that holds another pruning.
    """
    trained = load_run(RunDirectory.open(run).path)
    budget = Budget(n_calibration=config.n_test, n_test=config.n_test)
    held_out = as_trained(of_task(trained.task, Data(seed=config.seed), budget), trained.recipe.train.loss)

    def draw(step: int) -> Any:
        recipe = trained.recipe.train  # where the run's own data stopped
        inputs, targets = draw_batch(trained.task, recipe.seed, "train", recipe.steps + 1 + step, config.batch_size)
        return Batch(inputs=inputs, targets=targets)

    settings: dict[str, Any] = {"run": str(run), "step": trained.step, "sites": None if sites is None else [*sites]}
    settings |= {name: value for name, value in vars(config).items() if name != "lambdas"}
    with kept_run(folder, "pruning", settings, trained.task.manifest(), config.seed):
        return prune(trained.model, draw, held_out.test, config, loss=held_out.loss, sites=sites, kept=folder, say=say)


def pruning_table(found: Pruning) -> list[tuple[str, ...]]:
    """A row for each lambda: loss change, whether the model bears it, and the gate of every site."""
    head = ("lambda", "loss change (nats)", f"below {found.epsilon:g}", *(f"gate {name}" for name in found.sites))
    rows = [
        (f"{row.penalty:g}", str(row.change), "yes" if row in found.borne else "no", *_gates(row, found.sites))
        for row in found.rows
    ]
    return [head, *rows]


def conclusion(found: Pruning) -> str:
    """Which sites the model can live without, in a sentence."""
    if not found.borne:
        return "no lambda leaves the loss as it was: try smaller ones, or more steps"
    names = ", ".join(found.dispensable)
    return (
        f"closed at every lambda that the loss bears: {names}; the model can live without"
        if names
        else "no site is closed at every lambda that the loss bears"
    )


def _gates(row: GatedRow, sites: Sequence[str]) -> list[str]:
    return ["closed" if row.gates[name] == 0 else f"{row.gates[name]:.2f}" for name in sites]


def _row(
    penalty: float, a: Mapping[str, float], losses: Float[np.ndarray, "n"], base: Float[np.ndarray, "n"], seed: int
) -> GatedRow:
    values, bootstrap = torch.tensor(list(a.values()), dtype=torch.float64), Bootstrap(len(losses), 2000, seed)
    return GatedRow(
        penalty=penalty,
        gates=dict(zip(a, settled_gate(values).tolist(), strict=True)),
        open_probability=dict(zip(a, open_probability(values).tolist(), strict=True)),
        loss=bootstrap.mean(losses),
        change=bootstrap.mean(losses - base),
    )


def _keep(file: Path | None, found: Pruning) -> None:
    if file is not None:
        write_record(file, found)

"""Learning the edges of one tiny graph by heart, in full batches, looked at again and again on the way.

A step asks every source for all its targets at once: the loss is the mean over the training pairs, as it is where each
pair is a sequence of its own, for a third to a half of the work. Tables are looked at after 0, 1, 2, 5, 10, 20, 50, ...
steps and after the last: a geometry that is there early may be gone later.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from mnemoscope.models import Stack
from mnemoscope.models.edge_network import EdgeNetworkConfig, MatrixStart, build_edge_network, edge_law
from mnemoscope.tasks.graphs import edge_recall
from mnemoscope.tasks.tiny_graphs import TinyGraphs

Schedule = Literal["cosine", "constant"]

KNOWN = 0.99
"""Edge recall from which on a graph is memorised."""

FINAL_SHARE = 0.1
"""Of the learning rate at the end of a cosine."""


@dataclass(frozen=True, kw_only=True)
class EdgeTraining:
    """Full batches of AdamW without warm-up.

    Args:
        width: of the embeddings.
        steps: full batches.
        learning_rate: at the start.
        schedule: "cosine" to a tenth of the learning rate, or "constant".
        weight_decay: of AdamW, decoupled: weights shrink by learning_rate * weight_decay a step.
        initial_std: of the embeddings.
    """

    width: int = 32
    steps: int = 500
    learning_rate: float = 0.01
    schedule: Schedule = "cosine"
    weight_decay: float = 0.0
    initial_std: float = 0.02

    def __post_init__(self) -> None:
        for name in ("width", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"EdgeTraining.{name}: must be at least 1, got {getattr(self, name)}")
        if self.learning_rate <= 0 or self.initial_std <= 0 or self.weight_decay < 0:
            raise ValueError(
                "EdgeTraining: learning_rate and initial_std must be above 0 and weight_decay 0 or more, got "
                f"{self.learning_rate}, {self.initial_std} and {self.weight_decay}"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """A model at one step.

    Args:
        step: full batches seen.
        table: embeddings of the nodes, (n, m).
        scores: logits of every target (column) for every source (row), (n, n).
        loss: nats for each training pair.
        recall: edge recall of the scores.
    """

    step: int
    table: Float[NDArray[np.float64], "n m"]
    scores: Float[NDArray[np.float64], "n n"]
    loss: float
    recall: float

    @property
    def is_finite(self) -> bool:
        """False for a training that diverged."""
        return bool(np.isfinite(self.table).all() and np.isfinite(self.scores).all() and np.isfinite(self.loss))


@dataclass(frozen=True, kw_only=True, eq=False)
class Memorised:
    """What a training gave.

    Args:
        task: what was learned.
        looks: in the order of steps; the last is the end, or the first that is not finite.
        matrix: W of a bilinear network at the end, (m, m); None for other models.
    """

    task: TinyGraphs
    looks: Sequence[Look]
    matrix: Float[NDArray[np.float64], "m m"] | None = None

    @property
    def end(self) -> Look:
        """The last look."""
        return self.looks[-1]

    @property
    def known_since(self) -> float:
        """The step of the look from which on every edge is known; infinite if they are not at the end."""
        since = np.inf
        for look in reversed(self.looks):
            if not look.recall >= KNOWN:
                break
            since = float(look.step)
        return since


def looked_at(steps: int) -> list[int]:
    """0, 1, 2, 5, 10, 20, 50, ... and the last step."""
    tens = (10**exponent for exponent in range(len(str(steps))))
    found = {0, steps} | {digit * ten for ten in tens for digit in (1, 2, 5)}
    return sorted(step for step in found if step <= steps)


def memorise_network(
    task: TinyGraphs, training: EdgeTraining, seed: int, *, frozen: bool = False, matrix: MatrixStart = "normal"
) -> Memorised:
    """A bilinear edge network, whose gradients are in closed form; frozen, an associative memory."""
    n = task.graph.n_nodes
    model = build_edge_network(
        EdgeNetworkConfig(
            n_nodes=n, width=training.width, frozen=frozen, initial_std=training.initial_std, matrix=matrix
        ),
        seed,
    )
    law = edge_law(torch.from_numpy(task.pairs), n)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    looks = _looks(
        weights, training, lambda: model.learn_from(law), lambda: (model.embedding.weight, model.scores()), task
    )
    return Memorised(task=task, looks=looks, matrix=model.matrix.detach().double().numpy())


def memorise_stack(task: TinyGraphs, training: EdgeTraining, model: Stack) -> Memorised:
    """A stack that reads sequences of the task; its table is the embedding of the nodes."""
    n = task.graph.n_nodes
    inputs = torch.from_numpy(_inputs(task))
    law = edge_law(torch.from_numpy(task.pairs), n)

    def scores() -> Tensor:
        return model(inputs)[:, -1]

    def learn() -> None:
        model.zero_grad(set_to_none=True)
        cross_entropy(scores(), law).backward()

    def look() -> tuple[Tensor, Tensor]:
        return model.embedding.weight[:n], scores()

    return Memorised(task=task, looks=_looks(list(model.parameters()), training, learn, look, task))


def cross_entropy(logits: Float[Tensor, "n vocab"], law: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    """Nats for each training pair; tokens that are no node have logits, and are never right."""
    return -(law * logits.log_softmax(dim=1)[:, : law.shape[1]]).sum()


def draw_small(model: nn.Module, std: float, seed: int) -> None:
    """Weights of linear layers and embeddings anew, normal with standard deviation `std`, and biases 0."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=std, generator=generator)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


def _inputs(task: TinyGraphs) -> NDArray[np.int64]:
    """One sequence for each source, (n, length)."""
    inputs = np.full((task.graph.n_nodes, task.length), task.graph.n_nodes, dtype=np.int64)
    inputs[:, -1] = task.node_tokens
    return inputs


def _looks(
    weights: Sequence[nn.Parameter],
    training: EdgeTraining,
    learn: Callable[[], object],
    look: Callable[[], tuple[Tensor, Tensor]],
    task: TinyGraphs,
) -> list[Look]:
    """Train; `learn` sets gradients, `look` gives table and scores. Stops where values are no longer finite."""
    optimiser = torch.optim.AdamW(weights, lr=training.learning_rate, weight_decay=training.weight_decay, fused=True)
    due, found = set(looked_at(training.steps)), list[Look]()
    for step in range(training.steps + 1):
        if step in due:
            with torch.no_grad():
                found.append(look_of(step, *look(), task))
            if not found[-1].is_finite:
                break
        if step < training.steps:
            for group in optimiser.param_groups:
                group["lr"] = learning_rate_at(training, step)
            learn()
            optimiser.step()
    return found


def learning_rate_at(training: EdgeTraining, step: int) -> float:
    """Of the step that follows `step` steps."""
    if training.schedule == "constant":
        return training.learning_rate
    share = 0.5 * (1 + np.cos(np.pi * step / training.steps))
    return training.learning_rate * (FINAL_SHARE + (1 - FINAL_SHARE) * float(share))


def look_of(step: int, table: Float[Tensor, "n m"], logits: Float[Tensor, "n vocab"], task: TinyGraphs) -> Look:
    """A model as it is now; tokens that are no node have logits too, which count in the loss."""
    n = task.graph.n_nodes
    log_p = logits.double().log_softmax(dim=1).numpy()
    scores = logits.double().numpy()[:, :n]
    loss = -float(log_p[task.pairs[:, 0], task.pairs[:, 1]].mean())
    recall = edge_recall(scores, task.pairs)
    return Look(step=step, table=table.detach().double().numpy().copy(), scores=scores, loss=loss, recall=recall)

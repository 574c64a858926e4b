"""Transplanted embeddings: tokens start where a map of their graph has them, and may be held there.

What it does: at the first step that it is on, rows of the token embedding become (1 - strength) times themselves plus
`strength` times rows of a table. With a `graph` alone the table is spectral: smooth eigenvectors of the task's graph
(see `spectral_table`), for the tokens of its nodes. With a `table`, a .npy or .safetensors file, its rows are those of
the whole vocabulary, or with both those of the graph's nodes. A table is scaled as a whole so that the root mean square
of its rows is that of the rows it replaces. With `freeze` these rows are put back after every step until the part `end`
of the training.

Why: it separates two questions: can the model find paths in a geometry, and does it arrive at one by itself.

Published effect: none. Measured for the specification: G(200, 5), embeddings held at Node2Vec: 0.92 and 0.94 of first
hops of held-out paths right in two runs, against 0.00 held at random ones; whole paths 0.16 to 0.22 only, since edges
were recalled half of the time.

Known problems: rows that are too much alike make edges hard to tell apart. With a tied head the frozen rows are output
weights too. Eigenvalues that occur many times, as of many like arms, are cut arbitrarily where the width ends.

Example: `TransplantedEmbeddings(graph=PathStarConfig(n_arms=50, path_length=4), freeze=True)`, or
`TransplantedEmbeddings(table="node2vec.npy", sites=("model.embed_tokens",))`.

Source: geometric-memory specification, 5.2 and 6.1 (transplant control). Differs: eigenvectors in place of Node2Vec,
which a table can bring.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from mnemoscope.training.remedies.draws import require_share
from mnemoscope.training.remedies.graph_tasks import GraphTask, build_graph_task, spectral_table
from mnemoscope.training.remedies.places import find_modules
from mnemoscope.training.remedies.treatment import Computed, RemedyConfig, Treatment


@dataclass(frozen=True, kw_only=True)
class TransplantedEmbeddings(RemedyConfig):
    """Settings; `strength` is the part of the new rows that comes from the table, in [0, 1].

    Args:
        graph: the config of the task whose nodes get rows; None for a table of the whole vocabulary.
        table: a .npy file, or a .safetensors file with one tensor; None for spectral embeddings of the graph.
        hops: of spectral embeddings, steps of the walk whose products they have; more are smoother.
        freeze: hold the rows until the part `end` of the training.
    """

    kind: Literal["transplanted_embeddings"] = "transplanted_embeddings"
    graph: GraphTask | None = None
    table: str | None = None
    hops: int = 4
    freeze: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_share(self)
        where = "TransplantedEmbeddings"
        if self.graph is None and self.table is None:
            raise ValueError(f"{where}: needs a graph, a table, or both, got neither; give the task's config as graph")
        if self.final_strength is not None:
            raise ValueError(
                f"{where}.final_strength: must be None, since rows are planted once, got {self.final_strength}"
            )
        if self.hops < 0:
            raise ValueError(f"{where}.hops: must be at least 0 steps, got {self.hops}; use 4")

    def attach(self, model: nn.Module) -> "TransplantedEmbeddingsTreatment":
        """On the model's token embedding, or on the one named; it changes at the first step."""
        return TransplantedEmbeddingsTreatment(self, model)


class TransplantedEmbeddingsTreatment(Treatment):
    """The rows (n, d) as they were planted, and whether they were."""

    rows: Tensor
    planted: Tensor
    table: Tensor

    def __init__(self, remedy: TransplantedEmbeddings, model: nn.Module) -> None:
        super().__init__(remedy)
        self.settings = remedy
        embedding = _embedding(model, remedy.sites)
        table = _table(remedy, embedding)
        # In a tuple, so that the model's parameter does not become one of the treatment.
        self._of_model = (embedding.weight,)
        self._held = False
        self.register_buffer("table", table, persistent=False)
        self.register_buffer("rows", torch.zeros_like(table, dtype=self._weight.dtype))
        self.register_buffer("planted", torch.zeros((), dtype=torch.bool))

    @property
    def _weight(self) -> Tensor:
        return self._of_model[0]

    @torch.no_grad()
    def on_step(self, step: int, steps: int) -> None:
        """Plant the rows at the first step that this is on."""
        super().on_step(step, steps)
        if self.strength > 0 and not self.planted:
            there = self._weight[: len(self.table)]
            scale = there.square().mean().sqrt() / self.table.square().mean().sqrt()
            self.rows.copy_((1 - self.strength) * there + self.strength * (scale * self.table).to(there.dtype))
            self._weight[: len(self.table)] = self.rows
            self.planted.fill_(True)
        done = (step - 1) / max(steps - 1, 1)
        self._held = self.settings.freeze and bool(self.planted) and done <= self.remedy.end

    @torch.no_grad()
    def after_step(self, computed: Computed) -> None:
        """Put held rows back."""
        if self._held:
            self._weight[: len(self.table)] = self.rows

    def figures(self) -> dict[str, float]:
        """The strength, and how far the rows are from where they were planted, over their size."""
        if not self.planted:
            return super().figures() | {"moved": 0.0}
        moved = (self._weight[: len(self.table)].detach() - self.rows).norm() / self.rows.norm()
        return super().figures() | {"moved": moved.item()}


def _embedding(model: nn.Module, sites: tuple[str, ...]) -> nn.Embedding:
    every = {path: module for path, module in model.named_modules() if isinstance(module, nn.Embedding)}
    found = find_modules(model, sites, "memory") if sites else every
    tables = [module for module in found.values() if isinstance(module, nn.Embedding)]
    if len(found) != 1 or len(tables) != 1:
        raise ValueError(
            f"TransplantedEmbeddings.sites: must be one embedding, got {', '.join(found) or 'none'}; name one of: "
            f"{', '.join(every) or 'none, the model has no embedding'}"
        )
    return tables[0]


def _table(remedy: TransplantedEmbeddings, embedding: nn.Embedding) -> Float[Tensor, "n d"]:
    """The table in float32, checked against the embedding."""
    n_rows, width = embedding.weight.shape
    what = f"the vocabulary's {n_rows} rows"
    if remedy.graph is not None:
        graph = build_graph_task(remedy.graph).graph
        if graph.n_nodes > n_rows:
            raise ValueError(
                f"TransplantedEmbeddings.graph: must have at most the {n_rows} nodes that the embedding has rows for, "
                f"got {graph.n_nodes}; give the config of the task that is trained"
            )
        n_rows, what = graph.n_nodes, f"the graph's {graph.n_nodes} nodes"
        if remedy.table is None:
            return torch.from_numpy(spectral_table(graph, width, remedy.hops)).float()
    table = _read(Path(remedy.table or ""))
    if tuple(table.shape) != (n_rows, width):
        raise ValueError(
            f"TransplantedEmbeddings.table: {remedy.table} must have a row for each of {what} and {width} columns, "
            f"got {tuple(table.shape)}; give a table of shape ({n_rows}, {width})"
        )
    if not bool(table.isfinite().all()) or not bool(table.any()):
        raise ValueError(f"TransplantedEmbeddings.table: {remedy.table} must be finite and not all 0; mend the table")
    return table


def _read(path: Path) -> Tensor:
    where = f"TransplantedEmbeddings.table: {path}"
    if not path.is_file():
        raise ValueError(f"{where} must be a file, got none there; give a path from the working directory")
    if path.suffix == ".npy":
        return torch.from_numpy(np.load(path, allow_pickle=False).astype(np.float32))
    if path.suffix != ".safetensors":
        raise ValueError(f"{where} must end in .npy or .safetensors, got {path.suffix!r}; save it as either")
    tensors = load_file(path)
    if len(tensors) != 1:
        raise ValueError(f"{where} must hold one tensor, got {', '.join(sorted(tensors)) or 'none'}; save one alone")
    return next(iter(tensors.values())).float()

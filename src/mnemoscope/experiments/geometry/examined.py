"""The embeddings of networks trained on a path-star, examined: a verdict, and pictures of every evaluation."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int

from mnemoscope.examination.geometry import Behaviour, examine_geometry
from mnemoscope.experiments.geometry.in_weights import InWeightsRun
from mnemoscope.experiments.geometry.path_star_measures import edge_scores
from mnemoscope.runs.geometry import GeometryExamination
from mnemoscope.tasks.streams import SPLITS

FROZEN = "frozen"
"""The arm whose first hops say what is found without a geometry."""


def examined(runs: Mapping[str, InWeightsRun], names: Sequence[str], seed: int) -> dict[str, GeometryExamination]:
    """Those of some arms; what an arm does with held-out paths is part of its verdict where it trained any.

    Args:
        runs: trained arms.
        names: of those that are examined.
        seed: of shuffles.
    """
    frozen = runs[FROZEN].end("v1") if FROZEN in runs else None
    return {name: _examined(runs[name], name, frozen if name != FROZEN else None, seed) for name in names}


def _examined(run: InWeightsRun, name: str, frozen: float | None, seed: int) -> GeometryExamination:
    task, stage = run.task, run.config.task.stage
    paths = np.concatenate([task.paths[split] for split in SPLITS])
    of_nodes = edge_scores(run.model, task)

    @torch.no_grad()
    def scores(rows: Int[np.ndarray, "r"]) -> Float[np.ndarray, "r n"]:
        return of_nodes(torch.from_numpy(np.asarray(rows))).double().cpu().numpy()

    # An arm of edges alone was asked for no paths.
    behaviour = None
    if stage != "edges":
        behaviour = Behaviour(n_arms=run.config.task.n_arms, first_hop=run.end("v1"), frozen_first_hop=frozen)
    last = int(run.end("step"))
    return examine_geometry(
        run.table,
        task.edges,
        scores=scores if run.config.task.directions == "both" else None,
        paths=paths,
        held_out=np.arange(len(paths)) >= len(task.paths["train"]),
        snapshots=[(step, table) for step, table in run.tables.items() if step < last],
        behaviour=behaviour,
        subject=name,
        step=last,
        seed=seed,
    )

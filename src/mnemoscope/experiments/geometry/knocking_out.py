"""Which directions of its embeddings does a network use, for edges and for paths?

A network is trained on edges and paths of a path-star. Then it is run again, without further training, on embeddings
from which directions of the nodes are missing, those of input and of the tied head alike:

    smooth        only the smooth ones are left, as many as arms less one: which arm a node belongs to, and how far out
    not smooth    these are taken out
    bottom        as many at the other end are taken out: the zigzag

Source: a question of this project; the path-star is that of Noroozizadeh et al. (2025), arXiv 2510.26745.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from mnemoscope.examination.geometry.graph import as_graph
from mnemoscope.examination.geometry.knockout import knock_outs
from mnemoscope.experiments.geometry.in_weights import LEARNED, InWeights, InWeightsRun, train_in_weights
from mnemoscope.experiments.geometry.path_star import PAPER, SMALL, seeded
from mnemoscope.experiments.geometry.path_star_measures import edge_scores, pair_recall, path_figures
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured
from mnemoscope.models import Stack

INTACT = "intact"
KNOCK_OUTS = ("smooth", "not smooth", "bottom")
FIGURES = {"edges": "edge recall", "v1": "held-out v1", "path": "held-out paths", "kept": "share of the variance left"}


@dataclass(frozen=True, kw_only=True)
class KnockingOut:
    """One training, and what is taken out afterwards.

    Args:
        training: on edges and paths, with learned embeddings.
    """

    training: InWeights


def knocked(settings: KnockingOut, seed: int) -> Measured:
    """Figures of the intact network and of every knock-out."""
    run = train_in_weights(seeded(settings.training, seed), seed)
    figures = dict[str, float]()
    for found in knock_outs(run.table, as_graph(run.task.edges, run.task.config.n_nodes), lambda t: with_table(run, t)):
        figures |= {f"{found.which}: {name}": value for name, value in found.measures.items()}
        figures |= {f"{found.which}: kept": found.kept, f"{found.which}: directions": float(found.n_modes)}
    return Measured(figures=figures)


@torch.no_grad()
def with_table(run: InWeightsRun, table: Float[np.ndarray, "n m"]) -> dict[str, float]:
    """What the network does with other embeddings of the nodes; it has its own again afterwards."""
    weight = _embedding(run.model)
    before = weight.clone()
    weight[: len(table)] = torch.from_numpy(table).to(weight)
    try:
        figures = path_figures(run.model, run.task)
        edges = pair_recall(edge_scores(run.model, run.task), run.task.pairs)
    finally:
        weight.copy_(before)
    return {"edges": edges, "v1": figures["v1"], "path": figures["path"]}


def _embedding(model: Stack) -> torch.Tensor:
    assert isinstance(model.embedding, nn.Embedding)
    return model.embedding.weight


KNOCKING_OUT = Experiment(
    name="path-star-knock-outs",
    what="Directions of the embeddings taken out of a trained network: which does it need for edges and for paths?",
    source=f"a question of this project, after {PAPER}",
    claims=tuple(
        Claim(
            figure=f"{which}: {name}",
            what=f"{which}: {what}",
            least=LEARNED if (which, name) == (INTACT, "path") else None,
        )
        for which in (INTACT, *KNOCK_OUTS)
        for name, what in FIGURES.items()
    ),
    sizes={"small": KnockingOut(training=SMALL)},
    measure=knocked,
)

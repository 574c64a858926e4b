"""How many edges a network of a given width holds, with learned and with frozen embeddings.

Edges alone are trained, for as many steps at every width. A frozen table leaves the storing to the blocks, whose
products of two widths grow faster than the table; a learned one stores in the table as well.

    KIND WIDTH: edges       edge recall
    KIND WIDTH: per number  training pairs recalled (recall times pairs) for each trained number

Source: a question of this project, after section 4 of Noroozizadeh et al. (2025), arXiv 2510.26745, which counts bits.
"""

from dataclasses import dataclass, replace

from mnemoscope.experiments.geometry.in_weights import InWeights, InWeightsRun, train_in_weights
from mnemoscope.experiments.geometry.path_star import PAPER, SMALL, edges_only, seeded
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured

KINDS, WIDTHS = ("geometric", "frozen"), (8, 16, 32, 64)


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """Trainings on edges at several widths.

    Args:
        base: of all of them, of stage "edges".
        widths: of embeddings and blocks; each a multiple of the heads.
    """

    base: InWeights
    widths: tuple[int, ...] = WIDTHS

    def __post_init__(self) -> None:
        if self.base.task.stage != "edges":
            raise ValueError(f"Capacity.base: must be of stage 'edges', got {self.base.task.stage!r}")


def capacities(settings: Capacity, seed: int) -> Measured:
    """Edge recall of both kinds at every width."""
    figures, series = dict[str, float](), dict[str, list[float]]()
    for kind in KINDS:
        for width in settings.widths:
            network = replace(settings.base.network, width=width, freeze=kind == "frozen")
            run = train_in_weights(seeded(replace(settings.base, network=network), seed), seed)
            figures |= {f"{kind} {width}: {name}": value for name, value in _of(run).items()}
            series[f"{kind} {width}: edge recall"] = run.curve("edge recall")
    return Measured(figures=figures, series=series)


def _of(run: InWeightsRun) -> dict[str, float]:
    recall = run.end("edge recall")
    trained = sum(p.numel() for p in run.model.parameters() if p.requires_grad)
    recalled = recall * len(run.task.pairs)
    return {"edges": recall, "per number": recalled / trained, "R": run.end("smoothness"), "excess": _excess(run)}


def _excess(run: InWeightsRun) -> float:
    return run.end("edge loss") - run.end("edge floor")


CAPACITY = Experiment(
    name="path-star-capacity",
    what="Edges that are recalled, by width, with learned and with frozen embeddings",
    source=f"a question of this project, after section 4 of {PAPER}",
    claims=tuple(
        Claim(figure=f"{kind} {width}: {name}", what=f"{kind} table, width {width}: {what}")
        for kind in KINDS
        for width in WIDTHS
        for name, what in (("edges", "edge recall"), ("per number", "pairs recalled for each trained number"))
    ),
    sizes={"small": Capacity(base=edges_only(SMALL))},
    measure=capacities,
)

"""How often the verdict on a table is wrong, on tables for which the truth is known.

    trained     TinyNN, TinyGPT, TinySSM, Node2Vec, with self-edges and without, one way or both     not associative
    frozen      associative memories, whose table stays as it was drawn; tables that are noise       not geometric

A trained table may be called mixed: some of them have structure that does not reach beyond an edge. To call it
associative is false, and so is to call a frozen one geometric. Every table is examined as a user would, from its
embeddings, its edges and, where both directions were trained, its scores.

Source: the rule of `examination.geometry.verdict`; models as in `tiny_models`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mnemoscope.examination.geometry.session import examine_geometry
from mnemoscope.experiments.geometry.measuring import KINDS
from mnemoscope.experiments.geometry.tiny_models import ARMS, GRAPHS, RELEASED, Arm, TinyModels, memorised
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured
from mnemoscope.runs.geometry import GeometryExamination
from mnemoscope.tasks.graphs import GraphName, named_graph

SMOOTHNESSES = ("smoothness", "two_sided_smoothness")


@dataclass(frozen=True, kw_only=True)
class CalibrationStudy:
    """Which tables there are.

    Args:
        models: how each is trained.
        graphs: names of tiny graphs.
        noise_widths: of tables that are normal noise, on every graph.
        n_shuffles: of the null of each examination.
    """

    models: TinyModels
    graphs: tuple[GraphName, ...] = GRAPHS
    noise_widths: tuple[int, ...] = (8, 32, 512)
    n_shuffles: int = 500


class Case(NamedTuple):
    """A table, the truth, and what is said of it."""

    name: str
    is_trained: bool
    found: GeometryExamination

    @property
    def strongest(self) -> float:
        """The larger z-score of the two smoothnesses."""
        scores = [self.found.metric(name).z for name in SMOOTHNESSES]
        return max(float(z) if z is not None else -np.inf for z in scores)

    @property
    def is_false(self) -> bool:
        """A trained table called associative, or a frozen one called geometric."""
        return self.found.verdict.kind == ("associative" if self.is_trained else "geometric")


def geometry_calibration(settings: CalibrationStudy, seed: int) -> Measured:
    """Every model and every noise on every graph."""
    cases = [trained_case(arm, graph, settings, seed) for arm in ARMS for graph in settings.graphs]
    cases += [noise_case(width, graph, settings, seed) for width in settings.noise_widths for graph in settings.graphs]
    trained, frozen = ([case for case in cases if case.is_trained is truth] for truth in (True, False))
    figures = {
        "tables": len(cases),
        "false": sum(case.is_false for case in cases),
        "trained associative": sum(case.is_false for case in trained),
        "frozen geometric": sum(case.is_false for case in frozen),
        "not memorised": sum(case.found.verdict.kind == "not memorised" for case in cases),
        "trained geometric": _share(trained, "geometric"),
        "frozen associative": _share(frozen, "associative"),
        "least trained": min(case.strongest for case in trained),
        "most frozen": max(case.strongest for case in frozen),
    }
    figures["gap"] = figures["least trained"] - figures["most frozen"]
    series = {"trained": [float(case.is_trained) for case in cases], "z": [case.strongest for case in cases]}
    series["kind"] = [float(KINDS.index(case.found.verdict.kind)) for case in cases]
    return Measured(figures=figures, series=series)


def trained_case(arm: Arm, graph: GraphName, settings: CalibrationStudy, seed: int) -> Case:
    """A model at the end of its training."""
    found = memorised(arm, graph, settings.models, seed)
    # Scores of edges that were asked one way say nothing of the other, which the examination would count as forgotten.
    scores = found.end.scores if arm.directions == "both" else None
    examination = examine_geometry(
        found.end.table,
        found.task.edges,
        scores=scores,
        step=found.end.step,
        seed=seed,
        n_shuffles=settings.n_shuffles,
        subject=f"{arm.name}, {graph}",
        thorough=False,
    )
    return Case(examination.subject, not arm.is_frozen, examination)


def noise_case(width: int, graph: GraphName, settings: CalibrationStudy, seed: int) -> Case:
    """A table that no model is from."""
    tiny = named_graph(graph)
    rng = np.random.default_rng([seed, width, GRAPHS.index(graph)])
    table = rng.standard_normal((tiny.n_nodes, width))
    subject = f"noise of width {width}, {graph}"
    examination = examine_geometry(
        table, tiny.edges, seed=seed, n_shuffles=settings.n_shuffles, subject=subject, thorough=False
    )
    return Case(subject, False, examination)


def _share(cases: Sequence[Case], kind: str) -> float:
    return sum(case.found.verdict.kind == kind for case in cases) / len(cases)


GEOMETRY_CALIBRATION = Experiment(
    name="geometry-calibration",
    what="No table that learned a graph is called associative, and none that did not is called geometric",
    source="the verdict's rule, on models of Noroozizadeh et al. 2025, arXiv 2510.26745",
    claims=(
        Claim(figure="tables", what="tables whose truth is known", least=40),
        Claim(figure="false", what="false verdicts", published="0 of 44 released tables", most=0),
        Claim(figure="trained associative", what="tables that learned and are called associative", most=0),
        Claim(figure="frozen geometric", what="frozen tables and noise called geometric", most=0),
        Claim(figure="not memorised", what="tables whose edges are not memorised", most=0),
        Claim(
            figure="least trained",
            what="least z-score (the larger of R and R2) of a table that learned",
            published="5.0",
            least=3.5,
        ),
        Claim(figure="most frozen", what="largest of a frozen table or noise", published="2.3", most=3.5),
        Claim(figure="gap", what="the difference of the two", published="2.7", least=0),
        Claim(figure="trained geometric", what="share of the tables that learned that are called geometric"),
        Claim(figure="frozen associative", what="share of the frozen tables and noise that are called associative"),
    ),
    sizes={"small": CalibrationStudy(models=RELEASED)},
    measure=geometry_calibration,
)

"""The verdict on a table: geometric, associative, or neither shown.

The first row that fits, with z-scores against shuffled nodes:

    not memorised   edge recall of the model's scores < 0.99
    geometric       max(z_R, z_R2) >= 3.5, and the far distance correlation >= 0.5 or the first-hop AUC >= 0.95; where
                    behaviour is given, first hops of held-out paths >= 10 / d while the frozen control's are <= 3 / d
    associative     z_R < 3 and z_R2 < 3, and the far distance correlation within its null, |z| < 3
    mixed           otherwise

R alone misses tables whose neighbours are opposite (a network that reads its own embedding through a matrix), R2 alone
those of edges learned one way. `far` leaves out the pairs that share an edge: closeness there could be storage.

Source: Noroozizadeh et al. 2025 (arXiv 2510.26745) for the two kinds. The rule is this project's; `mnemoscope reproduce
geometry-calibration` counts its false verdicts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mnemoscope.runs.geometry import GeometryForm, GeometryKind, GeometryMetric, GeometryVerdict

MEMORISED = 0.99
STRUCTURED, UNSTRUCTURED = 3.5, 3.0
FAR_CORRELATION, FIRST_HOP_AUC, ZIGZAG = 0.5, 0.95, 0.05
HELD_OUT_CHANCES, FROZEN_CHANCES = 10.0, 3.0


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """What the model that the table is from does with paths that it was not trained on.

    Args:
        n_arms: d; chance is 1 / d.
        first_hop: accuracy at the first node after the root of held-out paths, in [0, 1].
        frozen_first_hop: the same of a model trained with its embeddings frozen at random; None if none was.

    Raises:
        ValueError: a value out of its range.
    """

    n_arms: int
    first_hop: float
    frozen_first_hop: float | None = None

    def __post_init__(self) -> None:
        if self.n_arms < 2:
            raise ValueError(f"Behaviour.n_arms: must be at least 2, got {self.n_arms}; count the root's neighbours")
        for name in ("first_hop", "frozen_first_hop"):
            got = getattr(self, name)
            if got is not None and not 0 <= got <= 1:
                raise ValueError(f"Behaviour.{name}: must be an accuracy in [0, 1], got {got}")


def judge(metrics: Sequence[GeometryMetric], behaviour: Behaviour | None = None) -> GeometryVerdict:
    """The kind and form that measures speak for.

    Args:
        metrics: those of a table; `smoothness`, `two_sided_smoothness` and `far_distance_correlation` must be there.
        behaviour: of the model; None if unknown.
    """
    by_name = {metric.name: metric for metric in metrics}
    recall = by_name.get("edge_recall")
    if recall is not None and recall.value < MEMORISED:
        reason = f"the scores recall {recall.value:.1%} of the edges; a memory is spoken of from {MEMORISED:.0%} on"
        return GeometryVerdict(kind="not memorised", reasons=[reason], caveats=_caveats(by_name, behaviour))
    kind = _kind(by_name, behaviour)
    form = _form(by_name) if kind in ("geometric", "mixed") else ""
    return GeometryVerdict(
        kind=kind, form=form, reasons=_reasons(by_name, behaviour), caveats=_caveats(by_name, behaviour)
    )


def _kind(by_name: dict[str, GeometryMetric], behaviour: Behaviour | None) -> GeometryKind:
    one, two = _z(by_name, "smoothness"), _z(by_name, "two_sided_smoothness")
    if max(one, two) >= STRUCTURED and _reaches(by_name) and _behaves(behaviour):
        return "geometric"
    knows_nothing = max(one, two) < UNSTRUCTURED and abs(_z(by_name, "far_distance_correlation")) < UNSTRUCTURED
    return "associative" if knows_nothing else "mixed"


def _reaches(by_name: dict[str, GeometryMetric]) -> bool:
    """Beyond the pairs that share an edge."""
    return (
        _value(by_name, "far_distance_correlation") >= FAR_CORRELATION
        or _value(by_name, "first_hop_auc") >= FIRST_HOP_AUC
    )


def _behaves(behaviour: Behaviour | None) -> bool:
    if behaviour is None:
        return True
    uses = behaviour.first_hop >= min(1.0, HELD_OUT_CHANCES / behaviour.n_arms)
    frozen = behaviour.frozen_first_hop
    return uses and (frozen is None or frozen <= FROZEN_CHANCES / behaviour.n_arms)


def _form(by_name: dict[str, GeometryMetric]) -> GeometryForm:
    one, two = _z(by_name, "smoothness"), _z(by_name, "two_sided_smoothness")
    turns = _value(by_name, "zigzag") > ZIGZAG and _z(by_name, "zigzag") >= UNSTRUCTURED
    if one >= STRUCTURED and _value(by_name, "far_distance_correlation") <= 0 and not _reaches(by_name):
        return "directed"
    if one >= STRUCTURED:
        return "smooth with zigzag" if turns else "smooth"
    return "zigzag" if two >= STRUCTURED or turns else ""


def _value(by_name: dict[str, GeometryMetric], name: str) -> float:
    """NaN where it was not measured, which no comparison lets through."""
    return by_name[name].value if name in by_name else math.nan


def _z(by_name: dict[str, GeometryMetric], name: str) -> float:
    """0 where there is none: no sign of structure."""
    metric = by_name.get(name)
    return 0.0 if metric is None or metric.z is None or math.isnan(metric.z) else metric.z


def _reasons(by_name: dict[str, GeometryMetric], behaviour: Behaviour | None) -> list[str]:
    said = {
        "smoothness": "neighbours are as close as R",
        "two_sided_smoothness": "structure of either sign, R2",
        "far_distance_correlation": "distance follows hops beyond an edge, rank correlation",
        "first_hop_auc": "leaves lie nearer to their own first hop than to others, AUC",
        "zigzag": "cosine at two hops less that at one",
    }
    found = [_reason(text, by_name[name]) for name, text in said.items() if name in by_name]
    if behaviour is not None:
        frozen = behaviour.frozen_first_hop
        control = "" if frozen is None else f", {frozen:.3f} with frozen embeddings"
        found.append(f"held-out first hops {behaviour.first_hop:.3f}{control}; chance {1 / behaviour.n_arms:.3f}")
    return found


def _reason(text: str, metric: GeometryMetric) -> str:
    if metric.missing:
        return f"{text}: not measured, {metric.missing}"
    if metric.z is None:
        return f"{text} = {metric.value:.3f}"
    return f"{text} = {metric.value:.3f}; shuffled {metric.null_mean:.3f} ± {metric.null_sd:.3f}, z = {metric.z:.1f}"


def _caveats(by_name: dict[str, GeometryMetric], behaviour: Behaviour | None) -> list[str]:
    found = []
    if "edge_recall" not in by_name:
        found.append(
            "edge recall is unknown, so that the graph may not be memorised at all: give the model's scores of edges"
        )
    if behaviour is None:
        found.append("nothing is known of held-out paths: whether the geometry is used is open")
    elif behaviour.frozen_first_hop is None:
        found.append("no control with frozen embeddings: paths might be found without the geometry")
    return found

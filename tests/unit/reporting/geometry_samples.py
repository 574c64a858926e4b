"""Geometry examinations as they come out of the instrument: a path-star through training, and edge cases."""

import math
from typing import Any

from mnemoscope.runs.geometry import (
    GeometryExamination,
    GeometryMetric,
    GeometrySnapshot,
    GeometryVerdict,
    GraphSpectrum,
    HeatMap,
    HopProfile,
    NodePicture,
)

EDGES = [[0, 1], [1, 2], [0, 3], [3, 4], [0, 5], [5, 6]]
"""A root, 0, with three arms of two nodes."""


def metric(name: str, value: float, null: float | None = 0.0, **more: Any) -> GeometryMetric:
    if null is None:
        return GeometryMetric(name=name, value=value, **more)
    z = (value - null) / 0.1
    return GeometryMetric(name=name, value=value, null_mean=null, null_sd=0.1, z=z, p=0.002, **more)


def picture(method: str, step: int | None, size: float = 1.0) -> NodePicture:
    angles = [0.0, 0.0, 0.0, 2.1, 2.1, 4.2, 4.2]
    radii = [0.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0]
    polar = enumerate(zip(angles, radii, strict=True))
    points = [[size * r * math.cos(a), size * r * math.sin(a), 0.1 * i] for i, (a, r) in polar]
    explained = [0.5, 0.25, 0.125] if method == "pca" else []
    return NodePicture(step=step, method=method, nodes=list(range(7)), coordinates=points, explained=explained)


def snapshot(step: int, value: float) -> GeometrySnapshot:
    names = ("smoothness", "two_sided_smoothness", "far_distance_correlation")
    return GeometrySnapshot(
        step=step,
        metrics=dict.fromkeys(names, value) | {"geometric_level": value / 2},
        z_scores=dict.fromkeys(names, 10 * value),
        kind="geometric" if value > 0.5 else "associative",
        form="smooth" if value > 0.5 else "",
    )


def geometric(subject: str = "star", **changes: Any) -> GeometryExamination:
    """With everything that a page can show."""
    sample = GeometryExamination(
        subject=subject,
        command="mnemoscope geometry step-*.npy --edges star.txt",
        n_nodes=7,
        n_edges=6,
        n_components=1,
        width=32,
        step=1000,
        seed=0,
        n_shuffles=500,
        verdict=GeometryVerdict(
            kind="geometric",
            form="smooth",
            reasons=["neighbours are as close as R = 0.812; shuffled 0.000 ± 0.100, z = 8.1"],
            caveats=["nothing is known of held-out paths"],
        ),
        metrics=[
            metric("smoothness", 0.812, n=7, over="nodes"),
            metric("two_sided_smoothness", 0.9, 0.5, n=7, over="nodes"),
            metric("far_distance_correlation", 0.75, n=15, over="pairs"),
            metric("effective_dimension", 5.25, None, n=7, over="nodes"),
            metric("first_hop_auc", math.nan, None, missing="no paths were given"),
            metric("a_later_measure", 123.0, 100.0),
        ],
        spectrum=GraphSpectrum(
            eigenvalues=[0.7071, 0.7071, 0.0, 0.0, -0.7071, -1.0], shares=[0.4, 0.4, 0.05, 0.05, 0.05, 0.05]
        ),
        hop_profile=HopProfile(hops=[1, 2, 3, 4], cosines=[0.8, 0.5, -0.1, math.nan], n_pairs=[6, 6, 6, 0]),
        edges=EDGES,
        pictures=[picture("pca", step, 1 + step / 1000) for step in (0, 100, 1000)] + [picture("laplacian", None)],
        heat_maps=[
            HeatMap(
                title="Leaf by first hop",
                rows=["2", "4", "6"],
                columns=["1", "3", "5"],
                values=[[0.1, 0.9, 0.8], [0.9, 0.2, 0.7], [0.8, 0.7, 0.3]],
                unit="cosine distance",
            )
        ],
        snapshots=[snapshot(0, 0.01), snapshot(100, 0.3), snapshot(1000, 0.8)],
        versions={"mnemoscope": "0.1.0", "numpy": "2.0"},
    )
    return sample.model_copy(update=changes)


def bare() -> GeometryExamination:
    """With nothing but a verdict."""
    return geometric(
        "bare",
        command="",
        step=None,
        verdict=GeometryVerdict(kind="not memorised", reasons=[]),
        metrics=[],
        spectrum=GraphSpectrum(eigenvalues=[], shares=[]),
        hop_profile=HopProfile(hops=[], cosines=[], n_pairs=[]),
        edges=[],
        pictures=[],
        heat_maps=[],
        snapshots=[],
        versions={},
    )


def hostile(text: str) -> GeometryExamination:
    """Every word of the record is `text`."""
    sample = geometric(
        text, command=text, node_names=[f"{i}{text}" for i in range(7)], node_groups=[-1, 0, 0, 1, 1, 2, 2]
    )
    (heat_map,) = sample.heat_maps
    return sample.model_copy(
        update={
            "verdict": GeometryVerdict(kind="mixed", reasons=[text], caveats=[text]),
            "metrics": [metric(text, 0.5, over=text, missing=text), *sample.metrics],
            "heat_maps": [heat_map.model_copy(update={"title": text, "rows": [text] * 3, "columns": [text] * 3})],
            "versions": {text: text},
        }
    )


def large(n_arms: int = 400, n_steps: int = 5) -> GeometryExamination:
    """A path-star of four nodes an arm, as large as a picture gets."""
    edges, points = [], [[0.0, 0.0, 0.0]]
    for arm in range(n_arms):
        height, angle = 2 * (arm + 0.5) / n_arms - 1, 2.399963 * arm
        across = math.sqrt(1 - height * height)
        for depth in range(1, 5):
            node = 4 * arm + depth
            edges.append([0 if depth == 1 else node - 1, node])
            points.append([depth * across * math.cos(angle), depth * across * math.sin(angle), depth * height])
    n = len(points)
    mus = [math.cos(math.pi * (2 * j - 1) / 8) for j in range(1, 5) for _ in range(n_arms - 1)] + [
        0.7071,
        0.0,
        -0.7071,
        -1,
    ]
    mus = sorted(mus, reverse=True)[:n]
    total = sum(1.1 + mu for mu in mus)
    pictures = [
        NodePicture(
            step=100 * i,
            method="pca",
            nodes=list(range(n)),
            coordinates=[[x, y * (i + 1) / n_steps, z * (i + 1) / n_steps] for x, y, z in points],
            explained=[0.2, 0.1, 0.1],
        )
        for i in range(n_steps)
    ]
    rows = [f"leaf {i}" for i in range(40)]
    values = [[0.2 if i == j else 0.8 + 0.1 * math.sin(i * j) for j in range(40)] for i in range(40)]
    return geometric(
        "large star",
        n_nodes=n,
        n_edges=n - 1,
        edges=edges,
        pictures=pictures,
        spectrum=GraphSpectrum(eigenvalues=mus, shares=[(1.1 + mu) / total for mu in mus]),
        heat_maps=[HeatMap(title="Leaf by first hop", rows=rows, columns=rows, values=values, unit="cosine distance")],
    )

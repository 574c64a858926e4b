"""Graphs and tables that the tests of the geometry share."""

from itertools import combinations
from typing import get_args

import numpy as np

from mnemoscope.examination.geometry.graph import SparseGraph, as_graph
from mnemoscope.tasks.graphs import GraphName, cycle_edges, named_graph, star_paths, tree_edges

TINY: tuple[GraphName, ...] = get_args(GraphName)


def tiny(name: GraphName) -> SparseGraph:
    return as_graph(named_graph(name).edges)


def path_star(n_arms: int, length: int) -> SparseGraph:
    return as_graph(tree_edges(star_paths(n_arms, length)))


def cycle(n_nodes: int) -> SparseGraph:
    return as_graph(cycle_edges(n_nodes))


def complete(n_nodes: int) -> SparseGraph:
    return as_graph(list(combinations(range(n_nodes), 2)))


def gaussian(n_rows: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n_rows, width))


def rotation(n: int, seed: int = 0) -> np.ndarray:
    return np.linalg.qr(gaussian(n, n, seed))[0]

"""What theory says in closed form: where Node2Vec ends on a cycle, the spectra of path-stars, and floors of losses.

    a cycle of n nodes, tied Node2Vec, all but the constant and the slowest wave gone:
    p_r = exp(kappa cos(2 pi r / n)) / Z,   kappa such that sum_r p_r cos(2 pi r / n) = cos(2 pi / n)

These are what simulations and measures are tested against.

Source: derived from the dynamics of Noroozizadeh et al. (2025), arXiv 2510.26745, lemma 5.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import root_scalar

from mnemoscope.examination.geometry.graph import SparseGraph


@dataclass(frozen=True, kw_only=True, eq=False)
class CycleStationary:
    """Where tied Node2Vec stands still on a cycle.

    Args:
        kappa: concentration of the softmax round the cycle.
        projection: ||V^T e|| of each of the two slowest waves e.
        loss: nats per node. Tied scores cannot rule out the node itself, so it stays above the entropy floor, ln 2.
        rates: eigenvalue c_k of C on wave k = 0 ... n // 2; 0 for k = 0 and 1, negative (stable) beyond.
    """

    kappa: float
    projection: float
    loss: float
    rates: Float[np.ndarray, "k"]


def cycle_stationary(n: int) -> CycleStationary:
    """The stationary state with two waves alive, on a cycle of n nodes; the constant part is free.

    Args:
        n: at least 5 nodes; on shorter ones kappa is not above 0.

    Raises:
        ValueError: fewer nodes.
    """
    if n < 5:
        raise ValueError(f"cycle_stationary: n must be at least 5 nodes, got {n}; nearest valid: 5")
    wave = np.cos(2 * np.pi * np.arange(n) / n)

    def law(kappa: float) -> Float[np.ndarray, "n"]:
        weights = np.exp(kappa * (wave - 1))
        return weights / weights.sum()

    found = root_scalar(lambda guess: law(guess) @ wave - wave[1], bracket=(0.0, n * n), xtol=1e-12)
    kappa = float(found.root)
    softmax = law(kappa)
    waves = np.cos(2 * np.pi * np.outer(np.arange(n // 2 + 1), np.arange(n)) / n)
    return CycleStationary(
        kappa=kappa,
        projection=float(np.sqrt(kappa * n / 2)),
        loss=float(-np.log(softmax[1])),
        rates=2 * waves[:, 1] - 2 * waves @ softmax,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class PathStarEigenvalues:
    """The spectra of a path-star of d arms and paths of l nodes, all falling.

    Arm modes are 0 at the root and occur d - 1 times each; symmetric modes are the same on all arms, and simple.

    Args:
        multiplicity: d - 1, of each arm mode.
        walk_arm: arm modes of W + W^T, W = D^-1 A.
        walk_symmetric: its symmetric modes; the largest and smallest grow with sqrt(d) / 2.
        normalised_arm: arm modes of S = D^-1/2 A D^-1/2.
        normalised_symmetric: its symmetric modes; the first, 1, is the trivial one.
    """

    multiplicity: int
    walk_arm: Float[np.ndarray, "arm"]
    walk_symmetric: Float[np.ndarray, "symmetric"]
    normalised_arm: Float[np.ndarray, "arm"]
    normalised_symmetric: Float[np.ndarray, "symmetric"]


def path_star_eigenvalues(n_arms: int, length: int) -> PathStarEigenvalues:
    """The spectra of a path-star.

    W + W^T of an arm is tridiagonal with off-diagonals 1, ..., 1, 3/2, and its root joins with sqrt(d) (1/d + 1/2); S
    has arm modes cos((2 j - 1) pi / (2 (l - 1))), j = 1 ... l - 1, and symmetric ones cos(j pi / (l - 1)), j = 0 ...
    l - 1.

    Args:
        n_arms: d, at least 2.
        length: nodes of a path, root and leaf included, l, at least 2.

    Raises:
        ValueError: smaller numbers.
    """
    for name, got in (("n_arms", n_arms), ("length", length)):
        if got < 2:
            raise ValueError(f"path_star_eigenvalues: {name} must be at least 2, got {got}; nearest valid: 2")
    degrees = np.array([2.0] * (length - 2) + [1.0])
    beside = 1 / degrees[1:] + 1 / degrees[:-1]
    root = np.sqrt(n_arms) * (1 / n_arms + 1 / degrees[0])
    return PathStarEigenvalues(
        multiplicity=n_arms - 1,
        walk_arm=_tridiagonal(beside),
        walk_symmetric=_tridiagonal(np.concatenate([[root], beside])),
        normalised_arm=np.cos((2 * np.arange(1, length) - 1) * np.pi / (2 * (length - 1))),
        normalised_symmetric=np.cos(np.arange(length) * np.pi / (length - 1)),
    )


def edge_entropy_floor(graph: SparseGraph, self_edges: float = 0.0) -> float:
    """The least loss of a model of edges, nats per edge that is asked, each in both directions equally often.

    Without self-edges sum_u deg(u) ln deg(u) / sum_u deg(u).

    Args:
        graph: what is asked.
        self_edges: how often a node is asked for itself, an edge in one direction being asked once.
    """
    asked = graph.degrees + self_edges
    return float(asked @ _entropies(graph, self_edges) / asked.sum())


def node_entropy_floor(graph: SparseGraph, self_edges: float = 0.0) -> float:
    """The least loss per node, as of Node2Vec, where every node counts the same.

    Args: see `edge_entropy_floor`. A node that is asked nothing has loss 0.
    """
    return float(_entropies(graph, self_edges).mean())


def _entropies(graph: SparseGraph, self_edges: float) -> Float[np.ndarray, "n"]:
    """Of the answer that is right for each node."""
    asked = np.where(graph.degrees + self_edges > 0, graph.degrees + self_edges, 1)
    of_itself = self_edges * np.log(self_edges) if self_edges > 0 else 0.0
    return np.log(asked) - of_itself / asked


def _tridiagonal(beside: Float[np.ndarray, "k"]) -> Float[np.ndarray, "k+1"]:
    """Eigenvalues, falling, of the symmetric matrix with a diagonal of 0."""
    return np.linalg.eigvalsh(np.diag(beside, 1) + np.diag(beside, -1))[::-1].copy()

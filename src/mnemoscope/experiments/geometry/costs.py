"""What the two memories of a graph cost: bits at the least precision that works, and norm at a margin of 1.

    associative    one-hot Phi, W = A                 |E| log2 |V| bits for each direction        ||W|| = sqrt(2 |E|)
    tied           Phi(u)_i = 1 if u is on edge i     the same edges as dot products alone        ||Phi|| = sqrt(2 |E|)
    geometric      Phi(u) . Phi(v), width m           |V| m log2 (cells a dimension) bits         ||Phi|| ~ sqrt(|V|)

Neither bits nor norm speak for geometry: where edges are about as many as nodes, the norms differ by a factor between 1
and 2, and on a path-star the geometric memory needs more bits. So a preference for small weights or short descriptions
does not explain why a model memorises as geometry.

Source: Noroozizadeh et al. 2025 (arXiv 2510.26745), on succinctness; the norm of a trained table is an addition.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from mnemoscope.examination.geometry.node2vec import Node2VecConfig, node2vec
from mnemoscope.experiments.geometry.tiny_models import GRAPHS
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured
from mnemoscope.tasks.graphs import Graph, GraphName, named_graph


@dataclass(frozen=True, kw_only=True)
class CostStudy:
    """Graphs, and the Node2Vec whose norm is measured.

    Args:
        graphs: names of tiny graphs.
        width: of its tables.
        steps: of plain gradient descent.
        step_size: its learning rate.
    """

    graphs: tuple[GraphName, ...] = GRAPHS
    width: int = 100
    steps: int = 10_000
    step_size: float = 0.01


def geometric_costs(settings: CostStudy, seed: int) -> Measured:
    """Bits of both memories on a path-star and a cycle, and norms on every graph."""
    figures = dict[str, float]()
    for name in settings.graphs:
        graph = named_graph(name)
        config = Node2VecConfig(width=settings.width, steps=settings.steps, step_size=settings.step_size, seed=seed)
        table = node2vec(graph.edges, config, graph.n_nodes).source
        associative, bound = associative_norm(graph), float(np.sqrt(graph.n_nodes))
        figures |= {
            f"{name} associative norm": associative,
            f"{name} ratio": associative / bound,
            f"{name} trained norm": norm_at_margin(table, graph) / bound,
        }
    star, cycle = named_graph("path_star"), named_graph("cycle")
    figures |= {
        "path_star associative bits": associative_bits(star),
        "path_star geometric bits": geometric_bits(star.n_nodes, width=4, cells=5),
        "cycle associative bits": associative_bits(cycle),
        "cycle geometric bits": geometric_bits(cycle.n_nodes, width=2, cells=cycle.n_nodes / 2),
    }
    return Measured(figures=figures)


def associative_bits(graph: Graph) -> float:
    """|E| log2 |V|: for each edge one of |V| targets, in one direction."""
    return len(graph.edges) * float(np.log2(graph.n_nodes))


def geometric_bits(n_nodes: int, width: int, cells: float) -> float:
    """|V| m log2 cells: each node is at one of `cells` places in each of `width` dimensions."""
    return n_nodes * width * float(np.log2(cells))


def associative_norm(graph: Graph) -> float:
    """||W|| of the associative memory with one-hot Phi and a margin of 1, both directions: sqrt(2 |E|)."""
    return float(np.linalg.norm(graph.adjacency()))


def edge_indicators(graph: Graph) -> Float[NDArray[np.float64], "n edges"]:
    """The tied table that stores edges by association alone: 1 where a node is on an edge."""
    table = np.zeros((graph.n_nodes, len(graph.edges)))
    table[graph.edges.T, np.arange(len(graph.edges))] = 1
    return table


def norm_at_margin(table: Float[NDArray[np.float64], "n m"], graph: Graph) -> float:
    """||s V|| with s such that every neighbour's score beats all others' by 1 at least; a node is no rival to itself.

    Infinite where some neighbour is beaten by another node, since no scale mends that.
    """
    scores, wanted = table @ table.T, graph.adjacency().astype(np.bool_)
    others = ~wanted & ~np.eye(graph.n_nodes, dtype=np.bool_)
    worst = np.where(wanted, scores, np.inf).min(axis=1)
    rival = np.where(others, scores, -np.inf).max(axis=1)
    margin = float((worst - rival).min())
    return float(np.linalg.norm(table)) / margin**0.5 if margin > 0 else np.inf


def _norms(graph: GraphName) -> tuple[Claim, ...]:
    return (
        Claim(figure=f"{graph} associative norm", what=f"{graph}: associative norm at margin 1"),
        Claim(
            figure=f"{graph} ratio",
            what=f"{graph}: the same over sqrt(|V|)",
            published="1 to 2",
            least=1,
            most=2,
        ),
        Claim(figure=f"{graph} trained norm", what=f"{graph}: norm of Node2Vec at margin 1, over sqrt(|V|)"),
    )


GEOMETRIC_COSTS = Experiment(
    name="geometric-costs",
    what="Neither bits nor norm prefer a geometric memory to an associative one",
    source="Noroozizadeh et al. 2025, arXiv 2510.26745, on succinctness",
    claims=(
        *(claim for graph in GRAPHS for claim in _norms(graph)),
        Claim(figure="path_star associative bits", what="path-star: bits of the associative memory, one direction"),
        Claim(
            figure="path_star geometric bits",
            what="path-star: bits of the geometric memory, as many dimensions as arms",
            published="more",
        ),
        Claim(figure="cycle associative bits", what="cycle: bits of the associative memory, one direction"),
        Claim(figure="cycle geometric bits", what="cycle: bits of the geometric memory, two dimensions"),
    ),
    sizes={"small": CostStudy()},
    measure=geometric_costs,
)

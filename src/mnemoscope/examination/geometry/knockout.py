"""Which directions of a table a model uses: the model is run again without some of them.

The directions are those of the nodes, eigenvectors of S = D^-1/2 A D^-1/2. What lies along the trivial ones, how
frequent nodes are, stays as it is in every knock-out.

Why: geometry that is there need not be used; taking directions out and asking the model again tells.

How to read it: edges lost without paths lost, or the other way round, says which of them needs the direction.

Traps: removing directions also shortens rows, so compare knock-outs of the same number.
"""

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Float

from mnemoscope.examination.geometry.eigenspaces import Eigenspaces, eigenspaces
from mnemoscope.examination.geometry.graph import SparseGraph
from mnemoscope.examination.geometry.references import whole_top
from mnemoscope.runs.record import Record

Which: TypeAlias = Literal["smooth", "not smooth", "bottom"]
"""smooth: only the k smoothest are left; not smooth: they are taken out; bottom: the k least smooth are taken out."""


class KnockOut(Record):
    """What a model did with part of its table.

    `which` is "intact" or as in `Which`; `n_modes` eigenvectors were left or taken out; `kept` is the share of the
    squared length of the table, without its trivial part, that was left; `measures` are what was evaluated.
    """

    which: str
    n_modes: int
    kept: float
    measures: dict[str, float]


def knocked_out(
    table: Float[np.ndarray, "n m"],
    graph: SparseGraph,
    which: Which,
    k: int | None = None,
    spaces: Eigenspaces | None = None,
) -> Float[np.ndarray, "n m"]:
    """The table without some of its directions.

    Args:
        table: one row for each node.
        graph: n nodes.
        which: what is left or taken out.
        k: eigenvectors; those with an eigenvalue equal to the last one's are in as well. None for the Fiedler-like
            space: one for each component that has an edge, and those equal to these.
        spaces: `eigenspaces` of the graph, where they are at hand.

    Raises:
        ValueError: another `which`, k below 1, or more eigenvectors than were computed of a large graph.
    """
    return _knocked_out(table, which, k, spaces or eigenspaces(graph))[0]


def knock_outs(
    table: Float[np.ndarray, "n m"],
    graph: SparseGraph,
    evaluate: Callable[[Float[np.ndarray, "n m"]], Mapping[str, float]],
    k: int | None = None,
    spaces: Eigenspaces | None = None,
) -> list[KnockOut]:
    """Evaluate a model with its table intact and with each of the three knock-outs.

    Args:
        table: one row for each node.
        graph: n nodes.
        evaluate: puts a table into the model, and measures, say, edge recall and first-hop accuracy; what it replaced
            it puts back itself.
        k: see `knocked_out`.
        spaces: see `knocked_out`.

    Raises:
        ValueError: see `knocked_out`.
    """
    spaces = spaces or eigenspaces(graph)
    records = [KnockOut(which="intact", n_modes=0, kept=1.0, measures=dict(evaluate(table.copy())))]
    whole = np.square(spaces.deflated(table)).sum()
    for which in get_args(Which):
        without, n_modes = _knocked_out(table, which, k, spaces)
        kept = float(np.square(spaces.deflated(without)).sum() / whole) if whole > 0 else 0.0
        records.append(KnockOut(which=which, n_modes=n_modes, kept=kept, measures=dict(evaluate(without))))
    return records


def _knocked_out(table: np.ndarray, which: Which, k: int | None, spaces: Eigenspaces) -> tuple[np.ndarray, int]:
    if which not in get_args(Which):
        raise ValueError(
            f"knocked_out: which must be one of {', '.join(get_args(Which))}, got {which!r}; nearest valid: 'smooth'"
        )
    k = spaces.fiedler_size if k is None else k
    n_bottom = len(spaces.values) if spaces.is_whole else len(spaces.values) - spaces.n_top
    most = n_bottom if which == "bottom" else spaces.n_top
    if not 1 <= k <= most:
        raise ValueError(
            f"knocked_out: k must be 1 ... {most}, the eigenvectors that were computed at this end, got {k}; give a "
            "smaller k, or eigenspaces(graph, k)"
        )
    chosen = _whole_bottom(spaces, k) if which == "bottom" else slice(0, whole_top(spaces, k))
    vectors = spaces.vectors[:, chosen]
    along = vectors @ (vectors.T @ table)
    if which == "smooth":
        along = spaces.deflated(table) - along
    return table - along, vectors.shape[1]


def _whole_bottom(spaces: Eigenspaces, k: int) -> slice:
    """The k smallest, and those equal to the last of them."""
    first = len(spaces.values) - k
    return slice(int(spaces.starts[np.searchsorted(spaces.starts, first, side="right") - 1]), len(spaces.values))

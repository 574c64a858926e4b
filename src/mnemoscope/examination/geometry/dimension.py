"""In how many dimensions a table lies.

With the centred table's squared singular values as shares p of its variance: exp(entropy of p), and the participation
ratio 1 / sum p^2. Both are r where r directions have equal variance, and 1 where all rows lie on a line. The second
looks at large shares only. Both are the same for every order of the rows, so there is no null.

Why: a map needs few dimensions, a list of edges needs many.

How to read it: beside the width of the table, and from one training step to another.

Traps: low dimension without smoothness is a collapse and no map.

Source: participation ratio, Gao et al. 2017 (bioRxiv 214262); exp(entropy), Roy & Vetterli 2007, of squared singular
values here and of plain ones there.
"""

import numpy as np
from jaxtyping import Float

from mnemoscope.examination.geometry.shuffling import EMPTY, not_taken
from mnemoscope.runs.geometry import GeometryMetric

NAMES = ("effective_dimension", "participation_ratio")


def dimension_metrics(table: Float[np.ndarray, "n m"]) -> list[GeometryMetric]:
    """The two dimensions of a table, "effective_dimension" and "participation_ratio".

    Cost: O(n m min(n, m)).
    """
    centred = table - table.mean(axis=0)
    gram = centred.T @ centred if centred.shape[1] <= len(centred) else centred @ centred.T
    squares = np.maximum(np.linalg.eigvalsh(gram), 0)
    if squares.sum() <= EMPTY * np.square(table).sum():
        return [not_taken(name, "all rows of the table are the same", "nodes") for name in NAMES]
    shares = squares / squares.sum()
    present = shares[shares > 0]
    values = (np.exp(-(present * np.log(present)).sum()), 1 / np.square(shares).sum())
    return [
        GeometryMetric(name=name, value=float(value), n=len(table), over="nodes")
        for name, value in zip(NAMES, values, strict=True)
    ]

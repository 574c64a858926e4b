"""Entropy of the addressing distribution.

What it says: how many slots or positions a read is spread over, exp(H) of N. How to read it: descriptive only. A
uniform collapse has normalised entropy 1 and a winner-take-all collapse has 0, and both read one constant vector; low
entropy is not function. Cost: one pass in which the weights are formed.

Traps: the entropy of a mean is not the mean entropy; sharp addresses that never change read one slot and nothing
more.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.contracts.precision import in_float64


def addressing_entropy(weights: Float[Tensor, "... n"]) -> float:
    """Mean entropy over log of the number of choices, in [0, 1]; choices with weight zero in a row are not counted.

    A row with a single choice has no entropy to normalise and is left out; NaN if every row has one.
    """
    rows = in_float64(weights.reshape(-1, weights.shape[-1]))
    choices = (rows > 0).sum(-1)
    entropy = -torch.special.xlogy(rows, rows).sum(-1)
    normalised = entropy[choices > 1] / in_float64(choices[choices > 1]).log()
    return float(normalised.mean())

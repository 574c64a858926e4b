"""Evenly spaced samples: what keeps a metric cheap without drawing random numbers from the training's generator."""

import torch
from torch import Tensor


def evenly(n: int, most: int, device: torch.device | None = None) -> Tensor:
    """At most `most` indices below n, in order and evenly spaced; all of them where they are few enough.

    Args:
        n: how many there are.
        most: how many are wanted, at least 1.
        device: of the indices.
    """
    if n <= most:
        return torch.arange(n, device=device)
    return torch.arange(most, device=device) * n // most

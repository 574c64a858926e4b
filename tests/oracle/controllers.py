"""Controllers of external memories, one token of one sequence at a time, in float64."""

from collections.abc import Mapping

import torch
from torch import Tensor


def start(weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Output and cell of a controller that has seen nothing; a feed-forward one ignores both."""
    hidden = weights["controller.controls.weight"].shape[1]
    return torch.zeros(hidden, dtype=torch.float64), torch.zeros(hidden, dtype=torch.float64)


def step(
    weights: Mapping[str, Tensor], x: Tensor, reads: Tensor, h: Tensor, c: Tensor, clip: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Output, cell and controls; an LSTM is told by four rows of weights per output."""
    hidden = h.shape[0]
    recurrent = weights["controller.recurrent.weight"]
    before = weights["controller.inputs.weight"] @ x + weights["controller.inputs.bias"]
    if recurrent.shape[0] == 4 * hidden:
        i, f, o, g = (before + recurrent @ torch.cat([reads, h])).split(hidden)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
    else:
        h = (before + recurrent @ reads).tanh()
    controls = weights["controller.controls.weight"] @ h + weights["controller.controls.bias"]
    if clip is not None:
        controls = torch.minimum(torch.maximum(controls, torch.tensor(-clip)), torch.tensor(clip))
    return h, c, controls


def softplus(x: Tensor) -> Tensor:
    """As defined."""
    return (1 + x.exp()).log()


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """With a millionth added to both squared lengths."""
    return a @ b / ((a @ a + 1e-6).sqrt() * (b @ b + 1e-6).sqrt())


def softmax(scores: list[Tensor]) -> list[Tensor]:
    """As defined."""
    powers = [score.exp() for score in scores]
    return [power / sum(powers) for power in powers]


def weighted(weights: list[Tensor], rows: list[Tensor]) -> Tensor:
    """Sum of rows."""
    total = torch.zeros_like(rows[0])
    for weight, row in zip(weights, rows, strict=True):
        total = total + weight * row
    return total

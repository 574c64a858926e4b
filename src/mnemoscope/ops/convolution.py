"""Short causal depth-wise convolution along time, with its last inputs as state."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mnemoscope.ops.precision import exact_read


def short_convolution(
    x: Float[Tensor, "b t d"], weight: Float[Tensor, "d w"], tail: Float[Tensor, "b tail d"]
) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b tail d"]]:
    """y_t = sum_i weight[:, i] x_{t - w + 1 + i}, channel by channel.

    Written as w shifted products, which a CPU runs faster than its grouped convolution for kernels of 3 or 4.

    Args:
        x: new inputs.
        weight: one kernel of w taps per channel; the last tap meets the present token.
        tail: the w - 1 inputs before x.

    Returns:
        Outputs, and the new tail.
    """
    n_tokens = x.shape[1]
    padded = torch.cat([tail, x], dim=1)
    # As a view, the tail would keep all of `padded` alive for as long as the state lives.
    return _convolved(padded, weight, n_tokens), padded[:, n_tokens:].clone()


@exact_read
def _convolved(padded: Float[Tensor, "b s d"], weight: Float[Tensor, "d w"], n_tokens: int) -> Float[Tensor, "b t d"]:
    """Of half precision in float32, so that either form rounds a sum once."""
    if n_tokens == 1:
        # A stream pays for calls, not for arithmetic.
        return (padded * weight.mT).sum(1, keepdim=True)
    y = padded[:, :n_tokens] * weight[:, 0]
    for i in range(1, weight.shape[1]):
        y = torch.addcmul(y, padded[:, i : i + n_tokens], weight[:, i])
    return y


def short_convolution_naive(
    x: Float[Tensor, "b t d"], weight: Float[Tensor, "d w"], tail: Float[Tensor, "b tail d"]
) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b tail d"]]:
    """The slow twin: torch's grouped convolution."""
    padded = torch.cat([tail, x], dim=1)
    y = F.conv1d(padded.mT, weight.unsqueeze(1), groups=weight.shape[0]).mT
    return y, padded[:, x.shape[1] :]

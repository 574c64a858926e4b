"""Causal convolution of every channel with a filter as long as the sequence.

    y_t = sum over l from 0 to L - 1 of filters[l] u_{t - l}

Source: the convolution theorem; overlap-save as in Oppenheim and Schafer, "Discrete-Time Signal Processing",
section 8.7.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mnemoscope.ops.precision import exact_read


@exact_read
def long_convolution(
    u: Float[Tensor, "b t d"], filters: Float[Tensor, "l d"], past: Float[Tensor, "b s d"]
) -> Float[Tensor, "b t d"]:
    """By fast Fourier transforms; equals `long_convolution_direct`.

    Args:
        u: new inputs.
        filters: one filter per channel, lag zero first.
        past: the inputs before u, oldest first; what lies before these is zero.

    Cost: O((s + t) log(s + t)) a channel. Half-precision inputs are computed in float32.
    """
    compute = torch.float64 if u.dtype == torch.float64 else torch.float32
    signal = torch.cat([past, u], dim=1).mT.to(compute)
    n_lags, n_past = min(filters.shape[0], signal.shape[2]), past.shape[1]
    # A circle wraps the end of the signal onto its first n_lags - 1 outputs, of which n_past are of no interest.
    size = fast_length(signal.shape[2] + max(n_lags - 1 - n_past, 0))
    product = torch.fft.rfft(signal, n=size) * torch.fft.rfft(filters[:n_lags].T.to(compute), n=size)
    return torch.fft.irfft(product, n=size)[..., n_past : signal.shape[2]].mT.to(u.dtype)


def long_convolution_direct(
    u: Float[Tensor, "b t d"], filters: Float[Tensor, "l d"], past: Float[Tensor, "b s d"]
) -> Float[Tensor, "b t d"]:
    """The slow twin: torch's grouped convolution, O(t l) a channel."""
    n_lags, n_past = filters.shape[0], past.shape[1]
    signal = F.pad(torch.cat([past, u], dim=1).mT, (n_lags - 1, 0))
    return F.conv1d(signal, filters.flip(0).T.unsqueeze(1), groups=u.shape[2]).mT[:, n_past:]


def fast_length(n: int) -> int:
    """The smallest number of at least n that is 1, 3, 5, 9 or 15 times a power of two: quick to transform."""
    return min(odd << max((-(-n // odd) - 1).bit_length(), 0) for odd in (1, 3, 5, 9, 15))

"""Parts that several memories share: the short convolution, the token shift and the scan, and sizes of states."""

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.ops.convolution import short_convolution
from mnemoscope.ops.kernels import Kernel
from mnemoscope.ops.precision import at_least_float32

NORM_EPSILON = 1e-6
"""Of every root mean square; torch's default follows the dtype, and with it the function would."""


class RmsNorm(nn.Module):
    """Root mean square over the last axis, as torch's module; under autocast in the dtype of its weight."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Scales of one."""
        nn.init.ones_(self.weight)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """Normalise; the result has the dtype of x."""
        return F.rms_norm(x.to(self.weight.dtype), self.weight.shape, self.weight, NORM_EPSILON).to(x.dtype)


class ShortConvolution(nn.Module):
    """Causal depth-wise convolution of `taps` tokens, without bias, drawn as torch draws one: uniform in ± taps^-1/2.

    Zero taps is the identity, so that a memory need not ask whether it has one.
    """

    def __init__(self, channels: int, taps: int) -> None:
        super().__init__()
        self.channels, self.taps = channels, taps
        # An even start is what lets a layer bind a token to the one before it; a start near the identity learnt recall
        # several times slower.
        kernel = torch.empty(channels, taps).uniform_(-(taps**-0.5), taps**-0.5) if taps else torch.zeros(channels, 0)
        self.weight = nn.Parameter(kernel)

    def init_tail(self, batch: int) -> Float[Tensor, "b tail d"]:
        """The inputs before the first token: zeros."""
        return self.weight.new_zeros(batch, max(self.taps - 1, 0), self.channels)

    def forward(
        self, x: Float[Tensor, "b t d"], tail: Float[Tensor, "b tail d"]
    ) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b tail d"]]:
        """Convolve; returns outputs and the new tail."""
        return short_convolution(x, self.weight, tail) if self.taps else (x, tail)


def asked(
    x: Float[Tensor, "b t d"],
    qkv: nn.Linear,
    convolution: ShortConvolution,
    tail: Float[Tensor, "b tail hk"],
    n_heads: int,
) -> tuple[Float[Tensor, "b t h k"], Float[Tensor, "b tail hk"]]:
    """The queries alone of a memory that makes queries, keys and values by one projection and one convolution.

    `tail` holds the last inputs of the queries' part of the convolution; returned is the new one.
    """
    width = tail.shape[2]
    q = F.linear(x, qkv.weight[:width])
    if convolution.taps:
        q, tail = short_convolution(q, convolution.weight[:width], tail)
    return rearrange(F.silu(q), "b t (h k) -> b t h k", h=n_heads), tail


class TokenShift(nn.Module):
    """The token before each, as RWKV blends it with the present one: two taps, without weights."""

    taps = 2

    def forward(
        self, x: Float[Tensor, "b t d"], tail: Float[Tensor, "b 1 d"]
    ) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b 1 d"]]:
        """Tokens one step earlier, the tail first, and the new tail."""
        return torch.cat([tail, x[:, :-1]], dim=1), x[:, -1:].clone()


class Scan(nn.Module):
    """The reads of all tokens; a module of its own, so that a replay can answer it from the record.

    Args:
        kernel: what is computed, in the two ways there are.
        key_channels: channels of a head's queries, which decide between the ways.
    """

    def __init__(self, kernel: Kernel, key_channels: int) -> None:
        super().__init__()
        self.kernel, self.key_channels = kernel, key_channels

    def forward(self, q: Tensor, *arguments: Any) -> tuple[Tensor, Any]:
        """Reads (b t h v) and the last state, for queries (b t h k) and what the kernel asks for."""
        return self.kernel(q, *arguments)

    def computed_by(self, like: Tensor) -> str:
        """Which way is taken for tensors of this device and dtype, and why our own where it is."""
        q = like.new_empty(0, self.key_channels)
        obstacle = self.kernel.obstacle(q)
        return f"torch ({obstacle})" if obstacle else self.kernel.path(q)


def empty_state(like: Tensor, *shape: int) -> Tensor:
    """Zeros for what is carried from token to token: as `like`, but in float32 at least."""
    return like.new_zeros(*shape, dtype=at_least_float32(like.dtype))


def state_bytes(like: Tensor, *, carried: int, shown: int = 0) -> int:
    """Bytes of a state beside weights such as `like`.

    Args:
        like: a weight.
        carried: numbers in float32 at least, since errors in them would add up.
        shown: numbers in the dtype of the weights: inputs that are kept as they are.
    """
    return carried * at_least_float32(like.dtype).itemsize + tensor_bytes(shown, like)


def tensor_bytes(n_values: int, like: Tensor) -> int:
    """Bytes of `n_values` numbers in the dtype of a tensor."""
    return n_values * like.element_size()


def require(condition: bool, where: str, required: str, got: object, fix: str) -> None:
    """Refuse a configuration with where, what was required, what was got and how to mend it."""
    if not condition:
        raise ValueError(f"{where} must be {required}, got {got}; {fix}")

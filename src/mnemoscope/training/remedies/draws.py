"""Random numbers of one step: the same however often, and in whatever order, the step is computed.

A forward pass may run again (a loss under other hooks, recomputed activations), and has to meet the same draws. So a
step takes one seed from torch's global generator, which checkpoints hold, and its draws come from that seed.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.training.remedies.treatment import RemedyConfig


class Draws:
    """The draws of one step."""

    def __init__(self) -> None:
        self._seed = 0

    def renew(self) -> None:
        """Begin a step: one number from torch's global generator."""
        self._seed = int(torch.randint(1 << 62, ()))

    def uniform(self, n: int, stream: int, device: torch.device | str = "cpu") -> Float[Tensor, "n"]:
        """Numbers in [0, 1), drawn on the CPU.

        Args:
            n: how many.
            stream: a number for each purpose; streams are independent.
            device: where to put them.
        """
        return torch.rand(n, generator=self._generator(stream, "cpu")).to(device)

    def normal_like(self, x: Tensor, stream: int) -> Tensor:
        """Standard normal numbers of the shape, dtype and device of x."""
        return torch.randn(x.shape, generator=self._generator(stream, x.device), dtype=x.dtype, device=x.device)

    def _generator(self, stream: int, device: torch.device | str) -> torch.Generator:
        return torch.Generator(device).manual_seed((self._seed + 0x9E3779B97F4A7C15 * stream) % (1 << 63))


def require_share(remedy: RemedyConfig) -> None:
    """Refuse strengths above 1 where they are probabilities or parts of a whole."""
    for name in ("strength", "final_strength"):
        value = getattr(remedy, name)
        if value is not None and value > 1:
            raise ValueError(f"{type(remedy).__name__}.{name}: must be in [0, 1], got {value}")

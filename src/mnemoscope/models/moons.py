"""The networks of the three moons: one contextual memory of bare projections, complex numbers all the way.

    k_t = W_k x_t      v_t = W_v x_{t+1}      y_t = W_z sum_{i < t} softmax_i(beta k_t . k_i) v_i

Six numbers a time step are three complex ones, and every 6 x 6 matrix is a 3 x 3 complex one: each block of two rows
and two columns is [[a, b], [-b, a]]. With one head the moons share a memory; with three, a memory has the width of a
moon. With identities for all three matrices the network foresees every moon as well as a memory can.

Source: Zhang et al. 2024, "Memory Mosaics" (arXiv 2405.06394), section 3; facebookresearch/MemoryMosaics, `ThreeMoons`.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mnemoscope.memories.contextual import Contextual, ContextualConfig
from mnemoscope.memories.parts import require

N_CHANNELS = 6
MATRICES = ("W_k", "W_v", "W_z")


@dataclass(frozen=True, kw_only=True)
class MoonsNetworkConfig:
    """A network for three moons.

    Args:
        n_heads: 1 or 3 are published.
        inverse_temperature: beta.
        is_complex: keep the matrices complex; else any 6 x 6 matrix is allowed.
    """

    n_heads: int = 3
    inverse_temperature: float = 50.0
    is_complex: bool = True

    def __post_init__(self) -> None:
        even = self.n_heads in (1, 3)
        require(even, "moons.n_heads", "1 or 3, so that no moon is cut in two", self.n_heads, "use 3")
        beta = self.inverse_temperature
        require(beta > 0, "moons.inverse_temperature", "positive", beta, "use 50")


class ComplexStructure(nn.Module):
    """A real matrix -> the nearest that is a complex one."""

    def forward(self, weight: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
        """Blocks [[a, b], [-b, a]], a the mean of a block's diagonal, b half the difference off it."""
        block = rearrange(weight, "(r x) (c y) -> x y r c", x=2, y=2)
        a, b = (block[0, 0] + block[1, 1]) / 2, (block[0, 1] - block[1, 0]) / 2
        return rearrange([a, b, -b, a], "(x y) r c -> (r x) (c y)", x=2)

    def right_inverse(self, weight: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
        """What gives a complex matrix: itself."""
        return weight


class MoonsNetwork(nn.Module):
    """Observations in, the next observations out; float32 (b, t, 6) both."""

    def __init__(self, config: MoonsNetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.memory = Contextual(
            ContextualConfig(
                n_heads=config.n_heads,
                keys="convolution",
                taps=0,
                normalise_keys=False,
                normalise_values=False,
                inverse_temperature=config.inverse_temperature,
                peek="next",
            ),
            N_CHANNELS,
        )
        for linear in self._linears():
            bound = N_CHANNELS**-0.5
            nn.init.uniform_(linear.weight, -bound, bound)
            if config.is_complex:
                parametrize.register_parametrization(linear, "weight", ComplexStructure())

    def forward(self, x: Float[Tensor, "b t c"]) -> Float[Tensor, "b t c"]:
        """What is foreseen after every observation; zeros after the first."""
        return self.memory(x)[0]

    def set_identity(self) -> "MoonsNetwork":
        """The analytic optimum, in place."""
        with torch.no_grad():
            for linear in self._linears():
                if self.config.is_complex:
                    linear.weight = torch.eye(N_CHANNELS)
                else:
                    linear.weight.copy_(torch.eye(N_CHANNELS))
        return self

    def matrices(self) -> dict[str, Complex[Tensor, "3 3"]]:
        """W_k, W_v and W_z as complex matrices; the part that is not complex is left out."""
        return {
            name: as_complex(linear.weight.detach()) for name, linear in zip(MATRICES, self._linears(), strict=True)
        }

    def _linears(self) -> list[nn.Linear]:
        keys = self.memory.keys
        return [keys.project, self.memory.value, self.memory.out]


def as_complex(weight: Float[Tensor, "rows columns"]) -> Complex[Tensor, "half_rows half_columns"]:
    """The complex matrix of blocks [[a, b], [-b, a]]: a + i b."""
    block = rearrange(weight, "(r x) (c y) -> x y r c", x=2, y=2)
    return torch.complex((block[0, 0] + block[1, 1]) / 2, (block[0, 1] - block[1, 0]) / 2)


def build_moons_network(config: MoonsNetworkConfig, seed: int) -> MoonsNetwork:
    """A network on the CPU with weights drawn from `seed`; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return MoonsNetwork(config)

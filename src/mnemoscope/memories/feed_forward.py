"""Feed-forward net as a persistent memory: what the slots of a bank hold, without a softmax over them.

    mlp       r_t = gelu(W_1 x_t)                       y_t = W_2 r_t
    swiglu    r_t = silu(W_g x_t) * (W_1 x_t)           y_t = W_2 r_t

Rows of W_1 are keys, columns of W_2 values, and r_t how much of each is read. There is no state.

Why: the baseline of the persistent memory: what the weights know, without any softmax over what is stored.

Known limits: it has no state, so every verdict on it is about the weights and none about the sequence.

Source: Zhang et al. 2024, "Memory Mosaics" (arXiv 2405.06394), whose persistent memory takes the place of the
feed-forward part; the gated form takes it back, Zhang, Bottou 2025 (arXiv 2507.03285); Shazeer 2020 (arXiv 2002.05202),
equation 6.
Differs: `width=None` gives as many weights as the persistent memory with matched slots has, 9 d^2.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from jaxtyping import Float
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.contracts import ReadPoint, Role
from mnemoscope.memories.key_extractors import projection
from mnemoscope.memories.parts import require


@dataclass(frozen=True, kw_only=True)
class FeedForwardConfig:
    """Feed-forward net.

    Args:
        form: "mlp" or "swiglu".
        width: channels of the inner layer; None for `matched_width`.
        bias: give every projection a bias.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["feed_forward"] = "feed_forward"
    form: Literal["mlp", "swiglu"] = "mlp"
    width: int | None = None
    bias: bool = False

    def __post_init__(self) -> None:
        require(
            self.width is None or self.width >= 1,
            "feed_forward.width",
            "at least 1, or None for as many weights as a persistent memory",
            self.width,
            "use None",
        )


class FeedForwardState(NamedTuple):
    """Empty: every token is on its own."""


class FeedForward(nn.Module):
    """Feed-forward net. Read points: `read` (b t m), `contribution` (b t d)."""

    role: Role = "memory"

    def __init__(self, config: FeedForwardConfig, d_model: int) -> None:
        super().__init__()
        self.config, self.d_model = config, d_model
        self.width = config.width or matched_width(config.form, d_model)
        self.inner = projection(d_model, self.width, config.bias)
        if config.form == "swiglu":
            self.gate = projection(d_model, self.width, config.bias)
        self.out = projection(self.width, d_model, config.bias)
        self.read = ReadPoint()
        self.contribution = ReadPoint()

    def init_state(self, batch: int) -> FeedForwardState:
        """Empty."""
        return FeedForwardState()

    def step(self, x: Float[Tensor, "b d"], state: FeedForwardState) -> tuple[Float[Tensor, "b d"], FeedForwardState]:
        """One token."""
        y, state = self.forward(x.unsqueeze(1), state)
        return y.squeeze(1), state

    def forward(
        self, x: Float[Tensor, "b t d"], state: FeedForwardState | None = None
    ) -> tuple[Float[Tensor, "b t d"], FeedForwardState]:
        """Every token on its own."""
        inner = self.inner(x)
        read = F.silu(self.gate(x)) * inner if self.config.form == "swiglu" else F.gelu(inner)
        return self.contribution(self.out(self.read(read))), FeedForwardState()

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """Nothing."""
        return 0

    def flops(self, batch: int, tokens: int) -> int:
        """Two or three projections."""
        n_projections = 3 if self.config.form == "swiglu" else 2
        return 2 * batch * tokens * n_projections * self.d_model * self.width


def matched_width(form: Literal["mlp", "swiglu"], d_model: int) -> int:
    """The width with 9 d^2 weights, as a persistent memory with 3.5 d slots a head has: 4.5 d, or 3 d when gated."""
    return max(1, round((3 if form == "swiglu" else 4.5) * d_model))

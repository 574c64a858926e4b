"""A workspace that settles under what several experts propose, every so many tokens, and that tokens then read.

    p_t = mean of what four experts propose at t, whatever their order
        attention      what causal attention reads, before an output projection
        state space    what a selective scan (Mamba) gives: it is written to token by token
        net            W_2 gelu(W_1 x_t): no memory at all
        periodic       W_p sin(omega t + phase): a prior of position alone
    z^0 = 0      z^{k+1} = (1 - step_size) z^k + step_size tanh(W' z^k + U p_t + bias), at t = C - 1, 2 C - 1, ...
    y_t = W_o z of the last of these tokens, t itself included; 0 before the first

All proposals are frozen inside the loop, so that it is the contraction of `ContractiveWorkspace`: the certificate q,
the stop rules and the gradients ("one_live" is K - 1 frozen steps and a live one) are those.

Why: to ask what a loop of many steps is worth, apart from the experts that feed it.

Known limits: from one update to the next the workspace starts anew, so that it carries nothing by itself: attention and
the scan do. With C > 1 a token does not see what the experts say of the tokens since the last update.

Source: a reconstruction of the inner loop of "v3" of the Parallax notes ("central workspace", experts of several kinds,
iterations for each context update, a thin motor decoder, a momentum that saturates); equations of this package, no code
of the source. Scan: Gu & Dao 2023 (arXiv 2312.00752); periodic prior: Sitzmann et al. 2020 (arXiv 2006.09661).
Differs: the notes also speak of strange attractors, which a contraction cannot have; the attention's query is made of
the token and not of the workspace; each expert has one proposal, and their mean pushes the loop.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.contracts import ReadPoint, Role
from mnemoscope.memories.mamba import Mamba, MambaConfig, MambaState
from mnemoscope.memories.parts import require, tensor_bytes
from mnemoscope.memories.raw_attention import RawAttention, RawAttentionState
from mnemoscope.memories.workspace import ContractiveWorkspaceConfig, Gradient, settle
from mnemoscope.ops.contraction import bounded_matrix, contraction_step

WAVELENGTHS = (4.0, 512.0)
"""Tokens of the shortest and the longest period of the periodic expert, at the start; log-spaced between them."""


@dataclass(frozen=True, kw_only=True)
class ExpertWorkspaceConfig:
    """A workspace of experts; what is not explained here is that of `ContractiveWorkspaceConfig`.

    Args:
        update_every: C, tokens from one update of the workspace to the next.
        n_iterations: K, the most steps of an update.
        stop: when it stops before.
        tolerance: of that.
        gradient: through all steps, through the last, or of the fixed point.
        n_products: of the last of these.
        rho: norm of the matrix in the loop at most.
        step_size: of a step.
        n_heads: heads of the attention expert.
        window: tokens it may look at; None for all.
        rotary: whether it rotates by position.
        expand: channels of the scan per unit of model width.
        d_state: entries of each channel's state.
        net_width: channels of the net's inner layer; None for the model width.
        n_waves: of the periodic expert.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["expert_workspace"] = "expert_workspace"
    update_every: int = 1
    n_iterations: int = 16
    stop: Literal["fixed", "residual", "saturation"] = "fixed"
    tolerance: float | None = None
    gradient: Gradient = "one_live"
    n_products: int = 30
    rho: float = 0.9
    step_size: float = 1.0
    n_heads: int = 4
    window: int | None = None
    rotary: bool = True
    expand: int = 1
    d_state: int = 8
    net_width: int | None = None
    n_waves: int = 16

    def __post_init__(self) -> None:
        where = "expert_workspace"
        require(self.update_every >= 1, f"{where}.update_every", "at least 1 token", self.update_every, "use 1")
        works = self.net_width is None or self.net_width >= 1
        require(works, f"{where}.net_width", "at least 1, or None for the model width", self.net_width, "use None")
        require(self.n_waves >= 1, f"{where}.n_waves", "at least 1", self.n_waves, "use 16")
        for part in ("loop", "scan"):
            getattr(self, part)

    @property
    def loop(self) -> ContractiveWorkspaceConfig:
        """The settings of the loop and of the attention that pushes it."""
        return ContractiveWorkspaceConfig(
            n_iterations=self.n_iterations,
            stop=self.stop,
            tolerance=self.tolerance,
            gradient=self.gradient,
            n_products=self.n_products,
            rho=self.rho,
            step_size=self.step_size,
            n_heads=self.n_heads,
            window=self.window,
            rotary=self.rotary,
        )

    @property
    def scan(self) -> MambaConfig:
        """The settings of the state-space expert."""
        return MambaConfig(expand=self.expand, d_state=self.d_state)


class ExpertWorkspaceState(NamedTuple):
    """What the experts carry, the workspace as it was left, and how many tokens were seen."""

    attention: RawAttentionState
    scan: MambaState
    z: Float[Tensor, "b d"]
    n_tokens: Int[Tensor, ""]


class ExpertWorkspace(nn.Module):
    """A workspace of experts. Read points: `read`, `contribution` (b t d), `addressing` (b h t t); those of `scan`."""

    role: Role = "memory"

    def __init__(self, config: ExpertWorkspaceConfig, d_model: int) -> None:
        super().__init__()
        self.config, self.d_model = config, d_model
        width, n = config.net_width or d_model, config.n_waves
        self.attention = RawAttention("expert_workspace", d_model, config.n_heads, config.window, config.rotary)
        self.scan = Mamba(config.scan, d_model)
        self.net_in, self.net_out = nn.Linear(d_model, width), nn.Linear(width, d_model)
        shortest, longest = (math.log2(tokens) for tokens in WAVELENGTHS)
        self.frequency = nn.Parameter(2 * math.pi / torch.logspace(shortest, longest, n, base=2))
        self.phase = nn.Parameter(2 * math.pi * torch.rand(n))
        self.wave = nn.Linear(n, d_model, bias=False)
        # As in `ContractiveWorkspace`: its direction is learned, rho is its norm.
        self.weight = nn.Parameter(torch.randn(d_model, d_model) * d_model**-0.5)
        self.push = nn.Linear(d_model, d_model)
        self.out = nn.Linear(d_model, d_model, bias=False)
        self.addressing = ReadPoint()
        self.read = ReadPoint()
        self.contribution = ReadPoint()

    def certificate(self) -> float:
        """q: every step of the loop shrinks the distance of any two states by this or more, whatever the weights."""
        return 1 - self.config.step_size * (1 - self.config.rho)

    def init_state(self, batch: int) -> ExpertWorkspaceState:
        """Nothing seen, nothing settled."""
        weight = self.out.weight
        n_tokens = torch.zeros((), dtype=torch.int64, device=weight.device)
        empty = weight.new_zeros(batch, self.d_model)
        return ExpertWorkspaceState(self.attention.init_state(batch), self.scan.init_state(batch), empty, n_tokens)

    def step(
        self, x: Float[Tensor, "b d"], state: ExpertWorkspaceState
    ) -> tuple[Float[Tensor, "b d"], ExpertWorkspaceState]:
        """Ask the experts, settle if it is time, read: one token."""
        y, state = self.forward(x.unsqueeze(1), state)
        return y.squeeze(1), state

    def forward(
        self, x: Float[Tensor, "b t d"], state: ExpertWorkspaceState | None = None
    ) -> tuple[Float[Tensor, "b t d"], ExpertWorkspaceState]:
        """All tokens at once; all updates settle side by side."""
        state = state or self.init_state(x.shape[0])
        proposed, attention, scan = self._proposed(x, state)
        n, every = int(state.n_tokens), self.config.update_every
        weight, drive = self._loop(proposed[:, every - 1 - n % every :: every])
        settled = settle(self.config.loop, weight, drive).to(x.dtype)
        updates = torch.cat([state.z.to(x.dtype).unsqueeze(1), settled], dim=1)
        latest = (torch.arange(n + 1, n + 1 + x.shape[1], device=x.device) // every) - n // every
        z = self.read(updates[:, latest])
        after = ExpertWorkspaceState(attention, scan, updates[:, -1].clone(), state.n_tokens + x.shape[1])
        return self.contribution(self.out(z)), after

    def inner_map(
        self, x: Float[Tensor, "b t d"], state: ExpertWorkspaceState | None = None
    ) -> Callable[[Float[Tensor, "b t d"]], Float[Tensor, "b t d"]]:
        """The map that a state is iterated under, were there an update at every token; for `ops.contraction`."""
        proposed, _, _ = self._proposed(x, state or self.init_state(x.shape[0]))
        weight, drive = self._loop(proposed)
        return lambda z: contraction_step(z, weight, drive.expand_as(z), self.config.step_size)

    def _proposed(
        self, x: Float[Tensor, "b t d"], state: ExpertWorkspaceState
    ) -> tuple[Float[Tensor, "b t d"], RawAttentionState, MambaState]:
        began = int(state.n_tokens) > 0
        looked, attention = self.attention(x, state.attention if began else None, self.addressing)
        # At the start without a state, so that the scan's own history can be cut like that of any memory.
        scanned, scan = self.scan(x, state.scan if began else None)
        net = self.net_out(F.gelu(self.net_in(x)))
        at = state.n_tokens + torch.arange(x.shape[1], device=x.device)
        periodic = self.wave((at.to(self.frequency).unsqueeze(-1) * self.frequency + self.phase).sin().to(x.dtype))
        return (looked + scanned + net + periodic) / 4, attention, scan

    def _loop(self, proposed: Float[Tensor, "b u d"]) -> tuple[Float[Tensor, "d d"], Float[Tensor, "b u d"]]:
        weight = bounded_matrix(self.weight, self.config.rho)
        return weight, self.push(proposed).to(weight.dtype)

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """What the experts carry, a workspace and a count."""
        own = tensor_bytes(batch * self.d_model, self.out.weight) + 8
        return own + self.attention.state_bytes(batch, tokens) + self.scan.state_bytes(batch, tokens)

    def flops(self, batch: int, tokens: int) -> int:
        """Experts, push and every step at each update, output projection."""
        d, width = self.d_model, self.net_in.out_features
        updates = tokens // self.config.update_every
        own = tokens * (2 * d * width + d * d) + updates * d * d * (1 + self.config.n_iterations)
        experts = self.attention.flops(batch, tokens) + self.scan.flops(batch, tokens)
        return experts + 2 * batch * own + 2 * tokens * self.config.n_waves * d

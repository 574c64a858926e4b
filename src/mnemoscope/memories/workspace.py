"""Contractive workspace: every token lets a state settle under a contraction that what attention reads pushes.

    p_t = what causal attention reads at t, before its output projection; frozen inside the loop
    z^0 = 0          z^{k+1} = (1 - step_size) z^k + step_size tanh(W' z^k + U p_t + bias)
    W' = rho W / max(1, sigma_max(W))          y_t = W_o z^K

The map shrinks distances by q = 1 - step_size (1 - rho) or more (`certificate`), so z^K is within
q^K / (1 - q) ||z^1 - z^0|| of the only fixed point z*, and z* changes with p_t by ||U|| / (1 - rho) at most.

Gradients, all with the same outputs, the last step always being live:
    "unroll"    through all steps
    "one_live"  through the last step alone: I in place of (I - J)^-1, relative error q / (1 - q) at most
    "implicit"  of the fixed point, by a series of `n_products` products with the Jacobian

Why: a loop that is sure to settle can be computed long without growing, and what it settles to can be measured.

Known limits: it carries nothing from token to token except what attention reads; the contraction bounds how far it
can move.

Source: a reconstruction of the inner loop of "v3" of the Parallax notes; equations of this package, no code of the
source. Fixed points: Banach 1922; Bai, Kolter, Koltun 2019 (arXiv 1909.01377).
Differs: the state starts from zero at every token, and the query is made of the token, since a query made of z would
change the map; sigma_max is exact and differentiated, where the notes iterate a power method in buffers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from pydantic import ConfigDict
from torch import Tensor, nn

from mnemoscope.contracts import ReadPoint, Role
from mnemoscope.memories.parts import require
from mnemoscope.memories.raw_attention import RawAttention, RawAttentionState, require_attention
from mnemoscope.ops.contraction import ImplicitStep, Stop, bounded_matrix, contraction_step, iterate

TOLERANCES = {"fixed": 0.0, "residual": 1e-3, "saturation": 0.02}
"""Of each stop rule where none is given."""

Gradient = Literal["unroll", "one_live", "implicit"]


@dataclass(frozen=True, kw_only=True)
class ContractiveWorkspaceConfig:
    """Contractive workspace.

    Args:
        n_iterations: K, the most steps a token takes; all are computed, those after a stop change nothing.
        stop: "fixed", all steps; "residual", until a step moves the state by less than `tolerance` of its length;
            "saturation", until the running average (0.9) of these moves changes by less than `tolerance` of itself
            twice in a row. Each token stops for itself, then takes the last step. A loop that shrinks its moves by
            more than a tenth a step never saturates.
        tolerance: of the stop rule; None for 0.001 ("residual") or 0.02 ("saturation").
        gradient: through all steps, through the last, or of the fixed point.
        n_products: products with the Jacobian in "implicit".
        rho: norm of the matrix in the loop at most, in (0, 1).
        step_size: how far a step goes towards its target, in (0, 1]; 1 for all the way.
        z_clocked: ask attention again with every state; refused, see the error.
        n_heads: heads of the attention; must divide the model width.
        window: tokens the attention may look at, the present one included; None for all.
        rotary: rotate queries and keys by position.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["workspace"] = "workspace"
    n_iterations: int = 16
    stop: Literal["fixed", "residual", "saturation"] = "fixed"
    tolerance: float | None = None
    gradient: Gradient = "unroll"
    n_products: int = 30
    rho: float = 0.9
    step_size: float = 1.0
    z_clocked: bool = False
    n_heads: int = 4
    window: int | None = None
    rotary: bool = True

    def __post_init__(self) -> None:
        where = "workspace"
        required = "at least 2, since the first step, from zero, does not use the matrix"
        require(self.n_iterations >= 2, f"{where}.n_iterations", required, self.n_iterations, "use 16")
        known = self.stop in TOLERANCES
        require(known, f"{where}.stop", f"one of {', '.join(TOLERANCES)}", self.stop, 'use "fixed"')
        require(
            self.tolerance is None or (self.tolerance > 0 and self.stop != "fixed"),
            f"{where}.tolerance",
            'positive, and None where stop="fixed"',
            self.tolerance,
            'use None or stop="residual"',
        )
        known = self.gradient in ("unroll", "one_live", "implicit")
        require(known, f"{where}.gradient", "one of unroll, one_live, implicit", self.gradient, 'use "unroll"')
        require(0 <= self.n_products <= 30, f"{where}.n_products", "between 0 and 30", self.n_products, "use 30")
        require(0 < self.rho < 1, f"{where}.rho", "between 0 and 1, both excluded", self.rho, "use 0.9")
        require(0 < self.step_size <= 1, f"{where}.step_size", "in (0, 1]", self.step_size, "use 1")
        require(
            not self.z_clocked,
            f"{where}.z_clocked",
            "off: a read p(z) changes with z by up to L = ||W_q|| ||K|| ||V|| / (2 sqrt(width)), which grows with "
            "the tokens in view, so no weights keep rho + ||U|| L < 1 for every sequence",
            self.z_clocked,
            "set z_clocked=False; ops.contraction.attention_lipschitz gives L for one sequence",
        )
        require_attention(where, self.n_heads, self.window)


class WorkspaceState(NamedTuple):
    """What attention may still look at; the workspace itself starts from zero at every token."""

    attention: RawAttentionState


class ContractiveWorkspace(nn.Module):
    """Contractive workspace. Read points: `read` (b t d), `contribution` (b t d), `addressing` (b h t t)."""

    role: Role = "memory"

    def __init__(self, config: ContractiveWorkspaceConfig, d_model: int) -> None:
        super().__init__()
        self.config, self.d_model = config, d_model
        self.attention = RawAttention("workspace", d_model, config.n_heads, config.window, config.rotary)
        # A square normal matrix of this size has a norm of two: it is its direction that is learned, rho is its norm.
        self.weight = nn.Parameter(torch.randn(d_model, d_model) * d_model**-0.5)
        self.push = nn.Linear(d_model, d_model)
        self.out = nn.Linear(d_model, d_model, bias=False)
        self.addressing = ReadPoint()
        self.read = ReadPoint()
        self.contribution = ReadPoint()

    def certificate(self) -> float:
        """q: every step of the loop shrinks the distance of any two states by this or more, whatever the weights."""
        return 1 - self.config.step_size * (1 - self.config.rho)

    def init_state(self, batch: int) -> WorkspaceState:
        """Nothing seen."""
        return WorkspaceState(self.attention.init_state(batch))

    def step(self, x: Float[Tensor, "b d"], state: WorkspaceState) -> tuple[Float[Tensor, "b d"], WorkspaceState]:
        """Look back, settle: one token."""
        y, state = self.forward(x.unsqueeze(1), state)
        return y.squeeze(1), state

    def forward(
        self, x: Float[Tensor, "b t d"], state: WorkspaceState | None = None
    ) -> tuple[Float[Tensor, "b t d"], WorkspaceState]:
        """All tokens settle side by side, each for itself."""
        p, attention = self.attention(x, state and state.attention, self.addressing)
        z = settle(self.config, *self._loop(p)).to(x.dtype)
        return self.contribution(self.out(self.read(z))), WorkspaceState(attention)

    def inner_map(
        self, x: Float[Tensor, "b t d"], state: WorkspaceState | None = None
    ) -> Callable[[Float[Tensor, "b t d"]], Float[Tensor, "b t d"]]:
        """The map that every token's state is iterated under, for the instruments of `ops.contraction`."""
        p, _ = self.attention(x, state and state.attention, self.addressing)
        weight, drive = self._loop(p)
        return lambda z: contraction_step(z, weight, drive.expand_as(z), self.config.step_size)

    def _loop(self, p: Float[Tensor, "b t d"]) -> tuple[Float[Tensor, "d d"], Float[Tensor, "b t d"]]:
        weight = bounded_matrix(self.weight, self.config.rho)
        return weight, self.push(p).to(weight.dtype)

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """The keys and values of the attention."""
        return self.attention.state_bytes(batch, tokens)

    def flops(self, batch: int, tokens: int) -> int:
        """Attention, push, every step and the output projection."""
        return self.attention.flops(batch, tokens) + 2 * batch * tokens * self.d_model**2 * (
            self.config.n_iterations + 2
        )


def settle(
    config: ContractiveWorkspaceConfig, weight: Float[Tensor, "d d"], drive: Float[Tensor, "*b d"]
) -> Float[Tensor, "*b d"]:
    """Where every token's state is after its last step, which is live, with the gradient that the settings name.

    Args:
        config: steps, stop and gradient.
        weight: matrix of the loop, bounded already.
        drive: what pushes it.
    """
    tolerance = TOLERANCES[config.stop] if config.tolerance is None else config.tolerance
    stop = Stop(config.stop, tolerance, config.n_iterations - 1)
    if config.gradient == "unroll":
        z = iterate(weight, drive, config.step_size, stop)
    else:
        with torch.no_grad():
            z = iterate(weight, drive, config.step_size, stop)
    if config.gradient == "implicit":
        return ImplicitStep.apply(z, weight, drive, config.step_size, config.n_products)
    return contraction_step(z, weight, drive, config.step_size)

"""A feed-forward layer split into experts, each token sent to a few of them.

    p_t = softmax(W_r x_t)      y_t = sum over chosen e of p_te E_e(x_t)      E_e(x) = W2_e gelu(W1_e x)

    token_choice    token t chooses the K experts with the largest p_te + bias_e
    expert_choice   expert e takes token t of a chunk of C tokens if p_te >= threshold_e and it has taken fewer than
                    ceil(C K / E) of the chunk; threshold_e is the ceil(C K / E)-th largest p_e of the chunk before, and
                    1 / E in the first

The bias, which balances the loads, is changed by `rebalance` alone: bias_e <- bias_e + rate sign(mean load - load_e).

Why: capacity that is chosen by token, to be told apart from memory: routing looks like addressing.

Known limits: it remembers nothing of the sequence; without balance a few experts take all tokens.

Source: Shazeer et al. 2017 (arXiv 1701.06538), and without noise Fedus, Zoph, Shazeer 2021 (arXiv 2101.03961); balance
without a loss, Wang et al. 2024 (arXiv 2408.15664), section 3; expert choice, Zhou et al. 2022 (arXiv 2202.09368).
Differs: a token's weights are those of the whole softmax, not scaled to sum to one over the chosen. Expert choice of
the source picks the best tokens of a whole batch, later ones included; here the chunk before decides what is asked, and
an expert that has its share lets the rest of the chunk pass.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.contracts import ReadPoint, Role
from mnemoscope.memories.parts import require, tensor_bytes
from mnemoscope.ops.experts import expert_block_rows, expert_picks, expert_rows

BALANCE_RATE = 1e-3
"""Of the source: what one step adds to a bias or takes from it."""

CHUNK_TOKENS = 64
"""Tokens among which an expert has its share, unless the configuration says otherwise."""


@dataclass(frozen=True, kw_only=True)
class ExpertsConfig:
    """Mixture of experts.

    Args:
        n_experts: E, feed-forward nets.
        experts_per_token: K, experts a token is sent to; under "expert_choice", on average.
        width: channels of an expert's inner layer; None for 4 d_model / experts_per_token.
        routing: who chooses, "token_choice" or "expert_choice".
        balanced: add a bias per expert to what "token_choice" ranks, for `rebalance`.
        balance_rate: what one `rebalance` adds to a bias or takes from it; None for 0.001.
        chunk_tokens: C, tokens among which an expert has its share under "expert_choice"; None for 64.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["experts"] = "experts"
    n_experts: int = 8
    experts_per_token: int = 2
    width: int | None = None
    routing: Literal["token_choice", "expert_choice"] = "token_choice"
    balanced: bool = False
    balance_rate: float | None = None
    chunk_tokens: int | None = None

    def __post_init__(self) -> None:
        where, by_token = "experts", self.routing == "token_choice"
        known = self.routing in ("token_choice", "expert_choice")
        names = 'one of "token_choice", "expert_choice"'
        require(known, f"{where}.routing", names, self.routing, 'use "token_choice"')
        require(self.n_experts >= 1, f"{where}.n_experts", "at least 1", self.n_experts, "use 1 for a single net")
        n_chosen, limit = self.experts_per_token, f"from 1 to n_experts={self.n_experts}"
        require(1 <= n_chosen <= self.n_experts, f"{where}.experts_per_token", limit, n_chosen, "use 1")
        works = self.width is None or self.width >= 1
        require(
            works, f"{where}.width", "at least 1, or None for 4 d_model / experts_per_token", self.width, "use None"
        )
        works = by_token or not self.balanced
        fix = 'set routing="token_choice"'
        require(works, f"{where}.balanced", 'off with routing="expert_choice", balanced as it is', self.balanced, fix)
        rate = self.balance_rate
        works = rate is None or (self.balanced and 0 < rate < math.inf)
        require(works, f"{where}.balance_rate", "None, or positive and finite with balanced=True", rate, "use None")
        works = self.chunk_tokens is None or (not by_token and self.chunk_tokens >= 1)
        rule = 'None, or at least 1 with routing="expert_choice"'
        require(works, f"{where}.chunk_tokens", rule, self.chunk_tokens, "use None")


class ExpertsState(NamedTuple):
    """What "expert_choice" must know: thresholds, and scores of the open chunk. Without entries under "token_choice".

    Both carry no gradient: they decide what is chosen, and the choice has none.
    """

    threshold: Float[Tensor, "b e"]
    scores: Float[Tensor, "b s e"]


class Experts(nn.Module):
    """Mixture of experts. Read points: `addressing` (b t e), before the choice; `read` and `contribution` (b t d)."""

    role: Role = "memory"

    def __init__(self, config: ExpertsConfig, d_model: int) -> None:
        super().__init__()
        e = config.n_experts
        self.config, self.d_model = config, d_model
        self.width = config.width or max(1, 4 * d_model // config.experts_per_token)
        self.chunk_tokens = config.chunk_tokens or CHUNK_TOKENS
        self.capacity = -(-self.chunk_tokens * config.experts_per_token // e)
        self.router = nn.Linear(d_model, e, bias=False)
        self.inner = nn.Parameter(torch.randn(e, d_model, self.width) * d_model**-0.5)
        self.outer = nn.Parameter(torch.randn(e, self.width, d_model) * self.width**-0.5)
        if config.balanced:
            self.bias = nn.Parameter(torch.zeros(e), requires_grad=False)
        self.addressing = ReadPoint()
        self.read = ReadPoint()
        self.contribution = ReadPoint()

    def init_state(self, batch: int) -> ExpertsState:
        """Thresholds of an even share, and no open chunk."""
        e = self.config.n_experts if self.config.routing == "expert_choice" else 0
        threshold = self.router.weight.new_full((batch, e), 1 / self.config.n_experts)
        return ExpertsState(threshold, threshold.new_zeros(batch, 0, e))

    def step(self, x: Float[Tensor, "b d"], state: ExpertsState) -> tuple[Float[Tensor, "b d"], ExpertsState]:
        """One token."""
        y, state = self.forward(x.unsqueeze(1), state)
        return y.squeeze(1), state

    def forward(
        self, x: Float[Tensor, "b t d"], state: ExpertsState | None = None
    ) -> tuple[Float[Tensor, "b t d"], ExpertsState]:
        """All tokens together, brought together by expert."""
        state = state or self.init_state(x.shape[0])
        scores = self._scores(x)
        if self.config.routing == "token_choice":
            read = self._read_by_token(x, scores)
        else:
            taken, next_state = self._taken(scores.detach(), state)
            read = self._read_by_expert(x, scores, taken, n_before=state.scores.shape[1])
            state = next_state
        return self.contribution(self.read(read)), state

    @torch.no_grad()
    def load(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "e"]:
        """Share of the tokens of x, from the start of a sequence on, that each expert is given; sums to about K."""
        scores = self._scores(x)
        if self.config.routing == "token_choice":
            given = F.one_hot(self._chosen(scores), self.config.n_experts).sum(2)
        else:
            given = self._taken(scores, self.init_state(x.shape[0]))[0].flatten(1, 2)[:, : x.shape[1]]
        return given.to(scores.dtype).mean((0, 1))

    @torch.no_grad()
    def rebalance(self, load: Float[Tensor, "e"], rate: float | None = None) -> None:
        """Move every bias by one rate, `balance_rate` if None: up where the load is below its mean, down if above."""
        require(self.config.balanced, "experts: rebalance", "asked of balanced=True only", False, "set balanced=True")
        rate = self.config.balance_rate or BALANCE_RATE if rate is None else rate
        self.bias += rate * (load.mean() - load).sign()

    def _scores(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t e"]:
        compute = torch.float64 if x.dtype == torch.float64 else torch.float32
        return self.addressing(self.router(x).softmax(-1, compute).to(x.dtype))

    def _chosen(self, scores: Float[Tensor, "b t e"]) -> Int[Tensor, "b t k"]:
        ranked = scores.detach() + self.bias if self.config.balanced else scores.detach()
        return ranked.topk(self.config.experts_per_token, dim=-1).indices

    def _read_by_token(self, x: Float[Tensor, "b t d"], scores: Float[Tensor, "b t e"]) -> Float[Tensor, "b t d"]:
        chosen = self._chosen(scores)
        pairs = x.unsqueeze(2).expand(*chosen.shape, -1)
        y = expert_rows(pairs.flatten(0, 2), chosen.flatten(), self.inner, self.outer)
        return (y.view_as(pairs) * scores.gather(-1, chosen).unsqueeze(-1)).sum(2)

    def _taken(
        self, scores: Float[Tensor, "b t e"], state: ExpertsState
    ) -> tuple[Bool[Tensor, "b n c e"], ExpertsState]:
        """Who takes which token of the open chunk and of those that the tokens add, and the state after them."""
        c, scores = self.chunk_tokens, torch.cat([state.scores, scores], dim=1)
        n_full = scores.shape[1] // c
        chunks = self._chunks(scores, value=-1)
        asked = chunks[:, :n_full].topk(self.capacity, dim=2).values[:, :, -1]
        threshold = torch.cat([state.threshold.unsqueeze(1), asked], dim=1)
        taken = chunks >= threshold[:, : chunks.shape[1]].unsqueeze(2)
        taken = taken & (taken.cumsum(2) <= self.capacity)
        return taken, ExpertsState(threshold[:, n_full].clone(), scores[:, n_full * c :].clone())

    def _read_by_expert(
        self, x: Float[Tensor, "b t d"], scores: Float[Tensor, "b t e"], taken: Bool[Tensor, "b n c e"], n_before: int
    ) -> Float[Tensor, "b t d"]:
        """Tokens before x in the open chunk have been read; they only count towards an expert's share."""
        n_tokens, c = x.shape[1], self.chunk_tokens
        is_new = torch.arange(taken.shape[1] * c, device=x.device).view(-1, c, 1) >= n_before
        groups, weight = (self._chunks(part, n_before).flatten(0, 1) for part in (x, scores))
        n_picked = min(self.capacity, n_tokens)
        y = expert_picks(groups, weight, (taken & is_new).flatten(0, 1), n_picked, self.inner, self.outer)
        return y.view(x.shape[0], -1, x.shape[2])[:, n_before : n_before + n_tokens]

    def _chunks(self, x: Float[Tensor, "b t d"], n_before: int = 0, value: float = 0) -> Float[Tensor, "b n c d"]:
        """Time in chunks, of which the first begins `n_before` tokens earlier; filled up with one value."""
        gap = -(n_before + x.shape[1]) % self.chunk_tokens
        return F.pad(x, (0, 0, n_before, gap), value=value).unflatten(1, (-1, self.chunk_tokens))

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """Under "expert_choice", thresholds and the scores of the open chunk."""
        n_rows = 1 + tokens % self.chunk_tokens if self.config.routing == "expert_choice" else 0
        return tensor_bytes(batch * n_rows * self.config.n_experts, self.router.weight)

    def flops(self, batch: int, tokens: int) -> int:
        """The router, and both layers for every row that is multiplied, whether it is needed or not."""
        e, d = self.config.n_experts, self.d_model
        if self.config.routing == "token_choice":
            n_rows = expert_block_rows(batch * tokens * self.config.experts_per_token, e)
        else:
            n_rows = batch * -(-tokens // self.chunk_tokens) * e * min(self.capacity, tokens)
        return 2 * d * (batch * tokens * e + 2 * n_rows * self.width)

"""Loss-free balancing: slots or experts that are asked too seldom get a bonus in the ranking, and nothing else (R4).

What it does: of every token, the K slots with the largest score + bias are chosen, and weighed by their scores without
the bias. After every step, bias_i <- bias_i + strength sign(mean load - load_i); the load of a slot is the share of the
step's tokens that chose it. No gradient goes into or through a bias. Memories of ours that are made for it, `slots`
with routing="loss_free" and `experts` with balanced=True, are balanced by their own `rebalance`. Of any other module,
the tensor named by `sites` is taken for the scores, slots along its last axis: those that are not chosen become 0
("shares") or minus infinity ("logits"), so that a top-K or a softmax behind it sees no other, and no bias.
`final_strength=0` freezes the biases at the end. Logged: `max_violation`, the largest load over the mean load, less 1,
and `dead_share`, the share of slots with less than a tenth of the mean load; means over the places.

Why: a slot that is never chosen gets no gradient and stays unchosen, and a loss that evens the loads pulls at the task.

Published effect: perplexity 9.56 -> 9.50 and violation 0.72 -> 0.04 with 1B parameters, 7.97 -> 7.92 and 0.52 -> 0.04
with 3B, against an auxiliary loss (arXiv 2408.15664; recalled, not read again).

Known problems: even loads say nothing about use: a decorative memory stays decorative, evenly. The rate is in units of
the scores: 0.001 suits shares in (0, 1), not logits. The biases of a foreign module are the treatment's: evaluation,
and the model after `detach`, rank without them. Those of our memories are weights of the model and stay.

Example: `LossFreeBalancing()`, or `LossFreeBalancing(sites=("model.layers.*.router",), scores="logits", n_chosen=2)`.

Source: Wang et al. 2024 (arXiv 2408.15664), section 3; decorative-memory specification, R4 and D10.
Differs: a place by its path is masked to the choice, because what its scores weigh cannot be told from what they rank.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemoscope.memories import Experts, SlotMemory
from mnemoscope.training.remedies.places import Place, find_places
from mnemoscope.training.remedies.treatment import Computed, RemedyConfig, Treatment

DEAD = 0.1
"""A slot with less than this part of the mean load is dead."""


@dataclass(frozen=True, kw_only=True)
class LossFreeBalancing(RemedyConfig):
    """Settings; `strength` is u, what one step adds to a bias or takes from it, in units of the scores.

    Args:
        scores: of modules named by path: "logits" before a softmax, or "shares" that are used as they are.
        n_chosen: K of those modules.
        n_slots: of those modules; None reads it from a `Linear` layer.
    """

    kind: Literal["loss_free_balancing"] = "loss_free_balancing"
    strength: float = 1e-3
    scores: Literal["logits", "shares"] = "logits"
    n_chosen: int = 1
    n_slots: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_chosen < 1 or (self.n_slots is not None and self.n_slots < self.n_chosen):
            raise ValueError(
                f"LossFreeBalancing.n_chosen: must be at least 1 and at most n_slots={self.n_slots}, "
                f"got {self.n_chosen}; use 1"
            )

    def attach(self, model: nn.Module) -> "LossFreeBalancingTreatment":
        """On every routed memory that has a bias, or on the modules named."""
        return LossFreeBalancingTreatment(self, model)


class RankedScores(nn.Module):
    """Scores of a foreign module, of which only the chosen are left.

    Args:
        n_slots: m, along the last axis.
        n_chosen: K.
        refused: what takes the place of the others.
    """

    bias: Tensor

    def __init__(self, n_slots: int, n_chosen: int, refused: float) -> None:
        super().__init__()
        self.n_chosen, self.refused = n_chosen, refused
        self.register_buffer("bias", torch.zeros(n_slots))

    def forward(self, scores: Float[Tensor, "*b m"]) -> tuple[Float[Tensor, "*b m"], Float[Tensor, "m"]]:
        """The scores that are left, and the load of every slot."""
        if scores.shape[-1] != len(self.bias):
            raise ValueError(
                f"loss_free_balancing: scores must have n_slots={len(self.bias)} along the last axis, got shape "
                f"{tuple(scores.shape)}; set n_slots={scores.shape[-1]}"
            )
        ranked = scores.detach().to(self.bias.dtype) + self.bias
        chosen = ranked.topk(self.n_chosen, dim=-1).indices
        kept = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, chosen, True)
        load = kept.flatten(0, -2).to(self.bias.dtype).mean(0)
        return torch.where(kept, scores, torch.full_like(scores, self.refused)), load

    @torch.no_grad()
    def rebalance(self, load: Float[Tensor, "m"], rate: float) -> None:
        """Move every bias by one rate: up where the load is below the mean, down where above."""
        self.bias += rate * (load.mean() - load).sign()


class LossFreeBalancingTreatment(Treatment):
    """Biases of foreign modules, and the loads of the present step, by place."""

    def __init__(self, remedy: LossFreeBalancing, model: nn.Module) -> None:
        super().__init__(remedy)
        self.ranked = nn.ModuleList()
        self._loads: list[list[Tensor]] = []
        self._rebalance: list[Callable[[Tensor, float], None]] = []
        self._last: tuple[Tensor, ...] = ()
        self._biased = False
        for place in _places(remedy, model):
            if isinstance(place.module, SlotMemory | Experts):
                self._balance_own(place.path, place.module)
            else:
                self._balance_foreign(place, remedy)

    def on_step(self, step: int, steps: int) -> None:
        """Loads are those of one step; biases that have moved act even when they are frozen."""
        super().on_step(step, steps)
        self._biased = self.strength > 0 or any(bool(buffer.any()) for buffer in self.buffers())
        for loads in self._loads:
            loads.clear()

    def after_step(self, computed: Computed) -> None:
        """Every bias moves by one rate; a model that was called several times has the mean load of the calls."""
        called = [place for place, loads in enumerate(self._loads) if loads]
        self._last = tuple(torch.stack(self._loads[place]).mean(0) for place in called)
        if self.strength > 0:
            for place, load in zip(called, self._last, strict=True):
                self._rebalance[place](load, self.strength)

    def figures(self) -> dict[str, float]:
        """Of the last step, beside the strength."""
        if not self._last:
            return super().figures()
        return super().figures() | {
            "max_violation": sum(map(max_violation, self._last)) / len(self._last),
            "dead_share": sum(map(dead_share, self._last)) / len(self._last),
        }

    def _balance_own(self, path: str, memory: SlotMemory | Experts) -> None:
        _require_bias(path, memory)
        loads = self._add(memory.rebalance)

        def count(module: nn.Module, arguments: tuple[Any, ...]) -> None:
            if module.training:
                loads.append(memory.load(arguments[0]))

        self.on_detach(memory.register_forward_pre_hook(count))

    def _balance_foreign(self, place: Place, remedy: LossFreeBalancing) -> None:
        refused = 0.0 if remedy.scores == "shares" else -math.inf
        ranked = RankedScores(_n_slots(place, remedy), remedy.n_chosen, refused)
        self.ranked.append(ranked)
        loads = self._add(ranked.rebalance)

        def choose(scores: Tensor) -> Tensor:
            left, load = ranked(scores)
            loads.append(load)
            return left if self._biased else scores

        self.on_detach(place.change(choose))

    def _add(self, rebalance: Callable[[Tensor, float], None]) -> list[Tensor]:
        loads: list[Tensor] = []
        self._loads.append(loads)
        self._rebalance.append(rebalance)
        return loads


def max_violation(load: Float[Tensor, "m"]) -> float:
    """MaxVio: the largest load over the mean load, less 1; 0 where loads are even."""
    return float(load.max() / load.mean() - 1)


def dead_share(load: Float[Tensor, "m"]) -> float:
    """The share of slots with less than a tenth of the mean load."""
    return float((load < DEAD * load.mean()).to(load.dtype).mean())


def _places(remedy: LossFreeBalancing, model: nn.Module) -> list[Place]:
    if remedy.sites:
        return list(find_places(model, remedy.sites, "memory", ""))
    own = [Place(path=path, module=module) for path, module in model.named_modules() if _has_bias(module)]
    if not own:
        raise ValueError(
            "loss_free_balancing: the model has no routed memory with a bias; build it with "
            'slots(routing="loss_free") or experts(balanced=True), or name what gives the scores: sites=("...router",)'
        )
    return own


def _has_bias(module: nn.Module) -> bool:
    if isinstance(module, SlotMemory):
        return module.config.routing == "loss_free"
    return isinstance(module, Experts) and module.config.balanced


def _require_bias(path: str, memory: SlotMemory | Experts) -> None:
    if not _has_bias(memory):
        raise ValueError(
            f"loss_free_balancing: {path} must have a bias, got {memory.config}; "
            'build it with routing="loss_free" (slots) or balanced=True (experts), or name its router'
        )


def _n_slots(place: Place, remedy: LossFreeBalancing) -> int:
    found = place.module.out_features if isinstance(place.module, nn.Linear) else None
    n_slots = remedy.n_slots or found
    if n_slots is None or n_slots < remedy.n_chosen:
        raise ValueError(
            f"loss_free_balancing: {place.path}, a {type(place.module).__name__}, must have at least "
            f"n_chosen={remedy.n_chosen} slots, got n_slots={n_slots}; set n_slots to the size of its last axis"
        )
    return n_slots

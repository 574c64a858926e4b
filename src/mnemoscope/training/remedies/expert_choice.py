"""Expert choice: slots choose their tokens, so that every slot is used, in a form that does not see the future (R3).

What it does: each slot takes c = ceil(K C / m) tokens of every chunk of C, m slots, K of them per token on average;
what it does not take is not written there (its share becomes 0). Three kinds of place:

    slots(routing="softmax")     writes wait until their chunk is over, as with routing="expert_choice": within a chunk,
                                 the slots of its start are read
    `sites`, the default         a module that gives shares (b, t, m) which are used at once: a slot takes a token by
                                 the threshold of the chunk before (its c-th largest score there), c at most
    `sites`, delayed=True        a module whose shares are used when the chunk of `chunk_tokens` is over, as by memories
                                 that write in chunks: each slot takes its c best of the chunk itself

Why: a slot that no token chooses is never trained; with the slots choosing, loads are even by design.

Why not as published: the choice there ranks all tokens of a batch, so that what a token gets depends on later tokens.
A model trained that way has seen its targets, and cannot generate. With delayed=True this holds within a chunk if the
module does use a write before its chunk is over: then do not set it.

Published effect: more than twice the convergence speed of token choice in mixtures of experts (arXiv 2202.09368;
recalled, not read again); none for memories.

Known problems: it acts in training only, and a memory that was written by choice is evaluated without: let it fade out
with `final_strength=0`, or build the memory with routing="expert_choice". A token that no slot takes is not stored.
Even loads are not use.

Example: `ExpertChoice(final_strength=0.0)`, or `ExpertChoice(sites=("layers.*.router",), slots_per_token=2)`.

Source: Zhou et al. 2022 (arXiv 2202.09368), section 3; decorative-memory specification, R3.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemoscope.memories import SlotMemory
from mnemoscope.ops.expert_choice import chosen_ahead, chosen_within, chunk_capacity
from mnemoscope.training.remedies.attributes import other_in_training
from mnemoscope.training.remedies.places import Place, find_places
from mnemoscope.training.remedies.treatment import RemedyConfig, Treatment


@dataclass(frozen=True, kw_only=True)
class ExpertChoice(RemedyConfig):
    """Settings; `strength` is the probability that a training step is under expert choice, in [0, 1].

    Args:
        chunk_tokens: C, tokens among which a slot has its share.
        slots_per_token: K, slots of a token on average, positive.
        delayed: that the modules named use their shares only when a chunk is over.
    """

    kind: Literal["expert_choice"] = "expert_choice"
    chunk_tokens: int = 16
    slots_per_token: float = 1.0
    delayed: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("strength", "final_strength"):
            value = getattr(self, name)
            if value is not None and value > 1:
                raise ValueError(f"ExpertChoice.{name}: is a probability, in [0, 1], got {value}")
        for name, least in (("chunk_tokens", 1), ("slots_per_token", 1e-3)):
            if getattr(self, name) < least:
                raise ValueError(f"ExpertChoice.{name}: must be at least {least}, got {getattr(self, name)}")

    def attach(self, model: nn.Module) -> "ExpertChoiceTreatment":
        """On every slot memory whose routing is "softmax", or on the modules named."""
        return ExpertChoiceTreatment(self, model)


class ExpertChoiceTreatment(Treatment):
    """Steps that are drawn; in these, masks (b, t, m) on shares, or writes that wait for the end of their chunk."""

    def __init__(self, remedy: ExpertChoice, model: nn.Module) -> None:
        super().__init__(remedy)
        self.chunk_tokens, self.delayed = remedy.chunk_tokens, remedy.delayed
        self.slots_per_token = remedy.slots_per_token
        self.drawn = False
        """Whether the present step is under expert choice."""
        for place in _places(remedy, model):
            if isinstance(place.module, SlotMemory):
                self._delay(place.path, place.module)
            else:
                self.on_detach(place.change(self._choose))

    def on_step(self, step: int, steps: int) -> None:
        """Draws, unless the strength leaves no doubt."""
        super().on_step(step, steps)
        self.drawn = self.strength == 1 or (self.strength > 0 and bool(torch.rand(()) < self.strength))

    def figures(self) -> dict[str, float]:
        """Whether the last step was under expert choice, beside the strength."""
        return super().figures() | {"drawn": float(self.drawn)}

    def _choose(self, shares: Float[Tensor, "b t m"]) -> Float[Tensor, "b t m"]:
        if shares.ndim != 3:
            raise ValueError(
                f"expert_choice: shares must have three axes, batch, time and slots, got {tuple(shares.shape)}; "
                "name the module that gives them, or their part of its output as path::part"
            )
        if not self.drawn:
            return shares
        n_slots = shares.shape[-1]
        capacity = chunk_capacity(self.chunk_tokens, n_slots, self.slots_per_token)
        if self.delayed:
            taken = chosen_within(shares, self.chunk_tokens, capacity)
        else:
            taken = chosen_ahead(shares, self.chunk_tokens, capacity, threshold=1 / n_slots)
        return torch.where(taken, shares, torch.zeros_like(shares))

    def _delay(self, path: str, memory: SlotMemory) -> None:
        if memory.config.routing != "softmax":
            raise ValueError(
                f'expert_choice: {path} must have routing="softmax", got {memory.config.routing!r}, which routes '
                "already; leave the remedy out"
            )
        capacity = chunk_capacity(self.chunk_tokens, memory.config.n_slots, self.slots_per_token)
        chunked = {"in_chunks": True, "chunk_tokens": self.chunk_tokens, "capacity": capacity}
        for handle in other_in_training(memory, memory, chunked, lambda: self.drawn):
            self.on_detach(handle)


def _places(remedy: ExpertChoice, model: nn.Module) -> list[Place]:
    if remedy.sites:
        return list(find_places(model, remedy.sites, "memory", ""))
    slots = [(path, module) for path, module in model.named_modules() if isinstance(module, SlotMemory)]
    if not slots:
        raise ValueError(
            "expert_choice: the model has no slot memory; build it with slots(), or name the modules that give "
            'shares of slots (b, t, m): sites=("layers.*.router",)'
        )
    return [Place(path=path, module=module) for path, module in slots]

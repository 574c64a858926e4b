"""Necessity margin: the task must cost at least a margin more without the memory (R16). Research: no published effect.

What it does: every step, the batch is run once more with what each memory reads replaced by a running mean of its
reads, one constant vector per memory, without gradient. With L the task's loss and L_c the loss of that pass,

    strength * max(0, m - (L_c - L)),    m = margin * headroom

is added to the loss: below the margin the memory is made to carry more, and everything else to carry less; above it,
nothing happens. Gradients go through both passes. All memories are replaced together, in one pass.

Why: what the examination measures as necessity, asked for in training. The constant is what a collapsed memory could
still give, so that a memory that is worth only a constant does not satisfy it.

Published effect: none. A proposal of the specification, labelled as research; judge it by a trial.

Known problems: the margin can be met by making the model worse without its memory (unlearning what attention did, or
answering confidently wrong at the constant) and no better with it: the base loss must not be inferior, and the gain
must show where memory is demanded. It never resamples reads from other sequences: a model trained against those
learns to break on foreign reads, not to use its own. Of several memories it says nothing of each. It costs one more
forward and backward pass.

Example: `NecessityMargin()`, `NecessityMargin(headroom=3.47, sites=("layers.*.linear_attn",))`.

Source: decorative-memory specification, R16; custom.
"""

import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemoscope.training.remedies.places import Place, find_places
from mnemoscope.training.remedies.treatment import Computed, RemedyConfig, Treatment


@dataclass(frozen=True, kw_only=True)
class NecessityMargin(RemedyConfig):
    """Settings; `strength` is the weight of the loss.

    Args:
        margin: least cost of a constant memory, as a part of the headroom, positive.
        headroom: what all memory and its alternatives are worth, in units of the loss, positive; None for the log of
            the vocabulary, in nats: what chance costs.
        decay: of the running mean, in [0, 1), once it has seen 1 / (1 - decay) steps; before, it is the plain mean.
    """

    kind: Literal["necessity_margin"] = "necessity_margin"
    strength: float = 0.1
    margin: float = 0.1
    headroom: float | None = None
    decay: float = 0.99

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("margin", "headroom"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"NecessityMargin.{name}: must be positive and finite, got {value}")
        if not 0 <= self.decay < 1:
            raise ValueError(f"NecessityMargin.decay: must be in [0, 1), got {self.decay}")

    def attach(self, model: nn.Module) -> "NecessityMarginTreatment":
        """On what every memory reads, or on the outputs of the modules named."""
        return NecessityMarginTreatment(self, model)


class RunningMean(nn.Module):
    """The mean of reads (b, t, ...) over sequences, tokens and steps; in the state dict once it has seen some."""

    mean: Tensor | None
    n_seen: Tensor

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("mean", None)
        self.register_buffer("n_seen", torch.zeros((), dtype=torch.int64))
        self.register_load_state_dict_pre_hook(_make_room)

    @torch.no_grad()
    def see(self, read: Float[Tensor, "b t *r"]) -> None:
        """Take a step's reads in."""
        present = read.mean((0, 1))
        self.n_seen += 1
        weight = (1 / self.n_seen).clamp(min=1 - self.decay).to(present)
        self.mean = present if self.mean is None else torch.lerp(self.mean, present, weight)


def _make_room(mean: nn.Module, state_dict: Mapping[str, Tensor], prefix: str, *others: Any) -> None:
    """Before a state is loaded: a buffer as large as the one in it, if there is one."""
    assert isinstance(mean, RunningMean)
    if f"{prefix}mean" in state_dict:
        mean.mean = torch.empty_like(state_dict[f"{prefix}mean"], device=mean.n_seen.device)


class NecessityMarginTreatment(Treatment):
    """A running mean for each memory, and the second pass."""

    def __init__(self, remedy: NecessityMargin, model: nn.Module) -> None:
        super().__init__(remedy)
        self.margin, self.headroom = remedy.margin, remedy.headroom
        self.places = find_places(model, remedy.sites, "memory", "read")
        self.means = nn.ModuleList(RunningMean(remedy.decay) for _ in self.places)
        self._unseen: set[str] = set()
        self._last: dict[str, Tensor | float] = {}
        for place, mean in zip(self.places, self._means(), strict=True):
            self.on_detach(self._watch(place, mean))

    def on_step(self, step: int, steps: int) -> None:
        """The reads of the forward pass that follows are taken into the means."""
        super().on_step(step, steps)
        self._unseen = {place.path for place in self.places} if self.strength > 0 else set()

    def extra_loss(self, computed: Computed) -> Float[Tensor, ""] | None:
        """The weighted lack of necessity; the second pass is a part of its graph."""
        if self.strength == 0:
            return None
        if self._unseen:
            raise ValueError(
                f"NecessityMargin: {', '.join(sorted(self._unseen))} must be called in training after on_step, got no "
                "call; call on_step before every forward pass, or name other sites"
            )
        margin = self.margin * self._headroom_of(computed)
        effect = self._without_memory(computed) - computed.loss
        self._last = {"effect": effect.detach(), "margin": margin}
        return self.strength * (margin - effect).relu()

    def figures(self) -> dict[str, float]:
        """The strength, and of the last step the effect L_c - L of the constant and the margin m, as the loss is."""
        return super().figures() | {name: float(value) for name, value in self._last.items()}

    def _without_memory(self, computed: Computed) -> Float[Tensor, ""]:
        with ExitStack() as replaced:
            for place, mean in zip(self.places, self._means(), strict=True):
                handle = place.change(_constant(mean))
                replaced.callback(handle.remove)
            return computed.again()

    def _headroom_of(self, computed: Computed) -> float:
        if self.headroom is not None:
            return self.headroom
        if computed.targets.is_floating_point():
            raise ValueError(
                "NecessityMargin.headroom: must be given where targets are vectors, which have no vocabulary, got "
                "None; give what the loss of the best constant answer is above the model's"
            )
        return math.log(computed.logits.shape[-1])

    def _watch(self, place: Place, mean: RunningMean) -> Any:
        def see(read: Tensor) -> None:
            if place.path not in self._unseen:
                return
            if read.ndim < 3:
                raise ValueError(
                    f"NecessityMargin: {place.path} must give (b, t, ...), got {tuple(read.shape)}; name a module that "
                    "sees whole sequences"
                )
            self._unseen.remove(place.path)
            mean.see(read.detach())

        return place.watch(see)

    def _means(self) -> list[RunningMean]:
        return [mean for mean in self.means if isinstance(mean, RunningMean)]


def _constant(mean: RunningMean) -> Any:
    def replace(read: Tensor) -> Tensor:
        assert mean.mean is not None
        return mean.mean.to(read.dtype).expand_as(read).clone()

    return replace

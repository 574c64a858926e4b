"""NEGATIVE CONTROL, not a cure: half-way through the training, a bank's slots are drawn anew (R13, ablation A4).

What it does: in the first step after the part `begin` of the training, a share `strength` of the slots of every bank
become normal random vectors, with the root mean square that the bank's numbers had when the remedy was put on. Once.

Why it is here: slots that have all become one are thought to be stuck there, and a second start to free them.

Published effect: harmful. In the Parallax notes (note 004), with a bank of 128 slots that had collapsed to pairwise
cosines of 0.94 after about 1.12M tokens, a second start made the slots diverse again, and the model did worse at its
task than with the collapsed bank; over the variants, diversity correlated negatively with benefit. By how much is not
public, and it is one laboratory's note: compare at least five seeds.

Known problems: what the slots had learned is gone, and where a loss made them collapse it does so again. The
optimiser's moments remain those of the old slots. The look of a bank is no evidence either way. Measured for the
specification: a bank in which one slot takes 97 to 99 % of the reads has cosines of 0.93 to 0.94 and an entropy of 0.01
to 0.04, a uniformly collapsed one 1.00 and 1.00, and both read one vector (between-input share of the read's variance
0.012 to 0.024, and 0.000).

Example: `NegativeControlReinitialiseSlots()`, or `sites=("model.bank::slots",), strength=0.5`.

Source: decorative-memory specification, 1.3 (A4) and R13; the Parallax notes, note 004, "Re-initialisation halfway
through training".
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from mnemoscope.training.remedies.banks import find_slots, mean_cosine
from mnemoscope.training.remedies.treatment import RemedyConfig, Treatment


@dataclass(frozen=True, kw_only=True)
class NegativeControlReinitialiseSlots(RemedyConfig):
    """Settings; `strength` is the share of the slots that are drawn anew, in [0, 1], after the part `begin`."""

    kind: Literal["negative_control_reinitialise_slots"] = "negative_control_reinitialise_slots"
    begin: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.strength > 1:
            raise ValueError(f"{type(self).__name__}.strength: is a share, in [0, 1], got {self.strength}; use 1")
        if self.final_strength is not None:
            raise ValueError(f"{type(self).__name__}.final_strength: must be None, since slots are drawn once")

    def attach(self, model: nn.Module) -> "NegativeControlReinitialiseSlotsTreatment":
        """On the slots of every bank, or on the matrices named."""
        return NegativeControlReinitialiseSlotsTreatment(self, model)


class NegativeControlReinitialiseSlotsTreatment(Treatment):
    """Whether slots have been drawn anew, and the scale at which they are."""

    done: Tensor
    scales: Tensor

    def __init__(self, remedy: NegativeControlReinitialiseSlots, model: nn.Module) -> None:
        super().__init__(remedy)
        self._slots = list(find_slots(model, remedy.sites).values())
        self.register_buffer("done", torch.zeros((), dtype=torch.bool))
        self.register_buffer("scales", torch.stack([slots.detach().square().mean().sqrt() for slots in self._slots]))

    def on_step(self, step: int, steps: int) -> None:
        """Draws, once."""
        super().on_step(step, steps)
        if self.strength > 0 and not self.done:
            self._draw()

    def figures(self) -> dict[str, float]:
        """How alike slots are, beside the strength: the mean over the matrices."""
        return super().figures() | {"slot_cosine": sum(map(mean_cosine, self._slots)) / len(self._slots)}

    @torch.no_grad()
    def _draw(self) -> None:
        for slots, scale in zip(self._slots, self.scales, strict=True):
            chosen = torch.randperm(slots.shape[0], device=slots.device)[: round(self.strength * slots.shape[0])]
            slots[chosen] = scale.to(slots) * torch.randn_like(slots[chosen])
        self.done.fill_(True)

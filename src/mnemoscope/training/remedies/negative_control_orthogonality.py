"""NEGATIVE CONTROL, not a cure: a loss that makes a bank's slots orthogonal (R13, ablation A2).

What it does: minimises strength |V V^T - I|_F^2 with V the slots at length 1: the sum of the squared cosines of all
ordered pairs of slots. Only the slots get its gradient. Logged: `slot_cosine`.

Why it is here: it is what one tries first against collapsed slots. To say that slots must be orthogonal one has to show
a run with it that is better at the task, not one that looks better.

Published effect: harmful. In the Parallax notes (note 004), with a bank of 128 slots that had collapsed to pairwise
cosines of 0.94 after about 1.12M tokens, this loss kept the slots apart, and the model did worse at its task than with
the collapsed bank; over the variants, diversity correlated negatively with benefit. By how much is not public, and it
is one laboratory's note: compare at least five seeds.

Known problems: forces a form, not a use; more slots than channels cannot be orthogonal. The look of a bank is no
evidence either way. Measured for the specification: a bank in which one slot takes 97 to 99 % of the reads has cosines
of 0.93 to 0.94 and an entropy of 0.01 to 0.04, a uniformly collapsed one 1.00 and 1.00, and both read one vector
(between-input share of the read's variance 0.012 to 0.024, and 0.000).

Example: `NegativeControlOrthogonality(strength=0.1)`, or `sites=("model.bank::slots",)`.

Source: decorative-memory specification, 1.3 (A2) and R13; the Parallax notes, note 004, whose equation is not public: a
reconstruction.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemoscope.training.remedies.banks import SlotPenalty, unit_slots
from mnemoscope.training.remedies.treatment import RemedyConfig


@dataclass(frozen=True, kw_only=True)
class NegativeControlOrthogonality(RemedyConfig):
    """Settings; `strength` is the weight of the loss."""

    kind: Literal["negative_control_orthogonality"] = "negative_control_orthogonality"
    strength: float = 0.1

    def attach(self, model: nn.Module) -> SlotPenalty:
        """On the slots of every bank, or on the matrices named."""
        return SlotPenalty(self, model, orthogonality_loss)


def orthogonality_loss(slots: Float[Tensor, "m d"]) -> Float[Tensor, ""]:
    """|V V^T - I|_F^2 of the slots at length 1; 0 if they are orthogonal, m (m - 1) if they are all alike."""
    unit = unit_slots(slots)
    cosines = unit @ unit.T
    return (cosines - torch.eye(len(cosines), dtype=cosines.dtype, device=cosines.device)).square().sum()

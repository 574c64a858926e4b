"""NEGATIVE CONTROL, not a cure: a loss that spreads the spectrum of a bank's slots (R13, ablation A1).

What it does: minimises -strength sum_i 1/2 log(sigma_i^2 + 1e-6), with sigma_i the singular values of the slots at
length 1, so that they span as many directions as they can. Only the slots get its gradient. Logged: `slot_cosine`.

Why it is here: it is what one tries first against collapsed slots. To say that slots must be diverse one has to show a
run with it that is better at the task, not one that looks better.

Published effect: harmful. In the Parallax notes (note 004), with a bank of 128 slots that had collapsed to pairwise
cosines of 0.94 after about 1.12M tokens, this loss kept the slots diverse, and the model did worse at its task than
with the collapsed bank; over the variants, diversity correlated negatively with benefit. By how much is not public, and
it is one laboratory's note: compare at least five seeds.

Known problems: forces a form, not a use. The look of a bank is no evidence either way. Measured for the specification:
a bank in which one slot takes 97 to 99 % of the reads has cosines of 0.93 to 0.94 and an entropy of 0.01 to 0.04, a
uniformly collapsed one 1.00 and 1.00, and both read one vector (between-input share of the read's variance 0.012 to
0.024, and 0.000).

Example: `NegativeControlDiversity(strength=0.1)`, or `sites=("model.bank::slots",)`.

Source: decorative-memory specification, 1.3 (A1) and R13; "Spectral diversity loss" of the Parallax notes, whose
equation is not public: a reconstruction.
Differs: 1e-6 under the logarithm, where a collapsed bank has a finite loss and gradient.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemoscope.training.remedies.banks import SlotPenalty, unit_slots
from mnemoscope.training.remedies.treatment import RemedyConfig

FLOOR = 1e-6
"""Added to squared singular values."""


@dataclass(frozen=True, kw_only=True)
class NegativeControlDiversity(RemedyConfig):
    """Settings; `strength` is the weight of the loss."""

    kind: Literal["negative_control_diversity"] = "negative_control_diversity"
    strength: float = 0.1

    def attach(self, model: nn.Module) -> SlotPenalty:
        """On the slots of every bank, or on the matrices named."""
        return SlotPenalty(self, model, spectral_loss)


def spectral_loss(slots: Float[Tensor, "m d"]) -> Float[Tensor, ""]:
    """-1/2 sum log(sigma^2 + 1e-6) over the singular values of the slots at length 1; 0 or nearly, if orthogonal."""
    return -(torch.linalg.svdvals(unit_slots(slots)).square() + FLOOR).log().sum() / 2

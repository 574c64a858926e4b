"""NEGATIVE CONTROL, not a cure: a read of a bank may use its k strongest slots alone (R13, ablation A3).

What it does: of every distribution over slots, all but the k largest weights are multiplied by 1 - strength, and the
row is scaled back to the sum that it had. At strength 1 it is a softmax over the k best.

Why it is here: a nearly even distribution looks like a memory that nobody asks, and forced routing makes it look asked.

Published effect: harmful. In the Parallax notes (note 004), with a bank of 128 slots that had collapsed to pairwise
cosines of 0.94 after about 1.12M tokens, forced routing kept the distribution uneven, and the model did worse at its
task than with the collapsed bank; over the variants, diversity correlated negatively with benefit. By how much is not
public, and it is one laboratory's note: compare at least five seeds.

Known problems: which slots are chosen has no gradient, so that slots that are never among the k are never trained. It
acts in training only: evaluation reads all slots. A low entropy is not use. The look of a bank is no evidence either
way. Measured for the specification: a bank in which one slot takes 97 to 99 % of the reads has cosines of 0.93 to 0.94
and an entropy of 0.01 to 0.04, a uniformly collapsed one 1.00 and 1.00, and both read one vector (between-input share
of the read's variance 0.012 to 0.024, and 0.000).

Example: `NegativeControlTopKAddressing(k=4)`, or `sites=("model.bank.softmax",)`.

Source: decorative-memory specification, 1.3 (A3, k of 1, 4 and 8) and R13; the Parallax notes, note 004, "forced top-k
routing".
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemoscope.training.remedies.places import find_places
from mnemoscope.training.remedies.treatment import RemedyConfig, Treatment


@dataclass(frozen=True, kw_only=True)
class NegativeControlTopKAddressing(RemedyConfig):
    """Settings; `strength` is how much the other slots lose, in [0, 1].

    Args:
        k: slots that keep their weight, at least 1.
        renormalised: scale the row back to its sum; set it off where rows are no distributions.
    """

    kind: Literal["negative_control_top_k_addressing"] = "negative_control_top_k_addressing"
    k: int = 4
    renormalised: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        where = type(self).__name__
        for name in ("strength", "final_strength"):
            value = getattr(self, name)
            if value is not None and value > 1:
                raise ValueError(f"{where}.{name}: must be in [0, 1], got {value}; 1 leaves k slots alone")
        if self.k < 1:
            raise ValueError(f"{where}.k: must be at least 1, got {self.k}; use 1, 4 or 8")

    def attach(self, model: nn.Module) -> "NegativeControlTopKAddressingTreatment":
        """On the addressing of every memory that announces one, or on the outputs of the modules named."""
        return NegativeControlTopKAddressingTreatment(self, model)


class NegativeControlTopKAddressingTreatment(Treatment):
    """Distributions over slots (last axis), of which k weights are left."""

    def __init__(self, remedy: NegativeControlTopKAddressing, model: nn.Module) -> None:
        super().__init__(remedy)
        self.k, self.renormalised = remedy.k, remedy.renormalised
        for place in find_places(model, remedy.sites, "memory", "addressing"):
            self.on_detach(place.change(self._strongest))

    def _strongest(self, weights: Float[Tensor, "*b m"]) -> Float[Tensor, "*b m"]:
        if self.strength == 0 or self.k >= weights.shape[-1]:
            return weights
        chosen = weights.detach().topk(self.k, dim=-1).indices
        factors = torch.full_like(weights, 1 - self.strength).scatter(-1, chosen, 1.0)
        left = factors * weights
        if not self.renormalised:
            return left
        return left * (weights.sum(-1, keepdim=True) / left.sum(-1, keepdim=True))

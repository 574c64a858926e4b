"""Remedies: what makes a memory be used, one file each, on any model by hooks.

May live here: a remedy's settings and its treatment, `treatment.py` (what every remedy is) and `places.py` (where it
acts). May import: contracts, ops, tasks, memories, models.
"""

from typing import Annotated, TypeAlias

from pydantic import Field

from mnemoscope.training.remedies.bottleneck_noise import BottleneckNoise
from mnemoscope.training.remedies.bottleneck_rank import BottleneckRank
from mnemoscope.training.remedies.bottleneck_variational import BottleneckVariational
from mnemoscope.training.remedies.branch_dropout import BranchDropout
from mnemoscope.training.remedies.dnc_masking import DncMasking
from mnemoscope.training.remedies.expert_choice import ExpertChoice
from mnemoscope.training.remedies.gate_floor import GateFloor
from mnemoscope.training.remedies.gate_opening import GateOpening
from mnemoscope.training.remedies.loss_free_balancing import LossFreeBalancing
from mnemoscope.training.remedies.multi_hop_targets import MultiHopTargets
from mnemoscope.training.remedies.necessity_margin import NecessityMargin
from mnemoscope.training.remedies.negative_control_diversity import NegativeControlDiversity
from mnemoscope.training.remedies.negative_control_orthogonality import NegativeControlOrthogonality
from mnemoscope.training.remedies.negative_control_reinitialise_slots import NegativeControlReinitialiseSlots
from mnemoscope.training.remedies.negative_control_top_k_addressing import NegativeControlTopKAddressing
from mnemoscope.training.remedies.ntm_stability import NtmStability
from mnemoscope.training.remedies.prediction import Prediction
from mnemoscope.training.remedies.reconstruction import Reconstruction
from mnemoscope.training.remedies.shortcut_weakening import ShortcutWeakening
from mnemoscope.training.remedies.stochastic_depth import StochasticDepth
from mnemoscope.training.remedies.stochastic_window import StochasticWindow
from mnemoscope.training.remedies.transplanted_embeddings import TransplantedEmbeddings
from mnemoscope.training.remedies.treatment import Computed, RemedyConfig, Treatment, treated
from mnemoscope.training.remedies.window_dropout import WindowDropout

Remedy: TypeAlias = Annotated[
    BottleneckNoise
    | BottleneckRank
    | BottleneckVariational
    | BranchDropout
    | DncMasking
    | ExpertChoice
    | GateFloor
    | GateOpening
    | LossFreeBalancing
    | MultiHopTargets
    | NecessityMargin
    | NegativeControlDiversity
    | NegativeControlOrthogonality
    | NegativeControlReinitialiseSlots
    | NegativeControlTopKAddressing
    | NtmStability
    | Prediction
    | Reconstruction
    | ShortcutWeakening
    | StochasticDepth
    | StochasticWindow
    | TransplantedEmbeddings
    | WindowDropout,
    Field(discriminator="kind"),
]
"""Settings of any remedy, as a recipe holds them."""

REMEDIES: dict[str, type[RemedyConfig]] = {
    "bottleneck_noise": BottleneckNoise,
    "bottleneck_rank": BottleneckRank,
    "bottleneck_variational": BottleneckVariational,
    "branch_dropout": BranchDropout,
    "dnc_masking": DncMasking,
    "expert_choice": ExpertChoice,
    "gate_floor": GateFloor,
    "gate_opening": GateOpening,
    "loss_free_balancing": LossFreeBalancing,
    "multi_hop_targets": MultiHopTargets,
    "necessity_margin": NecessityMargin,
    "negative_control_diversity": NegativeControlDiversity,
    "negative_control_orthogonality": NegativeControlOrthogonality,
    "negative_control_reinitialise_slots": NegativeControlReinitialiseSlots,
    "negative_control_top_k_addressing": NegativeControlTopKAddressing,
    "ntm_stability": NtmStability,
    "prediction": Prediction,
    "reconstruction": Reconstruction,
    "shortcut_weakening": ShortcutWeakening,
    "stochastic_depth": StochasticDepth,
    "stochastic_window": StochasticWindow,
    "transplanted_embeddings": TransplantedEmbeddings,
    "window_dropout": WindowDropout,
}
"""Remedies by name, in alphabetical order."""

__all__ = [
    "REMEDIES",
    "BottleneckNoise",
    "BottleneckRank",
    "BottleneckVariational",
    "BranchDropout",
    "Computed",
    "DncMasking",
    "ExpertChoice",
    "GateFloor",
    "GateOpening",
    "LossFreeBalancing",
    "MultiHopTargets",
    "NecessityMargin",
    "NegativeControlDiversity",
    "NegativeControlOrthogonality",
    "NegativeControlReinitialiseSlots",
    "NegativeControlTopKAddressing",
    "NtmStability",
    "Prediction",
    "Reconstruction",
    "Remedy",
    "RemedyConfig",
    "ShortcutWeakening",
    "StochasticDepth",
    "StochasticWindow",
    "TransplantedEmbeddings",
    "Treatment",
    "WindowDropout",
    "treated",
]

"""All studies of the survey, in the order of its list."""

from mnemoscope.experiments.survey import (
    bottleneck,
    collapsed_experts,
    collapsed_heads,
    controller,
    curriculum,
    dilution,
    dnc_amendments,
    forgetting,
    heads,
    hybrids,
    mamba_kinds,
    ntm_start,
    patching,
    recall_state,
    reconstruction,
    retnet,
    saturation,
    slots,
    window,
)
from mnemoscope.experiments.survey.frame import Study

STUDIES: tuple[Study, ...] = (
    recall_state.STUDY,
    window.STUDY,
    hybrids.STUDY,
    forgetting.STUDY,
    mamba_kinds.STUDY,
    retnet.STUDY,
    saturation.STUDY,
    controller.STUDY,
    patching.STUDY,
    heads.STUDY,
    ntm_start.STUDY,
    dnc_amendments.STUDY,
    reconstruction.STUDY,
    slots.STUDY,
    curriculum.STUDY,
    bottleneck.STUDY,
    dilution.STUDY,
    collapsed_experts.STUDY,
    collapsed_heads.STUDY,
)
"""A study joins by its `STUDY`; slugs of findings must not repeat."""

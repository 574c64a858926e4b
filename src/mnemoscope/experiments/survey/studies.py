"""All studies of the survey, in the order of its list."""

from mnemoscope.experiments.survey import (
    controller,
    forgetting,
    heads,
    hybrids,
    mamba_kinds,
    patching,
    recall_state,
    retnet,
    saturation,
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
)
"""A study joins by its `STUDY`; slugs of findings must not repeat."""

"""Measures beside the verdict: evidence, never the verdict itself. One file per measure.

`MEASURES` says in a line what each name in a record means; it lives with the records, so that reports, which never
import torch, can show it.
"""

from mnemoscope.examination.measures.addressing_entropy import addressing_entropy
from mnemoscope.examination.measures.attribution import first_order, integrated
from mnemoscope.examination.measures.contraction import contraction, jacobian_norm, lyapunov_exponent
from mnemoscope.examination.measures.contribution import contribution_ratio, shut_share
from mnemoscope.examination.measures.effective_dimension import effective_dimension
from mnemoscope.examination.measures.effective_state_size import (
    block_state_sizes,
    mixer_operator,
    probed_operator,
    state_rank_share,
    state_share,
    state_sizes,
)
from mnemoscope.examination.measures.gate_mean import gate_mean
from mnemoscope.examination.measures.gradient_share import gradient_share, gradient_snr
from mnemoscope.examination.measures.mean_vector_share import mean_vector_share, read_variance_share
from mnemoscope.examination.measures.slot_geometry import (
    centred_rank,
    collapse_kind,
    effective_rank,
    mean_cosine,
    stability,
    stable_rank,
)
from mnemoscope.examination.measures.state_dynamics import half_life, key_coherence, retention_product, state_growth
from mnemoscope.examination.measures.stored_information import stored_information
from mnemoscope.examination.measures.utilisation import (
    dead_slots,
    gini,
    max_violation,
    slot_mass,
    write_to_read_lag,
)
from mnemoscope.runs.measures import MEASURES

__all__ = [
    "MEASURES",
    "addressing_entropy",
    "block_state_sizes",
    "centred_rank",
    "collapse_kind",
    "contraction",
    "contribution_ratio",
    "dead_slots",
    "effective_dimension",
    "effective_rank",
    "first_order",
    "gate_mean",
    "gini",
    "gradient_share",
    "gradient_snr",
    "half_life",
    "integrated",
    "jacobian_norm",
    "key_coherence",
    "lyapunov_exponent",
    "max_violation",
    "mean_cosine",
    "mean_vector_share",
    "mixer_operator",
    "probed_operator",
    "read_variance_share",
    "retention_product",
    "shut_share",
    "slot_mass",
    "stability",
    "stable_rank",
    "state_growth",
    "state_rank_share",
    "state_share",
    "state_sizes",
    "stored_information",
    "write_to_read_lag",
]

"""Metrics of training: what is looked at while a model learns, one step in many.

May live here: one file per metric, a pure function with its exact definition, and what carries them into a training:
`observing` (hooks that live for one forward pass), `sites` (figures of read points), `metrics` (what a loop calls). May
import: torch and `mnemoscope.contracts`.
"""

from mnemoscope.training.metrics.attention_saturation import attention_saturation, jacobian_norm
from mnemoscope.training.metrics.config import METRIC_NAMES, MetricsConfig
from mnemoscope.training.metrics.effective_dimension import EffectiveDimension, effective_dimension
from mnemoscope.training.metrics.gradient_weight_cosine import GradientWeightCosine, gradient_weight_cosine
from mnemoscope.training.metrics.grokking_phase import PHASES, GrokkingPhase, Phase
from mnemoscope.training.metrics.memory_rank import memory_rank
from mnemoscope.training.metrics.metrics import Metrics
from mnemoscope.training.metrics.raw_gate import EffectiveGate, RawGate, effective_gate, raw_gate
from mnemoscope.training.metrics.softmax_collapse import SoftmaxCollapse, softmax_collapse
from mnemoscope.training.metrics.state_magnitude import relative_update, state_norm

__all__ = [
    "METRIC_NAMES",
    "PHASES",
    "EffectiveDimension",
    "EffectiveGate",
    "GradientWeightCosine",
    "GrokkingPhase",
    "Metrics",
    "MetricsConfig",
    "Phase",
    "RawGate",
    "SoftmaxCollapse",
    "attention_saturation",
    "effective_dimension",
    "effective_gate",
    "gradient_weight_cosine",
    "jacobian_norm",
    "memory_rank",
    "raw_gate",
    "relative_update",
    "softmax_collapse",
    "state_norm",
]

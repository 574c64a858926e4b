"""Planning: what a training and an examination do, hold and take, before anything is run.

May live here: counts on fake tensors, rates of this machine, estimates from published rates, and their check. May
import: `mnemoscope.models`, `mnemoscope.training`, `mnemoscope.examination` and the recipes beside it.
"""

from mnemoscope.experiments.planning.check import Checked, check, summary
from mnemoscope.experiments.planning.planned import Planned, Row, Wanted, plan_target
from mnemoscope.experiments.planning.published import Range
from mnemoscope.experiments.planning.targets import Changes, Target, target_of
from mnemoscope.experiments.planning.tracing import Decoded, Traced, trace, trace_decoding
from mnemoscope.experiments.planning.work import Counting, Work

__all__ = [
    "Changes",
    "Checked",
    "Counting",
    "Decoded",
    "Planned",
    "Range",
    "Row",
    "Target",
    "Traced",
    "Wanted",
    "Work",
    "check",
    "plan_target",
    "summary",
    "target_of",
    "trace",
    "trace_decoding",
]

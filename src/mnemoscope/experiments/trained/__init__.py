"""Trained truth: verdicts on models that were trained, beside what retraining without the memory says (D19).

Planted memories show that the verdict is right where the truth is known by construction. Here nothing is known
beforehand: a hybrid is trained, examined, and trained again with its memories replaced by modules of the same size
that see the local window alone. What that loses is what the memory was worth having.
"""

from mnemoscope.experiments.trained.hybrids import HYBRIDS, Hybrid, find_hybrids
from mnemoscope.experiments.trained.table import agreement, failures, page
from mnemoscope.experiments.trained.truth import BUDGET, Outcome, outcomes, run_truth

__all__ = [
    "BUDGET",
    "HYBRIDS",
    "Hybrid",
    "Outcome",
    "agreement",
    "failures",
    "find_hybrids",
    "outcomes",
    "page",
    "run_truth",
]

"""What one tries against collapsed slots, and what makes things worse."""

from mnemoscope.training.remedies import (
    NegativeControlDiversity,
    NegativeControlOrthogonality,
    NegativeControlReinitialiseSlots,
    NegativeControlTopKAddressing,
)
from tests.unit.training.remedies.models import ROUTE, Case

LAYOUT = "bank(n_slots=6) | attention(window=16)"
KEYS = f"{ROUTE}.k_proj"
"""Path of the hybrid's keys: rows of the weight stand for slots, and what comes out for weights on them."""

CASES = {
    "negative_control_diversity": Case(
        stack=NegativeControlDiversity(), hybrid=NegativeControlDiversity(sites=(KEYS,)), layout=LAYOUT
    ),
    "negative_control_orthogonality": Case(
        stack=NegativeControlOrthogonality(), hybrid=NegativeControlOrthogonality(sites=(KEYS,)), layout=LAYOUT
    ),
    "negative_control_reinitialise_slots": Case(
        stack=NegativeControlReinitialiseSlots(),
        hybrid=NegativeControlReinitialiseSlots(sites=(f"{KEYS}::weight",), strength=0.5),
        layout=LAYOUT,
    ),
    "negative_control_top_k_addressing": Case(
        stack=NegativeControlTopKAddressing(k=2),
        hybrid=NegativeControlTopKAddressing(sites=(KEYS,), k=2, renormalised=False),
        layout=LAYOUT,
    ),
}

"""Every remedy's cases, by the file that has them."""

from tests.unit.training.remedies import (
    branch_cases,
    bypass_cases,
    external_cases,
    gate_cases,
    graph_cases,
    loss_cases,
    negative_control_cases,
    routing_cases,
    window_cases,
)
from tests.unit.training.remedies.models import Case

CASES: dict[str, Case] = {
    **branch_cases.CASES,
    **bypass_cases.CASES,
    **external_cases.CASES,
    **gate_cases.CASES,
    **graph_cases.CASES,
    **loss_cases.CASES,
    **negative_control_cases.CASES,
    **routing_cases.CASES,
    **window_cases.CASES,
}
"""By the name under which `REMEDIES` has it."""

"""Remedies of what stands beside a memory."""

from mnemoscope.training.remedies import BranchDropout
from tests.unit.training.remedies.models import ROUTE, Case

CASES = {
    "branch_dropout": Case(
        stack=BranchDropout(strength=1.0), hybrid=BranchDropout(strength=1.0, sites=(ROUTE,), shared=True)
    ),
}

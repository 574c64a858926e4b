"""Remedies of gates."""

from mnemoscope.training.remedies import GateFloor, GateOpening
from tests.unit.training.remedies.models import MEMORY, Case

CASES = {
    "gate_floor": Case(
        stack=GateFloor(),
        # Its write strengths and retentions, as logits.
        hybrid=GateFloor(
            sites=(f"{MEMORY}.in_proj_ba",), site_gives="logits", floor_mode="clamp", floors=(0.5,), switches=()
        ),
    ),
    "gate_opening": Case(
        stack=GateOpening(),
        # Its retention gate, the only one with a bias: less of it retains more.
        hybrid=GateOpening(sites=(MEMORY,), gates=(f"{MEMORY}.dt_bias",), gate_bias=-2.0),
    ),
}

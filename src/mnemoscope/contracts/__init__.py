"""What the rooms agree on: observable points of a model, what modules return, the protocols of a memory, the batch.

May live here: a few dozen lines that two rooms need in order to talk. May import: torch, numpy, nothing of ours.
"""

from mnemoscope.contracts.batch import IGNORE, Batch
from mnemoscope.contracts.points import POINT_NAMES, ReadPoint, listening, tap
from mnemoscope.contracts.processes import Processes, launched, process_group
from mnemoscope.contracts.protocols import (
    Auxiliary,
    Bank,
    Collapsible,
    Recalling,
    Role,
    Settling,
    Slots,
    Stateful,
    Windowed,
    announced_role,
)

__all__ = [
    "IGNORE",
    "POINT_NAMES",
    "Auxiliary",
    "Bank",
    "Batch",
    "Collapsible",
    "Processes",
    "ReadPoint",
    "Recalling",
    "Role",
    "Settling",
    "Slots",
    "Stateful",
    "Windowed",
    "announced_role",
    "launched",
    "listening",
    "process_group",
    "tap",
]

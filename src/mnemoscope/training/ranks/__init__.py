"""Several processes of one training: who takes which rows, how gradients become one, what cannot be divided.

May live here: `ranks.py` (what the loop asks of its processes, and one process alone), `several.py` (DDP and FSDP) and
`refusing.py` (what does not work there, by name). May import: contracts, and of training the configuration, remedies
and randomness.
"""

from mnemoscope.training.ranks.opening import device_of, joined, was_restarted
from mnemoscope.training.ranks.ranks import ALONE, Ranks, Strategy

__all__ = ["ALONE", "Ranks", "Strategy", "device_of", "joined", "was_restarted"]

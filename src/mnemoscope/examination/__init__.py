"""Is a memory load-bearing or decorative? Sites, interventions, measures, verdict, prescription.

May live here: everything that works on any `nn.Module` it has never seen; one file per measure. May import:
contracts, runs. Never memories, models, tasks or training: what needs these as well belongs to experiments.
"""

from mnemoscope.examination.assertion import assert_load_bearing
from mnemoscope.examination.budget import Budget
from mnemoscope.examination.session import examine
from mnemoscope.examination.subject.losses import NextTokenLoss
from mnemoscope.examination.subject.sites import Point, Site, find_sites

__all__ = ["Budget", "NextTokenLoss", "Point", "Site", "assert_load_bearing", "examine", "find_sites"]

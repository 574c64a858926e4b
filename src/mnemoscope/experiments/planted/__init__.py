"""Planted memories: the test bench of the verdict.

Seventeen kinds of models whose verdict is known by construction: weights are set by hand, sizes, codes and label noise
are drawn at random, nothing is trained. `mnemoscope calibrate` examines instances of every kind and counts what the
verdict got right.
"""

from mnemoscope.experiments.planted.kinds import KINDS, Kind, kinds_named
from mnemoscope.experiments.planted.world import World

__all__ = ["KINDS", "Kind", "World", "kinds_named"]

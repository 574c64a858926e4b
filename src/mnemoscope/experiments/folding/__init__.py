"""Accept and fold: a memory that is worth one vector is replaced by that vector, in any module or in our stacks.

`anywhere` replaces a module of any model by a constant; `fitting` finds the constant as an examination does;
`stacks` puts what is left of a memory into a stack, gate included; `equivalence` says what the change costs.
"""

from mnemoscope.experiments.folding.anywhere import ConstantOutput, fold
from mnemoscope.experiments.folding.equivalence import (
    Speeds,
    decode_speeds,
    equivalence,
    increase,
    losses,
    sizes,
    speeds,
)
from mnemoscope.experiments.folding.fitting import Fit, Way, fitted
from mnemoscope.experiments.folding.stacks import folded_stack, shortened_stack

__all__ = [
    "ConstantOutput",
    "Fit",
    "Speeds",
    "Way",
    "decode_speeds",
    "equivalence",
    "fitted",
    "fold",
    "folded_stack",
    "increase",
    "losses",
    "shortened_stack",
    "sizes",
    "speeds",
]

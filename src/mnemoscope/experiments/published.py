"""The published figures that can be reproduced, by name."""

import difflib
from collections.abc import Mapping
from typing import Any

from mnemoscope.experiments.detached_writes import DETACHED_WRITES
from mnemoscope.experiments.head_collapse import HEAD_COLLAPSE
from mnemoscope.experiments.reproducing import Experiment
from mnemoscope.experiments.stability import PERPGRAD, STRENGTHS, WEIGHT_DECAY

EXPERIMENTS: Mapping[str, Experiment[Any]] = {
    experiment.name: experiment for experiment in (PERPGRAD, WEIGHT_DECAY, STRENGTHS, HEAD_COLLAPSE, DETACHED_WRITES)
}


def find_experiment(name: str) -> Experiment[Any]:
    """An experiment by name.

    Raises:
        ValueError: an unknown name, with the nearest one.
    """
    if name in EXPERIMENTS:
        return EXPERIMENTS[name]
    close = difflib.get_close_matches(name, EXPERIMENTS, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    raise ValueError(f"reproduce: no experiment is called {name!r}{hint} experiments: {', '.join(EXPERIMENTS)}")

"""The published figures that can be reproduced, by name."""

import difflib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mnemoscope.experiments.detached_writes import DETACHED_WRITES
from mnemoscope.experiments.geometry.calibration import GEOMETRY_CALIBRATION
from mnemoscope.experiments.geometry.capacity import CAPACITY
from mnemoscope.experiments.geometry.costs import GEOMETRIC_COSTS
from mnemoscope.experiments.geometry.editing import EDITING
from mnemoscope.experiments.geometry.in_context import IN_CONTEXT
from mnemoscope.experiments.geometry.knocking_out import KNOCKING_OUT
from mnemoscope.experiments.geometry.path_star import PATH_STAR
from mnemoscope.experiments.geometry.path_star_variants import DIRECTIONS, MAMBA, PAUSED, REMEMBERED, STAGED, TREE
from mnemoscope.experiments.geometry.phase import GEOMETRY_PHASE
from mnemoscope.experiments.geometry.steering import STEERING
from mnemoscope.experiments.geometry.theory import NODE2VEC_DYNAMICS
from mnemoscope.experiments.geometry.tiny import TINY_GRAPHS
from mnemoscope.experiments.head_collapse import HEAD_COLLAPSE, SmallLm
from mnemoscope.experiments.mosaics.examined import MOSAIC_EXAMINED
from mnemoscope.experiments.mosaics.induction import MOSAIC_INDUCTION
from mnemoscope.experiments.mosaics.language import MOSAIC_PROSE, MOSAIC_STORIES, LanguageStudy
from mnemoscope.experiments.mosaics.middle_tier import MOSAIC_MIDDLE_TIER
from mnemoscope.experiments.mosaics.open_questions import MOSAIC_PERSISTENT_BIAS, MOSAIC_TIMESCALES
from mnemoscope.experiments.mosaics.planetary import MOSAIC_PLANETARY
from mnemoscope.experiments.mosaics.profiles import MOSAIC_PROFILES
from mnemoscope.experiments.mosaics.regbench import REGBENCH, REGBENCH_LONGER, REGBENCH_OTHERS
from mnemoscope.experiments.mosaics.three_moons import THREE_MOONS
from mnemoscope.experiments.mosaics.v2 import MOSAIC_V2
from mnemoscope.experiments.mosaics.v2_levels import MOSAIC_V2_LEVELS
from mnemoscope.experiments.reproducing import Experiment
from mnemoscope.experiments.stability import PERPGRAD, STRENGTHS, WEIGHT_DECAY

IN_WEIGHTS = (PATH_STAR, PAUSED, STAGED, DIRECTIONS, TREE, MAMBA, REMEMBERED, STEERING, EDITING, CAPACITY, KNOCKING_OUT)
TINY = (TINY_GRAPHS, NODE2VEC_DYNAMICS, GEOMETRIC_COSTS, GEOMETRY_PHASE, GEOMETRY_CALIBRATION)
MOSAICS = (
    THREE_MOONS,
    MOSAIC_STORIES,
    MOSAIC_PROSE,
    REGBENCH,
    REGBENCH_OTHERS,
    REGBENCH_LONGER,
    MOSAIC_PROFILES,
    MOSAIC_INDUCTION,
    MOSAIC_EXAMINED,
    MOSAIC_PLANETARY,
    MOSAIC_TIMESCALES,
    MOSAIC_MIDDLE_TIER,
    MOSAIC_PERSISTENT_BIAS,
    MOSAIC_V2,
    MOSAIC_V2_LEVELS,
)

EXPERIMENTS: Mapping[str, Experiment[Any]] = {
    experiment.name: experiment
    for experiment in (
        PERPGRAD,
        WEIGHT_DECAY,
        STRENGTHS,
        HEAD_COLLAPSE,
        DETACHED_WRITES,
        *IN_WEIGHTS,
        IN_CONTEXT,
        *TINY,
        *MOSAICS,
    )
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


def on_text(experiment: Experiment[Any], corpus: str) -> Experiment[Any]:
    """The same experiment on another text.

    Raises:
        ValueError: an experiment that reads no text.
    """
    if not all(isinstance(settings, SmallLm | LanguageStudy) for settings in experiment.sizes.values()):
        raise ValueError(f"reproduce: {experiment.name} reads no text; leave out --text {corpus}")
    sizes = {size: replace(settings, corpus=corpus) for size, settings in experiment.sizes.items()}
    return replace(experiment, sizes=sizes)

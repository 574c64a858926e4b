"""The published figures that can be reproduced, by name."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mnemoscope.experiments.atlas.text_collapse import ATLAS_COLLAPSE_TEXT
from mnemoscope.experiments.atlas.text_examined import ATLAS_EXAMINED, AtlasExamined
from mnemoscope.experiments.atlas.text_languages import ATLAS_LANGUAGES
from mnemoscope.experiments.atlas.text_studies import ATLAS_FLOORS, ATLAS_TEXT, ATLAS_TRIALS, TextStudy
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
from mnemoscope.experiments.grokking.stablemax import STABLEMAX_GROKKING
from mnemoscope.experiments.grokking.tables import GROKKING_TASKS
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
from mnemoscope.experiments.parallax.arms import CortexStudy
from mnemoscope.experiments.parallax.asked import CollapseStudy
from mnemoscope.experiments.parallax.bridge import BridgeStudy
from mnemoscope.experiments.parallax.findings import HEADING as PARALLAX_HEADING
from mnemoscope.experiments.parallax.findings import STUDIES as PARALLAX_STUDIES
from mnemoscope.experiments.parallax.summary import PARALLAX_SUMMARY, SummaryStudy
from mnemoscope.experiments.recall.capacity import MEMORY_CAPACITY
from mnemoscope.experiments.recall.write_sweeps import WRITE_SWEEPS
from mnemoscope.experiments.reproducing import Experiment
from mnemoscope.experiments.stability import PERPGRAD, STRENGTHS, WEIGHT_DECAY
from mnemoscope.experiments.survey.frame import Study
from mnemoscope.experiments.survey.pages import SURVEY as SURVEY_HEADING
from mnemoscope.experiments.survey.pages import Heading
from mnemoscope.experiments.survey.studies import STUDIES

IN_WEIGHTS = (PATH_STAR, PAUSED, STAGED, DIRECTIONS, TREE, MAMBA, REMEMBERED, STEERING, EDITING, CAPACITY, KNOCKING_OUT)
TINY = (TINY_GRAPHS, NODE2VEC_DYNAMICS, GEOMETRIC_COSTS, GEOMETRY_PHASE, GEOMETRY_CALIBRATION)
ATLAS = (ATLAS_TEXT, ATLAS_FLOORS, ATLAS_COLLAPSE_TEXT, ATLAS_LANGUAGES, ATLAS_TRIALS, ATLAS_EXAMINED)
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

PARALLAX = (PARALLAX_SUMMARY, *(study.experiment for study in PARALLAX_STUDIES))

SURVEY = tuple(study.experiment for study in STUDIES)

FINDINGS: Mapping[str, tuple[Heading, tuple[Study, ...]]] = {
    SURVEY_HEADING.name: (SURVEY_HEADING, STUDIES),
    PARALLAX_HEADING.name: (PARALLAX_HEADING, PARALLAX_STUDIES),
}
"""Studies with a page for each of their claims, by the name that `mnemoscope reproduce` knows all of them by."""

EXPERIMENTS: Mapping[str, Experiment[Any]] = {
    experiment.name: experiment
    for experiment in (
        PERPGRAD,
        WEIGHT_DECAY,
        STRENGTHS,
        STABLEMAX_GROKKING,
        GROKKING_TASKS,
        HEAD_COLLAPSE,
        DETACHED_WRITES,
        MEMORY_CAPACITY,
        WRITE_SWEEPS,
        *IN_WEIGHTS,
        IN_CONTEXT,
        *TINY,
        *MOSAICS,
        *ATLAS,
        *PARALLAX,
        *SURVEY,
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


def on_text(experiment: Experiment[Any], *corpora: str) -> Experiment[Any]:
    """The same experiment on another text, or on several where it compares them.

    Raises:
        ValueError: an experiment that reads no text, or another number of them.
    """
    sizes = {size: _of_text(experiment.name, settings, corpora) for size, settings in experiment.sizes.items()}
    return replace(experiment, sizes=sizes)


def _of_text(name: str, settings: Any, corpora: Sequence[str]) -> Any:
    if isinstance(settings, TextStudy | AtlasExamined | LanguageStudy):
        return settings.on(corpora)
    if isinstance(settings, CollapseStudy | SummaryStudy):
        return replace(settings, cortex=_of_text(name, settings.cortex, corpora))
    if not isinstance(settings, SmallLm | CortexStudy | BridgeStudy):
        raise ValueError(f"reproduce: {name} reads no text; leave out --text {' '.join(corpora)}")
    if len(corpora) != 1:
        raise ValueError(f"reproduce: {name} reads one text, got {len(corpora)}; leave out all but one --text")
    return replace(settings, corpus=corpora[0])

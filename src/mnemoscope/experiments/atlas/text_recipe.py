"""The recipe of all studies of ATLAS on text, in one place: the guide's values, and what the guide has no key for.

    TextRecipe().recipe("prose")                 a memory with a differentiable write, masked words in episodes
    TextRecipe().recipe("prose", compat=True)    the same sizes and schedule, computed as the guide's public code does

Values are those of `atlas-tiny` (two layers of width 64, windows of 16) but for what `BASE` says: shorter episodes,
fewer words, no floors, a larger learning rate. `MEMORY` is of the memory with the differentiable write alone, `BOTH` of
either mode, written as for `--set`. `ONE_LAYER` is for studies of many arms. Where a study trains for fewer steps,
warm-up, phases and the intervals of measurements shrink.

`BASE` and `MEMORY` were searched for on validation words of one English text (tinyshakespeare, one seed, eight
trainings, LOG.md); the studies report the test split.

Source: the Atlas tuning guide; the controls, atlas specification 1.7. Differs: held-out words; a small size.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mnemoscope.experiments.atlas.guide import guide_recipe
from mnemoscope.experiments.atlas.keys import Value
from mnemoscope.experiments.atlas.recipes import COMPAT_OFF, TINY
from mnemoscope.experiments.settings import with_settings
from mnemoscope.training import Recipe
from mnemoscope.training.lessons import Episodic
from mnemoscope.training.metrics import MetricsConfig
from mnemoscope.training.metrics.config import AS_PUBLISHED

BASE: Mapping[str, Value] = {
    **TINY,
    "vocab_size": 1000,
    "max_steps": 400,
    "warmup_steps": 40,
    "learning_rate": 5e-3,
    "batch_size": 24,
    "max_seq_len": 32,
    "storage_samples": 2,
    "retrieval_samples": 2,
    "num_masks": 8,
    "phase1_steps": 120,
    "phase2_steps": 160,
    "phase1_gate_floor": 0.0,
    "phase2_gate_floor": 0.0,
    "phase3_gate_floor": 0.0,
    "storage_gate_target": 0.0,
    "retrieval_gate_floor": 0.0,
    "log_interval": 10,
    "metrics_interval": 20,
    "checkpoint_interval": 200,
}
"""Of `recipe`; no floors."""

ONE_LAYER: Mapping[str, Value] = {**BASE, "n_layers": 1}
"""Half the work."""

BOTH: tuple[str, ...] = ()
MEMORY: tuple[str, ...] = (
    "omega.granularity=token",
    "omega.features=identity",
    "omega.degree=None",
    "omega.learned_coefficients=false",
    "omega.head_width=128",
    "omega.chunk_tokens=32",
    "omega.initial_retention=0.999",
    "omega.initial_momentum=0.1",
    "omega.initial_step_size=0.4",
)

EVALUATIONS, EVALUATIONS_OF_MANY = 4, 20
"""While a study trains; of studies of one layer, in which the step counts at which the memory begins to be used."""

OBSERVED = ("raw_gate", "softmax_collapse", "gradient_weight_cosine", "effective_dimension", AS_PUBLISHED)
"""What is measured while it trains: not the memories, of which every token would have one."""
WITH_PHASE = (*OBSERVED, "grokking_phase")
"""And the phase, which needs ten evaluations."""

IN_STEPS = ("warmup_steps", "phase1_steps", "phase2_steps", "log_interval", "metrics_interval", "checkpoint_interval")


@dataclass(frozen=True, kw_only=True)
class TextRecipe:
    """What all arms of a study share.

    Args:
        guide: values of the guide's keys, with `max_steps` and those of `IN_STEPS`; the rest are the guide's.
        both: settings for what the guide has no key for.
        memory: settings of the memory `omega`, which the compat mode has not.
        eval_words: answers of each split in an evaluation while it trains.
        evaluations: while it trains, at least 1.
        observed: metrics of the training.

    Raises:
        ValueError: no evaluation, or nothing said of a value that is counted in steps.
    """

    guide: Mapping[str, Value] = field(default_factory=lambda: dict(BASE))
    both: tuple[str, ...] = BOTH
    memory: tuple[str, ...] = MEMORY
    eval_words: int = 2000
    evaluations: int = EVALUATIONS
    observed: tuple[str, ...] = OBSERVED

    def __post_init__(self) -> None:
        if self.evaluations < 1:
            raise ValueError(f"TextRecipe.evaluations: must be at least 1, got {self.evaluations}; use 4")
        missing = [key for key in ("max_steps", *IN_STEPS) if key not in self.guide]
        if missing:
            raise ValueError(f"TextRecipe.guide: must have {', '.join(missing)}; begin with BASE")

    def recipe(self, corpus: str, *, steps: int | None = None, compat: bool = False) -> Recipe:
        """The recipe of one mode on a text.

        Args:
            corpus: "prose", "code", "stories" or a path; see `MaskedWordsConfig`.
            steps: of the training; None for those of `guide`.
            compat: as the public code computes.

        Raises:
            ValueError: values or settings that do not fit.
        """
        values = self._values(steps) | {"dataset_path": corpus} | (dict(COMPAT_OFF) if compat else {})
        made = guide_recipe(values, name="base", compat=compat)
        made = with_settings(made, [*self.both, *(() if compat else self.memory)])
        assert isinstance(made.lesson, Episodic)
        train = replace(
            made.train,
            eval_every=max(1, made.train.steps // self.evaluations),
            metrics=MetricsConfig(every=int(values["metrics_interval"]), names=self.observed, detail=False),
            threads=1,
        )
        return replace(made, name="base", lesson=replace(made.lesson, eval_words=self.eval_words), train=train)

    def _values(self, steps: int | None) -> dict[str, Value]:
        """Those of the guide's keys, everything that is counted in steps shrunk alike."""
        whole = int(self.guide["max_steps"])
        if steps is None or steps == whole:
            return dict(self.guide)
        shrunk = {key: max(1, round(int(self.guide[key]) * steps / whole)) for key in IN_STEPS}
        return {**self.guide, **shrunk, "max_steps": steps}


ONE_LAYER_TEXT = TextRecipe(
    guide=dict(ONE_LAYER), eval_words=1000, evaluations=EVALUATIONS_OF_MANY, observed=WITH_PHASE
)
"""Of studies of many arms, and of the recipe "atlas-recall"."""

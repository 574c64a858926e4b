"""Run directories made by hand: a training that no row has anything to say of, and one for each row, with its sign.

Figures stand under the names that a training logs. There is no loss unless a row needs it: of any loss one of the rows
9 to 11 holds, since it falls, rises or is flat.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from mnemoscope.models import StackConfig
from mnemoscope.runs import Examination, Manifest, RunDirectory
from mnemoscope.tasks import CuedRecallConfig, MaskedWordsConfig, ModularArithmeticConfig, TaskConfig
from mnemoscope.training import Recipe, TrainConfig
from mnemoscope.training.lessons import Episodic, Plain
from mnemoscope.training.metrics import MetricsConfig
from mnemoscope.training.remedies import GateFloor
from tests.unit.reporting.samples import decorative, examination

N = 20
STEP = 1000

Series = Sequence[float] | float

QUIET: Mapping[str, Series] = {
    "accuracy": 0.15,
    "validation_accuracy": 0.15,
    "validation_utility": 0.1,
    "validation_utility_se": 0.01,
    "validation_specificity": 0.1,
    "validation_specificity_se": 0.01,
    "raw_gate.mean": 0.25,
    "state_magnitude.norm": 3.0,
    "state_magnitude.relative_update": 0.05,
    "memory_rank.share": 0.5,
    "effective_dimension.share.embedding": 0.6,
    "effective_dimension.share.head": 0.6,
    "effective_dimension.share.hidden": 0.6,
    "gradient_weight_cosine.before": -0.02,
    "softmax_collapse.share": 0.1,
}
"""Figures that no row holds on."""


def recipe(task: TaskConfig | None = None, **train: Any) -> Recipe:
    """Episodes on an ATLAS memory beside attention, on a task that is neither of language nor of mathematics."""
    task = task or CuedRecallConfig(n_keys=6, n_values=4, n_pairs=3)
    layout = "omega(n_heads=2, chunk_tokens=4) | attention(window=4, n_heads=2)"
    settings = {"steps": N * STEP, "eval_every": STEP, "log_every": STEP, "metrics": MetricsConfig(every=STEP)} | train
    return Recipe(
        name="Doctored",
        model=StackConfig.of(layout, vocab_size=12, d_model=16, tie_embeddings=False),
        task=task,
        train=TrainConfig(**settings),
        remedies=(GateFloor(),),
        lesson=Episodic() if task.kind in ("cued_recall", "masked_words") else Plain(),
    )


@dataclass(frozen=True, kw_only=True)
class Doctored:
    """A run with one sign.

    Args:
        figures: beside the quiet ones, or in their place; None takes one out.
        recipe: of the run.
        step: between rows.
        examined: what an examination found.
        message: with which the training failed.
        wants: what somebody wants.
    """

    figures: Mapping[str, Series | None] = field(default_factory=dict)
    recipe: Recipe = field(default_factory=recipe)
    step: int = STEP
    examined: Examination | None = None
    message: str = ""
    wants: tuple[str, ...] = ()

    def written(self, folder: Path) -> Path:
        """The run directory."""
        run = RunDirectory.create(folder)
        written = TypeAdapter(Recipe).dump_python(self.recipe, mode="json")
        run.write_config(written, written)
        run.write_manifest(manifest().ending("failed" if self.message else "finished", self.message))
        figures = {name: value for name, value in (QUIET | dict(self.figures)).items() if value is not None}
        metrics = run.append_metrics(0)
        for i in range(N):
            row = {name: value if isinstance(value, float) else value[i] for name, value in figures.items()}
            metrics.write(self.step * (i + 1), row)
        metrics.close()
        if self.examined is not None:
            run.write_examination(self.examined)
        return folder


def manifest() -> Manifest:
    return Manifest(
        kind="training",
        command=["mnemoscope", "train"],
        revision=None,
        versions={"python": "3.11.7"},
        device="cpu",
        threads=1,
        seeds={"train": 0},
        data={},
        started=datetime(2026, 1, 1, tzinfo=UTC),
    )


def line(start: float, end: float) -> list[float]:
    return [start + (end - start) * i / (N - 1) for i in range(N)]


def then(*parts: tuple[int, float]) -> list[float]:
    """So many rows of each value."""
    values = [value for n, value in parts for _ in range(n)]
    return values + [values[-1]] * (N - len(values))


STABLEMAX = recipe(loss="stablemax")
NO_SOFTMAX: Mapping[str, Series | None] = {"softmax_collapse.share": None}
ARITHMETIC = recipe(ModularArithmeticConfig(modulus=11))
IDLE = examination(sites=[decorative(measures={})], groups=[])

DOCTORED: tuple[tuple[int, Doctored], ...] = (
    (1, Doctored(figures={"validation_accuracy": line(0.1, 0.6)})),
    (
        2,
        Doctored(
            figures={**NO_SOFTMAX, "validation_accuracy": 0.11, "effective_dimension.share.head": 0.05},
            recipe=STABLEMAX,
        ),
    ),
    (
        3,
        Doctored(
            figures={"validation_accuracy": 0.11, "raw_gate.mean": 0.15, "validation_utility": None},
            examined=IDLE,
        ),
    ),
    (4, Doctored(figures={"validation_accuracy": 0.4, "memory_rank.share": 0.9})),
    (5, Doctored(figures={"raw_gate.mean": 0.45})),
    (6, Doctored(figures={"raw_gate.mean": 0.02, "raw_gate.lifted_fraction": 1.0})),
    (7, Doctored(figures={"raw_gate.mean": 0.95})),
    (8, Doctored(figures={"validation_specificity": 0.01})),
    (9, Doctored(figures={"loss": line(3, 1)})),
    (10, Doctored(figures={"loss": line(1, 3)})),
    (10, Doctored(figures={"state_magnitude.norm": [1.5**i for i in range(N)]})),
    (10, Doctored(message="NonFiniteLossError: the loss of step 20001 is nan")),
    (11, Doctored(figures={"loss": 2.0})),
    (
        12,
        Doctored(
            figures={
                "validation_accuracy": then((2, 0.1), (18, 0.6)),
                "effective_dimension.share.embedding": then((5, 0.8), *((1, 0.8 - 0.036 * i) for i in range(1, 15))),
            }
        ),
    ),
    (
        13,
        Doctored(
            figures={**NO_SOFTMAX, "effective_dimension.share.embedding": then((1, 0.8), (19, 0.05))}, recipe=STABLEMAX
        ),
    ),
    (
        13,
        Doctored(
            figures={**NO_SOFTMAX, "effective_dimension.share.head": then((1, 0.8), (19, 0.05))}, recipe=STABLEMAX
        ),
    ),
    (
        14,
        Doctored(
            figures={
                "gradient_weight_cosine.before": line(0.006, 0.016),
                "gradient_weight_cosine.after": then((5, 1.1e-3), (10, -3e-4), (5, 8.7e-5)),
            },
            recipe=recipe(orthogonal_gradient=1.0),
        ),
    ),
    (15, Doctored(recipe=ARITHMETIC, figures={"softmax_collapse.share": 1.0})),
    (16, Doctored(figures={"state_magnitude.relative_update": 1e-5})),
    *(
        (number, Doctored(wants=(want,), recipe=recipe(MaskedWordsConfig(n_masks=13), **settings)))
        for settings in ({"weight_decay": 0.0, "learning_rate": 3e-4},)
        for number, want in (
            (17, "retain longer"),
            (17, "respond faster"),
            (17, "learn faster"),
            (17, "more expressive"),
            (18, "more content"),
            (18, "more practice"),
            (18, "isolation"),
            (19, "easier task"),
            (20, "check natural use"),
        )
    ),
    (20, Doctored(figures={"validation_utility": 0.01, "raw_gate.mean": 0.15})),
    (21, Doctored(recipe=recipe(MaskedWordsConfig()))),
    (22, Doctored(figures={"accuracy": 1.0, "validation_accuracy": then((5, 0.1), (15, 0.995))})),
    (23, Doctored(recipe=recipe(ModularArithmeticConfig(modulus=11), weight_decay=0.0))),
    (24, Doctored(step=100)),
    (25, Doctored(recipe=recipe(loss="stablemax", orthogonal_gradient=0.5), figures=NO_SOFTMAX)),
)
"""Every row, and runs that show it."""


def with_loss(doctored: Doctored) -> Doctored:
    """The same run with a loss that falls, as a training has one."""
    return replace(doctored, figures={**doctored.figures, "loss": line(3, 1)})

"""What the folder of a run says, as evidence for the rows of the decision framework."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from mnemoscope.examination.judgement.signs import Aim, Evidence, Settings, TaskKind
from mnemoscope.runs import Manifest, Row, RunDirectory
from mnemoscope.training import Recipe, TrainConfig, load_recipe

FIGURES: Mapping[str, tuple[str, ...]] = {
    "loss": ("loss",),
    "accuracy": ("accuracy",),
    "validation_accuracy": ("validation_accuracy_memory", "validation_accuracy"),
    "raw_gate_mean": ("raw_gate.mean", "remedy.gate_floor.raw_mean"),
    "memory_utility": ("validation_utility",),
    "memory_utility_error": ("validation_utility_se",),
    "memory_specificity": ("validation_specificity",),
    "memory_specificity_error": ("validation_specificity_se",),
    "memory_norm": ("state_magnitude.norm",),
    "memory_relative_update": ("state_magnitude.relative_update",),
    "memory_rank_share": ("memory_rank.share",),
    "embedding_dimension_ratio": ("effective_dimension.share.embedding", "effective_dimension.share.tied"),
    "head_dimension_ratio": ("effective_dimension.share.head",),
    "hidden_dimension_ratio": ("effective_dimension.share.hidden",),
    "gradient_weight_cosine": ("gradient_weight_cosine.after", "gradient_weight_cosine.before"),
    "gradient_weight_cosine_before": ("gradient_weight_cosine.before",),
    "softmax_collapse": ("softmax_collapse.share",),
}
"""What rows read, and under which names a training logs it; the first that a run has counts.

Of episodes, accuracy is that of the answers after storage: more of them than a validation batch holds, read as they are
trained.
"""

LANGUAGE = frozenset({"babi", "babi_files", "masked_words", "stories", "text"})
MATHEMATICS = frozenset({"modular_arithmetic", "sparse_parity"})


@dataclass(frozen=True, kw_only=True)
class RunEvidence:
    """A run as the framework sees it.

    Args:
        recipe: None where only a training was recorded, without model and task.
        manifest: of the run.
        evidence: one for each examined memory, or one where nobody examined any.
        examined: whether somebody did.
    """

    recipe: Recipe | None
    manifest: Manifest
    evidence: tuple[Evidence, ...]
    examined: bool


def read_run(directory: str | Path, task: TaskKind | None = None, aims: Collection[Aim] = ()) -> RunEvidence:
    """The evidence of a run.

    Args:
        directory: of the run.
        task: what kind it is; None for what its recipe says.
        aims: what is wanted.

    Raises:
        ValueError: a folder that holds no training, or a file of it that cannot be read.
    """
    run = RunDirectory.open(directory)
    resolved, manifest = run.read_config().resolved, run.read_manifest()
    if "train" not in resolved:
        raise ValueError(f"{run.config_path}: holds no settings of a training; give the folder of a training")
    recipe = load_recipe(directory) if "model" in resolved else None
    examination = run.read_examination() if run.verdicts_path.is_file() else None
    common = Evidence(
        metrics=_metrics(run.read_metrics(), manifest),
        task=task or (None if recipe is None else kind_of(recipe.task.kind)),
        settings=_settings(resolved["train"]),
        aims=frozenset(aims),
    )
    sites = [] if examination is None else examination.sites
    return RunEvidence(
        recipe=recipe,
        manifest=manifest,
        evidence=tuple(replace(common, site=site) for site in sites) or (common,),
        examined=bool(sites),
    )


def kind_of(task: str) -> TaskKind:
    """Whether a task is one of language, of mathematics, or neither."""
    return "language" if task in LANGUAGE else "mathematics" if task in MATHEMATICS else "other"


def _metrics(rows: list[Row], manifest: Manifest) -> list[dict[str, float]]:
    """Rows under the names of the framework; a training that ended in a loss without a value has one more."""
    logged = {name for row in rows for name in row}
    chosen = {name: next((each for each in names if each in logged), None) for name, names in FIGURES.items()}
    found = [
        {"step": float(row["step"])}
        | {name: float(row[source]) for name, source in chosen.items() if source is not None and source in row}
        for row in rows
    ]
    if manifest.message.startswith("NonFiniteLossError"):
        found.append({"step": found[-1]["step"] + 1 if found else 1.0, "loss": math.nan})
    return found


def _settings(train: Any) -> Settings:
    config = TypeAdapter(TrainConfig).validate_python(train)
    return Settings(
        weight_decay=config.weight_decay,
        learning_rate=config.learning_rate,
        stablemax=config.loss == "stablemax",
        orthogonal_gradient=config.orthogonal_gradient,
    )

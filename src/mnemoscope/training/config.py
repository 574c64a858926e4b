"""The settings of a training."""

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from pydantic import ConfigDict, TypeAdapter

from mnemoscope.training.metrics.config import MetricsConfig

Loss: TypeAlias = Literal["cross_entropy", "stablemax"]
OptimiserName: TypeAlias = Literal["adamw", "muon"]
Projected: TypeAlias = Literal["matrices", "all"]
Precision: TypeAlias = Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a model is trained.

    Args:
        steps: optimiser steps of the whole run, at least 1.
        batch_size: sequences of a training batch, at least 1.
        learning_rate: the largest one, reached at the end of the warm-up; positive.
        warmup_steps: steps over which the learning rate rises linearly, between 0 and `steps`.
        final_lr_fraction: learning rate of the last step as a fraction of the largest, in [0, 1]; a cosine leads
            there, 1 keeps it constant.
        weight_decay: decoupled (AdamW), on weight matrices only; at least 0.
        beta1: decay of the mean of gradients, in [0, 1).
        beta2: decay of the mean of their squares, in [0, 1).
        grad_clip: largest norm of the whole gradient, positive; None does not clip.
        loss: of tasks of tokens: "cross_entropy", or "stablemax" (see `mnemoscope.ops.stablemax`), of which the logged
            losses are then too; a task of vectors has a loss of its own and takes no other.
        optimiser: "adamw", or "muon": Muon for the hidden matrices and AdamW for the rest (see
            `mnemoscope.training.muon`); beta1 and beta2 are AdamW's alone.
        orthogonal_gradient: share of the part of a gradient along its weight that is taken out after clipping (see
            `mnemoscope.training.projection`), in [0, 1]; 0 takes nothing out.
        rescale_gradient: give what is left the norm that the gradient had, as the source does; only with
            `orthogonal_gradient`.
        orthogonal_gradient_of: "matrices" leaves vectors and embeddings alone, "all" does not; only with
            `orthogonal_gradient`.
        eval_every: steps between evaluations, at least 1; the last step is always evaluated.
        eval_sequences: validation sequences of an evaluation, at least 1.
        log_every: steps between rows of metrics, at least 1; the last step always has one.
        checkpoint_every: steps between checkpoints, at least 1; the last step always leaves one.
        metrics: what else is measured while it trains, and how often (see `mnemoscope.training.metrics`); None for
            nothing.
        precision: of weights and of matrix products, as Lightning names them (see `mnemoscope.training.machine`);
            "16-mixed" needs a CUDA device, "bf16-true" converts the model's weights, and they stay so.
        seed: of the data order, of the initial weights, and of what the model draws (dropout); at least 0.
        threads: CPU threads that one operation may use, at least 1; None leaves what torch has.

    Raises:
        ValueError: a value out of its range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    steps: int = 1000
    batch_size: int = 32
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    final_lr_fraction: float = 0.1
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    grad_clip: float | None = 1.0
    loss: Loss = "cross_entropy"
    optimiser: OptimiserName = "adamw"
    orthogonal_gradient: float = 0.0
    rescale_gradient: bool = False
    orthogonal_gradient_of: Projected = "matrices"
    eval_every: int = 100
    eval_sequences: int = 256
    log_every: int = 10
    checkpoint_every: int = 500
    metrics: MetricsConfig | None = None
    precision: Precision = "32-true"
    seed: int = 0
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "eval_every", "eval_sequences", "log_every", "checkpoint_every"):
            _require(self, name, getattr(self, name) >= 1, "at least 1")
        _require(self, "seed", 0 <= self.seed < 2**63, "at least 0 and below 2**63")
        _require(self, "threads", self.threads is None or self.threads >= 1, "at least 1, or None")
        _require(self, "learning_rate", 0 < self.learning_rate < math.inf, "positive and finite")
        _require(self, "final_lr_fraction", 0 <= self.final_lr_fraction <= 1, "in [0, 1]")
        _require(self, "weight_decay", 0 <= self.weight_decay < math.inf, "at least 0 and finite")
        _require(self, "beta1", 0 <= self.beta1 < 1, "in [0, 1)")
        _require(self, "beta2", 0 <= self.beta2 < 1, "in [0, 1)")
        clip = self.grad_clip
        _require(self, "grad_clip", clip is None or 0 < clip < math.inf, "positive and finite, or None")
        choices = {
            "loss": Loss,
            "optimiser": OptimiserName,
            "orthogonal_gradient_of": Projected,
            "precision": Precision,
        }
        for name, names in choices.items():
            _require(self, name, getattr(self, name) in get_args(names), f"one of {', '.join(get_args(names))}")
        strength = self.orthogonal_gradient
        _require(self, "orthogonal_gradient", 0 <= strength <= 1, "in [0, 1]")
        idle = "as it is by default where orthogonal_gradient is 0"
        _require(self, "rescale_gradient", strength > 0 or not self.rescale_gradient, idle)
        _require(self, "orthogonal_gradient_of", strength > 0 or self.orthogonal_gradient_of == "matrices", idle)
        within = 0 <= self.warmup_steps <= self.steps
        _require(self, "warmup_steps", within, f"between 0 and steps = {self.steps}")


def as_json(config: TrainConfig) -> dict[str, Any]:
    """The settings as a file holds them."""
    return TypeAdapter(TrainConfig).dump_python(config, mode="json")


def _require(config: TrainConfig, name: str, valid: bool, rule: str) -> None:
    if not valid:
        raise ValueError(f"TrainConfig.{name}: must be {rule}, got {getattr(config, name)}")

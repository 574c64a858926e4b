"""Training networks for the three moons.

Squared errors are clipped, so that moons that are not yet foreseen do not drown the one that is about to be; AdamW has
no bias correction, as in the published runs, where it was a default: the first steps are about three times as long.

Source: Zhang et al. 2024, "Memory Mosaics" (arXiv 2405.06394), section 3; facebookresearch/MemoryMosaics, `ThreeMoons`.
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_model, save_model
from torch import Tensor

from mnemoscope.contracts import Batch
from mnemoscope.contracts.devices import Device, chosen_device
from mnemoscope.examination.subject.losses import input_device
from mnemoscope.experiments.kept_arms import kept_arm
from mnemoscope.experiments.mosaics.trained import FOLDER, run_folder
from mnemoscope.experiments.planning import Target
from mnemoscope.experiments.reproducing import Measured
from mnemoscope.models.moons import MoonsNetwork, MoonsNetworkConfig, build_moons_network
from mnemoscope.tasks.streams import task_rng
from mnemoscope.tasks.three_moons import ThreeMoons, ThreeMoonsConfig
from mnemoscope.training import TrainConfig

BETAS, EPSILON = (0.9, 0.999), 1e-8


@dataclass(frozen=True, kw_only=True)
class MoonsTraining:
    """How a network is trained; the values are the published ones, but for the batch.

    Args:
        batch_size: sequences a step; 64 is published.
        length: observations of a sequence.
        steps: of the optimiser.
        learning_rate: at first.
        last_learning_rate: at the end of a straight line.
        clip: largest error that counts.
        bias_correction: of the moments of AdamW.
        is_complex: see `MoonsNetworkConfig`.
        device: of the training, and of the network after it.
    """

    batch_size: int = 16
    length: int = 800
    steps: int = 500
    learning_rate: float = 1e-2
    last_learning_rate: float = 5e-6
    clip: float = 0.5
    bias_correction: bool = False
    is_complex: bool = True
    device: Device = "cpu"


@dataclass(frozen=True, kw_only=True)
class TrainedMoons:
    """A trained network, and its loss at every step."""

    network: MoonsNetwork
    losses: list[float]


def train_moons(settings: MoonsTraining, n_heads: int, seed: int) -> TrainedMoons:
    """Train one network; what it sees and starts from depends on the seed alone."""
    network = build_moons_network(MoonsNetworkConfig(n_heads=n_heads, is_complex=settings.is_complex), seed)
    network.to(chosen_device(settings.device))
    task, optimiser = ThreeMoons(ThreeMoonsConfig(length=settings.length)), moons_optimiser(network)
    losses = list[float]()
    for step in range(settings.steps):
        batch = task.batch(task_rng(seed, "train", step), settings.batch_size, "train")
        losses.append(moons_step(network, optimiser, batch, settings, step))
    return TrainedMoons(network=network, losses=losses)


def trained_moons(out: Path, settings: MoonsTraining, n_heads: int, seed: int) -> TrainedMoons:
    """`train_moons`, once for all experiments of a folder.

    OUT/mosaic-runs/three-moons-3-heads/arm-0.json              settings and losses
                                        seed-0/model.safetensors

    Raises:
        ValueError: it was trained with other settings.
    """
    folder, name = out / FOLDER, moons_run(n_heads)
    weights = run_folder(out, name, seed) / "model.safetensors"

    def train() -> Measured:
        trained = train_moons(settings, n_heads, seed)
        weights.parent.mkdir(parents=True, exist_ok=True)
        unfinished = weights.with_suffix(".unfinished")
        save_model(trained.network, str(unfinished))
        os.replace(unfinished, weights)
        return Measured(figures={}, series={"loss": trained.losses})

    losses = kept_arm(folder, name, settings, seed, train).series["loss"]
    network = build_moons_network(MoonsNetworkConfig(n_heads=n_heads, is_complex=settings.is_complex), seed)
    load_model(network, str(weights))
    return TrainedMoons(network=network.to(chosen_device(settings.device)), losses=losses)


def moons_run(n_heads: int) -> str:
    """What its folder is called."""
    return f"three-moons-{n_heads}-head{'s' * (n_heads > 1)}"


def planned_moons(settings: MoonsTraining, n_heads: int, name: str) -> Target:
    """A training as the planner takes it."""
    config = MoonsNetworkConfig(n_heads=n_heads, is_complex=settings.is_complex)
    train = TrainConfig(
        steps=settings.steps, batch_size=settings.batch_size, warmup_steps=0, weight_decay=0.0, grad_clip=None
    )
    return Target(
        name=name,
        build=lambda: build_moons_network(config, 0),
        stack=None,
        batch=settings.batch_size,
        tokens=settings.length,
        train=train,
    )


def moons_optimiser(network: MoonsNetwork) -> torch.optim.Optimizer:
    """AdamW without decay; `moons_step` sets its rate."""
    return torch.optim.AdamW(network.parameters(), lr=1.0, betas=BETAS, eps=EPSILON, weight_decay=0.0)


def moons_step(
    network: MoonsNetwork, optimiser: torch.optim.Optimizer, batch: Batch, settings: MoonsTraining, step: int
) -> float:
    """One step of the optimiser, in place.

    Returns:
        The loss before it.
    """
    device = input_device(network)
    seen, targets = (torch.from_numpy(part).to(device) for part in (batch.inputs, batch.targets))
    loss = clipped_loss(network(seen), targets, settings.clip)
    optimiser.zero_grad()
    loss.backward()
    _set_rate(optimiser, _rate(settings, step), step + 1, settings.bias_correction)
    optimiser.step()
    return loss.item()


def clipped_loss(
    foreseen: Float[Tensor, "b t c"], targets: Float[Tensor, "b t c"], clip: float = 0.5
) -> Float[Tensor, ""]:
    """Mean squared error, errors cut off at `clip` to either side."""
    return (foreseen - targets).clamp(-clip, clip).square().mean()


def _rate(settings: MoonsTraining, step: int) -> float:
    return torch.lerp(
        torch.tensor(settings.learning_rate), torch.tensor(settings.last_learning_rate), step / settings.steps
    ).item()


def _set_rate(optimiser: torch.optim.Optimizer, rate: float, step: int, bias_correction: bool) -> None:
    """Without the correction of step `step`: rate m / (sqrt(v) + eps) of the moments as they are."""
    first, second = (1 - beta**step for beta in BETAS)
    for group in optimiser.param_groups:
        group["lr"] = rate if bias_correction else rate * first / math.sqrt(second)
        group["eps"] = EPSILON if bias_correction else EPSILON / math.sqrt(second)

"""The optimiser: AdamW, or Muon beside it, with warm-up and cosine, and weight decay where it means something."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer

from mnemoscope.training.config import TrainConfig
from mnemoscope.training.muon import MuonAndAdamW, hidden_matrices
from mnemoscope.training.remedies import Treatment

UNDECAYED_NAMES = frozenset({"bias", "norm", "embed", "embedding", "embeddings", "slots"})
"""A parameter with one of these in its dotted path is not decayed, whatever its shape."""


def learning_rate(step: int, config: TrainConfig) -> float:
    """Learning rate of one step: linear from 0 to the largest, then half a cosine down to the final fraction.

    Args:
        step: from 1 to `config.steps`.
        config: the training's settings.
    """
    if step < config.warmup_steps:
        return config.learning_rate * step / config.warmup_steps
    progress = (step - config.warmup_steps) / max(config.steps - config.warmup_steps, 1)
    cosine = (1 + math.cos(math.pi * progress)) / 2
    return config.learning_rate * (config.final_lr_fraction + (1 - config.final_lr_fraction) * cosine)


def is_decayed(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay may shrink a parameter: only what multiplies activations.

    A vector (bias, gain, rate) has no scale to regularise, and shrinking a stored vector (embedding, memory slot)
    would make the memory forget.

    Args:
        name: dotted path of the parameter.
        parameter: the parameter.
    """
    return parameter.ndim >= 2 and not UNDECAYED_NAMES.intersection(name.split("."))


def build_optimiser(model: nn.Module, config: TrainConfig, treatments: Sequence[Treatment] = ()) -> Optimizer:
    """AdamW over the parameters that require a gradient, in two groups: decayed and not.

    A tied parameter counts once; it is not decayed if any of its names, or any module that owns it, says so. With
    `config.optimiser` "muon", Muon has the hidden matrices in a group before these, decayed. Parameters of treatments
    are not decayed; what a treatment gives a learning rate of its own stands in a group of its own.

    Raises:
        ValueError: if nothing requires a gradient, or Muon would have nothing to do.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trained:
        raise ValueError("train: no parameter of the model requires a gradient; there is nothing to train")
    spared = spared_parameters(model)
    hidden = hidden_matrices(model, spared) if config.optimiser == "muon" else set[int]()
    decayed = {name: p for name, p in trained.items() if id(p) not in spared | hidden}
    groups = _group(decayed, config.weight_decay) + _group(_those_in(spared, trained), 0.0)
    groups += _group(_of_treatments(treatments), 0.0)
    factors = _factors(treatments)
    betas = (config.beta1, config.beta2)
    if config.optimiser == "muon":
        matrices = _by_factor(_group(_those_in(hidden, trained), config.weight_decay), factors)
        return MuonAndAdamW(matrices, _by_factor(groups, factors), config.learning_rate, betas)
    # Fused is one kernel per parameter instead of ten: small models train several times faster on a CPU.
    # It unscales gradients by itself, which must happen before they are clipped.
    fused = config.precision != "16-mixed"
    return AdamW(_by_factor(groups, factors), lr=config.learning_rate, betas=betas, fused=fused)


def set_learning_rate(optimiser: Optimizer, value: float, treatments: Sequence[Treatment] = ()) -> None:
    """Set the learning rate of every group, times what treatments make of it at their present strength."""
    factors = _factors(treatments)
    for group in optimiser.param_groups:
        group["lr"] = value * factors.get(id(group["params"][0]), 1.0)


def spared_parameters(model: nn.Module) -> set[int]:
    """Identities of the parameters that are not decayed."""
    named = model.named_parameters(remove_duplicate=False)
    spared = {id(p) for name, p in named if not is_decayed(name, p)}
    for module in model.modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            spared.add(id(module.weight))
    return spared


def _those_in(chosen: set[int], parameters: dict[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    return {name: p for name, p in parameters.items() if id(p) in chosen}


def _group(parameters: dict[str, nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """A group of an optimiser, or none of nothing."""
    return [{"params": list(parameters.items()), "weight_decay": weight_decay}] if parameters else []


def _of_treatments(treatments: Sequence[Treatment]) -> dict[str, nn.Parameter]:
    return {
        f"remedies.{number}.{name}": parameter
        for number, treatment in enumerate(treatments)
        for name, parameter in treatment.named_parameters()
        if parameter.requires_grad
    }


def _factors(treatments: Sequence[Treatment]) -> dict[int, float]:
    """Factors of learning rates by the identity of the parameter; those of several treatments multiply."""
    factors: dict[int, float] = {}
    for treatment in treatments:
        for parameter, factor in treatment.rate_factors().items():
            factors[id(parameter)] = factors.get(id(parameter), 1.0) * factor
    return factors


def _by_factor(groups: list[dict[str, Any]], factors: Mapping[int, float]) -> list[dict[str, Any]]:
    """Groups split by the factor of the learning rate; without factors, the groups as they are."""
    if not factors:
        return groups
    split: dict[tuple[int, float], dict[str, Any]] = {}
    for index, group in enumerate(groups):
        for name, parameter in group["params"]:
            factor = factors.get(id(parameter), 1.0)
            own = split.setdefault((index, factor), group | {"params": []})
            own["params"].append((name, parameter))
    return list(split.values())

"""Losses under fixed interventions, written as nnsight's documentation has it: one trace for each."""

from collections.abc import Mapping
from functools import cache, reduce
from typing import Any

import torch
from nnsight import NNsight
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.examination_effects import Change


@cache
def wrapped(model: nn.Module) -> NNsight:
    """What nnsight traces; made once for a model."""
    return NNsight(model)


def losses(model: NNsight, tokens: Tensor, targets: Tensor, changes: Mapping[str, Change]) -> Tensor:
    """Cross-entropy of every sequence, (b,), with the outputs of these modules changed.

    Args:
        model: wrapped.
        tokens: (b, t).
        targets: (b, t).
        changes: by the path of the module, in the order in which the modules run.
    """
    modules = [(reduce(_inner, path.split("."), model), change) for path, change in changes.items()]
    with model.trace(tokens):
        for module, change in modules:
            module.output = _changed(module.output, change)
        logits = model.output.save()
    nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return nats.view_as(targets).mean(1)


def _changed(value: Tensor, change: Change) -> Tensor:
    if isinstance(change, Tensor):
        return change.expand_as(value)
    return torch.zeros_like(value) if change == "zero" else value.roll(1, dims=0)


def _inner(module: Any, name: str) -> Any:
    return module[int(name)] if name.isdigit() else getattr(module, name)

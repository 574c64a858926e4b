"""A copy of a model as it was before any training: the same modules with fresh parameters.

A parameter is fresh by the first way that there is: what `reset_parameters` of its module draws, then what the
`_init_weights` of a Hugging Face model draws; what neither writes is redrawn from a normal distribution with the mean
and the spread of the tensor, so that its scale stays and what it had learned goes. Buffers stay as they are unless an
initialiser sets them. Cost: one deep copy, as many bytes as parameters and buffers hold.
"""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Fresh(NamedTuple):
    """An untrained copy, or None; and how it was made, or why there is none, in a sentence."""

    model: nn.Module | None
    said: str


def fresh_copy(model: nn.Module, seed: int) -> Fresh:
    """A copy with fresh parameters; the model itself, and the random states, are left as they are."""
    refusal = cannot_copy(model)
    if refusal is not None:
        return Fresh(None, refusal)
    try:
        copied = copy.deepcopy(model)
    except Exception as error:  # whatever a foreign model objects to, or too little memory
        return Fresh(None, f"the model cannot be copied: {type(error).__name__}")
    parameters = list(copied.parameters())
    devices = sorted({p.device.index or 0 for p in parameters if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        torch.default_generator.manual_seed(seed)
        for device in devices:
            torch.cuda.default_generators[device].manual_seed(seed)
        versions = [parameter._version for parameter in parameters]
        _initialise(copied)
        rest = [
            parameter
            for before, version, parameter in zip(model.parameters(), versions, parameters, strict=True)
            if parameter._version == version and torch.equal(before, parameter)
        ]
        for parameter in rest:
            _redraw(parameter)
    n_own = len(parameters) - len(rest)
    return Fresh(
        copied,
        f"{n_own} of {len(parameters)} parameters by the model's own initialisers, "
        f"{len(rest)} redrawn with the mean and spread of each",
    )


def cannot_copy(model: nn.Module) -> str | None:
    """Why there can be no untrained copy; None where nothing is known against it."""
    parameters, modules = list(model.parameters()), list(model.modules())
    if not parameters:
        return "the model has no parameters"
    if any(hasattr(module, "_hf_hook") for module in modules):
        return "the model's modules are placed by a device map, which a copy would not keep"
    if any(getattr(module, "is_quantized", False) is True for module in modules) or not all(
        parameter.is_floating_point() or parameter.is_complex() for parameter in parameters
    ):
        return "the model's weights are quantised"
    if any(parameter.device.type == "meta" for parameter in parameters):
        return "the model's weights are not all in memory"
    if any("forward" in vars(module) for module in modules):
        return "a module's forward was replaced on the instance, and a copy might run the original"
    return None


def _initialise(model: nn.Module) -> None:
    """Children before their parents, whose own scheme is the last word."""
    for module in reversed(list(model.modules())):
        _tried(getattr(module, "reset_parameters", None))
    for parameter in model.parameters():
        vars(parameter).pop("_is_hf_initialized", None)
    for module, init_weights in _hugging_face(model):
        vars(module).pop("_is_hf_initialized", None)
        _tried(init_weights, module)


def _hugging_face(model: nn.Module) -> Sequence[tuple[nn.Module, Any]]:
    """Every module inside a Hugging Face model, with `_init_weights` of the innermost one around it."""
    found: dict[nn.Module, Any] = {}
    for outer in model.modules():
        if any(cls.__name__ == "PreTrainedModel" for cls in type(outer).__mro__):
            found |= dict.fromkeys(outer.modules(), getattr(outer, "_init_weights", None))
    return list(found.items())[::-1]


def _tried(initialise: Any, *args: Any) -> None:
    """An initialiser that wants more than it gets leaves its parameters to be redrawn."""
    if callable(initialise):
        try:
            initialise(*args)
        except Exception:  # whatever a foreign initialiser objects to
            return


def _redraw(parameter: Tensor) -> None:
    mean, spread = parameter.mean(), (parameter - parameter.mean()).abs().square().mean().sqrt()
    if bool(torch.isfinite(spread)) and float(spread) > 0:
        parameter.copy_(torch.randn_like(parameter) * spread + mean)

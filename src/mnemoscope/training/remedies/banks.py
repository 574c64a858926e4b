"""Learned slots of a model, and losses that act on nothing else."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.contracts import Bank
from mnemoscope.contracts.outputs import PART
from mnemoscope.training.remedies.places import find_places
from mnemoscope.training.remedies.treatment import Computed, RemedyConfig, Treatment


def find_slots(model: nn.Module, patterns: tuple[str, ...]) -> dict[str, nn.Parameter]:
    """Matrices (m, d) of learned slots, by path: those of every bank, or the parameters of the modules that match.

    Args:
        model: any module.
        patterns: paths with stars, `path::name` for a parameter's name; without a name it is `slots` where there is
            one, and `weight` elsewhere, whose rows are then the slots.

    Raises:
        ValueError: where there is none, or it is no matrix.
    """
    if patterns:
        places = find_places(model, patterns, "memory", "")
        return dict(_parameter(place.path, place.module, place.part) for place in places)
    banks = {path: module for path, module in model.named_modules() if _is_bank(module)}
    if not banks:
        raise ValueError(
            "remedy: the model has no bank of learned slots; name the modules that hold them, with the parameter's "
            f"name behind their path: sites=('model.bank{PART}slots',)"
        )
    return dict(_parameter(path, module, None) for path, module in banks.items())


def unit_slots(slots: Float[Tensor, "m d"]) -> Float[Tensor, "m d"]:
    """Slots at length 1, in float32 at least."""
    return F.normalize(slots.to(torch.promote_types(slots.dtype, torch.float32)), dim=-1)


def mean_cosine(slots: Float[Tensor, "m d"]) -> float:
    """Of all pairs of different slots; 1 for a single slot."""
    unit, n_slots = unit_slots(slots.detach()), slots.shape[0]
    if n_slots == 1:
        return 1.0
    return float((unit.sum(0).square().sum() - n_slots) / (n_slots * (n_slots - 1)))


class SlotPenalty(Treatment):
    """A loss on every matrix of slots, times the strength.

    Args:
        remedy: its settings.
        model: what holds the slots.
        penalty: slots (m, d) -> a scalar.
    """

    def __init__(
        self, remedy: RemedyConfig, model: nn.Module, penalty: Callable[[Float[Tensor, "m d"]], Float[Tensor, ""]]
    ) -> None:
        super().__init__(remedy)
        self.penalty = penalty
        self._slots = list(find_slots(model, remedy.sites).values())

    def extra_loss(self, computed: Computed) -> Float[Tensor, ""] | None:
        """The sum over the matrices."""
        if self.strength == 0:
            return None
        return self.strength * torch.stack([self.penalty(slots) for slots in self._slots]).sum()

    def figures(self) -> dict[str, float]:
        """How alike slots are, beside the strength: the mean over the matrices."""
        return super().figures() | {"slot_cosine": sum(map(mean_cosine, self._slots)) / len(self._slots)}


def _is_bank(module: nn.Module) -> bool:
    return isinstance(module, Bank)


def _parameter(path: str, module: nn.Module, part: str | None) -> tuple[str, nn.Parameter]:
    own = dict(module.named_parameters(recurse=False))
    name = part or ("slots" if "slots" in own else "weight")
    slots = own.get(name)
    if slots is None or slots.ndim != 2:
        matrices = [f"{path}{PART}{name}" for name, value in own.items() if value.ndim == 2]
        got = "none" if slots is None else f"shape {tuple(slots.shape)}"
        raise ValueError(
            f"remedy: {path} must hold a matrix (slots, channels) called {name!r}, got {got}; "
            f"matrices there: {', '.join(matrices) or 'none'}"
        )
    return f"{path}.{name}", slots

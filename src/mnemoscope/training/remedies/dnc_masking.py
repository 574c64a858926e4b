"""Masked look-ups, and the other two amendments of the differentiable neural computer: what a key need not say (R5).

Three amendments belong together:

    masking         content is compared under a mask: cos(m * k, m * M_i), m in (floor, 1) per channel
    de-allocation   what is freed is wiped, and usage passes no gradient back to the writing weights
    sharpness       what the temporal links say is raised to a learned power and normalised

They change what a memory is, so the `dnc` of this package has them as options, and `amended` switches them on in a
configuration before the model is built. That is the remedy for a DNC; nothing can be put on a built one, whose
controller has no outputs for masks and powers.

What `DncMasking` does: masking alone, on any module that looks content up by scalar products, while it learns to. The
outputs k of the `Linear` layers named (they make keys or queries) become k * (1 + strength (m / mean(m) - 1)) with
m = floor + (1 - floor) sigmoid(W x + bias) of the layer's input x; W and bias belong to the treatment and are trained.

Why: without a mask, a look-up by a part of what was stored is drawn aside by the rest of it.

Published effect: masking and de-allocation lower the mean error on bAbI from 16.7 +- 7.6 % to 9.5 +- 1.6 % (recalled,
not read again; the paper's abstract says 43 %); on key-value retrieval it is masking that makes the difference. None
is known of the treatment.

Known problems: a treatment acts in training only, so that masks must have faded out when the model is evaluated:
`final_strength` is 0 unless you say otherwise. It is a curriculum from partial to whole keys, not the amendment.

Example: `build(amended(StackConfig.of("dnc", vocab_size=64, d_model=64)), seed=0)`, or
`DncMasking(sites=("model.layers.*.self_attn.q_proj",))`.

Source: Csordás & Schmidhuber 2019 (arXiv 1904.10278), sections 3.1 to 3.3; decorative-memory specification, R5.
Differs: one side of a scalar product is masked, which is the same as both under the root of the mask; the mask is
divided by its mean, since a scalar product, unlike a cosine, is not indifferent to its scale.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn

from mnemoscope.memories import DNCConfig
from mnemoscope.models import StackConfig
from mnemoscope.training.remedies.places import find_places
from mnemoscope.training.remedies.treatment import RemedyConfig, Treatment


def amended(
    config: StackConfig,
    *,
    masking: bool = True,
    mask_floor: float = 0.0,
    deallocation: bool = True,
    sharpness: bool = True,
) -> StackConfig:
    """A stack with these amendments in every DNC, however deep; everything else as it was.

    Raises:
        ValueError: if it has no DNC.
    """
    found: list[DNCConfig] = []

    def amend(dnc: DNCConfig) -> DNCConfig:
        found.append(dnc)
        return replace(dnc, masking=masking, mask_floor=mask_floor, deallocation=deallocation, sharpness=sharpness)

    changed: StackConfig = _within(config, amend)
    if not found:
        raise ValueError(
            "dnc_masking: the stack must have a dnc to amend, got none; of other memories, name the layers that make "
            "keys or queries: DncMasking(sites=(...,))"
        )
    return changed


@dataclass(frozen=True, kw_only=True)
class DncMasking(RemedyConfig):
    """Settings; `strength` is how much of the mask acts, in [0, 1].

    Args:
        floor: least value of a mask, in [0, 1).
    """

    kind: Literal["dnc_masking"] = "dnc_masking"
    final_strength: float | None = 0.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("strength", "final_strength"):
            value = getattr(self, name)
            if value is not None and value > 1:
                raise ValueError(f"DncMasking.{name}: must be in [0, 1], got {value}; 1 is the whole mask")
        if not 0 <= self.floor < 1:
            raise ValueError(f"DncMasking.floor: must be in [0, 1), got {self.floor}; use 0")

    def attach(self, model: nn.Module) -> "DncMaskingTreatment":
        """On the `Linear` layers named; there is no default."""
        return DncMaskingTreatment(self, model)


class Mask(nn.Module):
    """A mask (..., k) made from the input of a layer (..., d)."""

    def __init__(self, layer: nn.Linear, floor: float) -> None:
        super().__init__()
        self.floor = floor
        weight = layer.weight
        self.inner = nn.Linear(layer.in_features, layer.out_features, device=weight.device, dtype=weight.dtype)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b k"]:
        """Over its mean."""
        mask = self.floor + (1 - self.floor) * self.inner(x).sigmoid()
        return mask / mask.mean(-1, keepdim=True)


class DncMaskingTreatment(Treatment):
    """A mask per layer, with its own weights."""

    def __init__(self, remedy: DncMasking, model: nn.Module) -> None:
        super().__init__(remedy)
        if not remedy.sites:
            raise ValueError(
                "dnc_masking: sites must name the Linear layers that make keys or queries, got none; "
                "a DNC of ours takes its amendments from its configuration: build the model from amended(config)"
            )
        self.masks = nn.ModuleList()
        for place in find_places(model, remedy.sites, "memory", ""):
            if not isinstance(place.module, nn.Linear):
                raise ValueError(
                    f"dnc_masking: {place.path} must be a Linear layer that makes keys or queries, got a "
                    f"{type(place.module).__name__}; name the layer inside it"
                )
            self._put(place.module, Mask(place.module, remedy.floor))

    def _put(self, layer: nn.Linear, mask: Mask) -> None:
        self.masks.append(mask)

        def hook(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor | None:
            if not module.training or self.strength == 0:
                return None
            return output * (1 + self.strength * (mask(arguments[0]) - 1))

        self.on_detach(layer.register_forward_hook(hook))


def _within(value: Any, amend: Callable[[DNCConfig], DNCConfig]) -> Any:
    """A configuration with every DNC's amended, through tuples and nested configurations."""
    if isinstance(value, DNCConfig):
        return amend(value)
    if isinstance(value, tuple):
        return tuple(_within(part, amend) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _within(getattr(value, field.name), amend) for field in fields(value)})
    return value

"""Gate floor: in training the memory's gate cannot shut below a floor, which is lowered in phases.

What it does: with raw gate r and floor f, both in [0, 1], what the model uses is

    affine    f + (1 - f) r          the default: the gradient is (1 - f) times that of r, wherever r is
    clamp     max(r, f)              of a gate below the floor the gradient is zero
    penalty   r                      and weight * mean(relu(f - r)) is added to the loss

f is `strength` times the floor of the phase, and in the storage and retrieval of an episodic training the larger of
that and the floor of the mode (`set_mode`). Such a training is in no other mode, so that phases whose floors are not
above those of the modes change nothing (`phases_are_idle`): with the values below, f is .80 and .30 from the first step
to the last. The raw gate is what is logged: `raw_mean`, and `floored_fraction`, the share of gates below the floor. In
evaluation the gate is raw.

Why: a gate that shuts while the memory is still noise keeps it noise. A floor is scaffolding, to be taken down.

Published effect: none measured. The phases .30, .10, .05 (3000 and 4000 of 100,000 steps), storage .80 and retrieval
.30 are the settings of the Atlas tuning guide; in the guide's own code the floors of the phases never act.

Known problems: a mean of floored gates cannot fall below the floor, so that it says nothing about health: measured
for the specification on an episodic training with the guide's settings, whose memory contributed nothing, the raw
gate fell to .13 while the floored mean read .38. A clamped gate gets no gradient to open of itself (`clamp` is the
guide's; hence `affine`). A model that is trained under a high last floor and evaluated without one is another model:
let the last floor be low. Where both sides of a convex gate are memories, both are floored, and their weights may add
up to more than one; name one in `sites`.

Example: `GateFloor(floors=(0.5, 0.3, 0.05), switches=(10_000, 14_000), unit="steps")`, or of a linear layer whose
sigmoid is taken elsewhere, `GateFloor(sites=("layers.*.gate_proj",), site_gives="logits")`.

Source: the Atlas tuning guide's parameters and what its code does with them (atlas specification, 1.4 and 1.6 D3, D4,
D6); the affine form and the penalty are of the specification.
"""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.training.remedies.places import Place, find_places
from mnemoscope.training.remedies.treatment import Computed, RemedyConfig, Treatment

EpisodeMode: TypeAlias = Literal["normal", "storage", "retrieval"]


@dataclass(frozen=True, kw_only=True)
class GateFloor(RemedyConfig):
    """Settings; `strength` multiplies the floors, in [0, 1].

    Args:
        floors: of the phases in their order, each in [0, 1).
        switches: where the next phase begins, ascending, one fewer than floors; parts of the training, or steps.
        unit: of `switches`: parts in (0, 1), or finished steps (3000: step 3001 is in the next phase).
        storage_floor: least floor while an episode stores, in [0, 1); 0 leaves the phases' alone.
        retrieval_floor: least floor while an episode retrieves, in [0, 1); 0 leaves the phases' alone.
        floor_mode: how a floor acts.
        weight: of the penalty in the loss, positive.
        site_gives: what the sites give: a gate in [0, 1], or the log-odds of one.
    """

    kind: Literal["gate_floor"] = "gate_floor"
    floors: tuple[float, ...] = (0.30, 0.10, 0.05)
    switches: tuple[float, ...] = (0.03, 0.07)
    unit: Literal["parts", "steps"] = "parts"
    storage_floor: float = 0.80
    retrieval_floor: float = 0.30
    floor_mode: Literal["affine", "clamp", "penalty"] = "affine"
    weight: float = 1.0
    site_gives: Literal["gate", "logits"] = "gate"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_floors()
        ascending = all(before < after for before, after in zip(self.switches, self.switches[1:], strict=False))
        if not ascending or len(self.switches) != len(self.floors) - 1:
            raise ValueError(
                f"GateFloor.switches: must be ascending, and one fewer than the {len(self.floors)} floors, got "
                f"{self.switches}; give the point at which each floor after the first begins"
            )
        in_parts = self.unit == "parts"
        fits = (lambda at: 0 < at < 1) if in_parts else (lambda at: at >= 1 and at == int(at))
        if not all(math.isfinite(at) and fits(at) for at in self.switches):
            raise ValueError(
                f"GateFloor.switches: must be {'parts of the training in (0, 1)' if in_parts else 'whole steps'}, got "
                f"{self.switches}; or set unit={'steps' if in_parts else 'parts'!r}"
            )
        if not 0 < self.weight < math.inf:
            raise ValueError(f"GateFloor.weight: must be positive and finite, got {self.weight}")

    def _require_floors(self) -> None:
        for name in ("strength", "final_strength"):
            value = getattr(self, name)
            if value is not None and value > 1:
                raise ValueError(f"GateFloor.{name}: must be in [0, 1], got {value}; raise the floors instead")
        if not self.floors:
            raise ValueError("GateFloor.floors: must be at least one, got none; use (0.0,) for the modes' floors alone")
        named = {"floors": self.floors, "storage_floor": (self.storage_floor,)}
        for name, values in (named | {"retrieval_floor": (self.retrieval_floor,)}).items():
            if not all(0 <= value < 1 for value in values):
                raise ValueError(f"GateFloor.{name}: must be in [0, 1), got {getattr(self, name)}")

    def phase_floor(self, step: int, steps: int) -> float:
        """The floor of the phase that a step (1 to `steps`) is in, before `strength`."""
        done = (step - 1) / max(steps - 1, 1) if self.unit == "parts" else step - 1
        return self.floors[sum(done >= at for at in self.switches)]

    def mode_floor(self, mode: EpisodeMode) -> float:
        """The floor of an episode's mode, before `strength`; none in the normal one."""
        return {"normal": 0.0, "storage": self.storage_floor, "retrieval": self.retrieval_floor}[mode]

    def lifted(self, gates: Float[Tensor, "*shape"], floor: float) -> Float[Tensor, "*shape"]:
        """Gates in [0, 1] above a floor; as they are where the floor is a penalty."""
        match self.floor_mode:
            case "clamp":
                return gates.clamp(min=floor)
            case "affine":
                return floor + (1 - floor) * gates
            case "penalty":
                return gates

    @property
    def phases_are_idle(self) -> bool:
        """Whether the phases change nothing in episodes, since both modes have floors at least as high."""
        return max(self.floors) <= min(self.storage_floor, self.retrieval_floor)

    def attach(self, model: nn.Module) -> "GateFloorTreatment":
        """On the gates of all memories, or on the outputs of the modules named."""
        return GateFloorTreatment(self, model)


class GateFloorTreatment(Treatment):
    """Floors gates (b, t, ...), and keeps account of what they were before."""

    def __init__(self, remedy: GateFloor, model: nn.Module) -> None:
        super().__init__(remedy)
        self.settings = remedy
        self.mode: EpisodeMode = "normal"
        self._phase_floor = 0.0
        self._raw_sum: list[Tensor] = []
        self._n_floored: list[Tensor] = []
        self._n_gates = 0
        self._penalties: list[Tensor] = []
        self._checked: set[str] = set()
        for place in find_places(model, remedy.sites, "memory", "gate"):
            self._attach(place)

    def set_mode(self, mode: EpisodeMode) -> None:
        """Say what the next forward passes are: an episode's storage or retrieval, or neither."""
        if mode not in get_args(EpisodeMode):
            raise ValueError(f"GateFloor.set_mode: must be one of {', '.join(get_args(EpisodeMode))}, got {mode!r}")
        self.mode = mode

    @property
    def floor(self) -> float:
        """That acts now, in [0, 1)."""
        return self.strength * max(self._phase_floor, self.settings.mode_floor(self.mode))

    def on_step(self, step: int, steps: int) -> None:
        """The floor of the step's phase; the account starts anew."""
        super().on_step(step, steps)
        self._phase_floor = self.settings.phase_floor(step, steps)
        self._raw_sum, self._n_floored, self._n_gates = [], [], 0
        self._penalties = []

    def extra_loss(self, computed: Computed) -> Float[Tensor, ""] | None:
        """The penalty, a mean over the gates of all calls since the last; None in the other modes."""
        penalties, self._penalties = self._penalties, []
        return self.settings.weight * torch.stack(penalties).mean() if penalties else None

    def figures(self) -> dict[str, float]:
        """Strength and floor, and of the raw gates of this step their mean and the share below the floor."""
        figures = super().figures() | {"floor": self.floor}
        if self._n_gates:
            figures["raw_mean"] = torch.stack(self._raw_sum).sum().item() / self._n_gates
            figures["floored_fraction"] = torch.stack(self._n_floored).sum().item() / self._n_gates
        return figures

    def _attach(self, place: Place) -> None:
        def change(given: Tensor) -> Tensor:
            raw = given.sigmoid() if self.settings.site_gives == "logits" else given
            if place.path not in self._checked:
                _check(place.path, raw)
                self._checked.add(place.path)
            self._account(raw)
            return given if self.floor == 0 else self._floored(given, raw)

        self.on_detach(place.change(change))

    def _floored(self, given: Tensor, raw: Tensor) -> Tensor:
        if self.settings.floor_mode == "penalty":
            self._penalties.append((self.floor - raw).relu().mean())
            return given
        if self.settings.site_gives == "logits":
            of_logits = clamp_logits if self.settings.floor_mode == "clamp" else affine_logits
            return of_logits(given, self.floor)
        return self.settings.lifted(raw, self.floor)

    @torch.no_grad()
    def _account(self, raw: Tensor) -> None:
        self._raw_sum.append(raw.sum(dtype=torch.float32))
        self._n_floored.append((raw < self.floor).sum())
        self._n_gates += raw.numel()


def clamp_logits(logits: Float[Tensor, "*shape"], floor: float) -> Float[Tensor, "*shape"]:
    """The log-odds of max(sigmoid(logits), floor), for a floor in (0, 1)."""
    return logits.clamp(min=math.log(floor) - math.log1p(-floor))


def affine_logits(logits: Float[Tensor, "*shape"], floor: float) -> Float[Tensor, "*shape"]:
    """The log-odds of floor + (1 - floor) sigmoid(logits), for a floor in (0, 1); exact where the sigmoid is 1."""
    opened = floor + (1 - floor) * logits.sigmoid()
    return opened.log() - math.log1p(-floor) + F.softplus(logits)


def _check(path: str, raw: Tensor) -> None:
    low, high = (bound.item() for bound in raw.detach().aminmax())
    if low < 0 or high > 1:
        raise ValueError(
            f"GateFloor: {path} must give gates in [0, 1], got {low:.3g} to {high:.3g}; name the module that gives the "
            "gate, or set site_gives='logits' where its sigmoid is taken later"
        )

"""Gate opening: the memory starts with an open gate and a larger learning rate than the rest (R15).

What it does: before the first step, `gate_bias` is added to the bias of every memory's gate, so that a gate that
started at one half starts at 0.88. All through the training the parameters of the memory and of its gate learn at
`rate` times the learning rate. The start is part of what is trained: a bias that was moved stays where training takes
it, and taking the remedy off does not move it back. `strength` scales both: bias + strength * gate_bias once, with
the strength of the first step that has one, and the rate 1 + strength * (rate - 1) of every step. It adds no loss and
no randomness, and evaluation sees the weights as they are.

The gates are found in a parallel block with a convex gate (`fusion.mix`; for a memory on the side that an open gate
disfavours the sign is turned) and in a bank that is gated (`fusion`). Of other models, `gates` names each gate's
linear layer, or its bias where that is a parameter of its own.

Why: a gate that starts shut, or shuts in the first steps because the memory is still noise, lets no gradient through,
and the memory stays noise.

Published effect: none measured; custom. Warm-starting with `Reconstruction` is advised with it.

Known problems: where a gate adds to a stream and the memory's output projection (or the gate's scale) starts at
zero, the gate may never open, whatever its bias (arXiv 2606.16730): a memory that contributes exactly zero in the
first step is refused, or with `zero_output="warn"` warned of. A large rate may make a memory unstable.

Example: `GateOpening()`, `GateOpening(sites=("layers.*.memory",), gates=("layers.*.memory_gate",), gate_bias=3.0)`,
or `GateOpening(gate_bias=0.0)` for the rate alone.

Source: decorative-memory specification, R15; of gates that start open, Jozefowicz, Zaremba, Sutskever 2015, "An
empirical exploration of recurrent network architectures".
"""

import math
import warnings
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mnemoscope.contracts import ReadPoint
from mnemoscope.contracts.paths import matches
from mnemoscope.models.mixers import ConvexFusion, Parallel
from mnemoscope.training.remedies.places import Place, find_modules, find_places
from mnemoscope.training.remedies.treatment import RemedyConfig, Treatment


@dataclass(frozen=True, kw_only=True)
class GateOpening(RemedyConfig):
    """Settings; `strength` is how much of both is applied, 1 as given.

    Args:
        gates: path patterns of the linear layers whose sigmoid gates a memory, or of their biases; none for those
            that the model is known to have.
        gate_bias: added to the bias of every gate at the start, in log-odds; negative for a gate that lets through
            what is beside the memory; 0 leaves the gates alone.
        rate: multiple of the learning rate for the parameters of memories and gates, positive.
        zero_output: what to do about a memory that contributes exactly zero in the first step.
    """

    kind: Literal["gate_opening"] = "gate_opening"
    gates: tuple[str, ...] = ()
    gate_bias: float = 2.0
    rate: float = 3.0
    zero_output: Literal["refuse", "warn"] = "refuse"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not math.isfinite(self.gate_bias):
            raise ValueError(f"GateOpening.gate_bias: must be finite, got {self.gate_bias}")
        if not 0 < self.rate < math.inf:
            raise ValueError(f"GateOpening.rate: must be positive and finite, got {self.rate}")
        lowest = 1 + max(self.strength, self.final_strength or 0.0) * (self.rate - 1)
        if lowest < 0:
            raise ValueError(f"GateOpening: 1 + strength * (rate - 1) must be at least 0, got {lowest}")

    def attach(self, model: nn.Module) -> "GateOpeningTreatment":
        """On every memory that the model announces, or on the modules named, and on their gates."""
        return GateOpeningTreatment(self, model)


class GateOpeningTreatment(Treatment):
    """Moves biases once, and says which parameters learn faster."""

    opened: Tensor

    def __init__(self, remedy: GateOpening, model: nn.Module) -> None:
        super().__init__(remedy)
        self.gate_bias, self.rate, self.zero_output = remedy.gate_bias, remedy.rate, remedy.zero_output
        self.strength = remedy.strength_at(1, 1)
        memories = find_modules(model, remedy.sites, "memory")
        self._gates = _gates(model, remedy, memories)
        own = [parameter for module in memories.values() for parameter in module.parameters()]
        self._faster = list(dict.fromkeys([*own, *(part for gate in self._gates.values() for part in gate.parameters)]))
        self.register_buffer("opened", torch.zeros((), dtype=torch.bool))
        self._watches: dict[str, RemovableHandle] = {}
        for place in find_places(model, remedy.sites, "memory", "contribution"):
            self._watches[place.path] = self._refuse_zero(place)
            self.on_detach(self._watches[place.path])

    def on_step(self, step: int, steps: int) -> None:
        """Open the gates before the first step that has a strength; a training that is resumed has opened them."""
        super().on_step(step, steps)
        if self.strength > 0 and not self.opened:
            self._open()

    def rate_factors(self) -> dict[nn.Parameter, float]:
        """1 + strength * (rate - 1) for what the memories and their gates learn; before the first step, that of it."""
        factor = 1 + self.strength * (self.rate - 1)
        return dict.fromkeys(self._faster, factor)

    def figures(self) -> dict[str, float]:
        """The strength, and the mean of the gates' biases."""
        biases = [gate.bias.detach().flatten() for gate in self._gates.values()]
        return super().figures() | ({"bias": torch.cat(biases).mean().item()} if biases else {})

    @torch.no_grad()
    def _open(self) -> None:
        for gate in self._gates.values():
            gate.bias.add_(gate.sign * self.strength * self.gate_bias)
        self.opened.fill_(True)

    def _refuse_zero(self, place: Place) -> RemovableHandle:
        def see(contribution: Tensor) -> None:
            if self.strength == 0:
                return
            self._watches[place.path].remove()
            if contribution.detach().any():
                return
            message = (
                f"GateOpening: {place.path} contributes exactly zero in the first step; its output projection, or the "
                "scale of its gate, must not start at zero, since such a gate may never open; draw it at random "
            )
            if self.zero_output == "refuse":
                raise ValueError(message + "(or set zero_output='warn')")
            warnings.warn(message.strip(), stacklevel=2)

        return place.watch(see)


@dataclass(frozen=True, kw_only=True)
class _Gate:
    """A gate's bias, all that it learns, and whether more bias opens (1) or shuts (-1) it for the memory."""

    bias: nn.Parameter
    parameters: tuple[nn.Parameter, ...]
    sign: int


def _gates(model: nn.Module, remedy: GateOpening, memories: dict[str, nn.Module]) -> dict[str, _Gate]:
    """By path; none where the gates are to be left alone and none is named.

    Raises:
        ValueError: a memory without a known gate, a gate between two memories, or a named gate without a bias.
    """
    if remedy.gates:
        return {path: gate for pattern in remedy.gates for path, gate in _named(model, pattern).items()}
    found: dict[str, _Gate] = {}
    for path, memory in memories.items():
        gates = _own(path, memory) | _around(model, path)
        if not gates and remedy.gate_bias != 0:
            raise ValueError(
                f"GateOpening: no gate of {path} is known; name its linear layer, gates=('{path}.gate',), or set "
                "gate_bias=0 for the learning rate alone"
            )
        for name, gate in gates.items():
            if remedy.gate_bias != 0 and found.get(name, gate).sign != gate.sign:
                raise ValueError(
                    f"GateOpening: {name} stands between two memories, so that it opens for one as it shuts for the "
                    "other; name the memory in sites, or set gate_bias=0"
                )
        found |= gates
    return found


def _own(path: str, memory: nn.Module) -> dict[str, _Gate]:
    """The gate of a gated bank."""
    children = dict(memory.named_children())
    fusion = children.get("fusion")
    if isinstance(children.get("gate"), ReadPoint) and isinstance(fusion, nn.Linear):
        return {f"{path}.fusion": _linear_gate(f"{path}.fusion", fusion, 1)}
    return {}


def _around(model: nn.Module, path: str) -> dict[str, _Gate]:
    """The convex gates of the parallel blocks that a memory stands in."""
    names, found = path.split("."), dict[str, _Gate]()
    for depth in range(len(names)):
        outer = model.get_submodule(".".join(names[:depth]))
        if isinstance(outer, Parallel) and isinstance(outer.fusion, ConvexFusion):
            where = ".".join([*names[:depth], "fusion", "mix"])
            found[where] = _linear_gate(where, outer.fusion.mix, 1 if names[depth] == "memory" else -1)
    return found


def _named(model: nn.Module, pattern: str) -> dict[str, _Gate]:
    biases = {path: bias for path, bias in model.named_parameters() if matches(path, pattern)}
    if biases:
        return {path: _Gate(bias=bias, parameters=(bias,), sign=1) for path, bias in biases.items()}
    linears = find_modules(model, (pattern,), "memory")
    return {path: _linear_gate(path, linear, 1) for path, linear in linears.items()}


def _linear_gate(path: str, linear: nn.Module, sign: int) -> _Gate:
    parameters = dict(linear.named_parameters(recurse=False))
    if "bias" not in parameters:
        raise ValueError(
            f"GateOpening.gates: {path} must be a linear layer with a bias, got {type(linear).__name__} with "
            f"{', '.join(parameters) or 'no parameters'}; name another layer, or the parameter that is its bias"
        )
    return _Gate(bias=parameters["bias"], parameters=tuple(parameters.values()), sign=sign)

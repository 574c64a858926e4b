"""What keeps a neural Turing machine from failing early: bounds on controls and gradients, and where it starts (R9).

What it does, on every `ntm`, `dnc` and `mann` of ours, or on what is named:

    start       a random or learned memory of an `ntm` starts at 1e-6 everywhere; the forget gates of every LSTM (ours,
                `nn.LSTM`, `nn.LSTMCell`, wherever they are in the model) have the bias 1
    controls    are kept within +-20: the controllers of ours, or the outputs of the modules in `sites`
    keys        the outputs of the modules in `keys` go through tanh
    gradients   every number of every gradient is kept within +-10

Start values are set before the first step alone; what was learned since is never overwritten. Memories of ours have
most of it anyway: `ntm` starts at 1e-6 with memory="constant", `clip` is 20 and `forget_bias` 1 unless configured
otherwise, and keys of `ntm` and `mann` are tanh. `dnc` and `mann` start at zero, where look-ups are defined here (a
floor under squared lengths), and keep that. The other published bound, a gradient's norm of at most 50, is
`TrainConfig.grad_clip`, whose default of 1 is stricter.

Why: large controls saturate softplus and softmax, whose gradients then vanish or, behind a division, become NaN; a
memory of random numbers is content that somebody has to erase first.

Published effect: the constant start converges twice as fast as the next best (Collier & Beel 2018, arXiv 1807.08518).

Known problems: a bound has no gradient beyond it, so that a control that starts outside stays there. The bounds act in
training only: with one so tight that it is often met, evaluation is another model.

Example: `NtmStability()`, or `NtmStability(sites=("model.head_controls",), keys=("model.key_proj",))`.

Source: Collier & Beel 2018 (arXiv 1807.08518): start, controls, norm 50, as in their code; gradients within +-10,
Graves, Wayne, Danihelka 2014 (arXiv 1410.5401), section 4.6; decorative-memory specification, R9 and 0.1.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from mnemoscope.memories import DNC, MANN, NTM
from mnemoscope.memories.controllers import Controller
from mnemoscope.training.remedies.attributes import other_in_training
from mnemoscope.training.remedies.places import Place, find_places
from mnemoscope.training.remedies.treatment import RemedyConfig, Treatment


@dataclass(frozen=True, kw_only=True)
class NtmStability(RemedyConfig):
    """Settings; where `strength` is positive, the bounds act.

    Args:
        memory_start: every number of an NTM's memory before the first step.
        control_clip: largest absolute value of a control.
        gradient_clip: largest absolute value of a number of a gradient; None for no bound.
        forget_bias: of LSTMs before the first step; None leaves it.
        keys: path patterns of modules whose outputs go through tanh.
    """

    kind: Literal["ntm_stability"] = "ntm_stability"
    memory_start: float = 1e-6
    control_clip: float = 20.0
    gradient_clip: float | None = 10.0
    forget_bias: float | None = 1.0
    keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, default in (("control_clip", 20), ("gradient_clip", 10)):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"NtmStability.{name}: must be positive and finite, got {value}; use {default}")

    def attach(self, model: nn.Module) -> "NtmStabilityTreatment":
        """On every NTM, DNC and MANN and every LSTM, or on the modules named and every LSTM."""
        return NtmStabilityTreatment(self, model)


class NtmStabilityTreatment(Treatment):
    """Bounds by hooks, and start values that are set in the first step."""

    def __init__(self, remedy: NtmStability, model: nn.Module) -> None:
        super().__init__(remedy)
        self.settings = remedy
        controlled, keys = _controlled(remedy, model), _named(model, remedy.keys)
        self._machines = [place.module for place in controlled if isinstance(place.module, NTM)]
        self._forget_gates = _forget_gates(model)
        if not (controlled or keys or self._forget_gates):
            raise ValueError(
                "ntm_stability: the model has no NTM, DNC, MANN or LSTM; name the modules whose outputs are controls "
                'or keys: sites=("...controls",), keys=("...key",)'
            )
        for place in controlled:
            self._bound(place)
        for place in keys:
            self.on_detach(place.change(lambda key: key.tanh() if self.strength > 0 else key))
        if remedy.gradient_clip is not None:
            self._bound_gradients(model, remedy.gradient_clip)

    def on_step(self, step: int, steps: int) -> None:
        """Start values, before the first step."""
        super().on_step(step, steps)
        if step == 1 and self.strength > 0:
            self._start()

    @torch.no_grad()
    def _start(self) -> None:
        for machine in self._machines:
            if machine.config.memory != "constant":
                machine.first_memory.fill_(self.settings.memory_start)
        if self.settings.forget_bias is not None:
            for first, *others in self._forget_gates:
                first.fill_(self.settings.forget_bias)
                for other in others:
                    other.zero_()

    def _bound(self, place: Place) -> None:
        clip, module = self.settings.control_clip, place.module
        if not isinstance(module, NTM | DNC | MANN):
            self.on_detach(place.change(lambda x: x.clamp(-clip, clip) if self.strength > 0 else x))
            return
        usual = module.controller.clip
        tighter = {"clip": clip if usual is None else min(clip, usual)}
        for handle in other_in_training(module, module.controller, tighter, lambda: self.strength > 0):
            self.on_detach(handle)

    def _bound_gradients(self, model: nn.Module, clip: float) -> None:
        def bounded(grad: Tensor) -> Tensor:
            return grad.clamp(-clip, clip) if model.training and self.strength > 0 else grad

        for parameter in model.parameters():
            if parameter.requires_grad:
                self.on_detach(parameter.register_hook(bounded))


def _controlled(remedy: NtmStability, model: nn.Module) -> list[Place]:
    if remedy.sites:
        return _named(model, remedy.sites)
    named = model.named_modules()
    return [Place(path=path, module=module) for path, module in named if isinstance(module, NTM | DNC | MANN)]


def _named(model: nn.Module, patterns: tuple[str, ...]) -> list[Place]:
    return list(find_places(model, patterns, "memory", "")) if patterns else []


def _forget_gates(model: nn.Module) -> list[tuple[Tensor, ...]]:
    """Of every LSTM that has biases, the part of the forget gate: of all biases that are added up, a view each."""
    gates: list[tuple[Tensor, ...]] = []
    for module in model.modules():
        if isinstance(module, Controller) and module.recurs:
            gates.append((_second(module.inputs.bias),))
        elif isinstance(module, nn.LSTM | nn.LSTMCell) and module.bias:
            biases = {name: value for name, value in module.named_parameters() if name.startswith("bias_ih")}
            for name, bias in biases.items():
                other = module.get_parameter(name.replace("bias_ih", "bias_hh"))
                gates.append((_second(bias), _second(other)))
    return gates


def _second(bias: Tensor) -> Tensor:
    """The second of four gates: the forget gate, in the order of torch and in ours."""
    return bias.detach().chunk(4)[1]

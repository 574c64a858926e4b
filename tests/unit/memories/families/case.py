"""What a configuration must tell about itself to be held to the contract."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mnemoscope.models.mixers import MixerConfig

B, T, D_MODEL = 2, 9, 16
"""Sequences, tokens and width at which the shapes of read points are frozen."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One configuration under the contract.

    Args:
        config: the mixer; built at width `D_MODEL`.
        oracle: output (t d) of one sequence x (t d), given the named parameters; written from the paper as loops in
            float64, with nothing of the package in it. Outputs and gradients are compared.
        auxiliary: the auxiliary loss of inputs x (b t d), given the named parameters, from the paper as well; compared
            with its gradients.
        parameters: how many numbers are trained, counted from the equations.
        points: the name and shape of every read point at B, T, D_MODEL; None for a variant that adds no point.
        on_demand: points that are formed only if somebody listens.
        reads: the points at which everything that is read comes out; several where levels are memories of their own.
        state_of: the part of a state that the read point `state` announces.
        local_tokens: with its read replaced by zeros, how many last tokens (the present one included) an output may
            still depend on; 0 where it then gives nothing.
        constant_start: the first output depends on nothing, as where a memory reads what came before alone.
        differentiable_state: whether the state carries a gradient; off where it only decides what is chosen.
        written_together: tokens of a chunk that is written as a whole once it is full; 1 where each is written at once.
        long: the contract of this variant is tried in `make test-all` only.
    """

    config: MixerConfig
    oracle: Callable[[Mapping[str, Tensor], Tensor], Tensor] | None = None
    auxiliary: Callable[[Mapping[str, Tensor], Tensor], Tensor] | None = None
    parameters: int | None = None
    points: Mapping[str, tuple[int, ...]] | None = None
    on_demand: tuple[str, ...] = ()
    reads: tuple[str, ...] = ("read",)
    state_of: Callable[[Any], Tensor] = lambda state: state.s
    local_tokens: int = 0
    constant_start: bool = False
    differentiable_state: bool = True
    written_together: int = 1
    long: bool = False

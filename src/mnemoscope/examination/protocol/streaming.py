"""The states of memories that announce none, taken out by running the model in pieces; and whether that may be done.

Before a state is looked at or exchanged, the continuation self-test says whether the model goes on from its state as it
computes in one piece. Where it does not, nothing is taken and nothing exchanged, and the record says why.

Cost: of a few sequences, the self-test (up to six passes, and twice a pass of single tokens over two fifths of at most
`LONGEST_TEST` tokens), a pass of one sequence, a quarter of a pass and a pass.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from mnemoscope.contracts import Slots
from mnemoscope.contracts.precision import in_float64
from mnemoscope.examination.protocol.horizon import Method
from mnemoscope.examination.protocol.observed import Taken
from mnemoscope.examination.protocol.placing import placed
from mnemoscope.examination.subject.adapters import Mixer, mixer_of
from mnemoscope.examination.subject.continuation import Continuation, self_test, states_at
from mnemoscope.examination.subject.losses import input_device
from mnemoscope.examination.subject.pieces import pieces_of
from mnemoscope.examination.subject.sites import Site, Sites
from mnemoscope.examination.subject.states import LayerState
from mnemoscope.runs.examination import ContinuationRecord

FEW_SEQUENCES = 8
LONGEST_TEST = 512
"""Tokens of a sequence on which the self-test is made, at most: what goes on token by token takes long."""
MAX_STATE_VALUES = 2**26
"""Numbers that the states of all layers of these sequences may hold together."""


@dataclass(frozen=True, kw_only=True)
class Streamed:
    """What running a model in pieces gave.

    Args:
        continuation: what the self-test said; None where it did not run.
        n_sequences, n_tokens: of the self-test.
        reason: why no state may be touched; empty where it may, or where nobody asked.
        layers: by the path of an owner, the layer of what the model remembers that is its state.
        unplaced: by the path of an owner, why there is no such layer.
        states: states by the name of their site.
        unmeasured: by site, why its state was not measured.
    """

    continuation: Continuation | None = None
    n_sequences: int = 0
    n_tokens: int = 0
    reason: str = ""
    layers: Mapping[str, int] = field(default_factory=dict)
    unplaced: Mapping[str, str] = field(default_factory=dict)
    states: Mapping[str, Taken] = field(default_factory=dict)
    unmeasured: Mapping[str, str] = field(default_factory=dict)

    @property
    def record(self) -> ContinuationRecord | None:
        """What is written down; None where nothing asked for states."""
        found = self.continuation
        if found is None and not self.reason:
            return None
        chosen = None if found is None or found.way is None else found.multi if found.way == "multi" else found.step
        return ContinuationRecord(
            way=None if found is None else found.way,
            in_one_call=None if found is None else found.multi.error,
            token_by_token=None if found is None else found.step.error,
            needs_positions=chosen is not None and chosen.positions,
            n_sequences=self.n_sequences,
            n_tokens=self.n_tokens,
            reason=self.reason,
        )


def stream_states(model: nn.Module, batch: Any, sites: Sites, methods: Mapping[str, Method] | None = None) -> Streamed:
    """Test the model, and take the states of memories that announce none, after a quarter of the tokens and all.

    A state is taken of whole sites, not of their parts. Nothing is run where every memory announces its state and its
    history can be cut, or has none (banks).

    Args:
        model: any module.
        batch: of which the first few sequences are read.
        sites: memories and routes.
        methods: how the history of each site is cut; where it cannot be, states will be exchanged.
    """
    modules = dict(model.named_modules())
    keeping = [site for site in sites.memories if keeps_state(site, modules)]
    wanted = [site for site in keeping if "state" not in site.evidence and not site.of]
    if not wanted and not any((methods or {}).get(site.name) == "none" for site in keeping):
        return Streamed()
    try:
        tokens = pieces_of(batch, input_device(model))[:FEW_SEQUENCES]
        tested = tokens[:, :LONGEST_TEST]
        continuation = self_test(model, tested)
    except ValueError as error:
        return Streamed(reason=str(error), unmeasured={site.name: str(error) for site in wanted})
    seen = Streamed(
        continuation=continuation, n_sequences=len(tested), n_tokens=tested.shape[1], reason=continuation.reason
    )
    if continuation.way is None:
        return replace(seen, unmeasured={site.name: continuation.reason for site in wanted})
    try:
        early, late = _early_and_late(model, tokens, continuation)
        layers, unplaced = placed(model, tokens, sites, keeping, late, continuation)
    except Exception as error:  # whatever a foreign model objects to on prefixes of other lengths
        reason = f"{type(error).__name__}: {error}"
        return replace(seen, reason=reason, unmeasured={site.name: reason for site in wanted})
    states: dict[str, Taken] = {}
    unmeasured = {site.name: unplaced[site.owner] for site in wanted if site.owner in unplaced}
    for site in wanted:
        if site.owner in layers:
            layer = layers[site.owner]
            try:
                states[site.name] = _both(early.get(layer), late[layer], mixer_of(modules[site.owner]))
            except ValueError as error:
                unmeasured[site.name] = str(error)
    return replace(seen, layers=layers, unplaced=unplaced, states=states, unmeasured=unmeasured)


def keeps_state(site: Site, modules: Mapping[str, nn.Module]) -> bool:
    """Whether a site is a module that may hold a state over tokens, which banks of learned vectors do not."""
    return site.owner is not None and not isinstance(modules[site.owner], Slots)


def _early_and_late(
    model: nn.Module, tokens: Shaped[Tensor, "b t *d"], continuation: Continuation
) -> tuple[dict[int, LayerState], dict[int, LayerState]]:
    """States after a quarter of the tokens and after all, of as many sequences as fit."""
    n_tokens = tokens.shape[1]
    quarter = max(1, n_tokens // 4)
    one = states_at(model, tokens[:1], quarter, continuation)
    n_values = sum(part.numel() for state in one.values() for parts in state for part in parts)
    some = tokens[: max(1, MAX_STATE_VALUES // max(1, n_values))]
    return states_at(model, some, quarter, continuation), states_at(model, some, n_tokens, continuation)


def _both(early: LayerState | None, late: LayerState, mixer: Mixer | None) -> Taken:
    """One state of a site at two places."""
    if not late.recurrent:
        raise ValueError("its layer keeps nothing but the last inputs of a short convolution")
    shapes = [[tuple(tensor.shape) for tensor in state.recurrent] for state in (early or LayerState((), ()), late)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"what its layer keeps changes its shape with the tokens: {shapes[0]}, then {shapes[1]}")
    assert early is not None
    values = torch.stack([_memory(state, mixer) for state in (early, late)], dim=1)
    return Taken(values, mixer is not None and mixer.is_map)


def _memory(state: LayerState, mixer: Mixer | None) -> Float[Tensor, "b *s"]:
    """The tensor that is read of a known class, at its true scale; everything together of others."""
    n_rows = {len(tensor) for tensor in state.recurrent}
    if len(n_rows) != 1:
        raise ValueError(f"its state has no axis of sequences: {[tuple(tensor.shape) for tensor in state.recurrent]}")
    if mixer is None:
        return torch.cat([in_float64(tensor).flatten(1) for tensor in state.recurrent], dim=1)
    memory = in_float64(state.recurrent[0])
    if mixer.log_scale is None:
        return memory
    scale = in_float64(state.recurrent[mixer.log_scale]).exp()
    return memory * scale.reshape(*scale.shape, *[1] * (memory.ndim - scale.ndim))

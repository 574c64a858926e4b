"""LSTM and GRU under the contract."""

from functools import partial

import torch

from mnemoscope.memories import GRUConfig, LSTMConfig
from tests.oracle import recurrent
from tests.unit.memories.families.case import D_MODEL, B, Case, T


def parameters(gates: int, width: int, n_layers: int) -> int:
    """Two products and two biases a gate and layer; output projection."""
    layers = sum(gates * width * (D_MODEL if n == 0 else width) + gates * width * (width + 2) for n in range(n_layers))
    return layers + width * D_MODEL


def lstm(config: LSTMConfig, *, long: bool = False) -> Case:
    w, n = config.width or D_MODEL, config.n_layers
    return Case(
        config=config,
        oracle=partial(recurrent.lstm, n_layers=n),
        parameters=parameters(4, w, n),
        points={"state": (B, T, 2, n, w), "read": (B, T, w), "contribution": (B, T, D_MODEL)},
        on_demand=("state",),
        state_of=lambda state: torch.stack([state.h, state.c], dim=1),
        long=long,
    )


def gru(config: GRUConfig, *, long: bool = False) -> Case:
    w, n = config.width or D_MODEL, config.n_layers
    return Case(
        config=config,
        oracle=partial(recurrent.gru, n_layers=n),
        parameters=parameters(3, w, n),
        points={"state": (B, T, n, w), "read": (B, T, w), "contribution": (B, T, D_MODEL)},
        on_demand=("state",),
        state_of=lambda state: state.h,
        long=long,
    )


CASES = {
    "lstm": lstm(LSTMConfig()),
    "lstm of two narrow layers": lstm(LSTMConfig(width=5, n_layers=2, forget_bias=None), long=True),
    "gru": gru(GRUConfig()),
    "gru of two narrow layers": gru(GRUConfig(width=5, n_layers=2), long=True),
}

"""Networks that learn at test time, under the contract."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mnemoscope.memories import OmegaMlpConfig
from tests.oracle import omega_mlp
from tests.unit.memories.families.case import D_MODEL, B, Case, T


def running_weights(state: Any) -> Tensor:
    return torch.cat([layer.flatten(2) for layer in state.memory.running], dim=-1)


def case(
    config: OmegaMlpConfig,
    parameters: int | None = None,
    *,
    n_features: int | None = None,
    features: Callable[[Tensor], Tensor] | None = None,
    long: bool = False,
) -> Case:
    h, w = config.n_heads, config.head_width or D_MODEL // config.n_heads
    n, e = n_features or w, config.expansion * w
    options = omega_mlp.Options(
        config.chunk_tokens,
        config.gated,
        n == w,
        config.window,
        dot=config.objective == "dot",
        per_chunk=config.granularity == "chunk",
    )
    oracle = partial(omega_mlp.memory, options=options, n_heads=h, normalise=config.normalise_qk, features=features)
    n_weights = n * e * (1 + config.gated) + e * w
    return Case(
        config=config,
        oracle=oracle,
        parameters=parameters,
        points={"state": (B, T, h, n_weights), "read": (B, T, h, w), "contribution": (B, T, D_MODEL)},
        on_demand=("state",),
        state_of=running_weights,
        long=long,
    )


def squares(x: Tensor) -> Tensor:
    """1, x and x^2 / 2, channel by channel."""
    return torch.cat([torch.ones_like(x[:, :1]), x, x**2 / 2], dim=1)


SMALL = {"n_heads": 2, "chunk_tokens": 8, "expansion": 2, "window": 1}
PER_CHUNK = SMALL | {"chunk_tokens": 5, "granularity": "chunk"}
PROJECTIONS, HEADS_OF_A_GATE, NORM = 5 * 16 * 16 + 4 * 3 * 16, 2 * 16 + 2, 8

CASES = {
    "network": case(OmegaMlpConfig(**SMALL), PROJECTIONS + 3 * HEADS_OF_A_GATE + NORM + 2 * 2 * 8 * 16),
    "network by gradient descent alone": case(
        OmegaMlpConfig(**SMALL, momentum=False, retains=False), PROJECTIONS + HEADS_OF_A_GATE + NORM + 2 * 2 * 8 * 16
    ),
    "gated network over 5": case(
        OmegaMlpConfig(**SMALL | {"window": 5}, gated=True, gated_window=True, normalise_memory=True),
        PROJECTIONS + 4 * HEADS_OF_A_GATE + NORM + 2 * 3 * 8 * 16 + 2 * (2 * 16 + 8),
    ),
    "network of squared keys by dot product": case(
        OmegaMlpConfig(**SMALL | {"window": 11}, objective="dot", features="elementwise", degree=2),
        PROJECTIONS + 3 * HEADS_OF_A_GATE + NORM + 2 * (17 * 16 + 16 * 8),
        n_features=17,
        features=squares,
    ),
    "network written per chunk": case(
        OmegaMlpConfig(**PER_CHUNK), PROJECTIONS + 3 * HEADS_OF_A_GATE + NORM + 2 * 2 * 8 * 16
    ),
    "network written per chunk of one": case(OmegaMlpConfig(**PER_CHUNK | {"chunk_tokens": 1}), long=True),
    "network written per chunk without momentum": case(
        OmegaMlpConfig(**PER_CHUNK, momentum=False, normalise_memory=True), long=True
    ),
    "network written per chunk without retention": case(OmegaMlpConfig(**PER_CHUNK, retains=False), long=True),
    "gated network of squared keys written per chunk by dot product": case(
        OmegaMlpConfig(**PER_CHUNK, objective="dot", gated=True, features="elementwise", degree=2),
        n_features=17,
        features=squares,
        long=True,
    ),
    "network without momentum": case(OmegaMlpConfig(**SMALL, momentum=False), long=True),
    "network without retention": case(OmegaMlpConfig(**SMALL, retains=False), long=True),
    "network in chunks of one": case(OmegaMlpConfig(**SMALL | {"chunk_tokens": 1, "window": 3}), long=True),
    "network in one chunk": case(OmegaMlpConfig(**SMALL | {"chunk_tokens": 128}), long=True),
    "gated network by dot product": case(OmegaMlpConfig(**SMALL, objective="dot", gated=True), long=True),
    "normalised network without momentum": case(
        OmegaMlpConfig(**SMALL | {"window": 2}, gated_window=True, normalise_memory=True, momentum=False), long=True
    ),
    "gated network of squared keys": case(
        OmegaMlpConfig(**SMALL, gated=True, features="elementwise", degree=2),
        n_features=17,
        features=squares,
        long=True,
    ),
    "network of odd width": case(
        OmegaMlpConfig(**SMALL | {"n_heads": 3, "expansion": 1}, head_width=5, gated=True),
        5 * 16 * 15 + 4 * 3 * 15 + 3 * (3 * 16 + 3) + 5 + 3 * 3 * 5 * 5,
        long=True,
    ),
    "bare network": case(
        OmegaMlpConfig(**SMALL, convolution=0, normalise_read=False, output_gate=False),
        4 * 16 * 16 + 3 * HEADS_OF_A_GATE + 2 * 2 * 8 * 16,
        long=True,
    ),
    "network of raw keys": case(
        OmegaMlpConfig(**SMALL, objective="dot", normalise_qk=False, normalise_memory=True), long=True
    ),
}

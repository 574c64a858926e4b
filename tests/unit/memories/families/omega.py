"""The Omega rule with a matrix, and what it contains as special cases, under the contract."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from mnemoscope.memories import OmegaConfig
from tests.oracle import omega
from tests.unit.memories.families.case import D_MODEL, B, Case, T


def features_of(config: OmegaConfig) -> Callable[[Tensor, Mapping[str, Tensor]], Tensor]:
    """The feature map of the oracle, with the trained factors per degree or those of exp."""
    if config.features == "identity":
        return lambda x, weights: x
    assert config.degree is not None
    starts = torch.tensor([1 / math.factorial(i) for i in range(config.degree + 1)], dtype=torch.float64)
    if config.features == "elementwise":
        maps = omega.elementwise
    else:
        starts = starts.sqrt()
        maps = omega.tensor_powers
    if config.features == "sketch":
        assert config.sketch_width is not None
        maps = partial(omega.sketch, n_features=config.sketch_width, seed=config.sketch_seed)
    return lambda x, weights: maps(x, weights.get("features.scales", starts))


def case(config: OmegaConfig, parameters: int | None = None, n_features: int | None = None, long: bool = False) -> Case:
    h, w = config.n_heads, config.head_width or D_MODEL // config.n_heads
    settings = omega.Settings(
        config.chunk_tokens,
        config.window,
        config.objective,
        config.orthogonalise,
        config.update_every,
        config.granularity,
    )
    return Case(
        config=config,
        oracle=partial(
            omega.memory, n_heads=h, settings=settings, features=features_of(config), normalise=config.normalise_qk
        ),
        parameters=parameters,
        points={"state": (B, T, h, n_features or w, w), "read": (B, T, h, w), "contribution": (B, T, D_MODEL)},
        on_demand=("state",),
        state_of=lambda state: state.store.memory,
        long=long,
    )


PROJECTIONS = 5 * 16 * 16 + 4 * 3 * 16 + 8
"""Queries, keys, values, output gate and output; the short convolution; the norm of the read."""

GATE = 2 * 16 + 2
"""One gate of two heads."""

CASES = {
    "omega": case(OmegaConfig(n_heads=2, chunk_tokens=8, window=3), PROJECTIONS + 3 * GATE),
    "omega of a window longer than the chunk": case(
        OmegaConfig(n_heads=2, chunk_tokens=4, window=7, gated_window=True, initial_step_size=0.02),
        PROJECTIONS + 4 * GATE,
    ),
    "omega of long chunks": case(OmegaConfig(n_heads=2, chunk_tokens=32, window=5), long=True),
    "titans with a matrix": case(
        OmegaConfig(n_heads=2, chunk_tokens=1, window=1, initial_step_size=0.1), PROJECTIONS + 3 * GATE
    ),
    "titans in chunks": case(OmegaConfig(n_heads=2, chunk_tokens=16, window=1), long=True),
    "omega without momentum": case(
        OmegaConfig(n_heads=2, chunk_tokens=4, window=2, momentum=False), PROJECTIONS + 2 * GATE
    ),
    "omega without retention": case(
        OmegaConfig(n_heads=2, chunk_tokens=4, window=2, retains=False), PROJECTIONS + 2 * GATE, long=True
    ),
    "omega of monomials": case(
        OmegaConfig(n_heads=2, chunk_tokens=5, window=3, features="monomial", degree=2, learned_coefficients=True),
        PROJECTIONS + 3 * GATE + 3,
        n_features=45,
    ),
    "omega of fixed monomials": case(
        OmegaConfig(n_heads=4, chunk_tokens=4, window=2, features="monomial", degree=3), n_features=35, long=True
    ),
    "omega of elementwise powers": case(
        OmegaConfig(n_heads=2, chunk_tokens=4, window=2, features="elementwise", degree=2, learned_coefficients=True),
        PROJECTIONS + 3 * GATE + 3,
        n_features=17,
        long=True,
    ),
    "omega of a sketch": case(
        OmegaConfig(n_heads=2, chunk_tokens=4, window=2, features="sketch", degree=2, sketch_width=12, sketch_seed=3),
        PROJECTIONS + 3 * GATE,
        n_features=12,
        long=True,
    ),
    "omega of inner products": case(
        OmegaConfig(n_heads=2, chunk_tokens=8, window=3, objective="dot", normalise_qk=False, initial_step_size=0.2),
        PROJECTIONS + 3 * GATE,
    ),
    # Each Newton-Schulz step multiplies the rounding of the smallest singular values by 3.4, so that five, which are
    # compared in float64 in the tests of the rule, agree with float32 to three digits.
    "atlas": replace(
        case(OmegaConfig(n_heads=2, chunk_tokens=8, window=3, orthogonalise=2, update_every=2), PROJECTIONS + 3 * GATE),
        constant_start=True,
    ),
    "atlas of every token without momentum": case(
        OmegaConfig(n_heads=2, chunk_tokens=4, window=3, orthogonalise=2, momentum=False), long=True
    ),
    "atlas of inner products": case(
        OmegaConfig(
            n_heads=4,
            chunk_tokens=4,
            window=2,
            orthogonalise=2,
            objective="dot",
            gated_window=True,
            features="elementwise",
            degree=1,
        ),
        n_features=5,
        long=True,
    ),
    # Of two tokens, since the contract wants the second output to depend on the second input; longer chunks are held
    # to the oracle, the steps and any split in the tests of the rule and of this memory.
    "omega per chunk": replace(
        case(OmegaConfig(n_heads=2, chunk_tokens=2, window=1, granularity="chunk"), PROJECTIONS + 3 * GATE),
        constant_start=True,
    ),
    "omega per chunk of one token": case(
        OmegaConfig(n_heads=2, chunk_tokens=1, window=1, granularity="chunk", retains=False, initial_step_size=0.1),
        PROJECTIONS + 2 * GATE,
        long=True,
    ),
    "atlas per chunk": replace(
        case(
            OmegaConfig(
                n_heads=2,
                chunk_tokens=2,
                window=1,
                granularity="chunk",
                orthogonalise=2,
                update_every=2,
                features="elementwise",
                degree=1,
                momentum=False,
            ),
            PROJECTIONS + 2 * GATE,
            n_features=9,
            long=True,
        ),
        constant_start=True,
    ),
    "bare omega of odd width": case(
        OmegaConfig(
            n_heads=3, head_width=5, chunk_tokens=6, window=4, convolution=0, normalise_read=False, output_gate=False
        ),
        4 * 16 * 15 + 3 * (3 * 16 + 3),
        long=True,
    ),
}

"""Diagonal state spaces and long convolutions under the contract."""

from functools import partial

from mnemoscope.memories import H3Config, HyenaConfig, S4DConfig
from tests.oracle import diagonal_ssm, long_convolution
from tests.unit.memories.families.case import D_MODEL, B, Case, T


def s4d(config: S4DConfig, *, long: bool = False) -> Case:
    n = config.n_states // 2
    return Case(
        config=config,
        oracle=diagonal_ssm.s4d,
        # Step; rate, frequency, two parts of C per pair of states; skip; output projection and bias.
        parameters=16 + 16 * n * 4 + 16 + 16 * 32 + 32,
        points={"state": (B, T, D_MODEL, n, 2), "read": (B, T, D_MODEL), "contribution": (B, T, D_MODEL)},
        on_demand=("state",),
        local_tokens=1,
        long=long,
    )


def h3(config: H3Config, *, long: bool = False) -> Case:
    w, n = config.head_width, config.n_states // 2
    h = D_MODEL // w
    return Case(
        config=config,
        oracle=partial(diagonal_ssm.h3, head_width=w),
        # q, k, v and output projections; taps; step, rate, frequency, two parts of C, skip.
        parameters=4 * 16 * 16 + 16 * config.shift + h * (1 + 4 * n + 1),
        points={"state": (B, T, h, w, w, n, 2), "read": (B, T, h, w), "contribution": (B, T, D_MODEL)},
        on_demand=("state",),
        local_tokens=config.shift,
        long=long,
    )


def hyena(config: HyenaConfig, *, long: bool = False) -> Case:
    order, w = config.order, config.filter_width
    return Case(
        config=config,
        oracle=partial(
            long_convolution.hyena,
            order=order,
            max_tokens=config.max_tokens,
            n_bands=config.n_bands,
            depth=config.filter_depth,
            decays=(config.fastest_decay, config.slowest_decay),
        ),
        # Projections and taps; first, middle and last layers; sine frequencies and skips; output projection.
        parameters=(order + 1) * (16 * 16 + 16 * config.convolution)
        + (w * (1 + 2 * config.n_bands) + w + config.filter_depth * (w * w + w) + w * order * 16)
        + (w + order * 16 + 16 * 16),
        points={"read": (B, T, D_MODEL), "contribution": (B, T, D_MODEL)},
        long=long,
    )


CASES = {
    "s4d": s4d(S4DConfig(n_states=8)),
    "s4d of inverse frequencies": s4d(S4DConfig(n_states=6, start="inv"), long=True),
    "s4d of one pair and long steps": s4d(S4DConfig(n_states=2, shortest_step=0.5, longest_step=2.0), long=True),
    "h3": h3(H3Config(head_width=4, n_states=4)),
    "h3 of single channels": h3(H3Config(head_width=1, shift=2, n_states=6, start="inv"), long=True),
    "h3 without shift": h3(H3Config(head_width=2, shift=1, n_states=4, longest_step=1.0), long=True),
    # Sines of sines of ten times their argument lose two digits each, more than float32 has to spare in a test.
    "hyena": hyena(HyenaConfig(max_tokens=24, n_bands=3, filter_width=8, sine_frequency=2)),
    "hyena longer than the sequence": hyena(
        HyenaConfig(max_tokens=200, n_bands=2, filter_width=6, sine_frequency=2), long=True
    ),
    "hyena of order 3": hyena(
        HyenaConfig(order=3, max_tokens=40, n_bands=1, filter_width=5, sine_frequency=1), long=True
    ),
    "hyena of one plain stage": hyena(
        HyenaConfig(order=1, max_tokens=16, convolution=0, filter_depth=0, filter_width=8, n_bands=2), long=True
    ),
    "hyena of one tap": hyena(HyenaConfig(max_tokens=1, n_bands=1, filter_width=4), long=True),
}

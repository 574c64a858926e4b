"""The gated delta rule and its special cases under the contract."""

from functools import partial

from mnemoscope.memories import GatedDeltaConfig
from tests.oracle import gated_delta
from tests.unit.memories.families.case import D_MODEL, B, Case, T


def case(config: GatedDeltaConfig, parameters: int | None = None) -> Case:
    h, w = config.n_heads, config.head_width or D_MODEL // config.n_heads
    return Case(
        config=config,
        oracle=partial(
            gated_delta.memory,
            n_heads=h,
            normalise=config.normalise_qk,
            double_strength=config.negative_eigenvalues,
            erase=config.erases,
        ),
        parameters=parameters,
        points={"state": (B, T, h, w, w), "read": (B, T, h, w), "contribution": (B, T, D_MODEL)},
        on_demand=("state",),
    )


CASES = {
    "gated delta rule": case(GatedDeltaConfig(n_heads=2), 5 * 16 * 16 + 4 * 3 * 16 + 2 * 16 + (2 * 16 + 2) + 2 + 8),
    "delta rule": case(GatedDeltaConfig(n_heads=2, retains=False)),
    "gated linear attention": case(GatedDeltaConfig(n_heads=2, erases=False)),
    "linear attention": case(GatedDeltaConfig(n_heads=2, retains=False, erases=False)),
    "gated delta rule with negative eigenvalues": case(GatedDeltaConfig(n_heads=2, negative_eigenvalues=True)),
    "delta rule with negative eigenvalues": case(GatedDeltaConfig(n_heads=2, retains=False, negative_eigenvalues=True)),
    "gated delta rule without convolution": case(GatedDeltaConfig(n_heads=2, convolution=0)),
    "gated delta rule with one tap": case(GatedDeltaConfig(n_heads=2, convolution=1)),
    "linear attention of raw keys": case(GatedDeltaConfig(n_heads=2, erases=False, normalise_qk=False)),
    "gated delta rule with raw reads": case(GatedDeltaConfig(n_heads=2, normalise_read=False)),
    "gated delta rule without output gate": case(GatedDeltaConfig(n_heads=2, output_gate=False)),
    "gated delta rule of odd width": case(
        GatedDeltaConfig(n_heads=3, head_width=5), 5 * 16 * 15 + 4 * 3 * 15 + 3 * 16 + (3 * 16 + 3) + 3 + 5
    ),
    "bare delta rule": case(
        GatedDeltaConfig(n_heads=2, retains=False, convolution=0, normalise_read=False, output_gate=False),
        4 * 16 * 16 + 2 * 16,
    ),
}

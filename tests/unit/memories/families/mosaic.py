"""The contextual and persistent memories of Memory Mosaics under the contract."""

from functools import partial

from mnemoscope.memories import ContextualConfig, FeedForwardConfig, PersistentConfig
from tests.oracle import mosaic
from tests.unit.memories.families.case import D_MODEL, B, Case, T

D = D_MODEL


def contextual(config: ContextualConfig, parameters: int | None = None, *, long: bool = True) -> Case:
    h, null = config.n_heads, config.start == "learned"
    summary = {"order": config.order or 4, "horizon": config.horizon or 32} if config.keys == "legendre" else {}
    return Case(
        config=config,
        oracle=partial(
            mosaic.contextual,
            n_heads=h,
            kernel=config.kernel,
            top_k=config.top_k,
            normalise_keys=config.normalise_keys,
            inverse_temperature=config.inverse_temperature,
            scale_cap=config.scale_cap,
            **summary,
        ),
        parameters=parameters,
        points={"addressing": (B, h, T, T - 1 + null), "read": (B, T, h, D // h), "contribution": (B, T, D)},
        on_demand=("addressing",),
        constant_start=True,
        long=long,
    )


def persistent(config: PersistentConfig, parameters: int, *, long: bool = False) -> Case:
    h, m = config.n_heads, config.n_slots or round(3.5 * D)
    return Case(
        config=config,
        oracle=partial(mosaic.persistent, n_heads=h),
        parameters=parameters,
        points={"addressing": (B, T, config.n_banks, h, m), "read": (B, T, h, D // h), "contribution": (B, T, D)},
        on_demand=("addressing",),
        long=long,
    )


def feed_forward(config: FeedForwardConfig, width: int, n_projections: int) -> Case:
    return Case(
        config=config,
        oracle=mosaic.feed_forward,
        parameters=n_projections * D * width,
        points={"read": (B, T, width), "contribution": (B, T, D)},
    )


CASES = {
    "contextual": contextual(ContextualConfig(n_heads=2), 3 * D * D + 4 * 2, long=False),
    "contextual with a null value": contextual(
        ContextualConfig(n_heads=2, start="learned"), 3 * D * D + 4 * 2 + D, long=False
    ),
    "contextual over convolved keys": contextual(
        ContextualConfig(n_heads=2, keys="convolution"), 3 * D * D + 4 * D + 3 * 2
    ),
    "contextual over summaries": contextual(
        ContextualConfig(n_heads=2, keys="legendre", order=4, horizon=8), 2 * D * D + D * D // 4 + 3 * 2, long=False
    ),
    "contextual with a Gaussian kernel": contextual(
        ContextualConfig(n_heads=2, kernel="gaussian", normalise_keys=False), 3 * D * D + 4 * 2, long=False
    ),
    "contextual with a Gaussian kernel and a null value": contextual(
        ContextualConfig(n_heads=2, kernel="gaussian", normalise_keys=False, start="learned")
    ),
    "contextual with Epanechnikov's kernel": contextual(ContextualConfig(n_heads=2, kernel="epanechnikov")),
    "contextual with a biweight kernel": contextual(
        ContextualConfig(n_heads=2, kernel="biweight", start="learned"), long=False
    ),
    "contextual with a triweight kernel": contextual(ContextualConfig(n_heads=2, kernel="triweight")),
    "contextual over the 20 best": contextual(ContextualConfig(n_heads=2, kernel="top_k", top_k=20)),
    "contextual as of the three moons": contextual(
        ContextualConfig(
            n_heads=2,
            keys="convolution",
            taps=0,
            normalise_keys=False,
            normalise_values=False,
            inverse_temperature=0.5,
            peek="next",
        ),
        3 * D * D,
    ),
    "persistent": persistent(PersistentConfig(n_heads=2, n_slots=6), 2 * D * D + 2 * 6 * D + 3 * 2),
    "persistent in two banks": persistent(
        PersistentConfig(n_heads=2, n_slots=3, n_banks=2), 2 * D * D + 2 * 2 * 3 * D + 3 * 2, long=True
    ),
    "persistent with matched slots": persistent(PersistentConfig(n_heads=1), 9 * D * D + 3, long=True),
    "feed-forward": feed_forward(FeedForwardConfig(), 72, 2),
    "gated feed-forward": feed_forward(FeedForwardConfig(form="swiglu"), 48, 3),
}

"""Memory Mosaics v2 under the contract."""

from functools import partial

from mnemoscope.memories import MosaicV2Config
from tests.oracle import mosaic_v2
from tests.unit.memories.families.case import D_MODEL, B, Case, T

LEVEL = 3 * 16 * 16 + 16 * 2 * 2 + 2 * (1 + 1 + 3)
"""Keys, values and output; two gates; per head the peek, the scale of values and three numbers of the bandwidth."""


def case(config: MosaicV2Config, parameters: int | None = None, *, long: bool = False) -> Case:
    h = config.n_heads
    levels = ("short", "long") if config.levels == "both" else (config.levels,)
    points = {"contribution": (B, T, D_MODEL)}
    for level in levels:
        points |= {
            f"{level}.addressing": (B, h, T, T),
            f"{level}.read": (B, T, h, D_MODEL // h),
            f"{level}.contribution": (B, T, D_MODEL),
        }
    return Case(
        config=config,
        oracle=partial(mosaic_v2.memory, n_heads=h, short_window=config.short_window, long_delay=config.long_delay),
        parameters=parameters,
        points=points,
        on_demand=tuple(f"{level}.addressing" for level in levels),
        reads=tuple(f"{level}.read" for level in levels),
        constant_start=True,
        long=long,
    )


CASES = {
    "mosaic v2": case(MosaicV2Config(n_heads=2, short_window=7, long_delay=5, longest_delay=None), 2 * LEVEL),
    "mosaic v2 without its long level": case(
        MosaicV2Config(n_heads=2, levels="short", short_window=16, longest_delay=None), LEVEL, long=True
    ),
    "mosaic v2 without its short level": case(
        MosaicV2Config(n_heads=2, levels="long", long_delay=1, longest_delay=None), LEVEL
    ),
    "mosaic v2 over two pairs": case(
        MosaicV2Config(n_heads=4, short_window=2, long_delay=2, longest_delay=2, block_index=3), long=True
    ),
    "mosaic v2 that draws its delay from one": case(
        MosaicV2Config(n_heads=2, short_window=40, long_delay=6, longest_delay=6), long=True
    ),
}

"""Linear recurrences with a diagonal decay, and RWKV-7's generalised delta rule, under the contract."""

from functools import partial

from mnemoscope.memories import (
    BasedConfig,
    GLAConfig,
    LinearAttentionConfig,
    RetentionConfig,
    RWKV6Config,
    RWKV7Config,
)
from tests.oracle import based, gla, linear_attention, retention, rwkv6, rwkv7
from tests.unit.memories.families.case import D_MODEL, B, Case, T


def points(n_heads: int, k: int, v: int, read: int | None = None) -> dict[str, tuple[int, ...]]:
    return {
        "state": (B, T, n_heads, k, v),
        "read": (B, T, n_heads, read or v),
        "contribution": (B, T, D_MODEL),
    }


def linear_attention_case(config: LinearAttentionConfig, parameters: int | None = None, *, long: bool = True) -> Case:
    w = config.head_width or D_MODEL // config.n_heads
    return Case(
        config=config,
        oracle=partial(
            linear_attention.memory,
            n_heads=config.n_heads,
            feature_map=config.feature_map,
            normaliser=config.normaliser,
        ),
        parameters=parameters,
        points=points(config.n_heads, w, w + config.normaliser, read=w),
        on_demand=("state",),
        long=long,
    )


def based_case(config: BasedConfig, parameters: int | None = None, *, long: bool = True) -> Case:
    f, v = config.feature_width, D_MODEL // config.n_heads
    return Case(
        config=config,
        oracle=partial(based.memory, n_heads=config.n_heads, feature_width=f),
        parameters=parameters,
        points=points(config.n_heads, 1 + f + f * f, v + 1, read=v),
        on_demand=("state",),
        long=long,
    )


def retention_case(config: RetentionConfig, parameters: int | None = None, *, long: bool = True) -> Case:
    w = D_MODEL // config.n_heads
    return Case(
        config=config,
        oracle=partial(retention.memory, n_heads=config.n_heads, rotary=config.rotary),
        parameters=parameters,
        points=points(config.n_heads, w, config.expansion * w),
        on_demand=("state",),
        long=long,
    )


def gla_case(config: GLAConfig, parameters: int | None = None, *, long: bool = True) -> Case:
    v = D_MODEL // config.n_heads
    k = config.key_width or v // 2
    return Case(
        config=config,
        oracle=partial(gla.memory, n_heads=config.n_heads, key_width=k, temperature=config.temperature),
        parameters=parameters,
        points=points(config.n_heads, k, v),
        on_demand=("state",),
        long=long,
    )


def rwkv_case(config: RWKV6Config | RWKV7Config, parameters: int | None = None, *, long: bool = True) -> Case:
    w = D_MODEL // config.n_heads
    module = rwkv6 if isinstance(config, RWKV6Config) else rwkv7
    return Case(
        config=config,
        oracle=partial(module.memory, n_heads=config.n_heads),
        parameters=parameters,
        points=points(config.n_heads, w, w),
        on_demand=("state",),
        # The present token by its bonus, and the one before it by the shift.
        local_tokens=2,
        long=long,
    )


CASES = {
    "normalised linear attention": linear_attention_case(LinearAttentionConfig(n_heads=2), 4 * 16 * 16, long=False),
    "normalised linear attention of relu": linear_attention_case(LinearAttentionConfig(n_heads=2, feature_map="relu")),
    "linear attention of the identity": linear_attention_case(
        LinearAttentionConfig(n_heads=3, head_width=5, feature_map="identity", normaliser=False), 4 * 16 * 15
    ),
    "normalised linear attention with convolution": linear_attention_case(
        LinearAttentionConfig(n_heads=2, convolution=4), 4 * 16 * 16 + 4 * 3 * 16
    ),
    "based": based_case(BasedConfig(n_heads=2, feature_width=3), 16 * 28 + 3 * 28 + 16 * 16, long=False),
    "based without convolution": based_case(BasedConfig(n_heads=4, feature_width=2, convolution=0)),
    "retention": retention_case(RetentionConfig(n_heads=2), 2 * 16 * 16 + 3 * 16 * 32, long=False),
    "retention without rotary": retention_case(RetentionConfig(n_heads=2, rotary=False)),
    "retention of plain width": retention_case(RetentionConfig(n_heads=4, expansion=1), 2 * 16 * 16 + 3 * 16 * 16),
    "gla": gla_case(
        GLAConfig(n_heads=2),
        16 * 32 + (16 * 16 + 16 * 8 + 8) + 8 + (16 * 16 + 16) + 16 * 16,
        long=False,
    ),
    "gla with strong decay": gla_case(GLAConfig(n_heads=2, key_width=8, temperature=0.5, retention_rank=3)),
    "gla of one key channel": gla_case(GLAConfig(n_heads=2, key_width=1, convolution=3)),
    "rwkv6": rwkv_case(
        RWKV6Config(n_heads=2, shift_rank=3, decay_rank=5),
        16 + 5 * 16 + 2 * 16 * 5 * 3 + 5 * 16 * 16 + (2 * 16 * 5 + 16) + 16 + 2 * 16,
        long=False,
    ),
    "rwkv6 of four heads": rwkv_case(RWKV6Config(n_heads=4, shift_rank=2, decay_rank=2)),
    "rwkv7": rwkv_case(
        RWKV7Config(n_heads=2, decay_rank=3, rate_rank=5, gate_rank=7),
        6 * 16 + 4 * 16 * 16 + 2 * 16 * (3 + 5 + 7) + 2 * 16 + 2 * 16 + 16 + 2 * 16,
        long=False,
    ),
    "rwkv7 of four heads": rwkv_case(RWKV7Config(n_heads=4, decay_rank=2, rate_rank=2, gate_rank=2)),
}

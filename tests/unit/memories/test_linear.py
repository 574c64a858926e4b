"""What is particular to the linear recurrences: refusals, rates, starts, and the order of reading and writing."""

import re
from collections.abc import Callable

import pytest
import torch

from mnemoscope.memories import (
    BasedConfig,
    GLAConfig,
    LinearAttentionConfig,
    RetentionConfig,
    RWKV6Config,
    RWKV7Config,
    build_memory,
)
from mnemoscope.memories.based import taylor_features
from mnemoscope.memories.parts import TokenShift
from mnemoscope.models import parse_layout
from tests.tolerances import FLOAT64, assert_close
from tests.unit.memories.cases import inputs, mixer_of, trained

REFUSED = [
    (lambda: LinearAttentionConfig(n_heads=0), "linear_attention.n_heads must be at least 1, got 0"),
    (lambda: LinearAttentionConfig(head_width=0), "linear_attention.head_width must be at least 1, or None"),
    (lambda: LinearAttentionConfig(convolution=-1), "linear_attention.convolution must be 0 taps or more"),
    (
        lambda: LinearAttentionConfig(feature_map="identity"),
        "linear_attention.normaliser must be off where feature_map=identity",
    ),
    (lambda: BasedConfig(n_heads=0), "based.n_heads must be at least 1"),
    (lambda: BasedConfig(feature_width=0), "based.feature_width must be at least 1"),
    (lambda: BasedConfig(convolution=-2), "based.convolution must be 0 taps or more"),
    (lambda: RetentionConfig(n_heads=0), "retention.n_heads must be at least 1"),
    (lambda: RetentionConfig(expansion=0), "retention.expansion must be at least 1"),
    (lambda: GLAConfig(n_heads=0), "gla.n_heads must be at least 1"),
    (lambda: GLAConfig(key_width=0), "gla.key_width must be at least 1, or None for d_model / n_heads / 2"),
    (lambda: GLAConfig(retention_rank=0), "gla.retention_rank must be at least 1"),
    (lambda: GLAConfig(temperature=0.0), "gla.temperature must be positive and finite, got 0.0"),
    (lambda: GLAConfig(temperature=float("inf")), "gla.temperature must be positive and finite"),
    (lambda: GLAConfig(convolution=-1), "gla.convolution must be 0 taps or more"),
    (lambda: RWKV6Config(n_heads=0), "rwkv6.n_heads must be at least 1"),
    (lambda: RWKV6Config(shift_rank=0), "rwkv6.shift_rank must be at least 1"),
    (lambda: RWKV6Config(decay_rank=0), "rwkv6.decay_rank must be at least 1"),
    (lambda: RWKV7Config(n_heads=0), "rwkv7.n_heads must be at least 1"),
    (lambda: RWKV7Config(decay_rank=0), "rwkv7.decay_rank must be at least 1"),
    (lambda: RWKV7Config(rate_rank=0), "rwkv7.rate_rank must be at least 1"),
    (lambda: RWKV7Config(gate_rank=0), "rwkv7.gate_rank must be at least 1"),
    (lambda: build_memory(LinearAttentionConfig(n_heads=3), 16), "linear_attention: d_model must be a multiple of"),
    (lambda: build_memory(BasedConfig(n_heads=3), 16), "based: d_model must be a multiple of n_heads=3"),
    (lambda: build_memory(RetentionConfig(n_heads=3), 16), "retention: d_model must be a multiple of n_heads=3"),
    (lambda: build_memory(RetentionConfig(n_heads=2), 6), "retention: channels a head must be even for rotary"),
    (lambda: build_memory(GLAConfig(n_heads=3), 16), "gla: d_model must be a multiple of n_heads=3"),
    (lambda: build_memory(GLAConfig(n_heads=2), 6), "gla: channels a head must be even unless key_width is given"),
    (lambda: build_memory(RWKV6Config(n_heads=3), 16), "rwkv6: d_model must be a multiple of n_heads=3"),
    (lambda: build_memory(RWKV7Config(n_heads=3), 16), "rwkv7: d_model must be a multiple of n_heads=3"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_what_cannot_work_is_refused(make: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        make()


def test_a_layout_cannot_name_an_unknown_feature_map():
    with pytest.raises(ValueError, match=r"linear_attention\.feature_map.*'elu', 'relu' or 'identity'"):
        parse_layout("linear_attention(feature_map='softmax')")


def test_based_stands_in_a_layout_before_or_beside_its_window():
    series, parallel = parse_layout("based, attention(window=64)"), parse_layout("based | attention(window=64)")
    assert [config.kind for config in series] == ["based", "attention"]
    assert [config.kind for config in parallel] == ["parallel"]


def test_taylor_features_are_the_series_of_the_exponential():
    q, k = inputs(9)[..., :5].unsqueeze(2), inputs(9, seed=2)[..., :5].unsqueeze(2)
    score = (q * k).sum(-1) / 5**0.5
    assert_close((taylor_features(q) * taylor_features(k)).sum(-1), 1 + score + score**2 / 2, FLOAT64)


@torch.no_grad()
def test_heads_of_retention_forget_at_their_fixed_rates():
    memory = mixer_of("retention without rotary")
    _, state = memory(inputs(1))
    nothing = torch.zeros(2, 1, 16, dtype=torch.float64)
    for n_tokens in (1, 10, 40):
        later = state
        for _ in range(n_tokens):
            _, later = memory(nothing, later)
        for head, rate in enumerate((31 / 32, 63 / 64)):
            assert_close(later.s[:, head], rate**n_tokens * state.s[:, head], FLOAT64)


@torch.no_grad()
def test_retention_sees_distances_not_positions():
    memory, x = mixer_of("retention"), inputs(20)
    state = memory.init_state(2)
    for start in (0, 7, 5000):
        moved = state._replace(n_tokens=torch.tensor(start))
        assert_close(memory(x, moved)[0], memory(x)[0], FLOAT64)


@pytest.mark.parametrize("case", ["rwkv6", "rwkv7"])
@torch.no_grad()
def test_a_replaced_state_is_read_at_its_own_token_or_at_the_next(case: str):
    memory, x, reads = mixer_of(case), inputs(9), []
    memory.read.register_forward_hook(lambda _module, _args, output: reads.append(output))
    hook = memory.state.register_forward_hook(lambda _module, _args, states: 3 * states)
    memory(x)
    memory.step(x[:, 0], memory.init_state(2))
    hook.remove()
    memory(x)
    tripled, stepped, plain = reads
    assert_close(tripled, 3 * plain, FLOAT64)
    assert_close(stepped, 3 * plain[:, :1], FLOAT64)
    # RWKV-6 reads before it writes: its first read is of an empty memory.
    assert bool(plain[:, 0].any()) == (case == "rwkv7")


@torch.no_grad()
def test_the_present_token_goes_round_the_memory_of_rwkv6_by_its_bonus():
    memory, x = mixer_of("rwkv6"), inputs(1)
    before = memory(x)[0]
    memory.bonus.zero_()
    memory.norm.bias.zero_()
    assert before.any()
    assert not memory(x)[0].any()


@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_extreme_decays_of_rwkv6_stay_finite(logit: float):
    memory, x = mixer_of("rwkv6", torch.float32), inputs(40).float().requires_grad_()
    with torch.no_grad():
        memory.decay_up.bias.fill_(logit)
    y, _ = memory(x)
    gradient = torch.autograd.grad(y.sum(), [x, *trained(memory).values()])
    assert y.isfinite().all()
    assert all(part.isfinite().all() for part in gradient)


@pytest.mark.parametrize("logit", [-1e4, 1e4])
@pytest.mark.parametrize("case", ["gla", "rwkv7"])
def test_extreme_gates_stay_finite(case: str, logit: float):
    memory, x = mixer_of(case, torch.float32), inputs(40).float().requires_grad_()
    with torch.no_grad():
        (memory.retention_up if case == "gla" else memory.decay_up).bias.fill_(logit)
    y, _ = memory(x)
    gradient = torch.autograd.grad(y.sum(), [x, *trained(memory).values()])
    assert y.isfinite().all()
    assert all(part.isfinite().all() for part in gradient)


@pytest.mark.parametrize("config", [RWKV6Config(), RWKV7Config()])
def test_rwkv_starts_with_decays_from_slow_to_fast_and_no_data_dependence(config: RWKV6Config | RWKV7Config):
    torch.manual_seed(0)
    memory, x = build_memory(config, 64), torch.randn(2, 30, 64)
    writes = memory._inputs(x, memory.init_state(2).tail)[0].writes
    decay = -writes.log_retention.flatten(2)
    assert torch.equal(decay, decay[:1, :1].expand_as(decay))
    assert (decay[0, 0].diff() > 0).all()
    assert decay.min() < 3e-3
    assert decay.max() > 0.1


def test_a_token_shift_gives_the_token_before():
    x, tail = inputs(7), inputs(1, seed=3)
    previous, last = TokenShift()(x, tail)
    assert torch.equal(previous, torch.cat([tail, x[:, :-1]], dim=1))
    assert torch.equal(last, x[:, -1:])
    assert last.untyped_storage().nbytes() == last.numel() * last.element_size()

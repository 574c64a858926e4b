"""What sets state spaces, Hyena and the recurrent units apart: starts, reach, peers, configurations refused."""

import math
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mnemoscope.memories import GRU, H3, LSTM, S4D, GRUConfig, H3Config, Hyena, HyenaConfig, LSTMConfig, S4DConfig
from tests.tolerances import CAUSAL, FLOAT32, FLOAT64, assert_close
from tests.unit.memories.cases import CASES, cases, inputs, mixer_of

REFUSED = [
    (lambda: S4DConfig(n_states=7), "s4d.n_states must be even and at least 2, got 7; use an even number"),
    (lambda: S4DConfig(n_states=0), "s4d.n_states must be even and at least 2, got 0"),
    (lambda: S4DConfig(shortest_step=0.2), "s4d.shortest_step and longest_step must be positive, finite and in"),
    (lambda: H3Config(longest_step=math.inf), "h3.shortest_step and longest_step must be positive, finite and in"),
    (lambda: H3Config(head_width=0), "h3.head_width must be at least 1, got 0"),
    (lambda: H3Config(shift=0), "h3.shift must be at least 1 tap, got 0; use 1 to shift nothing"),
    (lambda: H3(H3Config(head_width=5), 16), "h3: d_model must be a multiple of head_width=5, got 16"),
    (lambda: HyenaConfig(order=0), "hyena.order must be at least 1, got 0"),
    (lambda: HyenaConfig(max_tokens=0), "hyena.max_tokens must be at least 1, got 0"),
    (lambda: HyenaConfig(n_bands=0), "hyena.n_bands must be at least 1, got 0"),
    (lambda: HyenaConfig(filter_width=0), "hyena.filter_width must be at least 1, got 0"),
    (lambda: HyenaConfig(filter_depth=-1), "hyena.filter_depth must be 0 or more, got -1"),
    (lambda: HyenaConfig(convolution=-1), "hyena.convolution must be 0 or more, got -1; use 0 for none"),
    (lambda: HyenaConfig(sine_frequency=0.0), "hyena.sine_frequency must be positive and finite, got 0.0"),
    (lambda: HyenaConfig(fastest_decay=2.0), "hyena.fastest_decay and slowest_decay must be positive and in this"),
    (lambda: LSTMConfig(width=0), "lstm.width must be at least 1, or None for the model width, got 0; use None"),
    (lambda: LSTMConfig(n_layers=0), "lstm.n_layers must be at least 1, got 0"),
    (lambda: GRUConfig(width=0), "gru.width must be at least 1, or None for the model width, got 0; use None"),
    (lambda: GRUConfig(n_layers=0), "gru.n_layers must be at least 1, got 0"),
]

time_invariant = cases(*(name for name in CASES if isinstance(mixer_of(name), S4D | H3 | Hyena)))
state_spaces = cases(*(name for name in CASES if isinstance(mixer_of(name), S4D | H3)))


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_what_cannot_work_is_refused(make: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        make()


@time_invariant
@torch.no_grad()
def test_later_the_same_is_the_same_later(case: str):
    """Nothing depends on the position: zeros in front delay the output, exactly."""
    mixer, x = mixer_of(case), inputs(20)
    # The only bias is that of the output projection of S4D, which sees every token alike.
    late = mixer(torch.cat([torch.zeros(2, 13, 16, dtype=x.dtype), x], dim=1))[0]
    assert_close(late[:, 13:], mixer(x)[0], CAUSAL._replace(absolute=1e-11))


@pytest.mark.parametrize("n_states", [2, 8, 64])
def test_state_spaces_start_at_the_frequencies_of_the_paper(n_states: int):
    lin, inv = (S4D(S4DConfig(n_states=n_states, start=start), 3).dynamics for start in ("lin", "inv"))
    for n in range(n_states // 2):
        assert_close(lin.frequency[:, n], torch.full((3,), math.pi * n), FLOAT32)
        expected = n_states / math.pi * (n_states / (2 * n + 1) - 1)
        assert_close(inv.frequency[:, n], torch.full((3,), expected), FLOAT32)
    for dynamics in (lin, inv):
        assert_close(dynamics.log_rate.exp(), torch.full((3, n_states // 2), 0.5), FLOAT32)


def test_steps_start_log_uniform_between_their_bounds():
    torch.manual_seed(0)
    log_step = S4D(S4DConfig(n_states=2, shortest_step=0.01, longest_step=0.5), 4000).dynamics.log_step
    low, high = math.log(0.01), math.log(0.5)
    assert low <= log_step.min()
    assert log_step.max() <= high
    assert abs(log_step.mean() - (low + high) / 2) < 0.05
    assert abs(log_step.std() - (high - low) / 12**0.5) < 0.05


@state_spaces
@torch.no_grad()
def test_a_replaced_state_is_what_is_read_and_what_is_kept(case: str):
    mixer, x, reads = mixer_of(case), inputs(9), []
    mixer.read.register_forward_hook(lambda _module, _args, output: reads.append(output))
    _, state = mixer(x)
    mixer.state.register_forward_hook(lambda _module, _args, output: 3 * output)
    _, tripled = mixer(x)
    assert_close(reads[1], 3 * reads[0], FLOAT64)
    assert_close(tripled.s, 3 * state.s, FLOAT64)
    _, stepped = mixer.step(x[:, 0], mixer.init_state(2))
    assert_close(stepped.s, mixer(x[:, :1])[1].s, FLOAT64)


@torch.no_grad()
def test_h3_binds_a_value_to_the_key_of_the_token_before():
    """Two channels, one-hot: keys pass the shift, values do not; a hand-set slow state keeps their products."""
    h3 = H3(H3Config(head_width=4, shift=2, n_states=2), 4).double()
    eye = torch.eye(4, dtype=torch.float64)
    for parameter, value in (
        (h3.qkv.weight, torch.cat([eye, eye, eye])),
        (h3.shift.weight, torch.tensor([[1.0, 0.0]]).expand(4, 2)),
        (h3.dynamics.log_rate, torch.full((1, 1), -30.0)),
        (h3.dynamics.frequency, torch.zeros(1, 1)),
        (h3.dynamics.log_step, torch.zeros(1)),
        (h3.dynamics.c, torch.tensor([[[0.5, 0.0]]])),
        (h3.skip, torch.zeros(1)),
        (h3.out.weight, eye),
    ):
        parameter.copy_(value)
    # 0 was followed by 2 and by 2 again, 1 by 3: asked for 0, the memory answers 2, twice.
    told = eye[torch.tensor([0, 2, 0, 2, 1, 3, 3])]
    answer = h3(torch.cat([told, eye[[0]]]).unsqueeze(0))[0][0, -1]
    assert_close(answer, 2 * eye[2], FLOAT64)
    answer = h3(torch.cat([told, eye[[1]]]).unsqueeze(0))[0][0, -1]
    assert_close(answer, eye[3], FLOAT64)


@pytest.mark.parametrize(("order", "max_tokens", "taps"), [(1, 8, 0), (1, 5, 3), (2, 6, 3), (3, 4, 2)])
@torch.no_grad()
def test_hyena_looks_back_so_far_and_no_further(order: int, max_tokens: int, taps: int):
    torch.manual_seed(0)
    hyena = Hyena(HyenaConfig(order=order, max_tokens=max_tokens, convolution=taps, slowest_decay=9), 16).double()
    reach = order * (max_tokens - 1) + 1 + max(taps - 1, 0)
    x = inputs(40)
    last = hyena(x)[0][:, -1]
    for age, seen in ((reach - 1, True), (reach, False), (reach + 5, False)):
        other = x.clone()
        other[:, 39 - age] += 1
        difference = (hyena(other)[0][:, -1] - last).abs().max()
        assert bool(difference > 1e-9) == seen
        if not seen:
            assert difference < 1e-12


@torch.no_grad()
def test_hyena_filters_start_at_the_size_of_what_they_sum():
    """Drawn for 4096 lags, a long convolution of unit noise is neither lost nor blown up."""
    torch.manual_seed(0)
    filters = Hyena(HyenaConfig(max_tokens=4096), 64).filters(4096)
    filters[:, 0] = 0
    assert 0.05 < filters.square().sum(1).mean().sqrt() < 2


@torch.no_grad()
def test_hyena_channels_fade_at_rates_between_the_two_named():
    torch.manual_seed(0)
    config = HyenaConfig(max_tokens=100, fastest_decay=0.3, slowest_decay=0.6, filter_depth=0, n_bands=1)
    filters = Hyena(config, 2).filters
    for weight in filters.weights:
        weight.zero_()
    taps = filters(61)[0]
    assert_close(taps[30, 0] / taps[10, 0], torch.tensor(100 ** (-20 / 30)), FLOAT32)
    assert_close(taps[60, 1] / taps[10, 1], torch.tensor(100 ** (-50 / 60)), FLOAT32)


@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize(("ours", "theirs"), [(LSTM, nn.LSTM), (GRU, nn.GRU)])
@torch.no_grad()
def test_the_units_are_those_of_torch(ours: type, theirs: type, n_layers: int):
    config = {LSTM: LSTMConfig, GRU: GRUConfig}[ours](width=7, n_layers=n_layers)
    memory = ours(config, 16).double()
    peer = theirs(16, 7, n_layers, batch_first=True).double()
    for mine, other in zip(memory.weights, [part for layer in peer.all_weights for part in layer], strict=True):
        other.copy_(mine)
    x = inputs(12)
    shown, states = peer(x)
    y, state = memory(x)
    assert_close(y, shown @ memory.out.weight.T, FLOAT64)
    for part, expected in zip(state, states if isinstance(states, tuple) else (states,), strict=True):
        assert_close(part, expected.transpose(0, 1), FLOAT64)


def test_the_forget_gate_starts_open():
    torch.manual_seed(0)
    lstm, plain = LSTM(LSTMConfig(width=8, n_layers=2), 4), LSTM(LSTMConfig(width=8, forget_bias=None), 4)
    for n in range(2):
        total = lstm.weights[4 * n + 2] + lstm.weights[4 * n + 3]
        assert_close(total[8:16], torch.ones(8), FLOAT32)
        assert (total[:8] != 1).all()
    assert (plain.weights[2][8:16].abs() <= 8**-0.5).all()


@torch.no_grad()
def test_a_replaced_cell_is_shown_at_its_own_token():
    mixer, x = mixer_of("lstm"), inputs(9)

    def shown(c: Tensor) -> Tensor:
        return torch.full_like(c, 0.25)

    mixer.state.register_forward_hook(lambda _module, _args, output: shown(output))
    y, state = mixer(x)
    assert_close(y, torch.full_like(y, 0.25) @ mixer.out.weight.T, FLOAT64)
    for part in state:
        assert_close(part, torch.full_like(part, 0.25), FLOAT64)
    stepped, stepped_state = mixer.step(x[:, 0], mixer.init_state(2))
    assert_close(stepped, y[:, 0], FLOAT64)
    assert_close(stepped_state.c, state.c, FLOAT64)

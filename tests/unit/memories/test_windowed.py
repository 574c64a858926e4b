"""With only the last tokens in memory: equal to a memory that never saw the others."""

import pytest
import torch
from torch import Tensor

from mnemoscope.contracts import Windowed
from mnemoscope.memories.parts import ShortConvolution, TokenShift
from tests.tolerances import FLOAT32, FLOAT64, assert_close
from tests.unit.memories.cases import CASES, cases, inputs, mixer_of

T = 37
windowed_cases = cases(*(name for name in CASES if isinstance(mixer_of(name), Windowed)))


def emptied_before_the_window(case: str, x: Tensor, window: int) -> Tensor:
    """For each position a fresh memory reads the window alone; the short convolution keeps its taps beyond it."""
    mixer, outputs = mixer_of(case), []
    for t in range(x.shape[1]):
        start = max(0, t - window + 1)
        state = mixer.init_state(x.shape[0])
        if start:
            before = mixer(x[:, :start])[1]._asdict()
            state = state._replace(**{name: part for name, part in before.items() if name.endswith("tail")})
        outputs.append(mixer(x[:, start : t + 1], state)[0][:, -1])
    return torch.stack(outputs, dim=1)


def taps_beyond(mixer: torch.nn.Module) -> int:
    """Tokens before the window that short convolutions and token shifts still see."""
    shifts = (module for module in mixer.modules() if isinstance(module, ShortConvolution | TokenShift))
    return sum(max(module.taps - 1, 0) for module in shifts)


@pytest.mark.parametrize("window", [1, pytest.param(2, marks=pytest.mark.long), 7])
@windowed_cases
@torch.no_grad()
def test_only_the_window_is_in_memory(case: str, window: int):
    x = inputs(T)
    assert_close(mixer_of(case).windowed(x, window), emptied_before_the_window(case, x, window), FLOAT64)


@pytest.mark.parametrize("window", [T, T + 5])
@windowed_cases
@torch.no_grad()
def test_a_window_over_everything_is_forward(case: str, window: int):
    mixer, x = mixer_of(case), inputs(T)
    assert_close(mixer.windowed(x, window), mixer(x)[0], FLOAT64)


@windowed_cases
def test_gradients_stop_at_the_window(case: str):
    mixer, x, window = mixer_of(case), inputs(20).requires_grad_(), max(4, CASES[case].written_together + 1)
    gradient = torch.autograd.grad(mixer.windowed(x, window)[:, -1].square().sum(), x)[0]
    taps = taps_beyond(mixer)
    reach = min(window, mixer.reach or window)
    assert_close(gradient[:, : 20 - reach - taps], torch.zeros(2, 20 - reach - taps, 16), FLOAT64)
    assert gradient[:, 20 - reach].any()


@windowed_cases
@torch.no_grad()
def test_float32_agrees_with_float64(case: str):
    x = inputs(T)
    assert_close(mixer_of(case, torch.float32).windowed(x.float(), 7), mixer_of(case).windowed(x, 7), FLOAT32)


@windowed_cases
@torch.no_grad()
def test_reach_is_how_far_back_an_output_looks(case: str):
    mixer, x = mixer_of(case), inputs(T)
    if mixer.reach is None:
        assert not torch.equal(mixer.windowed(x, T - 1)[:, -1], mixer(x)[0][:, -1])
    else:
        assert_close(mixer.windowed(x, mixer.reach), mixer(x)[0], FLOAT64)
        other = x.clone()
        other[:, : T - mixer.reach - taps_beyond(mixer)] = 0
        assert_close(mixer(other)[0][:, -1], mixer(x)[0][:, -1], FLOAT64)


def test_a_bank_has_no_window():
    assert not isinstance(mixer_of("bank"), Windowed)

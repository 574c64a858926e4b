"""What a memory says it costs is what it costs: bytes of state, floating-point operations, parameters."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.unit.memories.cases import CASES, cases, every_case, inputs, mixer_of, run_steps, tensors


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.float64, marks=pytest.mark.long)])
@every_case
@torch.no_grad()
def test_state_bytes_are_those_of_the_tensors(case: str, dtype: torch.dtype):
    mixer = mixer_of(case, dtype)
    for n_tokens in (0, 1, 6, 7, 8, 16, 17, 40):
        state = mixer.init_state(3)
        if n_tokens:
            _, state = mixer(inputs(n_tokens, batch=3).to(dtype))
        expected = mixer.state_bytes(batch=3, tokens=n_tokens)
        assert sum(t.numel() * t.element_size() for t in tensors(state)) == expected
        assert sum(t.untyped_storage().nbytes() for t in tensors(state)) == expected, "a view keeps more alive"


@every_case
@torch.no_grad()
def test_a_step_leaves_no_more_behind_than_forward(case: str):
    mixer = mixer_of(case)
    _, state = run_steps(mixer, inputs(20), mixer.init_state(2))
    assert sum(t.untyped_storage().nbytes() for t in tensors(state)) == mixer.state_bytes(batch=2, tokens=20)


@every_case
@torch.no_grad()
def test_a_step_does_not_write_into_the_state_it_was_given(case: str):
    mixer, x = mixer_of(case), inputs(12)
    _, state = mixer(x[:, :10])
    before = [tensor.clone() for tensor in tensors(state)]
    mixer.step(x[:, 10], state)
    mixer(x[:, 10:], state)
    assert all(torch.equal(now, then) for now, then in zip(tensors(state), before, strict=True))


def fused_recurrent_layer(x: list[int], w: list[int], u: list[int], *_: object, **__: object) -> int:
    """Every token (t b d) through the input's and the state's weights."""
    return 2 * x[0] * x[1] * (w[0] * w[1] + u[0] * u[1])


@pytest.mark.parametrize("n_tokens", [1, 33, 100, *(pytest.param(n, marks=pytest.mark.long) for n in (2, 16, 17, 32))])
@every_case
@torch.no_grad()
def test_flops_are_those_of_torchs_counter(case: str, n_tokens: int):
    mixer, x = mixer_of(case, torch.float32), inputs(n_tokens, batch=3).float()
    # The fused attention of a CPU is unknown to the counter; the plain one is the same two products.
    unknown = {torch.ops.aten.mkldnn_rnn_layer: fused_recurrent_layer}
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False, custom_mapping=unknown) as counter:
        mixer(x)
    assert mixer.flops(batch=3, tokens=n_tokens) == counter.get_total_flops()


@cases(*(name for name, case in CASES.items() if case.parameters is not None))
def test_parameters_are_those_of_the_equations(case: str):
    assert sum(parameter.numel() for parameter in mixer_of(case).parameters()) == CASES[case].parameters


@every_case
def test_a_memory_hides_no_buffer(case: str):
    assert not dict(mixer_of(case).named_buffers())

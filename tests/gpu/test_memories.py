"""Every memory on a device: outputs, states and gradients are those of a processor, in both forms."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from mnemoscope.memories import MEMORIES
from mnemoscope.memories.presets import PRESETS
from mnemoscope.models.layout import parse_layout
from mnemoscope.models.mixers import build_mixer
from tests.gpu.devices import on_each
from tests.tolerances import FLOAT64, HALF_FORWARD, HALF_FORWARD_EXCEPTIONS, assert_close
from tests.unit.memories.cases import run_steps, tensors

WIDTH, N_TOKENS = 32, 70
QUICK = ("gated_delta", "attention", "mlstm", "lstm")
every_memory = on_each(sorted([*MEMORIES, *PRESETS]), QUICK)


def memory(name: str) -> tuple[Any, Tensor]:
    """A memory in float64 on the processor, and inputs."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_mixer(parse_layout(name)[0], WIDTH).double().eval(), torch.randn(2, N_TOKENS, WIDTH).double()


def outcome(mixer: nn.Module, x: Tensor) -> list[Tensor]:
    """Outputs, the tensors of the last state, and the gradients of all weights and of the inputs."""
    x = x.detach().requires_grad_()
    y, state = mixer(x)
    leaves = [x, *(weight for weight in mixer.parameters() if weight.requires_grad and weight.numel())]
    grads = torch.autograd.grad(y.square().sum(), leaves, allow_unused=True)
    return [y, *tensors(state), *(grad for grad in grads if grad is not None)]


@every_memory
def test_forward_state_and_gradients_in_float64(name: str, device: str):
    here, x = memory(name)
    there = copy.deepcopy(here).to(device)
    for ours, expected in zip(outcome(there, x.to(device)), outcome(here, x), strict=True):
        assert ours.device.type == device
        assert_close(ours.cpu(), expected, FLOAT64)


@every_memory
@torch.no_grad()
def test_steps_go_on_from_a_scan(name: str, device: str):
    here, x = memory(name)
    there = copy.deepcopy(here).to(device)
    expected, _ = here(x)
    first, state = there(x[:, :50].to(device))
    rest, _ = run_steps(there, x[:, 50:].to(device), state)
    assert_close(torch.cat([first, rest], dim=1).cpu(), expected, FLOAT64)


@every_memory
@torch.no_grad()
def test_in_bfloat16_it_stays_near_float32(name: str, device: str):
    """With whatever kernel is taken for it there."""
    here, x = memory(name)
    rough, x = copy.deepcopy(here).bfloat16(), x.bfloat16()
    expected, _ = copy.deepcopy(rough).float()(x.float())
    there = rough.to(device)
    y, state = there(x.to(device))
    stepped, stepped_state = run_steps(there, x.to(device), there.init_state(2))
    for got in (y, stepped):
        assert got.dtype == torch.bfloat16
        error = (got.cpu().float() - expected).norm() / expected.norm()
        assert error < 2 * HALF_FORWARD_EXCEPTIONS.get(name, HALF_FORWARD)
    assert [part.dtype for part in tensors(state)] == [part.dtype for part in tensors(stepped_state)]


@every_memory
def test_gradients_under_autocast_are_finite_and_near(name: str, device: str):
    here, x = memory(name)
    there, x = copy.deepcopy(here).float().to(device), x.float().to(device)
    exact, *_ = torch.autograd.grad(there(x.requires_grad_())[0].square().sum(), [x])
    with torch.autocast(device, torch.bfloat16):
        y, _ = there(x)
    rough, *_ = torch.autograd.grad(y.float().square().sum(), [x])
    assert rough.isfinite().all()
    assert (rough - exact).norm() / exact.norm() < 10 * HALF_FORWARD_EXCEPTIONS.get(name, HALF_FORWARD)

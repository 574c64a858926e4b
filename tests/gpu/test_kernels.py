"""On a CUDA device flash-linear-attention's kernels compute what our own forms compute there."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mnemoscope.ops import diagonal_decay, gated_delta, kernels, rwkv7, ssd
from tests.tolerances import BFLOAT16, assert_close

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

B, T, H, K = 2, 300, 2, 64


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).cuda()


def writes_of(name: str) -> tuple[kernels.Kernel, tuple[Tensor, ...], type]:
    k, v = draw(B, T, H, K, seed=1), draw(B, T, H, K, seed=2)
    unit = F.normalize(k, dim=-1)
    by_head, by_channel = draw(B, T, H, seed=3).sigmoid(), draw(B, T, H, K, seed=4).sigmoid()
    match name:
        case "gated delta rule":
            return kernels.GATED_DELTA, (unit, v, by_head, -0.1 * by_head), gated_delta.Writes
        case "decay a head":
            return kernels.DIAGONAL, (unit, v, -0.1 * by_head.unsqueeze(-1)), diagonal_decay.Writes
        case "decay a channel":
            return kernels.DIAGONAL, (unit, v, -0.1 * by_channel), diagonal_decay.Writes
        case "reads before writes":
            return kernels.DIAGONAL_BEFORE_WRITE, (unit, v, -0.1 * by_channel), diagonal_decay.Writes
        case "rwkv-7":
            return kernels.RWKV7, (unit, v, unit, by_channel, -0.5 * by_channel), rwkv7.Writes
        case _:
            return kernels.SSD, (unit, v, by_head, -0.1 * by_head), ssd.Writes


NAMES = ("gated delta rule", "decay a head", "decay a channel", "reads before writes", "rwkv-7", "state-space duality")


@pytest.mark.parametrize("name", NAMES)
def test_kernel_and_own_form_agree(name: str):
    pytest.importorskip("fla.ops")
    kernel, parts, make = writes_of(name)
    q, state = draw(B, T, H, K), draw(B, H, K, K, seed=5)
    assert kernel.path(q.bfloat16()) == "flash-linear-attention"

    def outputs(form, dtype: torch.dtype) -> list[Tensor]:
        leaves = [part.to(dtype).requires_grad_() for part in (q, *parts)]
        read, last = form(leaves[0], make(*leaves[1:]), state.to(dtype))
        weigh = draw(*read.shape, seed=6).to(dtype)
        return [read, last, *torch.autograd.grad((read * weigh).sum(), leaves)]

    exact = outputs(kernel.ours, torch.float64)
    for ours, expected in zip(outputs(kernel, torch.bfloat16), exact, strict=True):
        assert_close(ours / expected.abs().max(), expected / expected.abs().max(), BFLOAT16)

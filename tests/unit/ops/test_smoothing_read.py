"""Strictly causal kernel smoothing against loops, masks, and what is known without computing."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mnemoscope.ops.smoothing_read import LENGTH_EPSILON, ReadKernel, of_length, read_weights, smoothing_read
from tests.oracle import smoothing as oracle
from tests.tolerances import BFLOAT16, FLOAT32, FLOAT32_GRADIENT, FLOAT64, assert_close

B, H, K, V = 2, 2, 4, 4
KERNELS: list[tuple[ReadKernel, int | None]] = [
    ("softmax", None),
    ("gaussian", None),
    ("epanechnikov", None),
    ("biweight", None),
    ("triweight", None),
    ("top_k", 3),
]
every_kernel = pytest.mark.parametrize(("kernel", "top_k"), KERNELS, ids=[kernel for kernel, _ in KERNELS])
SIZES = [(1, 0), (2, 1), (9, 8), (9, 9), (1, 5), (5, 9)]
"""Queries and pairs: no pairs, one fewer than queries, as many, and more."""


def problem(n_queries: int, n_pairs: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(n: int, width: int) -> Tensor:
        return torch.randn(B, H, n, width, generator=generator, dtype=torch.float64)

    return draw(n_queries, K), draw(n_pairs, K), draw(n_pairs, V)


def loop(q: Tensor, k: Tensor, v: Tensor, kernel: str, top_k: int | None) -> Tensor:
    n_queries, n_pairs = q.shape[2], k.shape[2]
    rows = []
    for b in range(B):
        for h in range(H):
            for j in range(n_queries):
                seen = list(range(n_pairs - n_queries + 1 + j))
                distance = [-((q[b, h, j] - key) ** 2).sum() / 2 for key in k[b, h]]
                product = [q[b, h, j] @ key for key in k[b, h]]
                logits = distance if kernel == "gaussian" else product
                weights = oracle.row(torch.stack(logits), seen, kernel, top_k) if seen else torch.zeros(n_pairs)
                rows.append(sum((weights[i] * v[b, h, i] for i in seen), start=torch.zeros(V, dtype=q.dtype)))
    return torch.stack(rows).view(B, H, n_queries, V)


def gradients(y: Tensor, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    weigh = torch.randn(y.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return torch.autograd.grad((y * weigh).sum(), inputs)


@every_kernel
@pytest.mark.parametrize(("n_queries", "n_pairs"), SIZES)
def test_reads_and_gradients_are_those_of_the_loop(n_queries: int, n_pairs: int, kernel: ReadKernel, top_k: int | None):
    inputs = tuple(tensor.requires_grad_() for tensor in problem(n_queries, n_pairs))
    fast, slow = smoothing_read(*inputs, kernel, top_k), loop(*inputs, kernel, top_k)
    assert_close(fast, slow, FLOAT64)
    if n_pairs:
        for ours, theirs in zip(gradients(fast, inputs), gradients(slow, inputs), strict=True):
            assert_close(ours, theirs, FLOAT64)


@every_kernel
@pytest.mark.parametrize(("n_queries", "n_pairs"), SIZES)
def test_the_weights_are_those_that_are_read_with(n_queries: int, n_pairs: int, kernel: ReadKernel, top_k: int | None):
    q, k, v = problem(n_queries, n_pairs)
    weights = read_weights(q, k, kernel, top_k)
    assert_close(weights @ v, smoothing_read(q, k, v, kernel, top_k), FLOAT64)
    n_seen = torch.arange(n_pairs - n_queries + 1, n_pairs + 1)
    assert_close(weights.sum(-1), (n_seen > 0).double().expand(B, H, n_queries), FLOAT64)


@pytest.mark.parametrize("n_tokens", [1, 2, 63, 64, 65, 100])
def test_the_shift_is_the_strict_mask(n_tokens: int):
    q, _, _ = problem(n_tokens, 0)
    _, k, v = problem(0, n_tokens, seed=1)
    logits = (q @ k.mT).masked_fill(torch.ones(n_tokens, n_tokens).triu().bool(), -torch.inf)
    masked = torch.cat([torch.zeros(B, H, 1, V, dtype=q.dtype), logits[:, :, 1:].softmax(-1) @ v], dim=2)
    read = smoothing_read(q, k[:, :, :-1], v[:, :, :-1])
    assert_close(read, masked, FLOAT64)
    assert not read[:, :, 0].any()


def test_the_read_does_not_depend_on_what_was_cut_off_before():
    q, k, v = problem(30, 29)
    whole = smoothing_read(q, k, v)
    assert_close(smoothing_read(q[:, :, 12:], k, v), whole[:, :, 12:], FLOAT64)


def test_on_keys_of_one_length_the_gaussian_is_softmax():
    q, k, v = problem(20, 19)
    q, k = 2 * F.normalize(q, dim=-1), 2 * F.normalize(k, dim=-1)
    assert_close(smoothing_read(q, k, v, "gaussian"), smoothing_read(q, k, v, "softmax"), FLOAT64)


def test_the_gaussian_reads_the_nearest_key_and_softmax_the_longest():
    k = torch.tensor([[1.0, 0.0], [10.0, 0.0]], dtype=torch.float64).view(1, 1, 2, 2)
    v = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64).view(1, 1, 2, 2)
    q = k[:, :, :1]
    assert_close(smoothing_read(q, k, v, "gaussian"), v[:, :, :1], FLOAT64)
    assert smoothing_read(q, k, v, "softmax")[0, 0, 0, 1] > 0.99


def test_the_gaussian_does_not_change_with_the_origin():
    q, k, v = problem(12, 12)
    moved = torch.randn(K, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert_close(smoothing_read(q + moved, k + moved, v, "gaussian"), smoothing_read(q, k, v, "gaussian"), FLOAT64)


@every_kernel
def test_float32_agrees_with_float64(kernel: ReadKernel, top_k: int | None):
    found = {}
    for dtype in (torch.float32, torch.float64):
        inputs = tuple(tensor.to(dtype).requires_grad_() for tensor in problem(40, 39))
        y = smoothing_read(*inputs, kernel, top_k)
        found[dtype] = (y, gradients(y, inputs))
    (y, grads), (exact, exact_grads) = found.values()
    assert_close(y, exact, FLOAT32)
    for ours, theirs in zip(grads, exact_grads, strict=True):
        assert_close(ours, theirs, FLOAT32_GRADIENT)


@every_kernel
def test_half_precision_loses_no_more_than_its_inputs_and_outputs(kernel: ReadKernel, top_k: int | None):
    q, k, v = (3 * tensor.bfloat16() for tensor in problem(40, 39))
    exact = smoothing_read(q.double(), k.double(), v.double(), kernel, top_k)
    y = smoothing_read(q, k, v, kernel, top_k)
    assert y.dtype == torch.bfloat16
    assert (y - exact).abs().max() < 0.02 * v.abs().max()
    weights = read_weights(q, k, kernel, top_k)
    assert weights.dtype == torch.bfloat16
    assert (weights.double() @ v.double() - exact).abs().max() < 0.02 * v.abs().max()


@every_kernel
@pytest.mark.parametrize("length", [0.0, 150.0])
def test_very_long_and_zero_keys_stay_finite(length: float, kernel: ReadKernel, top_k: int | None):
    q, k, v = (tensor.float() for tensor in problem(20, 19))
    inputs = tuple(tensor.requires_grad_() for tensor in (length * q, length * k, v))
    y = smoothing_read(*inputs, kernel, top_k)
    assert y.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients(y, inputs))


@every_kernel
def test_dropout_takes_weights_and_keeps_the_mean(kernel: ReadKernel, top_k: int | None):
    q, k, v = problem(6, 5)
    many = [tensor.repeat(500, 1, 1, 1) for tensor in (q, k, v)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        dropped = smoothing_read(*many, kernel, top_k, dropout=0.3)
    plain = smoothing_read(q, k, v, kernel, top_k)
    assert not dropped[:, :, 0].any()
    # What is left of a read of one pair: nothing, or the value raised by 1 / 0.7.
    alone = dropped[0::2, :, 1] / plain[0, :, 1]
    kept = alone.abs() > 1e-9
    assert_close(alone[kept], torch.full_like(alone[kept], 1 / 0.7), FLOAT64)
    assert 0.6 < kept.double().mean() < 0.8
    spread = (dropped[0::2] - plain[0]).mean(0).abs().max()
    assert spread < 0.2 * plain[0].abs().max()


class TestLength:
    def test_vectors_get_the_length_of_their_head(self):
        x, length = problem(7, 0)[0].transpose(1, 2), torch.tensor([0.5, 3.0], dtype=torch.float64)
        drawn = of_length(x, length)
        assert_close(drawn.norm(dim=-1), length.expand(B, 7, H), FLOAT64)
        assert_close(drawn / length.unsqueeze(-1), F.normalize(x, dim=-1), FLOAT64)
        assert_close(of_length(x), F.normalize(x, dim=-1), FLOAT64)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    def test_zero_stays_zero_with_a_finite_gradient(self, dtype: torch.dtype):
        x = torch.zeros(2, 3, 4, dtype=dtype, requires_grad=True)
        y = of_length(x)
        assert y.dtype == dtype
        assert not y.any()
        gradient = torch.autograd.grad(y.float().sum() * 1e-3, x)[0]
        assert gradient.isfinite().all()
        tolerance = FLOAT32_GRADIENT if dtype.itemsize > 2 else BFLOAT16
        assert_close(gradient, torch.full_like(gradient, 1e-3 / LENGTH_EPSILON), tolerance)

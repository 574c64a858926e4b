"""Kernel smoothing weights against loops from the definition, closed forms, and what any such weights must satisfy."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mnemoscope.ops.smoothing import POWERS, Kernel, smoothing_weights
from tests.oracle import smoothing as oracle
from tests.tolerances import BFLOAT16, FLOAT32, FLOAT32_GRADIENT, FLOAT64, assert_close

COMPACT = tuple(POWERS)
KINDS: tuple[tuple[Kernel, int | None], ...] = (
    ("softmax", None),
    *((kernel, None) for kernel in COMPACT),
    ("top_k", 3),
)
every_kind = pytest.mark.parametrize(("kernel", "top_k"), KINDS)
every_compact = pytest.mark.parametrize("kernel", COMPACT)


def draw(*shape: int, scale: float = 1.0, seed: int = 0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def everything(t: int, s: int) -> Tensor:
    return torch.ones(t, s, dtype=torch.bool)


def strictly_causal(t: int) -> Tensor:
    return everything(t, t).tril(-1)


def expected(z: Tensor, visible: Tensor, kernel: Kernel, top_k: int | None) -> Tensor:
    seen = [torch.nonzero(row).flatten().tolist() for row in visible]
    rows = [[oracle.row(row, see, kernel, top_k) for row, see in zip(one, seen, strict=True)] for one in z]
    return torch.stack([torch.stack(one) for one in rows])


@pytest.mark.parametrize("scale", [0.1, 1.0, 4.0])
@every_kind
def test_weights_and_gradients_are_those_of_the_definition(kernel: Kernel, top_k: int | None, scale: float):
    z, visible = draw(2, 12, 12, scale=scale).requires_grad_(), strictly_causal(12)
    ours, theirs = smoothing_weights(z, visible, kernel, top_k), expected(z, visible, kernel, top_k)
    assert_close(ours, theirs, FLOAT64)
    weigh = draw(2, 12, 12, seed=1)
    gradient, exact = (torch.autograd.grad((form * weigh).sum(), z)[0] for form in (ours, theirs))
    assert_close(gradient, exact, FLOAT64)


@every_kind
def test_gradients_of_first_and_second_order_are_those_of_differences(kernel: Kernel, top_k: int | None):
    z, visible = draw(1, 5, 6, scale=1.5, seed=3).requires_grad_(), everything(5, 6)

    def form(z: Tensor) -> Tensor:
        return smoothing_weights(z, visible, kernel, top_k)

    assert torch.autograd.gradcheck(form, z)
    assert torch.autograd.gradgradcheck(form, z)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 100, 5000])
@pytest.mark.parametrize("scale", [0.0, 1e-2, 1.0, 30.0])
@every_kind
def test_rows_sum_to_one(kernel: Kernel, top_k: int | None, scale: float, n: int, dtype: torch.dtype):
    weights = smoothing_weights(draw(3, 2, n, scale=scale).to(dtype), everything(2, n), kernel, top_k)
    assert (weights >= 0).all()
    assert_close(weights.sum(-1), torch.ones(3, 2), FLOAT64 if dtype == torch.float64 else FLOAT32)


@given(
    n=st.integers(1, 40),
    scale=st.floats(1e-3, 20),
    seed=st.integers(0, 1000),
    kernel=st.sampled_from(COMPACT),
)
def test_compact_weights_are_the_optimum(n: int, scale: float, seed: int, kernel: Kernel):
    """Weights maximise <p, z> less a convex entropy: on the support its slopes tie, off it they are no larger."""
    z, power = draw(1, n, scale=scale, seed=seed), POWERS[kernel]
    p = smoothing_weights(z, everything(1, n), kernel)
    slopes = z[0] - power * p[0].pow(1 / power)
    tie = slopes[p[0] > 0].max()
    assert_close(slopes[p[0] > 0], tie.expand(int((p > 0).sum())), FLOAT64)
    assert (slopes <= tie + 1e-9).all()


@pytest.mark.parametrize("gap", [0.0, 0.3, 0.99])
def test_two_logits_in_closed_form(gap: float):
    """For a gap d the larger weighs (1 + d) / 2; as a biweight its root is d / 4 + sqrt(1 / 2 - d^2 / 16)."""
    z = torch.tensor([[gap, 0.0]], dtype=torch.float64)
    larger = torch.tensor([(1 + gap) / 2, (gap / 4 + (0.5 - gap**2 / 16) ** 0.5) ** 2], dtype=torch.float64)
    weights = [smoothing_weights(z, everything(1, 2), kernel)[0] for kernel in COMPACT]
    assert_close(torch.stack([weights[0][0], weights[1][0]]), larger, FLOAT64)
    roots = weights[2].pow(1 / 3)
    assert_close(roots[0] - roots[1], z[0, 0] / 3, FLOAT64)


def test_three_logits_in_closed_form():
    z = torch.tensor([[0.5, 0.3, 0.1], [2.0, 1.5, 0.9], [3.0, 0.0, 0.0]], dtype=torch.float64)
    weights = smoothing_weights(z, everything(3, 3), "epanechnikov")
    by_hand = torch.tensor([[0.5 + 1 / 30, 1 / 3, 0.1 + 1 / 30], [0.75, 0.25, 0.0], [1.0, 0.0, 0.0]])
    assert_close(weights, by_hand, FLOAT32)
    assert weights[1, 2] == 0


@every_compact
def test_the_support_ends_where_the_gap_reaches_the_kernel_width(kernel: Kernel):
    width = float(POWERS[kernel])
    z = torch.tensor([[0.0, -width + 1e-3], [0.0, -width], [0.0, -1e4]], dtype=torch.float64)
    inside, at_the_edge, far = smoothing_weights(z, everything(3, 2), kernel)[:, 1]
    assert inside > 0
    assert at_the_edge == 0
    assert far == 0


@every_kind
def test_equal_logits_weigh_the_same(kernel: Kernel, top_k: int | None):
    weights = smoothing_weights(torch.full((1, 4, 7), 3.0, dtype=torch.float64), everything(4, 7), kernel, top_k)
    assert_close(weights, torch.full((1, 4, 7), 1 / 7), FLOAT32)


@every_kind
def test_a_shift_of_a_row_changes_nothing(kernel: Kernel, top_k: int | None):
    z, visible = draw(2, 6, 9), everything(6, 9)
    shifted = z + draw(2, 6, 1, scale=100, seed=2)
    ours, theirs = (smoothing_weights(form, visible, kernel, top_k) for form in (shifted, z))
    assert_close(ours, theirs, FLOAT64)


def test_top_k_of_everything_is_softmax_and_of_one_is_the_maximum():
    z, visible = draw(2, 8, 8), strictly_causal(8)
    softmax = smoothing_weights(z, visible, "softmax")
    assert_close(smoothing_weights(z, visible, "top_k", 8), softmax, FLOAT64)
    assert_close(smoothing_weights(z, visible, "top_k", 80), softmax, FLOAT64)
    one = smoothing_weights(z, visible, "top_k", 1)
    largest = z.masked_fill(~visible, -torch.inf).argmax(-1, keepdim=True)
    assert_close(one[:, 1:].gather(-1, largest[:, 1:]), torch.ones(2, 7, 1), FLOAT64)


def test_logits_that_tie_with_the_last_of_the_top_count():
    z = torch.tensor([[1.0, 0.0, 1.0, 2.0]], dtype=torch.float64)
    assert torch.equal(
        smoothing_weights(z, everything(1, 4), "top_k", 2) > 0, torch.tensor([[True, False, True, True]])
    )


@every_kind
def test_what_is_hidden_has_no_weight_and_no_say(kernel: Kernel, top_k: int | None):
    z, visible = draw(2, 6, 6), strictly_causal(6)
    loud = z.masked_fill(~visible, 1e30).requires_grad_()
    weights = smoothing_weights(loud, visible, kernel, top_k)
    assert_close(weights, smoothing_weights(z, visible, kernel, top_k), FLOAT64)
    assert not weights.masked_select(~visible).any()
    gradient = torch.autograd.grad((weights * draw(2, 6, 6, seed=4)).sum(), loud)[0]
    assert gradient.isfinite().all()
    assert not gradient.masked_select(~visible).any()


@every_kind
def test_a_row_that_sees_nothing_is_zeros_with_zero_gradient(kernel: Kernel, top_k: int | None):
    z = draw(2, 3, 4).requires_grad_()
    weights = smoothing_weights(z, ~everything(3, 4), kernel, top_k)
    assert not weights.any()
    assert not torch.autograd.grad(weights.sum(), z)[0].any()


@every_kind
def test_extreme_logits_stay_finite(kernel: Kernel, top_k: int | None):
    z = torch.tensor([[1e30, -1e30, 0.0, 1e30], [-1e30, -1e30, -1e30, -1e30]], requires_grad=True)
    weights = smoothing_weights(z, everything(2, 4), kernel, top_k)
    assert_close(weights, torch.tensor([[0.5, 0, 0, 0.5], [0.25] * 4]), FLOAT32)
    gradient = torch.autograd.grad((weights * torch.arange(4)).sum(), z)[0]
    assert gradient.isfinite().all()


@every_kind
def test_float32_agrees_with_float64(kernel: Kernel, top_k: int | None):
    z, visible, weigh, results = draw(2, 64, 64, scale=2.0), strictly_causal(64), draw(2, 64, 64, seed=5), []
    for dtype in (torch.float32, torch.float64):
        leaf = z.to(dtype).requires_grad_()
        weights = smoothing_weights(leaf, visible, kernel, top_k)
        results.append((weights, torch.autograd.grad((weights * weigh).sum(), leaf)[0]))
    assert_close(results[0][0], results[1][0], FLOAT32)
    assert_close(results[0][1], results[1][1], FLOAT32_GRADIENT)


@every_kind
def test_half_precision_is_computed_in_float32(kernel: Kernel, top_k: int | None):
    z, visible = draw(1, 9, 9).bfloat16(), strictly_causal(9)
    weights = smoothing_weights(z, visible, kernel, top_k)
    assert torch.equal(weights, smoothing_weights(z.float(), visible, kernel, top_k).bfloat16())
    assert_close(weights, smoothing_weights(z.double(), visible, kernel, top_k), BFLOAT16)


@every_kind
def test_without_positions_there_are_no_weights(kernel: Kernel, top_k: int | None):
    assert smoothing_weights(torch.zeros(2, 3, 0), everything(3, 0), kernel, top_k).shape == (2, 3, 0)


@pytest.mark.parametrize(("kernel", "top_k"), [("softmax", 3), ("top_k", None), ("top_k", 0), ("biweight", 1)])
def test_top_k_goes_with_its_kernel_alone(kernel: Kernel, top_k: int | None):
    with pytest.raises(ValueError, match="top_k must be at least 1 for kernel='top_k' and None for any other"):
        smoothing_weights(draw(2, 2), everything(2, 2), kernel, top_k)

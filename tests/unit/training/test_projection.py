import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mnemoscope.training import TrainConfig
from mnemoscope.training.projection import orthogonal_gradient, project_gradients, projected_parameters
from tests.unit.training.small import SmallModel


def drawn(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_by_hand():
    """<w, g> / <w, w> = 11 / 25; at half strength 0.22 w is taken out."""
    weight, gradient = torch.tensor([[3.0], [4.0]]), torch.tensor([[1.0], [2.0]])
    half = orthogonal_gradient(gradient, weight, 0.5)
    torch.testing.assert_close(half, torch.tensor([[0.34], [1.12]]))
    torch.testing.assert_close(orthogonal_gradient(gradient, weight, 1.0), torch.tensor([[-0.32], [0.24]]))
    rescaled = orthogonal_gradient(gradient, weight, 1.0, rescale=True)
    torch.testing.assert_close(rescaled, 5**0.5 / 0.4 * torch.tensor([[-0.32], [0.24]]))


@given(seed=st.integers(0, 10_000), strength=st.floats(0, 1), shape=st.tuples(st.integers(1, 5), st.integers(2, 5)))
def test_what_is_left_along_the_weight(seed: int, strength: float, shape: tuple[int, int]):
    weight, gradient = drawn(seed, *shape), drawn(seed + 1, *shape)
    projected = orthogonal_gradient(gradient, weight, strength)
    scale = float(weight.norm() * gradient.norm())
    assert float((projected * weight).sum()) == pytest.approx(
        (1 - strength) * float((gradient * weight).sum()), abs=1e-12 * scale
    )
    across = gradient - (gradient * weight).sum() / weight.square().sum() * weight
    left = projected - (projected * weight).sum() / weight.square().sum() * weight
    torch.testing.assert_close(left, across, rtol=1e-9, atol=1e-12)


@given(seed=st.integers(0, 10_000), strength=st.floats(0, 1), size=st.integers(2, 20))
def test_rescaled_it_has_the_norm_of_the_gradient(seed: int, strength: float, size: int):
    weight, gradient = drawn(seed, size), drawn(seed + 1, size)
    plain, rescaled = (orthogonal_gradient(gradient, weight, strength, rescale=each) for each in (False, True))
    assert rescaled.norm().item() == pytest.approx(gradient.norm().item(), rel=1e-9)
    torch.testing.assert_close(rescaled / rescaled.norm(), plain / plain.norm(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gradient_along_the_weight_is_not_made_of_rounding_errors(dtype: torch.dtype):
    weight = drawn(0, 30, 30).to(dtype)
    left = orthogonal_gradient(-2 * weight, weight, 1.0, rescale=True)
    assert left.dtype == dtype
    assert left.norm() <= 1e-5 * weight.norm()


def test_half_precision_is_projected_in_single():
    weight, gradient = drawn(0, 64, 64), drawn(1, 64, 64)
    halves = orthogonal_gradient(gradient.bfloat16(), weight.bfloat16(), 1.0, rescale=True)
    wide = orthogonal_gradient(gradient.bfloat16().double(), weight.bfloat16().double(), 1.0, rescale=True)
    assert halves.dtype == torch.bfloat16
    torch.testing.assert_close(halves.double(), wide, rtol=2**-8, atol=1e-6)


def test_a_weight_of_zeros_has_no_direction():
    gradient = drawn(3, 4, 2)
    for rescale in (False, True):
        torch.testing.assert_close(
            orthogonal_gradient(gradient, torch.zeros(4, 2).double(), 1.0, rescale=rescale), gradient
        )
    nothing = torch.zeros(4, 2)
    assert orthogonal_gradient(nothing, drawn(1, 4, 2).float(), 1.0, rescale=True).tolist() == nothing.tolist()


def test_every_tensor_is_projected_on_its_own():
    first, second, untouched = (nn.Parameter(drawn(seed, 3, 3)) for seed in range(3))
    first.grad, second.grad = drawn(5, 3, 3), drawn(6, 3, 3)
    expected = orthogonal_gradient(second.grad, second, 0.7)
    project_gradients([first, second, untouched], 0.7)
    torch.testing.assert_close(second.grad, expected)
    assert float((first.grad * first.detach()).sum()) == pytest.approx(
        0.3 * float((drawn(5, 3, 3) * first.detach()).sum())
    )
    assert untouched.grad is None


def names(model: nn.Module, config: TrainConfig) -> set[str]:
    chosen = {id(p) for p in projected_parameters(model, config)}
    return {name for name, p in model.named_parameters() if id(p) in chosen}


def test_vectors_and_embeddings_are_left_alone_unless_asked():
    model = SmallModel()
    model.scale = nn.Parameter(torch.ones(1))
    model.frozen = nn.Linear(2, 2).requires_grad_(False)
    assert names(model, TrainConfig()) == set()
    assert names(model, TrainConfig(orthogonal_gradient=0.5)) == {"hidden.weight"}
    every = TrainConfig(orthogonal_gradient=0.5, orthogonal_gradient_of="all")
    assert names(model, every) == {"embedding.weight", "hidden.weight", "hidden.bias", "norm.weight", "norm.bias"}


def test_a_model_without_a_matrix_is_refused():
    with pytest.raises(ValueError, match=r"TrainConfig\.orthogonal_gradient_of: the model has no weight matrix"):
        projected_parameters(nn.LayerNorm(3), TrainConfig(orthogonal_gradient=1.0))

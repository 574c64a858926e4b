import pytest
import torch

from mnemoscope.ops.bank_looks import Looked, look_at_slots, look_at_tokens, look_at_tokens_recurrent
from tests.tolerances import FLOAT32_GRADIENT, FLOAT64, assert_close


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, FLOAT64), (torch.float32, FLOAT32_GRADIENT)])
@pytest.mark.parametrize("n_tokens", [1, 2, 31, 32, 33, 65])
def test_chunks_are_the_recurrence_with_its_gradients(n_tokens: int, dtype: torch.dtype, tolerance: object):
    slots, tokens = draw(5, 4, dtype=dtype).requires_grad_(), draw(2, n_tokens, 4, seed=1, dtype=dtype).requires_grad_()
    results = []
    for look in (look_at_tokens, look_at_tokens_recurrent):
        found, last = look(slots, tokens, 0.7, look_at_slots(slots, 0.7, 2))
        loss = found.square().sum() + last.log_weight.sum() + last.mean.sum()
        results.append([found, *last, *torch.autograd.grad(loss, [slots, tokens])])
    for ours, theirs in zip(*results, strict=True):
        assert_close(ours, theirs, tolerance)  # pyright: ignore[reportArgumentType]


def test_a_slot_has_looked_at_all_slots_and_all_tokens_so_far():
    slots, tokens = draw(3, 4), draw(1, 6, 4, seed=1)
    found, _ = look_at_tokens(slots, tokens, 1.3, look_at_slots(slots, 1.3, 1))
    for t in range(6):
        seen = torch.cat([slots, tokens[0, : t + 1]])
        assert_close(found[0, t], (1.3 * slots @ seen.T).softmax(-1) @ seen, FLOAT64)


def test_large_scores_stay_finite():
    slots, tokens = 100 * draw(3, 4), 100 * draw(1, 40, 4, seed=1)
    found, last = look_at_tokens(slots, tokens, 1.0, look_at_slots(slots, 1.0, 1))
    assert isinstance(last, Looked)
    assert found.isfinite().all()
    assert last.log_weight.isfinite().all()

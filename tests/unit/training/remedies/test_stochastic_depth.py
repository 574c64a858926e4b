"""Routes are dropped by their depth."""

import pytest
import torch
from torch import Tensor, nn

from mnemoscope.training.remedies import StochasticDepth, treated
from tests.unit.training.remedies.models import stack

N_SEQUENCES = 2000


class _Ones(nn.Module):
    """Three routes in a row, registered out of order, each contributing ones (b, 1, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.routes = nn.ModuleList(nn.Identity() for _ in range(4))
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([route(x) for route in self.routes])


def test_the_deeper_the_rarer() -> None:
    model = _Ones().train()
    torch.manual_seed(0)
    with treated(model, (StochasticDepth(strength=0.8, sites=("routes.*",)),)) as (treatment,):
        treatment.on_step(1, 1)
        out = model(torch.ones(N_SEQUENCES, 1, 1))
    assert set(out.unique().tolist()) == {0.0, 1.0}
    # p_l = 1 - (l / 4) 0.8
    torch.testing.assert_close(out.mean((1, 2, 3)), torch.tensor([0.8, 0.6, 0.4, 0.2]), rtol=0, atol=0.04)
    assert abs(float((out[0] * out[1]).mean()) - 0.48) < 0.05, "the draws of two routes are independent"


def test_rescaled_routes_keep_their_mean() -> None:
    model = _Ones().train()
    torch.manual_seed(0)
    with treated(model, (StochasticDepth(strength=0.8, rescale=True, sites=("routes.*",)),)) as (treatment,):
        treatment.on_step(1, 1)
        out = model(torch.ones(N_SEQUENCES, 1, 1))
    torch.testing.assert_close(out[3].unique(), torch.tensor([0.0, 5.0]))
    torch.testing.assert_close(out.mean((1, 2, 3)), torch.ones(4), rtol=0, atol=0.2)


def test_the_order_is_that_of_the_model_not_of_the_patterns() -> None:
    remedy = StochasticDepth(strength=1.0, sites=("routes.3", "routes.0", "routes.2", "routes.1"))
    model = _Ones().train()
    with treated(model, (remedy,)) as (treatment,):
        treatment.on_step(1, 1)
        out = model(torch.ones(N_SEQUENCES, 1, 1))
    torch.testing.assert_close(out.mean((1, 2, 3)), torch.tensor([0.75, 0.5, 0.25, 0.0]), rtol=0, atol=0.04)


def test_the_last_route_of_a_stack_is_dropped_with_the_strength() -> None:
    model = stack("gated_delta | attention(window=16), attention").train()
    with treated(model, (StochasticDepth(strength=1.0),)) as (treatment,):
        treatment.on_step(1, 1)
        got: list[Tensor] = []
        handle = model.blocks[1].mixer.contribution.register_forward_hook(lambda module, args, out: got.append(out))
        model(torch.zeros(3, 4, dtype=torch.int64))
        handle.remove()
    assert float(got[0].detach().abs().max()) == 0


def test_without_strength_not_even_the_generator_moves() -> None:
    model, x = _Ones().train(), torch.ones(4, 1, 1)
    rng = torch.get_rng_state()
    with treated(model, (StochasticDepth(strength=0.0, sites=("routes.*",)),)) as (treatment,):
        treatment.on_step(1, 1)
        assert torch.equal(model(x), torch.ones(4, 4, 1, 1))
    assert torch.equal(torch.get_rng_state(), rng)


@pytest.mark.parametrize("changes", [{"strength": 1.1}, {"strength": 1.0, "rescale": True}])
def test_bad_settings_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="StochasticDepth"):
        StochasticDepth(**changes)  # pyright: ignore[reportArgumentType]

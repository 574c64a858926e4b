"""The amendments of a DNC in a configuration, and masks on the keys of anything else."""

import math

import pytest
import torch
from torch import nn

from mnemoscope.memories import DNC
from mnemoscope.models import StackConfig, build
from mnemoscope.training.remedies import DncMasking
from mnemoscope.training.remedies.dnc_masking import DncMaskingTreatment, amended

X = torch.tensor([[1.0, 1.0]])


def layer() -> nn.Linear:
    """The identity on two channels."""
    keys = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        keys.weight.copy_(torch.eye(2))
    return keys


def masked(**settings: float) -> tuple[nn.Module, DncMaskingTreatment]:
    """Keys (1, 1) under the mask (3/4, 1/2)."""
    model = nn.Sequential(layer())
    treatment = DncMasking(sites=("0",), **settings).attach(model)  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        for name, value in treatment.named_parameters():
            value.copy_(torch.tensor([[math.log(3), 0], [0, 0]]) if name.endswith("weight") else torch.zeros(2))
    return model, treatment


def test_keys_are_masked_as_by_hand():
    model, treatment = masked()
    treatment.on_step(1, 3)
    torch.testing.assert_close(model(X), torch.tensor([[1.2, 0.8]]))  # 0.75 and 0.5 over 0.625
    treatment.on_step(2, 3)
    torch.testing.assert_close(model(X), torch.tensor([[1.1, 0.9]]))
    treatment.on_step(3, 3)
    assert torch.equal(model(X), X)
    model, treatment = masked(floor=0.5)
    treatment.on_step(1, 3)
    torch.testing.assert_close(model(X), torch.tensor([[0.875, 0.75]]) / 0.8125)
    model.eval()
    assert torch.equal(model(X), X)


def test_masks_learn_what_to_look_at():
    """The first channel of what is sought is noise; the answer is the slot whose second channel has the same sign."""
    torch.manual_seed(0)
    model = nn.Sequential(layer().requires_grad_(False))
    treatment = DncMasking(sites=("0",), final_strength=None).attach(model)
    treatment.on_step(1, 1)
    slots = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    optimiser = torch.optim.Adam(treatment.parameters(), lr=0.1)
    for _ in range(60):
        sign = torch.randint(2, (64,)) * 2 - 1
        sought = torch.stack([3 * torch.randn(64), 0.5 * sign], dim=1)
        loss = nn.functional.cross_entropy(model(sought) @ slots.T, (sign < 0).long())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    noise, signal = model(X)[0].tolist()
    assert signal > 3 * noise


def test_a_configuration_is_amended_in_every_dnc_and_nowhere_else():
    line = "dnc(n_slots=4, word=3, hidden=8{0}) | attention(window=4) >> dnc(n_slots=5, word=3, hidden=8{0})"
    plain, ours = (
        StackConfig.of(line.format(options), vocab_size=5, d_model=8)
        for options in ("", ", masking=True, mask_floor=0.1, deallocation=True, sharpness=True")
    )
    assert amended(plain, mask_floor=0.1) == ours != plain
    assert amended(ours, masking=False, deallocation=False, sharpness=False) == plain
    machines = [module for module in build(amended(plain), 0).modules() if isinstance(module, DNC)]
    assert len(machines) == 2
    assert all(dnc.options.mask_floor == 0 and dnc.options.deallocation and dnc.options.sharpness for dnc in machines)


def test_an_amended_dnc_trains_in_every_control():
    config = StackConfig.of("dnc(n_slots=4, word=3, n_read=1, hidden=8)", vocab_size=5, d_model=8)
    model = build(amended(config), 0)
    model(torch.randint(5, (2, 6))).square().sum().backward()
    (dnc,) = (module for module in model.modules() if isinstance(module, DNC))
    grad = dnc.controller.controls.weight.grad
    assert grad is not None
    assert grad.shape[0] == 3 * 3 + (3 + 1 + 2 + 2 * 3) + (2 + 2) + 3
    assert (grad != 0).any(1).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"floor": 1.0}, r"DncMasking.floor: must be in \[0, 1\), got 1.0; use 0"),
        ({"strength": 2.0}, r"DncMasking.strength: must be in \[0, 1\], got 2.0"),
    ],
)
def test_numbers_that_cannot_be_are_refused(settings: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        DncMasking(**settings)  # pyright: ignore[reportArgumentType]


def test_what_cannot_be_masked_is_refused():
    with pytest.raises(ValueError, match=r"sites must name the Linear layers .* amended\(config\)"):
        DncMasking().attach(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="0 must be a Linear layer that makes keys or queries, got a Identity"):
        DncMasking(sites=("0",)).attach(nn.Sequential(nn.Identity()))
    with pytest.raises(ValueError, match="the stack must have a dnc to amend, got none"):
        amended(StackConfig.of("gated_delta", vocab_size=5, d_model=8))

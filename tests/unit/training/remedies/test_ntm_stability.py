"""The stability kit: where memories and forget gates start, and what controls, keys and gradients are kept within."""

import math

import pytest
import torch
from torch import Tensor, nn

from mnemoscope.memories import DNC, MANN, NTM, DNCConfig, MANNConfig, NTMConfig
from mnemoscope.training.remedies import NtmStability, Treatment

MACHINES = {
    "ntm": lambda clip: NTM(NTMConfig(n_slots=4, word=3, hidden=5, clip=clip), 6),
    "dnc": lambda clip: DNC(DNCConfig(n_slots=4, word=3, n_read=1, hidden=5, clip=clip), 6),
    "mann": lambda clip: MANN(MANNConfig(n_slots=4, word=3, n_heads=1, hidden=5, clip=clip), 6),
}


def on(model: nn.Module, step: int = 1, **settings: object) -> Treatment:
    treatment = NtmStability(**settings).attach(model)  # pyright: ignore[reportArgumentType]
    treatment.on_step(step, 10)
    return treatment


def parameters(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def test_forget_gates_of_torch_start_open():
    model = nn.ModuleList([nn.LSTM(3, 2, num_layers=2, bidirectional=True), nn.LSTMCell(3, 2), nn.GRU(3, 2)])
    before = parameters(model)
    on(model)
    n_gates = 0
    for name, value in model.named_parameters():
        forget = torch.zeros_like(value, dtype=torch.bool)
        if "bias" in name and not name.startswith("2."):
            forget[2:4] = True
            assert (value[2:4] == (1 if "bias_ih" in name else 0)).all()
            n_gates += 1
        assert torch.equal(value[~forget], before[name][~forget])
    assert n_gates == 2 * (4 + 1)


def test_a_cell_with_open_gates_keeps_what_it_had():
    cell = nn.LSTMCell(1, 1)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.zero_()
    on(nn.Sequential(cell), forget_bias=2.0)
    _, c = cell(torch.zeros(1, 1), (torch.zeros(1, 1), torch.ones(1, 1)))
    assert c.item() == pytest.approx(1 / (1 + math.exp(-2)))


def test_an_ntm_starts_at_a_small_constant_with_open_gates():
    memory = NTM(NTMConfig(n_slots=4, word=3, hidden=5, memory="learned", forget_bias=-1.0), 6)
    on(nn.Sequential(memory))
    assert torch.equal(memory.init_state(2).memory, torch.full((2, 4, 3), 1e-6))
    assert torch.equal(memory.controller.inputs.bias[5:10].detach(), torch.ones(5))
    assert memory.first_memory.requires_grad


def test_what_was_learned_is_not_overwritten_and_strength_zero_does_nothing():
    for step, strength in ((2, 1.0), (1, 0.0)):
        model = nn.Sequential(NTM(NTMConfig(n_slots=4, word=3, hidden=5, memory="random", forget_bias=0.0), 6))
        before = parameters(model)
        on(model, step, strength=strength)
        assert all(torch.equal(value, before[name]) for name, value in parameters(model).items())
    model = nn.Sequential(nn.Identity())
    on(model, strength=0.0, sites=("0",), keys=("0",))
    assert model(torch.tensor([50.0])).item() == 50


def test_controls_and_keys_of_foreign_modules_are_bounded():
    model = nn.ModuleDict({"controls": nn.Identity(), "key": nn.Identity()})
    on(model, sites=("controls",), keys=("key",))
    x = torch.tensor([-30.0, 5.0, 21.0], requires_grad=True)
    y = model["controls"](x)
    assert y.tolist() == [-20, 5, 20]
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert grad.tolist() == [0, 1, 0]
    assert torch.equal(model["key"](x), x.tanh())
    model.eval()
    assert torch.equal(model["controls"](x), x)
    assert torch.equal(model["key"](x), x)


@pytest.mark.parametrize("kind", MACHINES)
def test_controllers_of_ours_are_bounded_in_training(kind: str):
    free, bound = MACHINES[kind](None), MACHINES[kind](0.25)
    bound.load_state_dict(free.state_dict())
    x = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))
    without = free(x)[0]
    assert not torch.equal(without, bound(x)[0])
    treatment = on(nn.Sequential(free), control_clip=0.25, forget_bias=None)
    assert torch.equal(free(x)[0], bound(x)[0])
    free.eval()
    assert torch.equal(free(x)[0], without)
    free.train()
    treatment.detach()
    assert torch.equal(free(x)[0], without)
    tight = bound(x)[0]
    on(nn.Sequential(bound), control_clip=9.0, forget_bias=None)
    assert torch.equal(bound(x)[0], tight)


def test_every_number_of_a_gradient_is_bounded():
    model = nn.Sequential(nn.Linear(2, 1), nn.LSTM(1, 1))
    treatment = on(model)
    layer = model.get_submodule("0")
    x = torch.tensor([[30.0, -3.0]])

    def gradient() -> list[list[float]]:
        model.zero_grad()
        layer(x).sum().backward()
        grad = layer.get_parameter("weight").grad
        assert grad is not None
        return grad.tolist()

    assert gradient() == [[10, -3]]
    model.eval()
    assert gradient() == [[30, -3]]
    model.train()
    treatment.detach()
    assert gradient() == [[30, -3]]
    on(model, gradient_clip=None)
    assert gradient() == [[30, -3]]


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="the model has no NTM, DNC, MANN or LSTM; name the modules"):
        NtmStability().attach(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"NtmStability.control_clip: must be positive and finite, got 0.0; use 20"):
        NtmStability(control_clip=0.0)
    with pytest.raises(ValueError, match=r"NtmStability.gradient_clip: must be positive and finite, got inf; use 10"):
        NtmStability(gradient_clip=math.inf)

from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from mnemoscope.examination.interventions.reads import (
    BranchOff,
    Call,
    Constant,
    GateClamp,
    PositionConstant,
    Resample,
    Window,
    Zero,
    unfolded,
    window_input,
)
from mnemoscope.examination.running.editing import Edit, edited
from mnemoscope.examination.subject.sites import Point


def call(value: Tensor, module: nn.Module | None = None, *args: object) -> Call:
    return Call(module, args, {}, value)


def test_fixed_interventions_by_hand():
    value = torch.arange(12.0).view(3, 2, 2)
    assert torch.equal(Zero().apply(call(value)), torch.zeros(3, 2, 2))
    assert torch.equal(Constant(torch.tensor([7.0, 8.0])).apply(call(value))[2, 1], torch.tensor([7.0, 8.0]))
    assert torch.equal(Resample().apply(call(value))[1], value[0])
    assert torch.equal(Resample(2).apply(call(value))[1], value[2])


@pytest.mark.parametrize("rest", [(), (4,), (2, 3)])
def test_a_constant_of_each_position_by_hand(rest: tuple[int, ...]):
    values = torch.randn(5, *rest, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    seen = PositionConstant(values).apply(call(torch.zeros(3, 5, *rest)))
    assert seen.dtype == torch.float32
    assert all(torch.equal(row, values.float()) for row in seen)


@pytest.mark.parametrize("length", [1, 4, 6])
def test_a_constant_of_each_position_refuses_other_lengths(length: int):
    with pytest.raises(ValueError, match="sequences of one length"):
        PositionConstant(torch.zeros(5, 2)).apply(call(torch.zeros(3, length, 2)))


def test_gradient_of_a_constant_of_each_position_sums_over_sequences():
    values = torch.zeros(4, 2, requires_grad=True)
    weights = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0))
    (PositionConstant(values).apply(call(torch.zeros(3, 4, 2))) * weights).sum().backward()
    torch.testing.assert_close(values.grad, weights.sum(0))


def test_gates_are_clamped_or_fixed():
    gate = torch.tensor([[[0.1], [0.5], [0.9]]])
    assert GateClamp(0.2, 0.6).apply(call(gate)).flatten().tolist() == pytest.approx([0.2, 0.5, 0.6])
    assert GateClamp(1.0, 1.0).apply(call(gate)).flatten().tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(ValueError, match="at most high"):
        GateClamp(0.6, 0.2)


class Layer(nn.Module):
    """A layer that returns the residual stream with its branch added."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x.square())


def test_a_branch_off_is_zero_at_the_branch_and_not_at_the_layer():
    layer, x = Layer(), torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    off = BranchOff().apply(Call(layer, (x,), {}, layer(x)))
    layer.branch.register_forward_hook(lambda module, args, output: Zero().apply(call(output)))
    assert torch.equal(off, layer(x))
    assert not torch.equal(off, Zero().apply(call(layer(x))))
    with pytest.raises(ValueError, match="only what is added"):
        BranchOff().apply(Call(layer, (x,), {}, x[..., :2]))
    with pytest.raises(ValueError, match="tap"):
        BranchOff().apply(call(x))


class RunningSum(nn.Module):
    def forward(self, x: Tensor, state: None = None) -> tuple[Tensor, None]:
        return x.cumsum(1), None


@pytest.mark.parametrize("window", [1, 2, 5, 9, 10, 14])
@pytest.mark.parametrize("limit", [1, 2**24])
def test_unfolded_windows_of_a_running_sum(window: int, limit: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mnemoscope.examination.interventions.reads.MAX_UNFOLDED_VALUES", limit)
    x = torch.randn(3, 10, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([x[:, max(0, t - window + 1) : t + 1].sum(1) for t in range(10)], dim=1)
    torch.testing.assert_close(unfolded(call(x, RunningSum(), x), window), expected, rtol=0, atol=1e-12)
    seen = Window(window, torch.tensor([1.0, -1.0])).apply(call(x.cumsum(1), RunningSum(), x))
    torch.testing.assert_close(seen, expected + torch.tensor([1.0, -1.0]), rtol=0, atol=1e-12)


def test_windows_are_refused_where_other_tensors_go_in():
    x = torch.zeros(2, 3, 4)
    with pytest.raises(ValueError, match="one tensor"):
        window_input(Call(RunningSum(), (x,), {"memory": torch.ones(2, 3)}, x))
    with pytest.raises(ValueError, match="no module"):
        Window(2).apply(call(x))


@pytest.mark.parametrize("end", ["module", "input"])
def test_what_follows_a_site_may_take_a_view_of_it(end: Literal["module", "input"]):
    model = nn.Sequential(nn.Linear(3, 4), nn.Flatten(0, 1), nn.Linear(4, 2))
    flat = dict(model.named_modules())
    model[1].forward = lambda x: x.view(-1, x.shape[-1])  # as Conv1D of GPT-2 does
    edit = Edit(Point("0" if end == "module" else "1", end), Constant(torch.tensor([1.0, 2.0, 3.0, 4.0])))
    with edited(flat, [edit]):
        found = model(torch.randn(5, 6, 3))
    assert torch.equal(found, model[2](torch.tensor([1.0, 2.0, 3.0, 4.0])).expand(30, 2))

"""What is left of a folded memory: a constant behind a gate, in pieces as in one, for as many tokens as it has."""

import pytest
import torch
from torch.nn import functional as F

from mnemoscope.models import Folded, FoldedConfig, StackConfig, build, parse_layout
from mnemoscope.models.folded import Form
from mnemoscope.models.written import write_layout
from mnemoscope.training.optimiser import spared_parameters

FORMS: tuple[Form, ...] = ("nothing", "vector", "sigmoid_after", "silu_before", "sigmoid_before")


@pytest.mark.parametrize("positions", [None, 5])
@pytest.mark.parametrize("form", FORMS)
def test_the_equations(form: Form, positions: int | None):
    if form == "nothing" and positions:
        with pytest.raises(ValueError, match=r"folded\.positions must be None"):
            FoldedConfig(form=form, positions=positions)
        return
    folded = drawn(form, positions)
    x = torch.randn(2, 5, 4, dtype=torch.float64)
    y, state = folded(x)
    torch.testing.assert_close(y, by_hand(folded, x))
    assert state.n_tokens == (5 if positions else None)
    first, state = folded(x[:, :2])
    rest = []
    for t in range(2, 5):
        piece, state = folded.step(x[:, t], state)
        rest.append(piece)
    torch.testing.assert_close(torch.cat([first, torch.stack(rest, 1)], dim=1), y)
    assert folded.state_bytes() == sum(part.numel() * part.element_size() for part in state if part is not None)
    assert folded.reach == 1
    torch.testing.assert_close(folded.windowed(x, 1), y)
    if positions:
        with pytest.raises(ValueError, match="each of 5 positions, got 6 tokens"):
            folded.step(x[:, 0], state)


def test_layouts_and_settings():
    mixers = parse_layout("folded(form='silu_before', width=6) | attention, folded")
    assert mixers[1] == FoldedConfig()
    assert parse_layout(write_layout(mixers)) == mixers
    with pytest.raises(ValueError, match=r"folded\.width must be None"):
        FoldedConfig(width=3)
    with pytest.raises(ValueError, match=r"folded\.positions must be None, or at least 1"):
        FoldedConfig(positions=0)


def test_a_constant_is_not_decayed_and_takes_part_in_a_stack():
    stack = build(StackConfig(vocab_size=5, d_model=4, mixers=parse_layout("folded(form='sigmoid_after')")), seed=0)
    mixer = stack.get_submodule("blocks.0.mixer")
    assert isinstance(mixer, Folded)
    assert {id(mixer.vector.weight), id(mixer.gate_bias.weight)} <= spared_parameters(stack)
    stack(torch.zeros(1, 3, dtype=torch.int64)).square().sum().backward()
    assert mixer.vector.weight.grad is not None
    assert bool(mixer.vector.weight.grad.abs().sum() > 0)
    assert stack.flops(1, 3) - build(nothing(), seed=0).flops(1, 3) == 2 * 3 * 4 * 4


def nothing() -> StackConfig:
    return StackConfig(vocab_size=5, d_model=4, mixers=parse_layout("folded(form='nothing')"))


def drawn(form: Form, positions: int | None) -> Folded:
    width = 6 if form.endswith("before") else None
    folded = Folded(FoldedConfig(form=form, width=width, positions=positions), d_model=4).double()
    for parameter in folded.parameters():
        torch.nn.init.normal_(parameter)
    return folded


def by_hand(folded: Folded, x: torch.Tensor) -> torch.Tensor:
    """Token by token."""
    form, y = folded.config.form, torch.zeros_like(x)
    if form == "nothing":
        return y
    for t in range(x.shape[1]):
        row = t if folded.config.positions else 0
        vector = folded.vector.weight[row]
        if form == "vector":
            y[:, t] = vector
            continue
        logits = x[:, t] @ folded.gate_input.weight.T + folded.gate_bias.weight[row if form == "sigmoid_after" else 0]
        if form == "sigmoid_after":
            y[:, t] = logits.sigmoid() * vector
        else:
            gate = F.silu(logits) if form == "silu_before" else 1 / (1 + (-logits).exp())
            y[:, t] = (gate * vector) @ folded.out.weight.T
    return y

"""Folding a memory: the model that is left is the original with the constant put in, and smaller."""

import pytest
import torch
from torch import nn

from mnemoscope.contracts import Batch
from mnemoscope.examination import Budget
from mnemoscope.examination.running.editing import edited
from mnemoscope.examination.subject.losses import NextTokenLoss
from mnemoscope.experiments.folding import ConstantOutput, Fit, equivalence, fitted, fold, folded_stack, sizes, speeds
from mnemoscope.experiments.folding.anywhere import constant_of
from mnemoscope.experiments.planted import models
from mnemoscope.experiments.planted.kinds import BUDGET
from mnemoscope.experiments.planted.world import World, recall
from mnemoscope.models import Stack, StackConfig, build

LENGTH, VOCAB = 9, 11
TINY = Budget(n_calibration=16, n_test=16, fit_steps=4, joint_fit_steps=2)
MARGIN = 0.01

GATED = [
    "bank(n_slots=6)",
    "energy_bank(n_slots=6)",
    "gated_delta(n_heads=2)",
    "omega(n_heads=2, chunk_tokens=4)",
    "omega_mlp(n_heads=2, chunk_tokens=4)",
    "gla(n_heads=2)",
    "retention(n_heads=2)",
    "mlstm(n_heads=2)",
]
PLAIN = ["bank(n_slots=6, gated=False)", "gated_delta(n_heads=2, output_gate=False)", "gru", "slots(n_slots=3)"]


@pytest.mark.parametrize("layout", [*GATED, *PLAIN])
def test_the_stack_that_is_left_is_the_hooked_one(layout: str):
    stack = stack_of(layout)
    check(stack, fitted(stack, NextTokenLoss(), batches(2), "blocks.0.mixer", "read", TINY))


@pytest.mark.parametrize("layout", ["bank(n_slots=6)", "gated_delta(n_heads=2)", "gru"])
@pytest.mark.parametrize("way", ["positions", "output", "zero"])
def test_constants_by_position_and_of_the_output(layout: str, way: str):
    stack = stack_of(layout)
    fit = fitted(stack, NextTokenLoss(), batches(2), "blocks.0.mixer", way, TINY)  # pyright: ignore[reportArgumentType]
    assert fit.constant.shape[0] == (LENGTH if way == "positions" else fit.constant.shape[0])
    folded = check(stack, fit)
    assert way != "zero" or not list(folded.get_submodule("blocks.0.mixer").parameters())


@pytest.mark.parametrize(
    ("layout", "site"),
    [
        ("gated_delta(n_heads=2) | attention(n_heads=2)", "blocks.0.mixer.memory"),
        ("parallel(attention(n_heads=2), bank, fusion='multiplicative')", "blocks.0.mixer.beside"),
        ("gated_delta(n_heads=2) >> attention(n_heads=2)", "blocks.0.mixer.first"),
    ],
)
def test_memories_within_a_block(layout: str, site: str):
    stack = stack_of(layout)
    for way in ("read", "zero"):
        check(stack, fitted(stack, NextTokenLoss(), batches(2), site, way, TINY))


def test_what_cannot_be_folded():
    for layout, way_out in (("mamba", r"fold its output \(--delete\)"), ("h3(head_width=4)", "fold its output")):
        stack = stack_of(layout)
        fit = fitted(stack, NextTokenLoss(), batches(2), "blocks.0.mixer", "read", TINY)
        with pytest.raises(ValueError, match=way_out):
            folded_stack(stack, fit)
        check(stack, fitted(stack, NextTokenLoss(), batches(2), "blocks.0.mixer", "output", TINY))
    with pytest.raises(ValueError, match=r"did you mean 'blocks\.0\.mixer'"):
        fitted(stack_of("gru"), NextTokenLoss(), batches(2), "blocks.0.mixr", "read", TINY)


def test_fitting_leaves_the_model_as_it_was():
    stack = stack_of("gated_delta(n_heads=2)").train()
    before = {name: value.clone() for name, value in stack.state_dict().items()}
    fitted(stack, NextTokenLoss(), batches(2), "blocks.0.mixer", "read", TINY)
    assert stack.training
    assert all(torch.equal(value, before[name]) for name, value in stack.state_dict().items())
    assert not any(module._forward_hooks for module in stack.modules())


@pytest.mark.parametrize("kind", ["uniform_bank", "winner_take_all_bank"])
def test_a_planted_constant_bank_folds(kind: str):
    world = World.draw(3)
    model, loss = getattr(models, kind)(world), NextTokenLoss()
    data = world.batches(recall, 10, 32)
    fit = fitted(model, loss, data[:4], "memories.0", "read", BUDGET)
    vector = constant_of(fit.output, by_position=False, tolerance=1e-5)
    assert vector is not None
    folded = fold(model, fit.owner, vector, rest=(None,) * (fit.rest or 0))
    difference = equivalence(model, folded, loss, data[4:])
    assert -MARGIN < difference.low <= difference.high < MARGIN
    assert sizes(folded).parameters < sizes(model).parameters - 16 * world.vocab_size
    assert isinstance(folded.get_submodule("memories.0"), ConstantOutput)
    assert isinstance(model.get_submodule("memories.0"), models.Bank)


def test_a_load_bearing_memory_is_not_equivalent():
    world = World.draw(3)
    model, loss = models.load_bearing(world), NextTokenLoss()
    data = world.batches(recall, 10, 32)
    fit = fitted(model, loss, data[:4], "memories.0", "read", BUDGET)
    vector = constant_of(fit.output, by_position=False, tolerance=1e-5)
    assert vector is not None
    folded = fold(model, fit.owner, vector, rest=(None,), in_place=True)
    assert folded is model
    difference = equivalence(models.load_bearing(World.draw(3)), folded, loss, data[4:])
    assert difference.low > 0.5


class Pair(nn.Module):
    """A module that returns a tuple, seen twice by its holder."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.again = self.first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.first(x) + self.again(x)


def test_any_module():
    model, x = Pair(), torch.randn(2, 4, 3)
    constant = torch.tensor([1.0, 2.0, 3.0])
    folded = fold(model, "again", constant)
    assert torch.equal(folded(x), 2 * constant.expand(2, 4, 3))
    assert torch.equal(folded(x[:, 0]), 2 * constant.expand(2, 3))
    assert sizes(model).parameters == 12
    assert sizes(folded) == (3, 12)
    by_position = fold(model, "first", torch.arange(12.0).view(4, 3), by_position=True)
    assert torch.equal(by_position(x)[1], 2 * torch.arange(12.0).view(4, 3))
    with pytest.raises(ValueError, match="each of 4 positions, got sequences of 2"):
        by_position(x[:, :2])
    with pytest.raises(ValueError, match="must have a module 'frst'; nearest: first"):
        fold(model, "frst", constant)
    tokens = torch.zeros(2, 4, dtype=torch.int64)
    assert ConstantOutput(constant, by_position=False, rest=None)(tokens).shape == (2, 4, 3)
    assert ConstantOutput(constant, by_position=False, rest=(None,))(x)[1] is None


def test_what_is_constant():
    vector = torch.randn(3)
    same = vector.expand(2, 4, 3)
    assert torch.equal(constant_of(same, by_position=False, tolerance=1e-6), vector)  # pyright: ignore[reportArgumentType]
    clock = torch.randn(4, 3).expand(2, 4, 3)
    assert constant_of(clock, by_position=False, tolerance=1e-6) is None
    assert torch.equal(constant_of(clock, by_position=True, tolerance=1e-6), clock[0])  # pyright: ignore[reportArgumentType]
    assert constant_of(torch.randn(2, 4, 3), by_position=True, tolerance=1e-6) is None


def test_speeds_are_measured():
    stack = stack_of("gru")
    found = speeds(stack, stack, NextTokenLoss(), batches(1)[0], n_tokens=8 * LENGTH)
    assert min(found) > 0


def check(stack: Stack, fit: Fit) -> Stack:
    """The folded stack: smaller, and with the logits of the hooked one."""
    tokens = torch.as_tensor(batches(3)[2].inputs)
    with torch.no_grad(), edited(dict(stack.named_modules()), fit.edits):
        wanted = stack(tokens)
    folded = folded_stack(stack, fit)
    with torch.no_grad():
        got, state = folded.prefill(tokens[:, :4])
        rest, _ = folded.prefill(tokens[:, 4:], state)
        torch.testing.assert_close(folded(tokens), wanted, rtol=0, atol=1e-6)
        torch.testing.assert_close(torch.cat([got, rest], dim=1), wanted, rtol=0, atol=1e-6)
        assert (stack(tokens) - wanted).abs().max() > 1e-3
    assert sizes(folded).parameters < sizes(stack).parameters
    assert folded.flops(1, LENGTH) <= stack.flops(1, LENGTH)
    return folded


def stack_of(layout: str) -> Stack:
    """In float64, with memories whose every weight matters."""
    stack = build(StackConfig.of(layout, vocab_size=VOCAB, d_model=8), seed=1).double().eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in stack.parameters():
        if parameter.requires_grad:
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return stack


def batches(n: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(2)
    drawn = torch.randint(VOCAB, (n, 8, LENGTH + 1), generator=generator)
    return [Batch(inputs=tokens[:, :-1], targets=tokens[:, 1:]) for tokens in drawn]

"""Modular arithmetic: every equation of the table is right, and stands in one split."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnemoscope.contracts.batch import IGNORE
from mnemoscope.tasks import SPLITS, task_rng
from mnemoscope.tasks.modular_arithmetic import ModularArithmetic, ModularArithmeticConfig

PRIMES = (11, 13, 17, 19, 23, 29, 31)
COMMUTING = ("add", "multiply", "sum_squares")


def holds(operation, a, b, c, p):
    """Whether a op b = c modulo p, without a division."""
    return {
        "add": (a + b - c) % p == 0,
        "subtract": (b + c - a) % p == 0,
        "multiply": (a * b - c) % p == 0,
        "divide": (b * c - a) % p == 0 and b > 0,
        "sum_squares": (a**2 + b**2 - c) % p == 0,
        "cubic": (a * (a**2 + b**2) + b - c) % p == 0,
    }[operation]


@st.composite
def configs(draw):
    operation = draw(st.sampled_from(("add", "subtract", "multiply", "divide", "sum_squares", "cubic")))
    return ModularArithmeticConfig(
        modulus=draw(st.sampled_from(PRIMES) if operation == "divide" else st.integers(11, 32)),
        operation=operation,
        train_fraction=draw(st.floats(0.01, 0.95)),
        join_mirrors=operation in COMMUTING and draw(st.booleans()),
        split_seed=draw(st.integers(0, 2**64 - 1)),
    )


@settings(deadline=None, max_examples=60)
@given(config=configs(), seed=st.integers(0, 2**32), split=st.sampled_from(SPLITS))
@example(config=ModularArithmeticConfig(modulus=97, operation="divide"), seed=0, split="train")
def test_every_equation_holds(config, seed, split):
    task, p = ModularArithmetic(config), config.modulus
    size = min(6, len(task.equations(split)))
    batch = task.batch(task_rng(seed, split, 0), size, split)
    assert batch.inputs.shape == (size, 4)
    for (a, op, b, equals), targets in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
        assert (op, equals) == (p, p + 1)
        assert targets[:3] == [IGNORE] * 3
        assert 0 <= min(a, b, targets[3]) <= max(a, b, targets[3]) < p
        assert holds(config.operation, a, b, targets[3], p)
    assert batch.about["distance"].tolist() == [[-1, -1, -1, 1]] * size
    assert batch.about["query"].tolist() == [[-1, -1, -1, 0]] * size


@settings(deadline=None, max_examples=60)
@given(config=configs())
@example(config=ModularArithmeticConfig())
@example(config=ModularArithmeticConfig(join_mirrors=True, operation="multiply"))
def test_the_splits_are_the_table_in_parts(config):
    task, p = ModularArithmetic(config), config.modulus
    parts = {split: set(map(tuple, task.equations(split)[:, :2].tolist())) for split in SPLITS}
    table = {(a, b) for a in range(p) for b in range(p) if b or config.operation != "divide"}
    sizes = [len(task.equations(split)) for split in SPLITS]
    assert set().union(*parts.values()) == table
    assert sum(sizes) == len(table)
    n_train = int(config.train_fraction * len(table))
    assert n_train <= sizes[0] <= n_train + config.join_mirrors
    assert 0 <= sizes[2] - sizes[1] + 2 * config.join_mirrors <= 1 + 2 * config.join_mirrors
    assert min(sizes) > 0
    assert task.n_sequences("train") is None
    assert [task.n_sequences(split) for split in SPLITS[1:]] == sizes[1:]
    if config.join_mirrors:
        assert all((b, a) in part for part in parts.values() for a, b in part)


def test_without_joining_mirrors_are_trained_on_as_often_as_anything_else():
    task = ModularArithmetic(ModularArithmeticConfig())
    trained = set(map(tuple, task.equations("train")[:, :2].tolist()))
    mirrored = [(b, a) in trained for a, b, _ in task.equations("test").tolist()]
    assert abs(np.mean(mirrored) - 0.4) < 0.03


@pytest.mark.parametrize("split", SPLITS)
def test_a_batch_as_large_as_the_split_is_the_split(split):
    task = ModularArithmetic(ModularArithmeticConfig(modulus=13))
    equations = task.equations(split)
    batch = task.batch(task_rng(5, split, 0), len(equations), split)
    read = np.stack([batch.inputs[:, 0], batch.inputs[:, 2], batch.targets[:, 3]], axis=1)
    assert sorted(read.tolist()) == sorted(equations.tolist())
    assert read.tolist() != equations.tolist()


def test_more_than_all_training_equations_come_alike_often():
    task = ModularArithmetic(ModularArithmeticConfig(modulus=11, train_fraction=0.1))
    batch = task.batch(task_rng(0, "train", 0), 30, "train")
    counts = np.unique(batch.inputs, axis=0, return_counts=True)[1]
    assert len(task.equations("train")) == len(counts) == 12
    assert set(counts.tolist()) == {2, 3}


def test_the_split_seed_decides_the_splits_alone():
    def trained(**options):
        return ModularArithmetic(ModularArithmeticConfig(modulus=17, **options)).equations("train").tolist()

    assert trained() == trained()
    assert trained() != trained(split_seed=1)
    assert [e[:2] for e in trained()] == [e[:2] for e in trained(operation="cubic")]


def test_what_equations_gives_may_be_written_to():
    task = ModularArithmetic(ModularArithmeticConfig(modulus=11))
    task.equations("test")[:] = 0
    assert task.equations("test").any()


@pytest.mark.parametrize("operation", ["add", "subtract", "divide"])
def test_answers_of_a_group_are_uniform(operation):
    task = ModularArithmetic(ModularArithmeticConfig(operation=operation))
    assert task.chance_loss == math.log(113)
    assert math.isclose(task.memoryless_loss, math.log(113), rel_tol=1e-12)
    assert task.floor_loss == 0


@pytest.mark.parametrize(
    ("p", "operation", "zeros", "others"),
    [(113, "multiply", 225, 112), (97, "sum_squares", 193, 96), (103, "sum_squares", 1, 104)],
)
def test_the_memoryless_loss_by_hand(p, operation, zeros, others):
    """A product is 0 if a factor is; -1 is a square modulo a prime p = 4 k + 1 and is none modulo p = 4 k + 3."""
    task = ModularArithmetic(ModularArithmeticConfig(modulus=p, operation=operation))
    assert zeros + (p - 1) * others == p * p
    expected = -zeros / p**2 * math.log(zeros / p**2) - (p - 1) * others / p**2 * math.log(others / p**2)
    assert math.isclose(task.memoryless_loss, expected, rel_tol=1e-12)
    assert task.memoryless_loss < task.chance_loss


def test_the_equations_of_the_first_release():
    task = ModularArithmetic(ModularArithmeticConfig(modulus=11))
    assert task.equations("train")[:4].tolist() == [[1, 5, 6], [4, 4, 8], [1, 4, 5], [1, 3, 4]]
    batch = task.batch(task_rng(0, "train", 0), 3, "train")
    assert batch.inputs.tolist() == [[1, 11, 5, 12], [3, 11, 10, 12], [4, 11, 4, 12]]
    assert batch.targets[:, 3].tolist() == [6, 2, 8]
    assert task.words([1, 11, 5, 12]) == ["1", "+", "5", "="]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"modulus": 10}, "modulus: must be between 11 and 2048, got 10; nearest valid: 11"),
        ({"modulus": 2049}, "nearest valid: 2048"),
        (
            {"modulus": 100, "operation": "divide"},
            "must be prime for operation 'divide' .* got 100; nearest valid: 101",
        ),
        ({"modulus": 2048, "operation": "divide"}, "nearest valid: 2039"),
        ({"operation": "plus"}, "operation: must be one of add, .* got 'plus'; nearest valid: 'add'"),
        ({"train_fraction": 0.0}, "train_fraction: must be between 0.01 and 0.95, got 0.0; nearest valid: 0.01"),
        ({"train_fraction": 1.0}, "nearest valid: 0.95"),
        ({"train_fraction": math.nan}, "train_fraction: must be between"),
        ({"operation": "subtract", "join_mirrors": True}, "'subtract', which does not commute, got True; .* False"),
        ({"split_seed": -1}, "split_seed: must be at least 0 .* got -1; nearest valid: 0"),
        ({"split_seed": 2**64}, "nearest valid: 18446744073709551615"),
    ],
)
def test_config_refuses(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        ModularArithmeticConfig(**options)


def test_batch_refuses_more_held_out_equations_than_there_are():
    task = ModularArithmetic(ModularArithmeticConfig(modulus=11))
    with pytest.raises(
        ValueError, match="at most 36, the sequences of the validation split, got 37; nearest valid: 36"
    ):
        task.batch(np.random.default_rng(0), 37, "validation")

"""The model comes back exactly as it was, also after an exception."""

import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mnemoscope.contracts import Batch
from mnemoscope.examination import Budget, examine
from mnemoscope.examination.subject.intact import intact
from mnemoscope.models import StackConfig, build

TINY = Budget(n_calibration=16, n_test=16, fit_steps=4, joint_fit_steps=2, windows=(1,), n_resamples=200)


class WithBuffer(nn.Module):
    """A stack beside a dropout and a buffer that its forward changes."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = build(StackConfig.of("attention(window=4), gated_delta", vocab_size=11, d_model=8), seed=0)
        self.dropout = nn.Dropout(0.5)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, tokens: Tensor) -> Tensor:
        self.get_buffer("calls").add_(1)
        return self.dropout(self.stack(tokens))


def tokens(n: int = 4) -> list[Batch]:
    rng = np.random.default_rng(0)
    drawn = [rng.integers(0, 11, (8, 13)) for _ in range(n)]
    return [Batch(inputs=torch.from_numpy(x[:, :-1]), targets=torch.from_numpy(x[:, 1:])) for x in drawn]


def photograph(model: nn.Module) -> dict[str, object]:
    modules = list(model.modules())
    return {
        "training": [module.training for module in modules],
        "state": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "hooks": [
            (dict(module._forward_hooks), dict(module._forward_pre_hooks), "forward" in module.__dict__)
            for module in modules
        ],
        "requires_grad": [parameter.requires_grad for parameter in model.parameters()],
        "gradients": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state()[1].tolist(),  # noqa: NPY002
    }


def assert_same(before: object, after: object) -> None:
    match before:
        case Tensor():
            assert torch.equal(before, after)
        case dict():
            assert before.keys() == after.keys()
            for key in before:
                assert_same(before[key], after[key])
        case list():
            for left, right in zip(before, after, strict=True):
                assert_same(left, right)
        case _:
            assert before == after


def prepared() -> WithBuffer:
    model = WithBuffer()
    model.stack.blocks[0].eval()
    model.stack.head.weight.requires_grad_(False)
    model.stack.norm.weight.grad = torch.ones_like(model.stack.norm.weight)
    model.stack.norm.register_forward_hook(lambda module, args, output: output)
    return model


def test_model_and_random_states_are_as_before():
    model = prepared()
    before = photograph(model)
    examine(model, tokens(), budget=TINY)
    assert_same(before, photograph(model))


@pytest.mark.parametrize("fails_at", [1, 5, 30])
def test_model_is_as_before_after_an_exception(fails_at: int):
    model, calls = prepared(), 0

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        nonlocal calls
        calls += 1
        logits = model(batch.inputs)
        if calls == fails_at:
            raise KeyboardInterrupt
        return logits.square().mean((1, 2))

    before = photograph(model)
    with pytest.raises(KeyboardInterrupt):
        examine(model, tokens(), loss=loss, budget=TINY)
    assert_same(before, photograph(model))


def test_python_random_state_is_restored():
    # Checked on `intact` alone: the type checker of the test suite draws from this generator in between.
    before = random.Random()
    before.setstate(random.getstate())
    with intact(nn.Linear(1, 1)):
        random.random()
    assert random.random() == before.random()


def test_replay_is_given_up_where_a_buffer_changes():
    assert "buffer" in examine(WithBuffer(), tokens(), budget=TINY).replay

"""Training on a device: every precision learns, and a run that was stopped goes on where it was."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mnemoscope.models import Stack, StackConfig, build
from mnemoscope.runs import RunDirectory
from mnemoscope.training import load_checkpoint, train
from tests.gpu.devices import ON_CUDA, every_device
from tests.unit.training.small import CONFIG, SmallTask

SHORT = replace(CONFIG, steps=12, checkpoint_every=5, warmup_steps=2)
every_precision = pytest.mark.parametrize(
    ("precision", "device"),
    [
        *((precision, "cpu") for precision in ("bf16-mixed", "bf16-true")),
        *(
            pytest.param(precision, *ON_CUDA.values, marks=ON_CUDA.marks)
            for precision in ("32-true", "bf16-mixed", "16-mixed", "bf16-true")
        ),
    ],
)


def stack_on(device: str) -> Stack:
    layout = "gated_delta(n_heads=2), attention(window=4, n_heads=2)"
    return build(StackConfig.of(layout, vocab_size=11, d_model=16), seed=0).to(device)


@every_device
def test_float32_gives_the_weights_of_a_processor(device: str):
    here, there = stack_on("cpu"), stack_on(device)
    for model in (here, there):
        train(model, SmallTask(), SHORT, progress=False)
    for ours, expected in zip(there.parameters(), here.parameters(), strict=True):
        torch.testing.assert_close(ours.cpu(), expected, rtol=2e-3, atol=2e-3)


@every_precision
def test_a_stopped_run_goes_on(precision: Any, device: str, tmp_path: Path):
    config = replace(SHORT, precision=precision)
    straight, resumed = stack_on(device), stack_on(device)
    before = copy.deepcopy(straight.state_dict())
    train(straight, SmallTask(), config, RunDirectory.create(tmp_path / "whole"), progress=False)
    drawn = 0

    def stop(split: str) -> None:
        nonlocal drawn
        drawn += split == "train"
        if drawn == 8:
            raise KeyboardInterrupt

    run = RunDirectory.create(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        train(stack_on(device), SmallTask(stop), config, run, progress=False)
    stopped = load_checkpoint(run.checkpoints_path)
    assert stopped is not None
    assert 0 < stopped.step < config.steps
    train(resumed, SmallTask(), config, run, resume=True, progress=False)
    moved = 0.0
    for name, ours in resumed.state_dict().items():
        if not ours.is_floating_point():
            continue
        expected = straight.state_dict()[name]
        assert ours.isfinite().all()
        torch.testing.assert_close(ours, expected, rtol=1e-2, atol=1e-3)
        moved += float((ours.float() - before[name].float()).abs().sum())
    assert moved > 0

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from mnemoscope.models import StackConfig, build
from mnemoscope.runs import RunDirectory
from mnemoscope.tasks import AssociativeRecallConfig, build_task
from mnemoscope.training import NonFiniteLossError, TrainConfig, build_optimiser, learning_rate, load_checkpoint, train
from mnemoscope.training import machine as machines
from mnemoscope.training.batches import draw, in_mode
from mnemoscope.training.loss import cross_entropy
from mnemoscope.training.machine import Machine
from mnemoscope.training.metrics import MetricsConfig
from mnemoscope.training.optimiser import set_learning_rate
from mnemoscope.training.randomness import forked_rng
from mnemoscope.training.remedies.branch_dropout import BranchDropout
from tests.unit.training.small import CONFIG, SmallTask, small_model

CPU = torch.device("cpu")
SHORT = replace(CONFIG, steps=12, checkpoint_every=5, warmup_steps=2)
MIXED = replace(SHORT, precision="bf16-mixed")


def weights(model: nn.Module) -> list[Tensor]:
    return [tensor.clone() for tensor in model.state_dict().values()]


def same(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def trained(config: TrainConfig, model: nn.Module | None = None) -> list[Tensor]:
    model = small_model() if model is None else model
    train(model, SmallTask(), config, progress=False)
    return weights(model)


def by_hand(config: TrainConfig) -> list[Tensor]:
    """The same steps in plain torch."""
    model, task = small_model(), SmallTask()
    optimiser = build_optimiser(model, config)
    parameters = list(model.parameters())
    with forked_rng(CPU, config.seed), in_mode(model, training=True):
        for step in range(1, config.steps + 1):
            inputs, targets = draw(task, config.seed, "train", step, config.batch_size)
            loss = cross_entropy(model(inputs), targets)
            optimiser.zero_grad()
            loss.backward()
            norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
            clip_grads_with_norm_(parameters, config.grad_clip or 1.0, norm)
            set_learning_rate(optimiser, learning_rate(step, config))
            optimiser.step()
    return weights(model)


def through(fabric: Any, monkeypatch: pytest.MonkeyPatch) -> list[Machine]:
    """Let every training use a Fabric of the test's own."""
    used: list[Machine] = []

    @contextmanager
    def machine_of(model: nn.Module, optimiser: Optimizer, *others: Any) -> Iterator[Machine]:
        used.append(machines._ByFabric(fabric, model, optimiser))
        yield used[-1]

    monkeypatch.setattr("mnemoscope.training.loop.machine_of", machine_of)
    return used


def scaled(start: float) -> Any:
    """Float16 on the CPU, which Fabric itself does not offer."""
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.precision import MixedPrecision

    scaler = torch.amp.GradScaler("cpu", init_scale=start)
    return Fabric(accelerator="cpu", devices=1, plugins=[MixedPrecision("16-mixed", device="cpu", scaler=scaler)])


def test_float32_is_plain_torch(monkeypatch: pytest.MonkeyPatch):
    expected = by_hand(SHORT)
    assert same(trained(SHORT), expected)
    through(machines._fabric("32-true", CPU), monkeypatch)
    assert same(trained(SHORT), expected)


def test_float32_does_without_fabric(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machines, "_fabric", None)
    trained(replace(SHORT, steps=6))
    with pytest.raises(TypeError):
        trained(replace(MIXED, steps=6))


def test_mixed_precision_computes_in_bfloat16_and_keeps_float32(capsys: pytest.CaptureFixture[str]):
    model, seen = small_model(), set[tuple[bool, torch.dtype]]()

    def see(module: nn.Module, given: Any, output: Tensor) -> None:
        seen.add((module.training, output.dtype))

    handle = model.hidden.register_forward_hook(see)
    found = trained(MIXED, model)
    handle.remove()
    assert seen == {(True, torch.bfloat16), (False, torch.bfloat16)}  # evaluations too
    assert {tensor.dtype for tensor in found} == {torch.float32, torch.int64}
    whole = trained(SHORT)
    assert not same(found, whole)
    for ours, theirs in zip(found, whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0.1, atol=0.1)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_a_resumed_run_goes_on_to_the_bit(precision: Any, tmp_path: Path):
    config = replace(SHORT, precision=precision)
    whole = RunDirectory.create(tmp_path / "whole")
    straight, resumed = small_model(), small_model()
    train(straight, SmallTask(), config, whole, progress=False)
    drawn = 0

    def stop(split: str) -> None:
        nonlocal drawn
        drawn += split == "train"
        if drawn == 8:
            raise KeyboardInterrupt

    run = RunDirectory.create(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        train(small_model(), SmallTask(stop), config, run, progress=False)
    train(resumed, SmallTask(), config, run, resume=True, progress=False)
    assert same(weights(straight), weights(resumed))
    assert run.read_metrics() == whole.read_metrics()
    checkpoint = load_checkpoint(run.checkpoints_path)
    assert checkpoint is not None
    assert set(checkpoint.model) == set(small_model().state_dict())


def test_all_in_bfloat16(tmp_path: Path):
    task = build_task(AssociativeRecallConfig(n_bits=2, n_vectors=1, min_items=2, max_items=3))
    model = build(StackConfig.of_vectors("linear_attention", n_channels=4, n_outputs=2, d_model=16), seed=0)
    before = dict(model._forward_pre_hooks)
    config = replace(SHORT, steps=3, precision="bf16-true", metrics=MetricsConfig(every=1))
    result = train(model, task, config, progress=False)
    assert result.validation["validation_loss"] < 2
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert dict(model._forward_pre_hooks) == before


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # a norm that is not fused
def test_remedies_and_metrics_in_mixed_precision(tmp_path: Path):
    layout = "parallel(gated_delta(n_heads=1), attention(window=2, n_heads=1))"
    model = build(StackConfig.of(layout, vocab_size=11, d_model=16), seed=0)
    run = RunDirectory.create(tmp_path / "run")
    config = replace(MIXED, steps=4, metrics=MetricsConfig(every=2), orthogonal_gradient=0.5)
    train(model, SmallTask(), config, run, progress=False, remedies=(BranchDropout(),))
    row = run.read_metrics()[1]
    site = "blocks.0.mixer.memory"
    for name in (f"raw_gate.mean.{site}", "gradient_weight_cosine.after", "state_magnitude.norm"):
        assert abs(row[name]) < 100, name
    assert row["remedy.branch_dropout.strength"] > 0
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_half_precision_needs_a_gpu():
    with pytest.raises(ValueError, match="16-mixed needs a CUDA device, got cpu; use bf16-mixed"):
        trained(replace(SHORT, precision="16-mixed"))
    with pytest.raises(ValueError, match=r"TrainConfig.precision: must be one of 32-true, bf16-mixed"):
        TrainConfig(precision="bf16")  # pyright: ignore[reportArgumentType]


def test_gradients_are_unscaled_before_they_are_clipped_and_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = replace(SHORT, precision="16-mixed", steps=4)
    plain, half = (RunDirectory.create(tmp_path / name) for name in ("plain", "half"))
    train(small_model(), SmallTask(), replace(config, precision="32-true"), plain, progress=False)
    (used,) = (through(scaled(2.0**10), monkeypatch),)
    train(small_model(), SmallTask(), config, half, progress=False)
    for ours, theirs in zip(half.read_metrics(), plain.read_metrics(), strict=True):
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=0.05)
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=0.02)
    assert used[0].state()[machines.SCALER].tolist() == [1024.0, 2.0, 0.5, 2000.0, 4.0]


def test_a_scale_that_is_too_large_leaves_steps_out_and_is_kept(monkeypatch: pytest.MonkeyPatch):
    used = through(scaled(2.0**30), monkeypatch)
    model = small_model()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    config = replace(SHORT, precision="16-mixed", steps=1, warmup_steps=0)
    train(model, SmallTask(), config, progress=False)
    assert same(before, list(model.parameters()))
    state = used[0].state()
    assert state[machines.SCALER][0] == 2.0**29
    (other,) = (machines._ByFabric(scaled(2.0), model, build_optimiser(model, config)),)
    other.set_state({"elsewhere": torch.zeros(1)} | state)
    assert torch.equal(other.state()[machines.SCALER], state[machines.SCALER])


def test_a_loss_that_is_not_finite_is_no_overflow(monkeypatch: pytest.MonkeyPatch):
    through(scaled(2.0**10), monkeypatch)
    model = small_model()
    nn.init.constant_(model.norm.weight, float("nan"))
    with pytest.raises(NonFiniteLossError, match="the output of norm"):
        train(model, SmallTask(), replace(SHORT, precision="16-mixed"), progress=False)

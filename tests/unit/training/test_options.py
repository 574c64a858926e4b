"""The settings that change how a step is taken, in the loop itself."""

import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

from mnemoscope.contracts import IGNORE
from mnemoscope.ops.stablemax import stablemax
from mnemoscope.runs import RunDirectory
from mnemoscope.tasks import Copying, CopyingConfig
from mnemoscope.training import TrainConfig, cross_entropy, evaluate, list_checkpoints, train
from mnemoscope.training.batches import draw
from mnemoscope.training.loss import stablemax_cross_entropy
from mnemoscope.training.objective import objective_of
from mnemoscope.training.projection import orthogonal_gradient
from tests.unit.training.small import CONFIG, SmallTask, small_model
from tests.unit.training.test_loop import at_step, same, send, weights

OPTIONS = {
    "stablemax": replace(CONFIG, loss="stablemax"),
    "muon": replace(CONFIG, optimiser="muon"),
    "orthogonal": replace(CONFIG, orthogonal_gradient=0.5),
    "rescaled": replace(CONFIG, orthogonal_gradient=1.0, rescale_gradient=True, orthogonal_gradient_of="all"),
    "all of them": replace(CONFIG, loss="stablemax", optimiser="muon", orthogonal_gradient=1.0, rescale_gradient=True),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_run_resumes_to_the_bit(tmp_path: Path, name: str):
    config = OPTIONS[name]
    run, whole = RunDirectory.create(tmp_path / "run"), RunDirectory.create(tmp_path / "whole")
    uninterrupted = small_model()
    train(uninterrupted, SmallTask(), config, whole, progress=False)
    train(small_model(), at_step(17, send(signal.SIGTERM)), config, run, progress=False)
    train(small_model(), SmallTask(), config, run, resume=True, progress=False)
    assert run.read_metrics() == whole.read_metrics()
    ours, theirs = (list_checkpoints(each.checkpoints_path)[-1] for each in (run, whole))
    assert (ours / "model.safetensors").read_bytes() == (theirs / "model.safetensors").read_bytes()
    plain = small_model()
    train(plain, SmallTask(), CONFIG, progress=False)
    assert not same(weights(plain), weights(uninterrupted))


def test_it_learns_with_all_of_them():
    """Chance is 1 / 11; StableMax, whose logits must become large first, is slow."""
    config = replace(OPTIONS["all of them"], steps=300, eval_every=300, log_every=300)
    assert train(small_model(dropout=0.0), SmallTask(), config, progress=False).validation["validation_accuracy"] > 0.7


@pytest.mark.parametrize("rescale", [False, True])
def test_gradients_are_clipped_and_then_projected(rescale: bool):
    config = replace(
        CONFIG, steps=1, warmup_steps=0, grad_clip=0.01, orthogonal_gradient=1.0, rescale_gradient=rescale,
        orthogonal_gradient_of="all",
    )  # fmt: skip
    model, other = small_model(dropout=0.0), small_model(dropout=0.0)
    inputs, targets = draw(SmallTask(), config.seed, "train", 1, config.batch_size)
    cross_entropy(other(inputs), targets).backward()
    assert clip_grad_norm_(other.parameters(), 0.01) > 0.02
    train(model, SmallTask(), config, progress=False)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert q.grad is not None
        torch.testing.assert_close(p.grad, orthogonal_gradient(q.grad, q, rescale=rescale))
    left = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm().item()
    assert left == pytest.approx(0.01, rel=1e-4) if rescale else left < 0.00995


def test_the_logged_losses_are_those_that_are_minimised():
    model, config = small_model(), OPTIONS["stablemax"]
    found = evaluate(model, SmallTask(), replace(config, eval_sequences=4), torch.device("cpu"))
    inputs, targets = draw(SmallTask(), 0, "validation", 0, 4)
    with torch.no_grad():
        logits = model.eval()(inputs)
    chosen = stablemax(logits)[:, 1:].gather(-1, targets[:, 1:, None])
    assert found["validation_loss"] == pytest.approx(-chosen.log().mean().item(), rel=1e-5)
    assert found["validation_loss"] != pytest.approx(cross_entropy(logits, targets).item(), rel=1e-2)


def test_only_what_is_marked_with_ignore_is_left_out():
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    targets = torch.tensor([[0, IGNORE, 4], [IGNORE, IGNORE, 2]])
    stablemax_cross_entropy(logits, targets).backward()
    assert logits.grad is not None
    assert (logits.grad.abs().sum(-1) > 0).tolist() == [[True, False, True], [False, False, True]]
    expected = -stablemax(logits)[[0, 0, 1], [0, 2, 2], [0, 4, 2]].log().mean()
    torch.testing.assert_close(stablemax_cross_entropy(logits, targets), expected)
    with pytest.raises(ValueError, match=r"targets must be in \[0, 5\), got -1"):
        stablemax_cross_entropy(logits, targets.masked_fill(targets == 4, -1))


def test_a_task_of_vectors_has_its_own_loss():
    with pytest.raises(ValueError, match=r"TrainConfig\.loss 'stablemax' is for tasks of tokens, Copying has vectors"):
        objective_of(Copying(CopyingConfig()), "stablemax")


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"loss": "hinge"}, "TrainConfig.loss: must be one of cross_entropy, stablemax, got hinge"),
        ({"optimiser": "sgd"}, "TrainConfig.optimiser: must be one of adamw, muon, got sgd"),
        ({"orthogonal_gradient": 1.5}, r"TrainConfig.orthogonal_gradient: must be in \[0, 1\], got 1.5"),
        ({"rescale_gradient": True}, "TrainConfig.rescale_gradient: must be as it is by default where orthogonal_grad"),
        ({"orthogonal_gradient_of": "all"}, "TrainConfig.orthogonal_gradient_of: must be as it is by default where"),
        ({"orthogonal_gradient": 1.0, "orthogonal_gradient_of": "some"}, "must be one of matrices, all, got some"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changed: dict[str, object], rule: str):
    with pytest.raises(ValueError, match=rule):
        TrainConfig(**changed)  # pyright: ignore[reportArgumentType]


def test_a_run_that_began_before_a_setting_existed_goes_on(tmp_path: Path):
    run = RunDirectory.create(tmp_path / "run")
    train(small_model(), at_step(5, send(signal.SIGTERM)), CONFIG, run, progress=False)
    written = run.read_config().resolved
    written["train"] = {name: value for name, value in written["train"].items() if name not in ("loss", "optimiser")}
    run.write_config({}, written)
    with pytest.raises(ValueError, match=r"different: loss \(was cross_entropy, got stablemax\)"):
        train(small_model(), SmallTask(), OPTIONS["stablemax"], run, resume=True, progress=False)
    assert train(small_model(), SmallTask(), CONFIG, run, resume=True, progress=False).exit_state == "finished"


def test_a_model_for_muon_must_have_a_hidden_matrix():
    model = nn.Sequential(nn.Embedding(11, 11))
    with pytest.raises(ValueError, match="'muon' needs a hidden matrix"):
        train(model, SmallTask(), OPTIONS["muon"], progress=False)

"""What parts of a model minimise beside the task: it reaches them, it is logged apart, and it is resumed."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mnemoscope.contracts import Auxiliary
from mnemoscope.models import StackConfig, build
from mnemoscope.runs import RunDirectory
from mnemoscope.training import NonFiniteLossError, TrainConfig, build_optimiser, cross_entropy, learning_rate, train
from mnemoscope.training.auxiliary import auxiliary_losses
from mnemoscope.training.batches import draw
from mnemoscope.training.optimiser import set_learning_rate
from tests.unit.training.small import CONFIG, SmallTask

BANKED = "energy_bank(n_slots=4, weight=0.5), energy_bank(n_slots=3) | attention(n_heads=2)"


def stack(layout: str = BANKED) -> nn.Module:
    return build(StackConfig.of(layout, vocab_size=11, d_model=8), seed=0)


def tokens() -> Tensor:
    return torch.randint(11, (3, 6), generator=torch.Generator().manual_seed(0))


def test_every_call_of_an_auxiliary_module_adds_the_loss_of_its_input():
    model, seen = stack(), []
    banks = [module for module in model.modules() if isinstance(module, Auxiliary)]
    assert len(banks) == 2

    def listen(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        assert isinstance(module, Auxiliary)
        seen.append(module.auxiliary_loss(arguments[0]))

    for bank in banks:
        bank.register_forward_pre_hook(listen)
    with auxiliary_losses(model) as found:
        logits = model(tokens())
    assert torch.equal(torch.stack(found), torch.stack(seen))
    assert torch.equal(model(tokens()), logits)
    assert len(found) == 2, "hooks end with the block"


def test_slots_are_trained_by_their_energy_and_nothing_else_is():
    model = stack()
    with auxiliary_losses(model) as found:
        loss = cross_entropy(model(tokens()), tokens())
    named = {name: weight for name, weight in model.named_parameters() if weight.numel()}
    of_task = torch.autograd.grad(loss, list(named.values()), allow_unused=True, retain_graph=True)
    of_energy = torch.autograd.grad(sum(found, start=torch.zeros(())), list(named.values()), allow_unused=True)
    for name, task, energy in zip(named, of_task, of_energy, strict=True):
        assert (task is None) == name.endswith("slots")
        assert (energy is None) != name.endswith("slots")


def test_a_bank_in_a_stack_learns(tmp_path: Path):
    model, run = stack(), RunDirectory.create(tmp_path / "run")
    before = {name: slots.clone() for name, slots in model.named_parameters() if name.endswith("slots")}
    train(model, SmallTask(), CONFIG, run, progress=False)
    for name, slots in before.items():
        assert (model.get_parameter(name) - slots).abs().min() > 1e-4
    rows = run.read_metrics()
    assert all("auxiliary" in row for row in rows)
    assert rows[-1]["auxiliary"] < rows[0]["auxiliary"]


def test_the_loss_that_is_logged_is_that_of_the_task(tmp_path: Path):
    model, run = stack(), RunDirectory.create(tmp_path / "run")
    untouched, task = stack(), SmallTask()
    config = TrainConfig(steps=1, batch_size=4, warmup_steps=0, log_every=1, eval_sequences=1, seed=3)
    train(model, task, config, run, progress=False)
    inputs, targets = draw(task, 3, "train", 1, 4)
    [row] = run.read_metrics()
    with auxiliary_losses(untouched) as found:
        assert row["loss"] == cross_entropy(untouched(inputs), targets).item()
    assert row["auxiliary"] == pytest.approx(sum(part.item() for part in found))


def test_a_model_without_any_is_trained_to_the_bit_as_by_its_loss_alone():
    """By hand: the same optimiser on the cross-entropy."""
    config = TrainConfig(steps=5, batch_size=4, eval_sequences=1, grad_clip=None, warmup_steps=2, seed=3)
    model, other, task = stack("bank(n_slots=4)"), stack("bank(n_slots=4)"), SmallTask()
    train(model, task, config, progress=False)
    optimiser = build_optimiser(other, config)
    for step in range(1, 6):
        inputs, targets = draw(task, 3, "train", step, 4)
        set_learning_rate(optimiser, learning_rate(step, config))
        optimiser.zero_grad()
        cross_entropy(other(inputs), targets).backward()
        optimiser.step()
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_run_that_was_stopped_resumes_to_the_bit(tmp_path: Path):
    whole, resumed = (RunDirectory.create(tmp_path / name) for name in ("whole", "resumed"))
    model, other = stack(), stack()
    train(model, SmallTask(), CONFIG, whole, progress=False)
    drawn = 0

    def interrupt(split: str) -> None:
        nonlocal drawn
        drawn += split == "train"
        if drawn == 17:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(other, SmallTask(interrupt), CONFIG, resumed, progress=False)
    train(other, SmallTask(), CONFIG, resumed, resume=True, progress=False)
    assert resumed.read_metrics() == whole.read_metrics()
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_an_energy_that_is_not_finite_ends_the_run():
    model = stack("energy_bank(n_slots=4)")
    with torch.no_grad():
        model.get_parameter("blocks.0.mixer.slots").fill_(1e30)
    with pytest.raises(NonFiniteLossError, match="step 1"):
        train(model, SmallTask(), CONFIG, progress=False)

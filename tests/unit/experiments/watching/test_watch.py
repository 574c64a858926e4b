import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mnemoscope.contracts import ReadPoint, Role
from mnemoscope.examination.judgement.prescription import PRESCRIPTIONS
from mnemoscope.experiments.watching import Alarm, MemoryWatch, Reading, WatchConfig, watch_task
from mnemoscope.experiments.watching.alarms import KINDS, Alarms, prescription_of
from mnemoscope.models.mixers import ConvexFusion
from mnemoscope.runs import RunDirectory
from mnemoscope.training import load_checkpoint, train
from mnemoscope.training.callbacks import Moment
from mnemoscope.training.remedies.branch_dropout import BranchDropout
from tests.unit.experiments.watching.first_token import TRAINING, FirstToken, gated_model, probe_batches

MEMORY = "blocks.0.mixer.memory"
CLOSELY = WatchConfig(every=5, max_share_of_time=None)


class Planted:
    """From one step on, the gate of the memory is shut before anybody looks."""

    name = "planted"

    def __init__(self, step: int) -> None:
        self.step = step

    def after_step(self, moment: Moment) -> dict[str, float]:
        if moment.step >= self.step:
            for module in moment.model.modules():
                if isinstance(module, ConvexFusion):
                    nn.init.zeros_(module.mix.weight)
                    nn.init.constant_(module.mix.bias, -20.0)
        return {}

    def state(self) -> dict[str, Tensor]:
        return {}

    def set_state(self, state: Mapping[str, Tensor]) -> None:
        assert not state


class Reader(nn.Module):
    """What it is given is what is read."""

    def __init__(self, role: Role) -> None:
        super().__init__()
        self.role, self.read = role, ReadPoint()

    def forward(self, x: Tensor) -> Tensor:
        return self.read(x)


class Both(nn.Module):
    """Three quarters of what it says come from the memory, one from the route."""

    def __init__(self) -> None:
        super().__init__()
        self.memory, self.route, self.weight = Reader("memory"), Reader("route"), nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (0.75 * self.memory(x) + 0.25 * self.route(x))


def squared_error(model: nn.Module, batch: Tensor) -> Tensor:
    return (model(batch) - batch).square().mean((1, 2))


def weights(model: nn.Module) -> list[Tensor]:
    return [tensor.clone() for tensor in model.state_dict().values()]


def same(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def reading(step: int, share: float, demand: float = 1.0, **figures: float) -> Reading:
    memory = {"share": share, "effect": share * demand, "read_variance": 0.5, "gradient_share": 0.5} | figures
    return Reading(step=step, loss=1.0, demand=demand, memories={"m": memory})


def kinds(readings: list[Reading], steps: int = 100) -> list[tuple[int, str]]:
    alarms = Alarms(WatchConfig())
    return [(alarm.step, alarm.kind) for each in readings for alarm in alarms.judge(each, steps)]


@pytest.fixture(scope="module")
def healthy() -> MemoryWatch:
    watch = MemoryWatch(list(probe_batches()), config=CLOSELY)
    train(gated_model(), FirstToken(), TRAINING, callbacks=[watch], progress=False)
    return watch


def test_a_memory_that_works_is_no_warning(healthy: MemoryWatch):
    assert healthy.warnings == []
    assert [each.step for each in healthy.history] == [5, 10, 15, 20, 25, 30]
    assert healthy.history[-1].memories[MEMORY]["share"] > 0.9
    assert healthy.history[-1].loss < 0.1


def test_a_memory_that_is_shut_out_warns_at_that_step_and_only_once():
    said: list[str] = []
    watch = MemoryWatch(list(probe_batches()), config=CLOSELY, say=said.append)
    train(gated_model(), FirstToken(), TRAINING, callbacks=[Planted(20), watch], progress=False)
    found = [(alarm.step, alarm.site, alarm.kind) for alarm in watch.warnings]
    assert found == [(20, MEMORY, kind) for kind in ("idle", "starved", "gate shut")]
    idle, _, shut = watch.warnings
    assert "its share is 0%" in idle.says
    best = max(list(watch.history)[:3], key=lambda each: each.memories[MEMORY]["share"])
    assert f"at step {best.step}" in idle.says
    assert shut.figures["gate"] < 1e-6
    assert said == [f"warning: {alarm}" for alarm in watch.warnings]
    assert said[0].startswith(f"warning: step 20: {MEMORY}: it idles")


def test_the_share_of_two_that_add_up():
    x = torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None, None].expand(4, 2, 1).contiguous()
    watch = MemoryWatch([x], loss=squared_error, config=replace(CLOSELY, every=1))
    figures = watch.look(Both(), 1, 10)
    # At the means, 0: without the memory 0.75^2, without the route 0.25^2, without both 1.
    assert figures["watch.loss"] == 0.0
    assert figures["watch.demand"] == pytest.approx(1.0)
    assert figures["watch.effect.memory"] == pytest.approx(0.5625)
    assert figures["watch.share.memory"] == pytest.approx((0.5625 + 1 - 0.0625) / 2)
    assert figures["watch.read_variance.memory"] == pytest.approx(1.0)


def test_training_is_the_same_to_the_bit():
    config = replace(TRAINING, steps=12)
    alone, watched = gated_model(), gated_model()
    watch = MemoryWatch(list(probe_batches(1, 8)), config=replace(CLOSELY, every=3))
    remedies = (BranchDropout(),)
    train(alone, FirstToken(), config, progress=False, remedies=remedies)
    train(watched, FirstToken(), config, progress=False, remedies=remedies, callbacks=[watch])
    assert same(weights(alone), weights(watched))
    assert len(watch.history) == 4


def test_a_probe_leaves_everything_as_it_was():
    model, batch = gated_model(), next(probe_batches(1, 8))
    model.train()
    model.blocks[0].eval()
    model(batch.inputs).sum().backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    values = [None if grad is None else grad.clone() for grad in gradients]
    before, modes, rng = weights(model), [module.training for module in model.modules()], torch.get_rng_state()
    MemoryWatch([batch], config=replace(CLOSELY, every=1)).look(model, 1, 10)
    assert same(before, weights(model))
    assert modes == [module.training for module in model.modules()]
    assert torch.equal(rng, torch.get_rng_state())
    for parameter, gradient, value in zip(model.parameters(), gradients, values, strict=True):
        assert parameter.grad is gradient
        assert parameter.requires_grad
        assert gradient is None or (value is not None and torch.equal(gradient, value))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_figures_are_written_and_a_resumed_run_knows_what_was_seen(tmp_path: Path, healthy: MemoryWatch):
    run = RunDirectory.create(tmp_path / "run")

    class Stop(Planted):
        def after_step(self, moment: Moment) -> dict[str, float]:
            if moment.step == 17 and self.step:
                raise KeyboardInterrupt
            return {}

    first, second = (MemoryWatch(list(probe_batches()), config=CLOSELY) for _ in range(2))
    with pytest.raises(KeyboardInterrupt):
        train(gated_model(), FirstToken(), TRAINING, run, callbacks=[Stop(1), first], progress=False)
    checkpoint = load_checkpoint(run.checkpoints_path)
    assert checkpoint is not None
    assert checkpoint.step == 15
    callbacks = [Planted(20), second]
    train(gated_model(), FirstToken(), TRAINING, run, resume=True, callbacks=callbacks, progress=False)
    assert list(second.history)[:3] == list(healthy.history)[:3]
    assert second.warnings[0].step == 20
    assert "% at step " in second.warnings[0].says
    rows = {row["step"]: row for row in run.read_metrics()}
    assert rows[20][f"watch.warning.idle.{MEMORY}"] == 1.0
    assert f"watch.warning.idle.{MEMORY}" not in rows[25]
    assert rows[15][f"watch.share.{MEMORY}"] == healthy.history[2].memories[MEMORY]["share"]
    assert "loss" not in rows[5]
    assert "loss" in rows[10]


def test_of_one_task_the_watch_takes_validation_sequences():
    watch = watch_task(FirstToken(), n_sequences=16, config=replace(CLOSELY, every=1))
    assert watch.look(gated_model(), 1, 10)["watch.loss"] > 1.0


def test_probes_wait_until_they_are_a_small_part_of_the_time(monkeypatch: pytest.MonkeyPatch):
    clock = [0.0]
    monkeypatch.setattr("mnemoscope.experiments.watching.watch.time.perf_counter", lambda: clock[0])
    watch = MemoryWatch([torch.ones(2, 1, 1)], loss=squared_error, config=WatchConfig(every=1, max_share_of_time=0.1))
    read = watch._probe.read

    def slowly(*arguments: Any) -> Reading:
        clock[0] += 1.0  # a probe takes a second, as does a step
        return read(*arguments)

    monkeypatch.setattr(watch._probe, "read", slowly)
    probed: list[int] = []
    for step in range(1, 30):
        clock[0] += 1.0
        if watch.look(Both(), step, 30):
            probed.append(step)
    assert probed == [1, 10, 19, 28]  # after p probes, once p <= (step - 1 + p) / 10
    assert watch.share_of_time < 0.13


def test_idle_after_work_or_never_at_work():
    assert kinds([reading(10, 0.5), reading(20, 0.04), reading(30, 0.0)]) == [(20, "idle")]
    assert kinds([reading(step, 0.0) for step in range(10, 100, 10)]) == [(50, "idle")]
    # Between the bounds nothing is decided, and it begins anew only after it has worked again.
    assert kinds([reading(10, 0.5), reading(20, 0.04), reading(30, 0.07), reading(40, 0.04)]) == [(20, "idle")]
    again = [reading(10, 0.5), reading(20, 0.04), reading(30, 0.2), reading(40, 0.04)]
    assert kinds(again) == [(20, "idle"), (40, "idle")]
    # A share of next to nothing was never work.
    assert kinds([reading(10, 0.9, demand=0.02), reading(20, 0.0, demand=0.005)]) == []


@pytest.mark.parametrize(
    ("figures", "kind"),
    [({"gradient_share": 9e-4}, "starved"), ({"gate": 0.009}, "gate shut")],
)
def test_what_keeps_an_idle_memory_idle_is_said_at_once(figures: dict[str, float], kind: str):
    assert kinds([reading(1, 0.0, **figures), reading(2, 0.0, **figures)]) == [(1, kind)]
    assert kinds([reading(1, 0.5, **figures)]) == []


def test_collapse_of_a_read():
    many, flat = {"read_variance": 0.5}, {"read_variance": 0.04}
    assert kinds([reading(1, 0.0, **many), reading(2, 0.0, **flat), reading(3, 0.0, **flat)]) == [(2, "collapsed")]
    assert kinds([reading(1, 0.5, **many), reading(2, 0.5, **flat)]) == []
    assert kinds([reading(1, 0.0, **flat), reading(2, 0.0, **flat)]) == []
    wide, line = {"read_rank": 5.0, "read_width": 8.0}, {"read_rank": 1.2, "read_width": 8.0}
    assert kinds([reading(1, 0.0, **wide), reading(2, 0.0, **line)]) == [(2, "collapsed")]
    narrow = {"read_rank": 1.0, "read_width": 2.0}
    assert kinds([reading(1, 0.0, **narrow), reading(60, 0.2, **narrow)]) == []


def test_a_state_that_blows_up():
    norms = [1.0, 1.2, 1.1, 5.0, 12.0, 13.0, math.inf]
    found = kinds([reading(step, 0.5, state_norm=norm) for step, norm in enumerate(norms, 1)])
    assert found == [(5, "state blow-up")]
    assert kinds([reading(1, 0.5, state_norm=math.inf)]) == [(1, "state blow-up")]
    assert kinds([reading(step, 0.5, state_norm=norm) for step, norm in enumerate([1.0, 100.0], 1)]) == []


def test_prescriptions_are_those_of_an_examination():
    for kind in KINDS:
        assert prescription_of(kind) in PRESCRIPTIONS
    assert prescription_of("starved").change == "add an auxiliary reconstruction loss on its state (weight 0.1 to 1)"
    assert "learns to forget" in prescription_of("state blow-up").change
    (alarm,) = Alarms(WatchConfig()).judge(reading(60, 0.0, demand=0.001), 100)
    assert alarm.prescription.startswith("train longer")
    assert alarm.says.endswith("it has never worked; all memories and routes together are worth 0.001 nats")
    (alarm,) = Alarms(WatchConfig()).judge(reading(60, 0.0), 100)
    assert alarm.prescription.startswith("shorten the attention window")


def test_the_state_of_a_watch(healthy: MemoryWatch):
    other = MemoryWatch(list(probe_batches(1)))
    other.set_state(healthy.state())
    assert list(other.history) == list(healthy.history)
    assert torch.equal(other.state()["json"], healthy.state()["json"])
    alarm = Alarm(step=1, site="m", kind="idle", says="", figures={}, prescription="", source="")
    other.warnings.append(alarm)
    third = MemoryWatch(list(probe_batches(1)))
    third.set_state(other.state())
    assert third.warnings == [alarm]
    with pytest.raises(ValueError, match="must hold json, got"):
        third.set_state({"other": torch.zeros(1)})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"every": 0}, r"every: must be at least 1, got 0"),
        ({"max_share_of_time": 0.0}, r"max_share_of_time: must be in \(0, 1\], or None, got 0.0"),
        ({"idle_below": 0.5}, r"idle_below: must be in \(0, 0.5\), got 0.5"),
        ({"rise_by": 1.5}, "rise_by"),
        ({"rank_below": 0.5}, "rank_below"),
        ({"blow_up": 1.0}, "blow_up"),
        ({"margin": 0.0}, "margin"),
    ],
)
def test_settings_out_of_range(wrong: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=f"WatchConfig.{message}"):
        WatchConfig(**wrong)


def test_a_watch_needs_something_to_look_at():
    with pytest.raises(ValueError, match="at least one batch"):
        MemoryWatch([])
    with pytest.raises(ValueError, match="found no memory site"):
        MemoryWatch([torch.ones(2, 3, 1)], loss=squared_error, config=WatchConfig(every=1)).look(nn.Linear(1, 1), 1, 2)


def test_the_page_is_true(capsys: pytest.CaptureFixture[str]):
    page = (Path(__file__).parents[4] / "docs" / "watching.md").read_text(encoding="utf-8")
    first, *adapters = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(first, {})
    share, _, said = capsys.readouterr().out.partition(" ")
    assert 0 <= float(share) <= 1
    assert said == "[]\n"
    for adapter in adapters:
        exec("\n".join(line for line in adapter.splitlines() if line.startswith("from")), {})
    for kind in KINDS:
        assert f"| {kind} |" in page
    for figure in ("demand", "effect", "share", "gradient_share", "gate", "read_variance", "read_rank", "state_rank"):
        assert f"`{figure}`" in page

"""The test pass: it stops when everything is decided, when time is up, and when someone interrupts."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.contracts import Batch, ReadPoint
from mnemoscope.examination import Budget, examine
from mnemoscope.examination.protocol.looks import _level
from mnemoscope.runs import Examination

VOCAB, LENGTH, BATCH, LAG = 8, 12, 16, 6
BUDGET = Budget(n_calibration=64, n_test=384, fit_steps=40, joint_fit_steps=20, windows=(1,), n_resamples=500)


class Delay(nn.Module):
    """What stood some tokens ago: a memory that needs no training."""

    def __init__(self, lag: int) -> None:
        super().__init__()
        self.lag, self.read = lag, ReadPoint()

    def forward(self, x: Tensor) -> Tensor:
        return self.read(F.pad(x, (0, 0, self.lag, 0))[:, : x.shape[1]])


class Echo(nn.Module):
    """Two memories beside each other; `strength` says how loud each is."""

    def __init__(self, *strength: float) -> None:
        super().__init__()
        self.memories = nn.ModuleList(Delay(LAG) for _ in strength)
        self.strength = strength

    def forward(self, tokens: Tensor) -> Tensor:
        x = F.one_hot(tokens, VOCAB).float()
        return sum(s * memory(x) for s, memory in zip(self.strength, self.memories, strict=True))


def echoes(n_batches: int = 28, noise: float = 0.0) -> list[Batch]:
    """The target is the token LAG positions before; `about` says how far away, and how much there was to hold."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for index in range(n_batches):
        tokens = torch.randint(VOCAB, (BATCH, LENGTH), generator=generator)
        targets = F.pad(tokens, (LAG, 0), value=-100)[:, :LENGTH]
        wrong = (torch.rand(targets.shape, generator=generator) < noise) & (targets >= 0)
        targets[wrong] = torch.randint(VOCAB, (int(wrong.sum()),), generator=generator)
        load = torch.full_like(tokens, 1 + index % 2)
        about = {"distance": torch.where(targets >= 0, LAG, -1), "load": load}
        found.append(Batch(inputs=tokens, targets=targets, about=about))
    return found


def look(model: nn.Module, **changes: object) -> Examination:
    return examine(model, echoes(), routes=[], budget=Budget(**{**vars(BUDGET), **changes}))


def test_a_clear_case_is_decided_at_the_first_look():
    found = look(Echo(5.0))
    assert [site.verdict for site in found.sites] == ["load-bearing (sole)"]
    assert (found.look, found.looks, found.n_test) == (1, 3, 128)
    assert found.missing == []
    # The first of three looks has two ten-thousandths of the five per cent to spend.
    assert found.base_loss.level == pytest.approx(1 - 0.00021, abs=1e-5)


def test_one_look_uses_every_sequence():
    found = look(Echo(5.0), looks=1)
    assert (found.look, found.looks, found.n_test) == (1, 1, 384)
    assert found.base_loss.level == pytest.approx(0.95)


def test_few_sequences_are_looked_at_once():
    assert look(Echo(5.0), n_test=96).looks == 1


def test_an_open_case_uses_every_sequence():
    """With labels this noisy the memory is worth a hundredth of a nat, which is the margin.

    Of 8 tokens, the echoed one is right with q = 0.176: q s - ln((e^s + 7) / 8) = 0.01 at strength s = 0.3.
    """
    found = examine(Echo(0.3), echoes(noise=0.942), routes=[], budget=BUDGET)
    assert [site.verdict for site in found.sites] == ["inconclusive"]
    assert (found.look, found.n_test) == (3, 384)


@pytest.mark.parametrize(("seen", "look_index"), [(1, 0), (3, 0), (4, 1), (6, 1), (7, 2), (9, 2)])
def test_whoever_stops_between_looks_gets_the_level_of_the_next(seen: int, look_index: int):
    level = _level([3, 6, 9], seen, 9)
    assert level.look == look_index
    assert level.fractions == pytest.approx((1 / 3, 2 / 3, 1.0))


def interrupting(after: int) -> Callable[[str, float], None]:
    seen = iter(range(after))

    def progress(phase: str, done: float) -> None:
        if phase == "test" and next(seen, None) is None:
            raise KeyboardInterrupt

    return progress


def test_an_interrupted_test_decides_on_what_it_has():
    found = examine(
        Echo(5.0),
        echoes(),
        routes=[],
        budget=Budget(**{**vars(BUDGET), "looks": 1}),
        progress=interrupting(after=8),
    )
    assert found.missing == ["15 of 24 test batches: interrupted"]
    assert found.n_test == 9 * BATCH
    assert found.sites[0].verdict == "load-bearing (sole)"


def test_an_interrupt_before_anything_was_tested_is_passed_on():
    with pytest.raises(KeyboardInterrupt):
        examine(Echo(5.0), echoes(), routes=[], budget=BUDGET, progress=interrupting(after=0))


def test_time_that_is_up_ends_the_test():
    found = look(Echo(5.0), max_minutes=1e-9, looks=1)
    assert found.missing == ["22 of 24 test batches: the time was up"]
    assert found.n_test == 2 * BATCH


def test_progress_is_told():
    heard: list[tuple[str, float]] = []
    examine(Echo(5.0), echoes(), routes=[], budget=BUDGET, progress=lambda phase, done: heard.append((phase, done)))
    assert [phase for phase, _ in heard[:2]] == ["calibrate", "fit"]
    assert heard[-1] == ("test", pytest.approx(8 / 24))


def test_two_memories_that_say_the_same_are_redundant_and_bear_the_load_together():
    found = look(Echo(20.0, 20.0))
    assert [site.verdict for site in found.sites] == ["redundant", "redundant"]
    (together,) = found.groups
    assert (together.name, together.role) == ("(memories)", "group")
    assert together.verdict == "load-bearing (sole)"
    assert together.members == ["memories.0", "memories.1"]
    assert together.effects["read"]["zero"].low > 1
    assert together.share is not None
    assert together.share.value == pytest.approx(1.0)


def test_groups_are_named_by_patterns():
    found = examine(
        Echo(5.0, 0.0, 5.0), echoes(), routes=[], groups={"outer": ["memories.0", "memories.2"]}, budget=BUDGET
    )
    (outer,) = found.groups
    assert outer.members == ["memories.0", "memories.2"]
    with pytest.raises(ValueError, match=r"group 'none' must have .* memory sites are memories.0"):
        examine(Echo(5.0), echoes(), routes=[], groups={"none": ["blocks.*"]}, budget=BUDGET)


def test_subsets_have_verdicts_of_their_own():
    def nothing_old(batch: Batch) -> Tensor:
        return torch.zeros(BATCH, LENGTH, dtype=torch.bool)

    def second_half(batch: Batch) -> Tensor:
        return torch.arange(LENGTH).expand(BATCH, LENGTH) >= 9

    found = examine(
        Echo(5.0), echoes(), routes=[], budget=BUDGET, subsets={"nothing": nothing_old, "late": second_half}
    )
    subsets = {subset.name: subset for subset in found.subsets}
    assert set(subsets) == {"demanding", "lowest load", "late"}
    assert subsets["late"].share == pytest.approx(0.5)
    assert subsets["demanding"].share == pytest.approx(1.0)
    assert subsets["lowest load"].n_sequences == 64
    assert {subset.sites[0].verdict for subset in subsets.values()} == {"load-bearing (sole)"}


def test_accuracy_is_known_by_load():
    found = look(Echo(5.0))
    assert [(load.load, load.accuracy, load.n_sequences) for load in found.loads] == [(1, 1.0, 64), (2, 1.0, 64)]


def test_every_control_arm_is_run_and_passes():
    found = look(Echo(5.0))
    names = [control.name for control in found.controls]
    assert names[:2] == ["identity", "large random read, memories.0"]
    assert any(name.startswith("shuffled reads") for name in names)
    assert all(control.passed for control in found.controls)
    assert found.controls[0].seen.endswith("0 nats")
    assert look(Echo(0.0)).controls[1].seen == "no loss changes: disconnected"


def test_the_probe_finds_what_the_memory_stored_and_patching_carries_it_over():
    (site,) = look(Echo(5.0)).sites
    assert site.probe is not None
    assert site.probe.gain.low > 1.5
    assert site.probe.shuffled.low <= 0
    assert site.patching is not None
    assert site.patching.denoise is not None
    assert site.patching.denoise.value == pytest.approx(1.0, abs=0.2)


def test_what_a_verdict_rests_on_is_in_the_record():
    (site,) = look(Echo(5.0)).sites
    rests_on = {comparison.name: comparison.outcome for comparison in site.comparisons}
    assert rests_on["optimal_constant"] == rests_on["headroom"] == rests_on["local_horizon"] == "above"
    assert min(comparison.effect.level for comparison in site.comparisons) > 0.9997


class Gated(Echo):
    """An echo behind an announced gate."""

    def __init__(self, gate: float) -> None:
        super().__init__(5.0)
        self.memories[0].gate = ReadPoint()
        self.value = gate

    def forward(self, tokens: Tensor) -> Tensor:
        read = super().forward(tokens)
        return self.memories[0].gate(torch.full_like(read[..., :1], self.value)) * read


def test_a_gate_is_shut_and_opened():
    (site,) = examine(Gated(0.5), echoes(), routes=[], budget=BUDGET).sites
    effects = site.effects["read"]
    assert effects["gate_shut"].value == pytest.approx(effects["zero"].value)
    assert effects["gate_open"].high < -0.1


def test_frozen_writes_are_measured_when_asked_for():
    """A delay that is not written to gives the same token again and again."""
    (site,) = look(Echo(5.0), write_freeze=True).sites
    assert site.effects["read"]["write_freeze"].low > 1
    assert "write_freeze" not in look(Echo(5.0)).sites[0].effects["read"]

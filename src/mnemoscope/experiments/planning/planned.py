"""A plan: what a training and an examination do, hold and take, here and on devices that are not here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mnemoscope.examination import Budget
from mnemoscope.experiments.devices import PUBLISHED
from mnemoscope.experiments.planning.calibration import Calibration, calibrated
from mnemoscope.experiments.planning.examinations import Counted, count_examination
from mnemoscope.experiments.planning.published import Range, all_reduce_bytes, step_seconds, work_seconds
from mnemoscope.experiments.planning.targets import Target
from mnemoscope.experiments.planning.tracing import Decoded, Traced, trace, trace_decoding
from mnemoscope.models import Stack, StackConfig
from mnemoscope.training.threads import cpu_threads

THIS = "this device"
DEVICES = {"h100": "h100-sxm", "h200": "h200"}

STAND_IN = "attention"
"""Rates of this layout stand in for a model that is no stack of ours."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """Times on one kind of device.

    Args:
        device: in words.
        estimate: from published rates; False where it was predicted from measurements of this machine.
        step: seconds of a training step.
        training: seconds of all steps.
        tokens_per_second: of the training, over all devices; the smaller first.
        token: seconds of a decoded token of one sequence; None where streams are not counted.
        examination: seconds, at most; None where none is planned.
        training_bytes: held at the peak of a step, on one device.
        memory_bytes: what the device has; None for this one.
    """

    device: str
    estimate: bool
    step: Range
    training: Range
    tokens_per_second: Range
    token: Range | None
    examination: Range | None
    training_bytes: int
    memory_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Planned:
    """Counts of a target and times by device.

    Args:
        target: what is planned.
        traced: a step at the batch and context of the training.
        decoded: a token of a stream after the context; None for a model that is no stack of ours.
        counted: the examination; None where none is planned.
        reduced_bytes: sent by every device in a step; 0 with one device.
        rows: times.
        remarks: what the user should know.
    """

    target: Target
    traced: Traced
    decoded: Decoded | None
    counted: Counted | None
    reduced_bytes: float
    rows: tuple[Row, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is asked for.

    Args:
        devices: of "this", "h100", "h200".
        count: devices that train together, on the published ones.
        budget: of the examination; None for none.
        examined_batch: sequences that it evaluates at once.
        refresh: measure this machine again.
    """

    devices: Sequence[str] = ("this", "h100", "h200")
    count: int = 1
    budget: Budget | None = None
    examined_batch: int = 32
    refresh: bool = False

    def __post_init__(self) -> None:
        unknown = [name for name in self.devices if name not in ("this", *DEVICES)]
        if unknown or not self.devices:
            raise ValueError(
                f"plan: --device must be of this, {', '.join(DEVICES)}, got {', '.join(unknown) or 'none'}"
            )
        if self.count < 1:
            raise ValueError(f"plan: --count must be at least 1, got {self.count}")
        if self.examined_batch < 2:
            raise ValueError(f"plan: --examine-batch must be at least 2, got {self.examined_batch}")


def plan_target(target: Target, wanted: Wanted, say: Callable[[str], None] = lambda line: None) -> Planned:
    """Count a target and predict its times.

    Args:
        target: what is planned.
        wanted: on which devices, and whether examined.
        say: told what takes time.

    Raises:
        ValueError: sizes that the model cannot have, or an examination that cannot be counted.
    """
    with cpu_threads(target.train.threads):
        traced = trace(target.build, target.batch, target.tokens, target.train)
        stack = target.stack
        decoded = None if stack is None else trace_decoding(lambda: Stack(stack), target.tokens)
        examined, counted = traced, None
        if wanted.budget is not None:
            if stack is None:
                raise ValueError(
                    f"plan: examinations are counted for stacks, and {target.name} is a Hugging Face model; leave out "
                    "--examine and use mnemoscope examine --dry-run, which times a few passes"
                )
            if (wanted.examined_batch, target.tokens) != (target.batch, target.tokens):
                examined = trace(target.build, wanted.examined_batch, target.tokens, target.train)
            say("counting the passes of the examination on a narrow twin")
            counted = count_examination(stack, target.tokens, wanted.examined_batch, wanted.budget, examined)
        rows = [
            _here(target, wanted, traced, examined, decoded, counted, say)
            if name == "this"
            else _there(target, wanted, DEVICES[name], traced, examined, decoded, counted)
            for name in wanted.devices
        ]
    return Planned(
        target=target,
        traced=traced,
        decoded=decoded,
        counted=counted,
        reduced_bytes=all_reduce_bytes(traced.gradient_bytes, wanted.count),
        rows=tuple(rows),
        remarks=target.remarks + _remarks(target, wanted),
    )


def _here(
    target: Target,
    wanted: Wanted,
    traced: Traced,
    examined: Traced,
    decoded: Decoded | None,
    counted: Counted | None,
    say: Callable[[str], None],
) -> Row:
    stack = target.stack or StackConfig.of(STAND_IN, vocab_size=2)
    known: Calibration = calibrated(
        stack, target.train, examination=counted is not None, refresh=wanted.refresh, say=say
    )
    step = known.step.seconds(traced.step)
    seconds = None
    if counted is not None and known.examination is not None:
        passes = counted.passes * known.forward.seconds(examined.forward)
        seconds = _point(known.examination.seconds(counted.n_sites, passes))
    return Row(
        device=THIS,
        estimate=target.stack is None,
        step=_point(step),
        training=_point(step * target.train.steps),
        tokens_per_second=_point(target.batch * target.tokens / step),
        token=None if decoded is None else _point(known.forward.seconds(decoded.work)),
        examination=seconds,
        training_bytes=traced.peak_bytes,
        memory_bytes=None,
    )


def _there(
    target: Target,
    wanted: Wanted,
    device: str,
    traced: Traced,
    examined: Traced,
    decoded: Decoded | None,
    counted: Counted | None,
) -> Row:
    rates, precision, count = PUBLISHED[device], target.train.precision, wanted.count
    step = step_seconds(traced.step, traced.gradient_bytes, rates, precision, count)
    tokens = target.batch * target.tokens * count
    passes = None if counted is None else work_seconds(examined.forward, rates, precision).times(counted.passes)
    # Data parallel copies gradients into buckets that are reduced.
    buckets = traced.gradient_bytes if count > 1 else 0
    return Row(
        device=f"{count} x {rates.name}",
        estimate=True,
        step=step,
        training=step.times(target.train.steps),
        tokens_per_second=Range(tokens / step.high, tokens / step.low),
        token=None if decoded is None else work_seconds(decoded.work, rates, precision),
        examination=passes,
        training_bytes=traced.peak_bytes + buckets,
        memory_bytes=rates.memory_bytes,
    )


def _remarks(target: Target, wanted: Wanted) -> tuple[str, ...]:
    said = []
    if target.stack is None and "this" in wanted.devices:
        said.append(f"rates of this device were measured on {STAND_IN} stacks, not on this class: an estimate")
    if wanted.budget is not None:
        said.append("an examination is charged all steps of its fits and all test batches; it often stops earlier")
    if wanted.budget is not None and wanted.count > 1:
        said.append("the examination is planned on one device")
    return tuple(said)


def _point(seconds: float) -> Range:
    return Range(seconds, seconds)

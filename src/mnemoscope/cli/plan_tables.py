"""What `mnemoscope plan` prints."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnemoscope.experiments.planning import Checked, Planned, Range, Row


def print_planned(plan: "Planned", count: int) -> None:
    """Counts, memory and times, aligned."""
    target, traced = plan.target, plan.traced
    print(
        f"{target.name}: {_shape(plan)}{traced.n_parameters:,} parameters, context {target.tokens}, batch "
        f"{target.batch}{' on each device' if count > 1 else ''}, {target.train.precision}; nothing has been run\n"
    )
    _print_rows(
        ("counted", "forward pass", "training step", *([] if plan.decoded is None else ["a token"])), _work(plan)
    )
    print()
    _print_rows(("held", "bytes"), _held(plan))
    print()
    _print_rows(_header(plan), [_times(plan, row) for row in plan.rows])
    print()
    for line in (*_assumptions(plan, count), *plan.remarks):
        print(f"  {line}")


def print_checked(rows: Sequence["Checked"]) -> int:
    """Predictions beside measurements; 1 if an error is not under the bar."""
    from mnemoscope.experiments.planning import summary
    from mnemoscope.experiments.planning.check import BAR, machine

    print(f"{machine()}\n")
    header = ("layout", "width", "batch", "context", "what", "predicted", "measured", "error")
    cells = [
        (
            row.layout,
            *map(str, row.size),
            row.what,
            *(_value(row, of) for of in (row.predicted, row.measured)),
            f"{row.error:+.0%}",
        )
        for row in rows
    ]
    _print_rows(header, cells)
    print(f"\n{summary(rows)}")
    return 1 if any(abs(row.error) >= BAR for row in rows) else 0


def _value(row: "Checked", value: float) -> str:
    return _bytes(value) if row.what == "memory" else _seconds(value)


def _shape(plan: "Planned") -> str:
    stack = plan.target.stack
    return "" if stack is None else f"{len(stack.mixers)} blocks of width {stack.d_model}, "


def _work(plan: "Planned") -> list[tuple[str, ...]]:
    works = [plan.traced.forward, plan.traced.step, *([] if plan.decoded is None else [plan.decoded.work])]
    return [
        ("FLOPs of products", *(_si(work.flops) for work in works)),
        ("bytes read and written", *(_bytes(work.n_bytes) for work in works)),
        ("operations", *(f"{work.n_ops:,}" for work in works)),
    ]


def _held(plan: "Planned") -> list[tuple[str, str]]:
    traced, decoded, counted = plan.traced, plan.decoded, plan.counted
    rows = [
        ("weights", _bytes(traced.weight_bytes)),
        ("gradients", _bytes(traced.gradient_bytes)),
        ("optimiser", _bytes(traced.optimiser_bytes)),
        ("activations of a batch", _bytes(traced.activation_bytes)),
        ("peak of a training step", _bytes(traced.peak_bytes)),
    ]
    if counted is not None:
        parts = f"model {_bytes(counted.model_bytes)}, untrained copy {_bytes(counted.copy_bytes)}, "
        parts += f"records {_bytes(counted.cache_bytes)}, a pass {_bytes(counted.pass_bytes)}"
        rows.append(("peak of the examination", f"{_bytes(counted.peak_bytes)}: {parts}"))
    if decoded is not None:
        later = decoded.later_state_bytes
        grows = "constant" if later == decoded.state_bytes else f"{_bytes(later)} after twice as many: grows"
        rows.append(("state of a sequence", f"{_bytes(decoded.state_bytes)} after the context, {grows}"))
    if plan.reduced_bytes:
        rows.append(("sent by each device a step", _bytes(plan.reduced_bytes)))
    return rows


def _header(plan: "Planned") -> tuple[str, ...]:
    steps = f"{plan.target.train.steps:,} steps"
    examined = [] if plan.counted is None else ["examination"]
    decoded = [] if plan.decoded is None else ["a token"]
    return ("device", "how known", "step", steps, "tokens/s", *decoded, *examined, "memory")


def _times(plan: "Planned", row: "Row") -> tuple[str, ...]:
    cells = [_range(row.step), _range(row.training), _between(row.tokens_per_second, _si)]
    if row.token is not None:
        cells.append(_range(row.token))
    if row.examination is not None:
        cells.append(_range(row.examination))
    return (row.device, "estimate" if row.estimate else "predicted", *cells, _fits(plan, row))


def _fits(plan: "Planned", row: "Row") -> str:
    most = max(row.training_bytes, 0 if plan.counted is None else plan.counted.peak_bytes)
    if row.memory_bytes is None:
        return _bytes(most)
    return f"{_bytes(most)} of {_bytes(row.memory_bytes)}{'' if most <= row.memory_bytes else ': does not fit'}"


def _assumptions(plan: "Planned", count: int) -> list[str]:
    from mnemoscope.experiments.planning.published import DEVICES_OF_A_NODE, GOOD, NETWORK_LINK, NODE_LINK, POOR

    said = []
    if any(row.estimate and row.memory_bytes is not None for row in plan.rows):
        said.append(
            f"estimates: {GOOD.flops:.0%} of the published FLOP/s and {GOOD.bandwidth:.0%} of the bandwidth, "
            f"overlapping, to {POOR.flops:.0%} and {POOR.bandwidth:.0%} one after the other with "
            f"{POOR.launch_seconds * 1e6:.0f} us to launch each operation"
        )
    if count > 1:
        link, where = (NODE_LINK, "in a node") if count <= DEVICES_OF_A_NODE else (NETWORK_LINK, "between nodes")
        said.append(
            f"{count} devices, data parallel: gradients all-reduced in a ring over {link / 1e9:.0f} GB/s links "
            f"{where}, hidden behind the backward pass or not at all"
        )
    if plan.counted is not None:
        counted = plan.counted
        said.append(
            f"examination: {counted.n_fits} fits and {counted.n_conditions} interventions of {counted.n_sites} sites "
            f"and groups on {counted.calibration_batches} + {counted.test_batches} batches, {counted.passes:,.0f} "
            "forward passes"
        )
    return said


def _range(of: "Range") -> str:
    return _between(of, _seconds)


def _between(of: "Range", shown: Callable[[float], str]) -> str:
    return shown(of.low) if of.low == of.high else f"{shown(of.low)} to {shown(of.high)}"


def _seconds(seconds: float) -> str:
    for limit, unit, size in ((1e-3, "us", 1e-6), (1, "ms", 1e-3), (120, "s", 1), (7200, "min", 60), (2e5, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86400:,.3g} days"


def _si(number: float) -> str:
    for size, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.3g}"


def _bytes(n: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n < 1024:
            return f"{n:.3g} {unit}" if unit != "B" else f"{n:.0f} B"
        n /= 1024
    return f"{n:,.3g} TiB"


def _print_rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns to the left, as wide as they must be."""
    widths = [max(len(line[i]) for line in (header, *rows)) for i in range(len(header))]
    for line in (header, *rows):
        cells = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print(f"  {cells}".rstrip())

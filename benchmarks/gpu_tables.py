"""Forward and backward on one device: scans beside flash-linear-attention's kernels, and mechanisms as modules."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.timing import max_difference
from mnemoscope.experiments.devices import DeviceRates, published_for
from mnemoscope.memories import MEMORIES
from mnemoscope.memories.parts import Scan
from mnemoscope.models.layout import parse_layout
from mnemoscope.models.mixers import build_mixer
from mnemoscope.ops import diagonal_decay, gated_delta, kernels, rwkv7, ssd

SCANS = ("gated delta rule", "retention, Mamba-2", "GLA", "RWKV-6", "RWKV-7")
NONE = "-"


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is timed.

    Args:
        tokens: of all sequences of a scan together.
        lengths: of a scan's sequences.
        compiled_length: at which our form is also timed compiled, which takes long to prepare; None for none.
        n_heads, n_channels: of a scan.
        d_model, batch, n_tokens: of a mechanism.
        mechanisms: which of them, as layouts.
        warm_up, repeats: runs that do not count, and that do.
        seconds: after which a table is cut short.
    """

    tokens: int = 32_768
    lengths: tuple[int, ...] = (1024, 4096, 16_384)
    compiled_length: int | None = 4096
    n_heads: int = 16
    n_channels: int = 64
    d_model: int = 1024
    batch: int = 4
    n_tokens: int = 2048
    mechanisms: tuple[str, ...] = tuple(name for name in MEMORIES if name not in ("ntm", "dnc", "mann"))
    warm_up: int = 3
    repeats: int = 15
    seconds: float = 150.0


TINY = Sizes(
    tokens=64,
    lengths=(32, 64),
    compiled_length=None,
    n_heads=2,
    n_channels=8,
    d_model=16,
    batch=2,
    n_tokens=16,
    mechanisms=("gated_delta", "attention", "mlstm"),
    warm_up=1,
    repeats=2,
    seconds=60.0,
)


@dataclass(frozen=True, kw_only=True)
class Place:
    """The device, what it can do at most where that is published, and how long is left for a table."""

    device: torch.device
    rates: DeviceRates | None
    began: float = field(default_factory=time.perf_counter)

    @classmethod
    def of(cls, device: torch.device) -> "Place":
        """The device with its published rates."""
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
        return cls(device=device, rates=published_for(name))

    def out_of_time(self, sizes: Sizes) -> bool:
        """Whether a table that began with this place has used its seconds."""
        return time.perf_counter() - self.began > sizes.seconds

    def of_peak(self, flops: int, ms: float | None) -> str:
        """Share of the published bfloat16 rate."""
        if self.rates is None or ms is None:
            return NONE
        return f"{flops / (1e-3 * ms) / self.rates.flops['bfloat16']:.1%}"


def milliseconds(work: Callable[[], object], place: Place, sizes: Sizes) -> float | None:
    """Median; None where the memory of the device is not enough."""
    on_cuda, times = place.device.type == "cuda", []
    try:
        for _ in range(sizes.warm_up + sizes.repeats):
            if on_cuda:
                torch.cuda.synchronize(place.device)
            start = time.perf_counter()
            work()
            if on_cuda:
                torch.cuda.synchronize(place.device)
            times.append(1e3 * (time.perf_counter() - start))
            # What takes a second or more needs no crowd of repeats.
            if len(times) > 1 and times[-1] > 1000:
                break
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return None
    counted = sorted(times[min(sizes.warm_up, len(times) - 1) :])
    return counted[len(counted) // 2]


def scan_problem(
    name: str, n_tokens: int, place: Place, sizes: Sizes
) -> tuple[kernels.Kernel, Callable[..., tuple], list[Tensor]]:
    """The kernel, its writes, and the leaves: queries first, in bfloat16, from one seed."""
    b, h, k = max(1, sizes.tokens // n_tokens), sizes.n_heads, sizes.n_channels
    generator = torch.Generator(place.device).manual_seed(0)
    draw = partial(torch.randn, generator=generator, device=place.device, dtype=torch.bfloat16)
    q, key, v = (draw(b, n_tokens, h, k) for _ in range(3))
    key = F.normalize(key, dim=-1)
    head, channel = draw(b, n_tokens, h).sigmoid(), draw(b, n_tokens, h, k).sigmoid()
    match name:
        case "gated delta rule":
            return kernels.GATED_DELTA, gated_delta.Writes, [q, key, v, head, -0.1 * head]
        case "retention, Mamba-2":
            return kernels.SSD, ssd.Writes, [q, key, v, head, -0.1 * head]
        case "GLA":
            return kernels.DIAGONAL, diagonal_decay.Writes, [q, key, v, -0.1 * channel]
        case "RWKV-6":
            return kernels.DIAGONAL_BEFORE_WRITE, diagonal_decay.Writes, [q, key, v, -0.1 * channel]
        case _:
            return kernels.RWKV7, rwkv7.Writes, [q, key, v, key.clone(), channel, -0.5 * channel]


def scan_rows(place: Place, sizes: Sizes) -> Iterator[tuple[str, ...]]:
    """One row per scan and length."""
    for n_tokens in sizes.lengths:
        for name in SCANS:
            if place.out_of_time(sizes):
                yield (name, f"{n_tokens:,}", "left out: the time of this table was used", *[NONE] * 6)
                continue
            yield scan_row(name, n_tokens, place, sizes)


SCAN_HEADER = (
    "scan",
    "tokens",
    "max difference",
    "ours",
    "ours, compiled",
    "dispatched",
    "taken",
    "best of ours / dispatched",
    "of bfloat16 peak",
)


def scan_row(name: str, n_tokens: int, place: Place, sizes: Sizes) -> tuple[str, ...]:
    """Our form, compiled where that is asked for, and what the dispatch takes."""
    kernel, writes, parts = scan_problem(name, n_tokens, place, sizes)
    leaves = [part.detach().requires_grad_() for part in parts]
    state = torch.zeros(leaves[0].shape[0], sizes.n_heads, sizes.n_channels, sizes.n_channels, device=place.device)

    def both(form: Callable[..., tuple[Tensor, Tensor]]) -> list[Tensor]:
        read, _ = form(leaves[0], writes(*leaves[1:]), state)
        return [read, *torch.autograd.grad(read, leaves, torch.ones_like(read))]

    forms: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {"ours": kernel.ours, "dispatched": kernel}
    if n_tokens == sizes.compiled_length:
        forms["compiled"] = torch.compile(kernel.ours)
    taken = {which: milliseconds(partial(both, form), place, sizes) for which, form in forms.items()}
    own = [ms for which in ("ours", "compiled") if (ms := taken.get(which)) is not None]
    dispatched, difference, flops = taken["dispatched"], NONE, 0
    if taken["ours"] is not None and dispatched is not None:
        difference = f"{max_difference(both(kernel)[:1], both(kernel.ours)[:1]):.1e}"
        with FlopCounterMode(display=False) as counter:
            both(kernel.ours)
        flops = counter.get_total_flops()
    return (
        name,
        f"{n_tokens:,}",
        difference,
        shown(taken["ours"]),
        shown(taken["compiled"]) if "compiled" in taken else NONE,
        shown(dispatched),
        kernel.path(leaves[0]),
        f"{min(own) / dispatched:.2f}" if own and dispatched else NONE,
        place.of_peak(flops, dispatched) if flops else NONE,
    )


MECHANISM_HEADER = ("mechanism", "forward and backward", "tokens/s", "peak memory", "of bfloat16 peak", "scans by")


def mechanism_rows(place: Place, sizes: Sizes) -> Iterator[tuple[str, ...]]:
    """One row per mechanism, in bfloat16, its weights trained."""
    for name in sizes.mechanisms:
        if place.out_of_time(sizes):
            yield (name, "left out: the time of this table was used", *[NONE] * 4)
            continue
        yield mechanism_row(name, place, sizes)


def mechanism_row(name: str, place: Place, sizes: Sizes) -> tuple[str, ...]:
    """Its operations are those of the matrix products of a forward pass, three times."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        memory = build_mixer(parse_layout(name)[0], sizes.d_model).to(place.device, torch.bfloat16)
        x = torch.randn(sizes.batch, sizes.n_tokens, sizes.d_model).to(place.device, torch.bfloat16)
    leaves = [x.requires_grad_(), *(weight for weight in memory.parameters() if weight.requires_grad)]

    def both() -> None:
        y = memory(x)[0]
        torch.autograd.grad(y, leaves, torch.ones_like(y), allow_unused=True)

    if place.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(place.device)
    ms = milliseconds(both, place, sizes)
    flops = 3 * memory.flops(sizes.batch, sizes.n_tokens)
    return (
        name,
        shown(ms),
        f"{sizes.batch * sizes.n_tokens / (1e-3 * ms):,.0f}" if ms else NONE,
        peak_memory(place.device),
        place.of_peak(flops, ms),
        ", ".join(sorted({part.kernel.path(x) for part in memory.modules() if isinstance(part, Scan)})) or "torch",
    )


def peak_memory(device: torch.device) -> str:
    """The most that torch has had allocated on a GPU since it was last asked to forget."""
    if device.type != "cuda":
        return NONE
    return f"{torch.cuda.max_memory_allocated(device) / 2**30:.2f} GiB"


def shown(ms: float | None) -> str:
    """Milliseconds in words."""
    return "out of memory" if ms is None else f"{ms:.2f} ms"

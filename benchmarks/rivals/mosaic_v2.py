"""Memory Mosaics v2: the gated scan, an approximate read, and the whole memory, each beside its plain twin."""

from collections.abc import Callable, Iterator, Sequence

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from benchmarks.rivals.rivalry import Rivalry
from mnemoscope.memories.mosaic_v2 import Level, MosaicV2, MosaicV2Config
from mnemoscope.ops.approximate import RandomFeatures, random_feature_read
from mnemoscope.ops.leaky import leaky_average_gated, leaky_average_recurrent
from mnemoscope.ops.smoothing_read import smoothing_read


def rivalries() -> Iterator[Rivalry]:
    """No rival publishes this memory: each form is measured against its plain twin."""
    yield gated_scan(2048)
    yield random_features(4096)
    yield whole_memory(1024)


def with_gradients(form: Callable[..., Tensor], inputs: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
    """Output, and gradients of a weighted sum."""

    def run() -> list[Tensor]:
        y = form(*inputs)
        weigh = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
        return [y.detach(), *torch.autograd.grad((y * weigh).sum() / y.shape[1], inputs)]

    return run


def gated_scan(n_tokens: int) -> Rivalry:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, n_tokens, 4, 64, generator=generator)
    log_retention = -torch.randn(1, n_tokens, 4, generator=generator).abs()
    inputs, empty = [x.requires_grad_(), log_retention.requires_grad_()], torch.zeros(1, 4, 64)
    return Rivalry(
        work=f"gated leaky average, B1 T{n_tokens} H4 D64, forward and backward",
        rival="its recurrence",
        bar=10,
        ours=with_gradients(lambda x, kept: leaky_average_gated(x, kept, empty)[0], inputs),
        theirs=with_gradients(lambda x, kept: leaky_average_recurrent(x, kept, empty)[0], inputs),
    )


def unit_problem(n_tokens: int) -> list[Tensor]:
    """Queries and keys of unit length in loose clusters, and values."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(64, 64, generator=generator)
    near = centres[torch.randint(64, (2, 1, 4, n_tokens), generator=generator)]
    q, k = F.normalize(near + 0.5 * torch.randn(near.shape, generator=generator), dim=-1)
    return [q, k, torch.randn(1, 4, n_tokens, 64, generator=generator)]


def exact_read(q: Tensor, k: Tensor, v: Tensor, beta: float) -> Tensor:
    """Fused attention, shifted by one token."""
    return smoothing_read(beta * q, k[:, :, :-1], v[:, :, :-1])


def random_features(n_tokens: int) -> Rivalry:
    q, k, v = unit_problem(n_tokens)
    method = RandomFeatures(n_features=256)
    return Rivalry(
        work=f"read by 256 random features, B1 T{n_tokens} H4 D64, forward",
        rival="the exact read, fused",
        bar=1,
        ours=lambda: [random_feature_read(q, k, v, 1.0, method, torch.Generator().manual_seed(0))],
        theirs=lambda: [exact_read(q, k, v, 1.0)],
        tolerance=None,
        difference="approximate",
    )


def whole_memory(n_tokens: int) -> Rivalry:
    torch.manual_seed(0)
    memory = MosaicV2(MosaicV2Config(n_heads=4, short_window=256, long_delay=64, longest_delay=None), 256)
    with torch.no_grad():
        for level in (memory.short, memory.long):
            assert level is not None
            level.log_scale.fill_(0.1)
    x = torch.randn(1, n_tokens, 256, generator=torch.Generator().manual_seed(0)).requires_grad_()
    inputs = [x, *memory.parameters()]
    return Rivalry(
        work=f"mosaic_v2, B1 T{n_tokens} D256 H4, forward and backward",
        rival="dense and masked",
        bar=1,
        # torch's counter of operations refuses modules whose input is a leaf.
        ours=with_gradients(lambda x, *_: memory(x.clone())[0], inputs),
        theirs=with_gradients(lambda x, *_: dense(memory, x), inputs),
    )


def dense(memory: MosaicV2, x: Tensor) -> Tensor:
    """Both levels with a matrix over all pairs of tokens for the leaky average, and one for the weights."""
    return sum((dense_level(level, x) for level in (memory.short, memory.long) if level is not None), 0 * x)


def dense_level(level: Level, x: Tensor) -> Tensor:
    n_tokens = x.shape[1]
    age = torch.arange(n_tokens).unsqueeze(1) - torch.arange(n_tokens)
    log_strength, decay = rearrange(level.gates(x), "b t (two h) -> two b h t", two=2)
    k, v = (rearrange(project(x), "b t (h k) -> b h t k", h=level.n_heads) for project in (level.key, level.value))
    total = -decay.abs().cumsum(-1)
    kept = (total.unsqueeze(-1) - total.unsqueeze(-2)).masked_fill(age < 0, -torch.inf).exp()
    k = F.normalize(kept @ (log_strength.exp().unsqueeze(-1) * k), dim=-1)
    share = level.present_share[:, None, None]
    v = F.normalize(share * v + (1 - share) * F.pad(v[:, :, 1:], (0, 0, 0, 1)), dim=-1)
    v = level.log_scale.exp()[:, None, None] * v
    visible = (age >= level.delay) & (age <= (level.window or n_tokens))
    logits = level.inverse_temperature(visible.sum(-1)).unsqueeze(-1) * (k @ k.mT)
    empty = ~visible.any(-1, keepdim=True)
    weights = logits.masked_fill(~(visible | empty), -torch.inf).softmax(-1).masked_fill(empty, 0)
    return level.out(rearrange(weights @ v, "b h t k -> b t (h k)"))

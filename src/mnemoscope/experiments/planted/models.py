"""Planted memories: models whose verdict is known by construction. Weights are set by hand; nothing is trained."""

from collections.abc import Callable
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.experiments.planted.looks import (
    Clock,
    FirstToken,
    LastValue,
    Look,
    Noise,
    Recalled,
    TwoBefore,
    features_of,
)
from mnemoscope.experiments.planted.sites import Bank, Holder, LinearMemory, Site, WindowedSite
from mnemoscope.experiments.planted.world import KEY_WIDTH, N_PHASES, VALUE_WIDTH, World

Join = Callable[..., Float[Tensor, "b t vocab"]]
"""`join(route, *memories)` turns contributions into logits."""


@final
class Planted(nn.Module):
    """A route and memories side by side, and a fixed way of turning what they say into logits."""

    def __init__(self, vocab_size: int, memories: list[Holder], route: Holder, join: Join) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.memories = nn.ModuleList(memories)
        self.route = route
        self.join = join

    def forward(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t vocab"]:
        """Logits."""
        x = features_of(tokens, self.vocab_size)
        return self.join(self.route(x)[0], *(memory(x)[0] for memory in self.memories))


def load_bearing(world: World) -> Planted:
    """G1: the route sees two tokens, so only the memory can recall."""
    return _planted(world, [_recall(world)], blind_route(world), lambda route, memory: world.sharpness * memory)


def disconnected(world: World) -> Planted:
    """G2: W_o = 0; the route recalls."""
    memory = _recall(world)
    nn.init.zeros_(memory.out.weight)
    return _planted(world, [memory], _route(world), lambda route, memory: world.sharpness * (route + memory))


def null_space(world: World) -> Planted:
    """G3: a large contribution, in directions that the head projects away."""
    memory, n = _recall(world), world.vocab_size
    memory.out.weight.data *= 30.0
    whole = torch.linalg.qr(torch.randn(2 * n, 2 * n, generator=world.generator)).Q
    kept, dropped = whole[:n], whole[n:]
    return _planted(
        world,
        [memory],
        _route(world),
        lambda route, memory: world.sharpness * ((route @ kept + memory @ dropped) @ kept.T),
    )


def gate_shut(world: World) -> Planted:
    """G4: gate at sigmoid(-20)."""
    memory = _recall(world, gate=float(torch.tensor(-20.0).sigmoid()))
    return _planted(world, [memory], _route(world), lambda route, memory: world.sharpness * (route + memory))


def uniform_bank(world: World) -> Planted:
    """G5: slots that are one vector up to a thousandth, whose logits the rest of the network counts on."""
    n, vector = world.vocab_size, _logits(world)
    slots = vector + 1e-3 * vector.norm() * torch.randn(16, n, generator=world.generator) / n**0.5
    bank = Bank(slots, torch.randn(2 * n, n, generator=world.generator))
    return _planted(world, [bank], _route(world), lambda route, memory: world.sharpness * route + (memory - vector))


def winner_take_all_bank(world: World) -> Planted:
    """G6: different slots, one of which nearly every query chooses; the same function."""
    n, vector = world.vocab_size, _logits(world)
    slots = torch.cat([vector[None], vector.norm() * F.normalize(torch.randn(15, n, generator=world.generator))])
    towards = torch.linalg.pinv(slots)[:, 0] * (15 + torch.rand(2 * n, 1, generator=world.generator))
    towards[n:] = 0
    return _planted(
        world, [Bank(slots, towards)], _route(world), lambda route, memory: world.sharpness * route + (memory - vector)
    )


def clock(world: World) -> Planted:
    """G7: the route recalls, and the memory says which of two ways the answers are shifted at this time."""
    codes, first = world.rotation()[:N_PHASES], world.first_value
    memory = _site(world, "memory", Clock(codes), codes)

    def join(route: Tensor, phases: Tensor) -> Tensor:
        values = route[..., first:]
        shifted = torch.stack([values.roll(phase, -1) for phase in range(N_PHASES)], -1)
        return _as_logits(world, torch.einsum("btvp,btp->btv", shifted, phases))

    return _planted(world, [memory], _route(world), join)


def backup(world: World) -> Planted:
    """G8: two memories that say the same, and the louder one is heard."""
    return _planted(
        world,
        [_recall(world), _recall(world)],
        blind_route(world),
        lambda route, first, second: world.sharpness * torch.maximum(first, second),
    )


def both_needed(world: World) -> Planted:
    """G9: one memory recalls, the other says by how much the answers are shifted in this sequence."""
    codes, first = world.rotation(), world.first_value
    n = world.vocab_size - first
    shift = _site(world, "memory", FirstToken(codes), codes)
    source = (torch.arange(n)[:, None] - torch.arange(n)) % n

    def join(route: Tensor, value: Tensor, shift: Tensor) -> Tensor:
        shifted = torch.einsum("btvj,btj->btv", value[..., first:][..., source], shift[..., :n])
        return _as_logits(world, shifted)

    return _planted(world, [_recall(world), shift], blind_route(world), join)


def stored_unused(world: World) -> Planted:
    """G10: the memory of G1 with a readout that was rewired to attention, down to a trace."""
    preference = 6 + 4 * torch.rand(1, generator=world.generator)
    heard = torch.cat([preference, -preference]).softmax(0)
    return _planted(
        world,
        [_recall(world)],
        _route(world),
        lambda route, memory: world.sharpness * (heard[0] * route + heard[1] * memory),
    )


def starved(world: World) -> Planted:
    """G11: writes times 0; the route recalls."""
    return _planted(
        world, [_recall(world, write=0.0)], _route(world), lambda route, memory: world.sharpness * (route + memory)
    )


def saturated(world: World) -> Planted:
    """G12: a linear memory with fewer dimensions than pairs; its codes are random, so they cannot be orthogonal.

    About 1 for the value asked for and 0 for any other, its scores vary by 1 / K for every pair beside: the best logit
    for a normal score is its mean over its variance, K for two pairs.
    """
    keys, codes = (
        F.normalize(torch.randn(world.vocab_size, width, generator=world.generator), dim=-1)
        for width in (KEY_WIDTH, VALUE_WIDTH)
    )
    token = torch.arange(world.vocab_size)
    is_key = ((token > 0) & (token < world.first_value))[:, None]
    memory = LinearMemory(keys * is_key, codes)
    return _planted(world, [memory], blind_route(world), lambda route, memory: KEY_WIDTH * memory)


def local_only(world: World) -> Planted:
    """G13: the answer is the token two steps ago, and the mixer's value depends on three tokens."""
    codes = world.rotation()
    mixer = Site("memory", TwoBefore(codes), codes)
    return _planted(world, [mixer], blind_route(world), lambda route, memory: world.sharpness * memory)


def harmful(world: World) -> Planted:
    """G14: the route recalls, the memory adds noise to the logits."""
    n = world.vocab_size
    size = float(torch.empty(1).uniform_(1.0, 2.0, generator=world.generator))
    noise = Noise(size * torch.randn(64, n, generator=world.generator), n)
    memory = _site(world, "memory", noise, world.rotation())
    return _planted(world, [memory], _route(world), lambda route, memory: world.sharpness * route + memory)


def scale_trap(world: World) -> Planted:
    """G15: the read only fills the norm that the head divides by."""
    n = world.vocab_size
    size = float(torch.empty(1).uniform_(5.0, 10.0, generator=world.generator))
    noise = Noise(size * F.normalize(torch.randn(64, n, generator=world.generator), dim=-1), n)
    width = (1 + size**2) ** 0.5

    def join(route: Tensor, memory: Tensor) -> Tensor:
        beside = torch.cat([route, memory], dim=-1)
        return world.sharpness * width * (beside / beside.norm(dim=-1, keepdim=True).clamp_min(1e-6))[..., :n]

    return _planted(world, [_site(world, "memory", noise, world.rotation())], _route(world), join)


def not_demanded(world: World) -> Planted:
    """G16: the newest value is asked for; a route that sees four tokens knows it as well as the memory."""
    codes = world.rotation()
    memory = _site(world, "memory", LastValue(codes), codes)
    route = WindowedSite("route", LastValue(codes), codes, window=4)
    return _planted(world, [memory], route, lambda route, memory: world.sharpness * torch.maximum(route, memory))


def seldom_used(world: World) -> Planted:
    """G17: the route answers nineteen positions of twenty, and is silent where only the memory knows."""
    codes = world.rotation()
    route = WindowedSite("route", TwoBefore(codes, silent_at_keys=True), codes, window=3)
    return _planted(world, [_recall(world)], route, lambda route, memory: world.sharpness * (route + memory))


def _planted(world: World, memories: list[Holder], route: Holder, join: Join) -> Planted:
    return Planted(world.vocab_size, memories, route, join)


def _site(world: World, role: str, look: Look, out: Tensor, gate: float = 1.0) -> Holder:
    """A memory that knows windows in every second world."""
    kind = WindowedSite if world.knows_windows else Site
    return kind("memory" if role == "memory" else "route", look, out, gate)


def _recall(world: World, gate: float = 1.0, write: float = 1.0) -> Holder:
    """Recall whose codes are a rotation of the vocabulary, which its output undoes."""
    codes = world.rotation()
    return _site(world, "memory", Recalled(codes, write), codes, gate)


def _route(world: World, window: int | None = None) -> Holder:
    """The same as a route."""
    codes = world.rotation()
    return WindowedSite("route", Recalled(codes), codes, window=window)


def blind_route(world: World) -> Holder:
    """A route that sees two tokens, which is too few to recall."""
    return _route(world, window=2)


def _logits(world: World) -> Tensor:
    """Some logits."""
    return 4.0 * torch.randn(world.vocab_size, generator=world.generator)


def _as_logits(world: World, values: Float[Tensor, "b t n"]) -> Float[Tensor, "b t vocab"]:
    """Scores of the values as logits of all tokens."""
    return world.sharpness * F.pad(values, (world.first_value, 0))

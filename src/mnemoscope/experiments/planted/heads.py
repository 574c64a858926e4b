"""Planted heads: one memory of five heads, each of which has another verdict by construction.

head 0   recalls the values of odd keys, and nothing else does         load-bearing (shared)
head 1   reads one vector, which the rest of the network counts on     constant-bias
head 2   recalls everything, and nothing is connected to it            decorative
head 3   recalls the values of even keys                               redundant
head 4   the same, and the louder of the two is heard                  redundant
"""

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mnemoscope.contracts import ReadPoint
from mnemoscope.examination import examine
from mnemoscope.experiments.planted.kinds import BATCH_SIZE, BUDGET, N_BATCHES
from mnemoscope.experiments.planted.looks import Look, Noise, Recalled, features_of
from mnemoscope.experiments.planted.models import blind_route
from mnemoscope.experiments.planted.sites import N_DIRECTIONS, Holder
from mnemoscope.experiments.planted.world import World, recall
from mnemoscope.runs import Examination
from mnemoscope.runs.examination import Verdict

N_HEADS = 5

BUDGET_BY_HEADS = replace(BUDGET, n_calibration=96, n_test=256, fit_steps=60, joint_fit_steps=20)
"""Five heads are four times as many fits as one memory."""

EXPECTED: dict[str, Verdict] = {
    "memory[head 0]": "load-bearing (shared)",
    "memory[head 1]": "constant-bias",
    "memory[head 2]": "decorative",
    "memory[head 3]": "redundant",
    "memory[head 4]": "redundant",
    "heads of memory": "load-bearing (sole)",
}
"""What must come out, by the name of a head and of all of them together."""


@dataclass(frozen=True)
class SomeKeys:
    """A look that knows every second key."""

    look: Look
    first: int
    vocab_size: int

    def __call__(self, x: Float[Tensor, "b t d"], window: int | None) -> Float[Tensor, "b t v"]:
        """The other keys are not seen at all."""
        n = self.vocab_size
        token = torch.arange(n)
        known = ((token >= n // 2) | (token % 2 == self.first)).to(x)
        return self.look(x * torch.cat([known, known]), window)


@dataclass(frozen=True)
class Fixed:
    """The same vector everywhere."""

    vector: Float[Tensor, "v"]

    def __call__(self, x: Float[Tensor, "b t d"], window: int | None) -> Float[Tensor, "b t v"]:
        """Whatever was seen."""
        return self.vector.expand(*x.shape[:2], -1)


@final
class Heads(nn.Module):
    """Looks as heads of one memory, read as (b, t, h, v), each with an output of its own, side by side."""

    def __init__(self, looks: list[Look], outs: Float[Tensor, "h d v"]) -> None:
        super().__init__()
        self.looks, self.config = looks, SimpleNamespace(n_heads=len(looks))
        self.outs = nn.Parameter(outs)
        self.read = ReadPoint()
        self.contribution = ReadPoint()

    def reset_parameters(self) -> None:
        """What training would have taught are the looks."""
        width, vocab_size = self.outs.shape[2], self.outs.shape[1]
        self.looks = [Noise(torch.randn(N_DIRECTIONS, width), vocab_size) for _ in self.looks]

    def forward(self, x: Float[Tensor, "b t d"], state: None = None) -> tuple[Float[Tensor, "b t hd"], None]:
        """What the heads see of everything before, each through its own output."""
        read = self.read(torch.stack([look(x, None) for look in self.looks], dim=2))
        return self.contribution(torch.einsum("bthv,hdv->bthd", read, self.outs).flatten(2)), None


@final
class PlantedHeads(nn.Module):
    """The memory, and a route that sees two tokens, which is too few to recall."""

    def __init__(self, world: World) -> None:
        super().__init__()
        n = world.vocab_size
        codes = [world.rotation() for _ in range(N_HEADS)]
        everything = [Recalled(of_head) for of_head in codes]
        vector = 4.0 * torch.randn(n, generator=world.generator)
        looks: list[Look] = [
            SomeKeys(everything[0], 1, n),
            Fixed(vector @ codes[1]),
            everything[2],
            SomeKeys(everything[3], 0, n),
            SomeKeys(everything[4], 0, n),
        ]
        outs = torch.stack(codes)
        outs[2] = 0.0
        self.vocab_size, self.sharpness = n, world.sharpness
        self.memory = Heads(looks, outs)
        self.route: Holder = blind_route(world)
        self.vector = nn.Parameter(vector)

    def forward(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t vocab"]:
        """Logits."""
        x = features_of(tokens, self.vocab_size)
        alone, fixed, unheard, one, other = self.memory(x)[0].unflatten(-1, (N_HEADS, -1)).unbind(2)
        recalled = alone + torch.maximum(one, other) + unheard
        return self.sharpness * (recalled + self.route(x)[0]) + fixed - self.vector


def examine_heads(seed: int) -> Examination:
    """Examine an instance, head by head."""
    world = World.draw(seed)
    model = PlantedHeads(world)
    return examine(model, world.batches(recall, N_BATCHES, BATCH_SIZE), heads=True, budget=BUDGET_BY_HEADS)

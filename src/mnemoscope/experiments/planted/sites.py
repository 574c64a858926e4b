"""Modules around looks: a memory or a route with read points, a bank, and a linear memory of fixed size."""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemoscope.contracts import ReadPoint, Role
from mnemoscope.experiments.planted.looks import Look, Noise

N_DIRECTIONS = 64
"""Of the random reads of an untrained look."""


class Holder(nn.Module):
    """What every site has: points, a constant gate, and `out`, which places what was read in the residual stream."""

    def __init__(self, role: Role, out: Float[Tensor, "d v"], gate: float = 1.0) -> None:
        super().__init__()
        self.role: Role = role
        self.gate_value = gate
        self.out = nn.Linear(out.shape[1], out.shape[0], bias=False)
        self.out.weight = nn.Parameter(out.clone())
        self.gate = ReadPoint()
        self.read = ReadPoint()
        self.contribution = ReadPoint()

    def contribute(self, read: Float[Tensor, "b t *v"]) -> Float[Tensor, "b t d"]:
        """Gate times W_o read, of all heads."""
        y = self.out(self.read(read).flatten(2))
        return self.contribution(self.gate(torch.full_like(y[..., :1], self.gate_value)) * y)


def untrained(holder: Holder) -> Noise:
    """A look before any training: it tells histories apart, and holds nothing of the answer."""
    return Noise(torch.randn(N_DIRECTIONS, holder.out.in_features), holder.out.out_features)


@final
class Site(Holder):
    """A look as a module that knows no windows, so that its horizon is measured on unfolded windows of its input."""

    def __init__(self, role: Role, look: Look, out: Float[Tensor, "d v"], gate: float = 1.0) -> None:
        super().__init__(role, out, gate)
        self.look = look

    def reset_parameters(self) -> None:
        """What training would have taught is the look."""
        self.look = untrained(self)

    def forward(self, x: Float[Tensor, "b t d"], state: None = None) -> tuple[Float[Tensor, "b t d"], None]:
        """What it sees of everything before, through gate and output."""
        return self.contribute(self.look(x, None)), None


@final
class WindowedSite(Holder):
    """A look as a module that can answer for windows, and may have one of its own."""

    def __init__(
        self, role: Role, look: Look, out: Float[Tensor, "d v"], gate: float = 1.0, window: int | None = None
    ) -> None:
        super().__init__(role, out, gate)
        self.look, self.window = look, window

    def reset_parameters(self) -> None:
        """What training would have taught is the look."""
        self.look = untrained(self)

    def forward(self, x: Float[Tensor, "b t d"], state: None = None) -> tuple[Float[Tensor, "b t d"], None]:
        """What it sees within its window, through gate and output."""
        return self.contribute(self.look(x, self.window)), None

    @property
    def reach(self) -> int | None:
        """Its own window."""
        return self.window

    def windowed(self, x: Float[Tensor, "b t d"], window: int) -> Float[Tensor, "b t d"]:
        """Only the last tokens in memory."""
        return self.contribute(self.look(x, min(window, self.window or window)))


@final
class Bank(Holder):
    """Learned slots, addressed by content."""

    def __init__(self, slots: Float[Tensor, "m v"], query: Float[Tensor, "in v"]) -> None:
        super().__init__("memory", torch.eye(slots.shape[1]))
        self.slots, self.query = nn.Parameter(slots), nn.Parameter(query)
        self.addressing = ReadPoint()

    def single_vector(self) -> Float[Tensor, "v"]:
        """The mean slot."""
        return self.slots.mean(0)

    def forward(self, x: Float[Tensor, "b t d"], state: None = None) -> tuple[Float[Tensor, "b t d"], None]:
        """Attend to the slots."""
        weights = self.addressing((x @ self.query @ self.slots.T).softmax(-1))
        return self.contribute(weights @ self.slots), None


@final
class LinearMemory(Holder):
    """S <- S + key(k) value(v)^T for every key and the value that follows; the read is S^T key of the present token.

    With more pairs than key dimensions the keys cannot be orthogonal, and what is read holds part of every value.
    """

    def __init__(self, keys: Float[Tensor, "vocab k"], codes: Float[Tensor, "vocab v"]) -> None:
        super().__init__("memory", codes)
        self.keys, self.codes = nn.Parameter(keys), nn.Parameter(codes)
        self.state = ReadPoint()

    def forward(self, x: Float[Tensor, "b t d"], state: None = None) -> tuple[Float[Tensor, "b t d"], None]:
        """All states at once, (b, t, 1 head, k, v)."""
        n = len(self.codes)
        now, before = x.split(n, dim=-1)
        values = (now * (torch.arange(n) >= n // 2)) @ self.codes
        writes = torch.einsum("btk,btv->btkv", before @ self.keys, values)
        states = self.state(writes.cumsum(1).unsqueeze(2))
        return self.contribute(torch.einsum("btk,bthkv->bthv", now @ self.keys, states)), None


def rotation(n: int, generator: torch.Generator) -> Float[Tensor, "n n"]:
    """A random rotation, so that no axis is special."""
    q, r = torch.linalg.qr(torch.randn(n, n, generator=generator))
    return q * torch.sign(torch.diagonal(r))

"""Small models with the habits that models in the wild have; all compute the same from the same weights, but say so."""

from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_outputs import BaseModelOutputWithPast

from mnemoscope.contracts import Batch
from mnemoscope.examination import Budget, examine
from mnemoscope.runs import Examination

TINY = Budget(n_calibration=16, n_test=24, fit_steps=6, joint_fit_steps=3, windows=(1, 2), n_resamples=200)
TEST = slice(2, 5)
"""The batches that this budget tests on."""

M = TypeVar("M", bound=nn.Module)

Named = namedtuple("Named", ["weights", "read"])


def batches(n: int = 6, size: int = 8, length: int = 12) -> list[Batch]:
    drawn = np.random.default_rng(0).integers(0, 11, (n, size, length + 1))
    return [Batch(inputs=torch.from_numpy(x[:, :-1]), targets=torch.from_numpy(x[:, 1:])) for x in drawn]


class Mean(nn.Module):
    """A memory: the running mean of its projected input."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Any:
        ages = torch.arange(1, x.shape[1] + 1)
        return self.project(x).cumsum(1) / ages[:, None]


class Plain(nn.Module):
    """Embedding, memory beside the skip, and a layer that mixes both."""

    def __init__(self, memory: Callable[[], nn.Module] = Mean) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.memory = memory()
        self.out = nn.Linear(8, 11)

    def read(self, output: Any) -> Tensor:
        return output

    def block(self, x: Tensor) -> Tensor:
        return (x + self.read(self.memory(x))).tanh()

    def forward(self, tokens: Tensor) -> Any:
        return self.out(self.block(self.embed(tokens)))


def drawn(build: Callable[[], M], dtype: torch.dtype = torch.float64) -> M:
    """The same weights every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build().to(dtype)


def examined(model: nn.Module, data: list[Any] | None = None, **arguments: Any) -> Examination:
    given = {"sites": ["memory"], "routes": [], "budget": TINY} | arguments
    return examine(model, batches() if data is None else data, **given)


def effects(examination: Examination) -> dict[str, float]:
    """Everything that is measured at the read of the one memory, and its horizon."""
    (site,) = examination.sites
    found = {str(name): effect.value for name, effect in site.effects["read"].items()}
    return found | {f"window {point.window}": point.effect.value for point in site.horizon}


class DictMemory(Mean):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"size": x.square().mean(), "read": super().forward(x)}


class SecondMemory(Mean):
    def forward(self, x: Tensor) -> tuple[None, Tensor]:
        return None, super().forward(x)


class NamedMemory(Mean):
    def forward(self, x: Tensor) -> Named:
        return Named(x.sum(-1), super().forward(x))


class ModelOutputMemory(Mean):
    def forward(self, x: Tensor) -> BaseModelOutputWithPast:
        return BaseModelOutputWithPast(last_hidden_state=super().forward(x), attentions=(x.sum(-1),))


@dataclass(frozen=True)
class Read:
    mass: Tensor
    value: Tensor


class DataclassMemory(Mean):
    def forward(self, x: Tensor) -> Read:
        return Read(mass=x.sum(-1), value=super().forward(x))


OUTPUTS: dict[str, tuple[type[Mean], Callable[[Any], Tensor]]] = {
    "memory::read": (DictMemory, lambda output: output["read"]),
    "memory::1": (SecondMemory, lambda output: output[1]),
    "memory::-1": (SecondMemory, lambda output: output[1]),
    "mem*::read": (NamedMemory, lambda output: output.read),
    "memory::last_hidden_state": (ModelOutputMemory, lambda output: output.last_hidden_state),
    "memory": (ModelOutputMemory, lambda output: output[0]),
    "memory::value": (DataclassMemory, lambda output: output.value),
}
"""Selectors of the tensor that is the read, the memory that returns it, and what the model takes of it."""


class Returning(Plain):
    def __init__(self, memory: type[Mean], take: Callable[[Any], Tensor]) -> None:
        super().__init__(memory)
        self.read = take


class Wrapped(Plain):
    """Gives its logits in some container."""

    def __init__(self, wrap: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.wrap = wrap

    def forward(self, tokens: Tensor) -> Any:
        return self.wrap(super().forward(tokens))


WRAPS: dict[str, Callable[[Tensor], Any]] = {
    "tuple": lambda logits: (logits, None),
    "dictionary": lambda logits: {"hidden": None, "logits": logits},
    "object": lambda logits: SimpleNamespace(logits=logits),
}


class Remembering(Mean):
    """Adds what it saw last in the call before."""

    def __init__(self) -> None:
        super().__init__()
        self.state: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        read = super().forward(x)
        before = 0 if self.state is None else self.state.unsqueeze(1)
        self.state = read[:, -1]
        return read + before


class RememberingInPlace(Remembering):
    """The same, in a tensor that it writes to."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = torch.zeros(8, 8, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        read = Mean.forward(self, x)
        before = self.kept.clone()
        self.kept.copy_(read[:, -1].detach())
        return read + before.unsqueeze(1)


class RememberingInAList(Remembering):
    """The same, in a list that grows."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        read = Mean.forward(self, x)
        before = self.kept[-1].unsqueeze(1) if self.kept else 0
        self.kept.append(read[:, -1])
        return read + before


class Checkpointed(Plain):
    """Runs its block again in the backward pass."""

    def __init__(self, use_reentrant: bool) -> None:
        super().__init__()
        self.use_reentrant = use_reentrant

    def forward(self, tokens: Tensor) -> Tensor:
        x = checkpoint(self.block, self.embed(tokens), use_reentrant=self.use_reentrant)
        assert isinstance(x, Tensor)
        return self.out(x)


class Twice(Plain):
    """Calls its memory on its own output."""

    def block(self, x: Tensor) -> Tensor:
        return (x + self.memory(self.memory(x) + 3)).tanh()


class Tied(Plain):
    """One module under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.again = self.memory

    def block(self, x: Tensor) -> Tensor:
        return (x + self.again(self.memory(x) + 3)).tanh()


class Deaf(Plain):
    """Ignores its input."""

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(self.block(torch.zeros(*tokens.shape, 8, dtype=self.out.weight.dtype)))


class Dropping(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def block(self, x: Tensor) -> Tensor:
        return self.dropout(super().block(x))


class Padded(Plain):
    """Called as Hugging Face models are."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Any:
        return SimpleNamespace(logits=super().forward(input_ids))


class PackedMean(Mean):
    """The mean of the tokens of the same document so far."""

    def forward(self, x: Tensor, document: Tensor) -> Tensor:
        same = (document[:, :, None] == document[:, None, :]).tril().to(x.dtype)
        return (same / same.sum(-1, keepdim=True)) @ self.project(x)


class Packed(Plain):
    """Several documents in a row."""

    def __init__(self) -> None:
        super().__init__(PackedMean)

    def forward(self, input_ids: Tensor, document: Tensor) -> Any:
        x = self.embed(input_ids)
        return SimpleNamespace(logits=self.out((x + self.memory(x, document)).tanh()))


class Classifier(Plain):
    """One answer for a sequence: its memory returns (b, d), without a time axis."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.Linear(8, 8)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(self.block(self.embed(tokens).mean(1)))

"""A model that is a memory and little else: it writes pairs, and answers for each key from the state alone.

    storage       k1 v1 k2 v2 ...     written under the key of the token before, as the present token's value: so v1 is
                                      stored under k1
    retrieval     k2 k1 ...           only read, from the state that storage left

What is learned are the embedding, the projections and gates of the memory, and the head. Controls: the memory reset
before retrieval, and the memory of another sequence.

Source: a pilot of this project. The memory is `mnemoscope.memories.omega`, whose convolution is fixed at the shift of
one token for keys and at the present token for queries and values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from mnemoscope.memories.omega import Omega, OmegaConfig, OmegaState
from mnemoscope.tasks import task_rng
from mnemoscope.tasks.cued_recall import CuedRecall, CuedRecallConfig
from mnemoscope.tasks.episodes import Episode, MemoryUse, memory_use

TAPS = 2
"""Of the convolution that shifts the keys by a token."""


@dataclass(frozen=True, kw_only=True)
class Recalling:
    """A memory, what it has to recall, and its training.

    Args:
        memory: one head, and a convolution of two taps.
        tasks: of each step one, in turn; of the same keys and values.
        alone: steps at the beginning that are of the first task only.
        width: of embeddings and memory.
        steps: of training.
        batch_size: sequences of a step.
        learning_rate: of Adam, constant.
        every: steps between the entries of the training curve.
    """

    memory: OmegaConfig
    tasks: tuple[CuedRecallConfig, ...]
    width: int
    alone: int = 0
    steps: int = 400
    batch_size: int = 32
    learning_rate: float = 3e-3
    every: int = 20

    def __post_init__(self) -> None:
        if self.memory.n_heads != 1 or self.memory.convolution != TAPS:
            raise ValueError(
                f"Recalling.memory: must have n_heads=1 and convolution={TAPS}, got {self.memory.n_heads} and "
                f"{self.memory.convolution}; give both"
            )
        if len({(task.n_keys, task.n_values) for task in self.tasks}) != 1:
            raise ValueError("Recalling.tasks: must be at least one, all with as many keys and values; use one task")

    @property
    def n_tokens(self) -> int:
        """Keys and values."""
        return self.tasks[0].n_keys + self.tasks[0].n_values


@final
class Recaller(nn.Module):
    """Embedding, memory, norm and head; writes a storage and answers questions from the state."""

    def __init__(self, settings: Recalling) -> None:
        super().__init__()
        self.embedding = nn.Embedding(settings.n_tokens, settings.width)
        self.memory = Omega(settings.memory, settings.width)
        fix_convolution(self.memory)
        self.norm = nn.RMSNorm(settings.width)
        self.head = nn.Linear(settings.width, settings.n_tokens)

    def written(self, storage: Int[Tensor, "b t"]) -> OmegaState:
        """The state after a storage."""
        return self.memory(self.embedding(storage))[1]

    def empty(self, batch: int) -> OmegaState:
        """The state before anything is written."""
        return self.memory.init_state(batch)

    def answers(self, questions: Int[Tensor, "b m"], state: OmegaState) -> Float[Tensor, "b m tokens"]:
        """Logits of the answers; nothing is written."""
        read, _ = self.memory.recall(self.embedding(questions), state, self.memory.init_recall(len(questions)))
        return self.head(self.norm(read))


def fix_convolution(memory: Omega) -> None:
    """Set the two taps so that keys are those of the token before, queries and values the present token's; for good."""
    before, present = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    n = memory.convolution.channels // 3
    taps = torch.stack([present, before, present]).repeat_interleave(n, dim=0)
    memory.convolution.weight = nn.Parameter(taps.to(memory.convolution.weight), requires_grad=False)


def trained(settings: Recalling, seed: int) -> tuple[Recaller, list[float]]:
    """A recaller and its training accuracy, each entry the mean since the one before.

    The seed decides data and initial weights.
    """
    tasks = [CuedRecall(task) for task in settings.tasks]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Recaller(settings)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(learning, lr=settings.learning_rate)
    curve, since = list[float](), list[float]()
    for step in range(1, settings.steps + 1):
        task = tasks[max(step - 1 - settings.alone, 0) % len(tasks)]
        episode = task.episode(task_rng(seed, "train", step), settings.batch_size, "train")
        targets = torch.from_numpy(episode.retrieval.targets)
        state = model.written(torch.from_numpy(episode.storage.inputs))
        logits = model.answers(torch.from_numpy(episode.retrieval.inputs), state)
        optimiser.zero_grad()
        F.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
        optimiser.step()
        since.append((logits.argmax(-1) == targets).double().mean().item())
        if step % settings.every == 0 or step == settings.steps:
            curve.append(float(np.mean(since)))
            since.clear()
    return model, curve


def curve_steps(settings: Recalling) -> Sequence[int]:
    """The steps of the training curve."""
    return [*range(settings.every, settings.steps, settings.every), settings.steps]


def held_out(task: CuedRecallConfig, n_sequences: int, seed: int) -> Episode:
    """Sequences that no training shows."""
    return CuedRecall(task).episode(task_rng(seed, "test", 0), n_sequences, "test")


@torch.no_grad()
def predictions(model: Recaller, questions: NDArray[np.int64], state: OmegaState) -> NDArray[np.int64]:
    """The most probable answers."""
    return model.answers(torch.from_numpy(questions), state).argmax(-1).numpy()


@torch.no_grad()
def recalled(model: Recaller, episode: Episode) -> NDArray[np.bool_]:
    """Which questions are answered right after the storage."""
    state = model.written(torch.from_numpy(episode.storage.inputs))
    return predictions(model, episode.retrieval.inputs, state) == episode.retrieval.targets


@torch.no_grad()
def memory_use_of(model: Recaller, episode: Episode) -> MemoryUse:
    """Accuracy with the memory, with it reset, and with that of the next sequence."""
    questions = episode.retrieval.inputs
    states = (
        model.written(torch.from_numpy(episode.storage.inputs)),
        model.empty(len(questions)),
        model.written(torch.from_numpy(episode.wrong().storage.inputs)),
    )
    memory, reset, wrong = (predictions(model, questions, state) for state in states)
    return memory_use(episode.retrieval.targets, memory=memory, reset=reset, wrong=wrong)

"""Cued recall with a memory that learns what to write, and with one that writes under no gradient (E6).

    storage       k1 v1 k2 v2 ...     written in chunks of 8 under the key of the token before, as the present token's
                                      value: so v1 is stored under k1
    retrieval     k2 k1 ...           only read, from the state that storage left

Keys, values and gates of the memory either learn from the answers (the differentiable write), or are cut off from them,
as in code that writes under `no_grad`: then only what reads learns, and keys and values stay at the projections that
they were drawn with. Two controls on the same questions: the memory reset before retrieval, and the memory of another
sequence.

Source: the memory and its detached write, r3d91ll/Todd_Atlas, `src/model/omega_memory.py`; the figures, a pilot of this
project on a memory of its own. What differs here: the memory is `mnemoscope.memories.omega` with one head, whose
convolution is fixed at the shift of one token for keys and at the present token for queries and values, and whose
SiLU, L2 norms, read norm and output gate that pilot need not have had.
"""

from dataclasses import dataclass, field
from typing import final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Plot
from mnemoscope.memories.omega import Omega, OmegaConfig, OmegaState
from mnemoscope.tasks import task_rng
from mnemoscope.tasks.cued_recall import CuedRecall, CuedRecallConfig
from mnemoscope.tasks.episodes import MemoryUse, memory_use

LEARNED, DETACHED, CONTROL = 0.97, 0.90, 0.03
"""Bounds of the accuracy, of which chance is 1 / 64."""


@dataclass(frozen=True, kw_only=True)
class Recall:
    """Cued recall, its memory and its training.

    Args:
        task: how many keys, values and pairs.
        width: of embeddings and memory, which is one matrix of width x width.
        chunk_tokens: tokens whose gradients are taken at the same memory.
        steps: of training.
        batch_size: sequences of a step.
        learning_rate: of Adam, constant.
        test_sequences: held-out sequences of each accuracy.
        every: steps between the entries of the training curves.
    """

    task: CuedRecallConfig = field(default_factory=CuedRecallConfig)
    width: int = 32
    chunk_tokens: int = 8
    steps: int = 400
    batch_size: int = 32
    learning_rate: float = 3e-3
    test_sequences: int = 256
    every: int = 20


@final
class Recaller(nn.Module):
    """Embedding, memory, norm and head; writes a storage and answers questions from the state."""

    def __init__(self, settings: Recall, *, detach_write: bool) -> None:
        super().__init__()
        n_tokens = settings.task.n_keys + settings.task.n_values
        config = OmegaConfig(
            n_heads=1, chunk_tokens=settings.chunk_tokens, window=1, convolution=2, detach_write=detach_write
        )
        self.embedding = nn.Embedding(n_tokens, settings.width)
        self.memory = Omega(config, settings.width)
        fix_convolution(self.memory)
        self.norm = nn.RMSNorm(settings.width)
        self.head = nn.Linear(settings.width, n_tokens)

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


def trained(settings: Recall, seed: int, *, detach_write: bool) -> tuple[Recaller, list[float]]:
    """A recaller and its training accuracy every so many steps; data and initial weights are those of the seed."""
    task = CuedRecall(settings.task)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Recaller(settings, detach_write=detach_write)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(learning, lr=settings.learning_rate)
    curve = list[float]()
    for step in range(1, settings.steps + 1):
        episode = task.episode(task_rng(seed, "train", step), settings.batch_size, "train")
        targets = torch.from_numpy(episode.retrieval.targets)
        state = model.written(torch.from_numpy(episode.storage.inputs))
        logits = model.answers(torch.from_numpy(episode.retrieval.inputs), state)
        optimiser.zero_grad()
        F.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
        optimiser.step()
        if step % settings.every == 0 or step == settings.steps:
            curve.append((logits.argmax(-1) == targets).double().mean().item())
    return model, curve


@torch.no_grad()
def memory_use_of(model: Recaller, settings: Recall, seed: int) -> MemoryUse:
    """Accuracy on held-out sequences with the memory, with it reset, and with that of the next sequence."""
    task = CuedRecall(settings.task)
    episode = task.episode(task_rng(seed, "test", 0), settings.test_sequences, "test")
    questions = torch.from_numpy(episode.retrieval.inputs)

    def predictions(state: OmegaState) -> "np.ndarray[tuple[int, ...], np.dtype[np.int64]]":
        return model.answers(questions, state).argmax(-1).numpy()

    return memory_use(
        episode.retrieval.targets,
        memory=predictions(model.written(torch.from_numpy(episode.storage.inputs))),
        reset=predictions(model.empty(len(questions))),
        wrong=predictions(model.written(torch.from_numpy(episode.wrong().storage.inputs))),
    )


def detached_writes(settings: Recall, seed: int) -> Measured:
    """E6: both writes, with the controls of the differentiable one."""
    learned, learning = trained(settings, seed, detach_write=False)
    cut, cutting = trained(settings, seed, detach_write=True)
    use, without = memory_use_of(learned, settings, seed), memory_use_of(cut, settings, seed)
    figures = {
        "differentiable": use.memory.mean,
        "detached": without.memory.mean,
        "reset": use.reset.mean,
        "wrong": use.wrong.mean,
    }
    steps = [*range(settings.every, settings.steps, settings.every), settings.steps]
    series = {"step": steps, "differentiable: train accuracy": learning, "detached: train accuracy": cutting}
    return Measured(figures=figures, series=series)


DETACHED_WRITES = Experiment(
    name="detached-writes",
    what="E6: a memory that is written under no gradient recalls less than one that learns what to write",
    source="r3d91ll/Todd_Atlas, src/model/omega_memory.py (the detached write); a pilot of this project (the figures)",
    claims=(
        Claim(
            figure="differentiable",
            what="differentiable write: test accuracy after 400 steps",
            published="0.997 (pilot)",
            least=LEARNED,
        ),
        Claim(
            figure="detached",
            what="detached write: test accuracy after 400 steps",
            published="0.778 (pilot)",
            most=DETACHED,
        ),
        Claim(
            figure="reset",
            what="differentiable write, memory reset: test accuracy",
            published="0.014 (pilot)",
            most=CONTROL,
        ),
        Claim(
            figure="wrong",
            what="differentiable write, memory of another sequence: test accuracy",
            published="0.018 (pilot)",
            most=CONTROL,
        ),
    ),
    sizes={"small": Recall()},
    measure=detached_writes,
    plots=(
        Plot(
            title="Recall over training",
            caption="Accuracy on training batches: with a differentiable write, keys and values are learned too.",
            y_label="accuracy (fraction)",
            lines={f"{name} write": f"{name}: train accuracy" for name in ("differentiable", "detached")},
        ),
    ),
)

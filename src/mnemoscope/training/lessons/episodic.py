"""Episodes: the model stores, then answers from what it has stored, each with a loss of its own.

What it does: a step is one episode in every row (`mnemoscope.tasks.episodes`):

    storage     loss of the next tokens * storage_weight         memory as at the start, or as the last episode left it
    retrieval   loss of the answers     * retrieval_weight       memory as storage left it

How many texts are stored and how many questions asked in a step is the task's (`n_storage`, `n_retrieval`); those of
one phase are read in one call, which for a causal model is the same as one after the other. With `detach_write` the
memory is cut off between the phases: the answers then teach how to read, not what to write. Remedies that act
differently in the two phases (gate floors) are told which one it is.

What is logged: `loss` and the task's figure are those of the answers, as are `validation_loss` and its figure;
`storage_loss` and `retrieval_loss` are without weights, `storage_loss_weighted` and `retrieval_loss_weighted` are what
is minimised. An evaluation says besides what the memory is worth, over at least `eval_words` answers of rows that were
trained on (`train_`, the first batches of the run) and of held-out rows (`validation_`): accuracy with the memory
carried over, after a reset, and with the memory of another row; utility = memory - reset and specificity = memory -
wrong, paired, with their standard errors. An answer of several tokens (masked words of byte-pair encoding) counts where
all are right, given those before, which is where the model would write it; the task's own figure counts tokens.
`memory_used` is 1 iff the utility on held-out rows is above twice its
standard error.

Why: accuracy alone does not tell a memory from the weights; an episode can be asked with and without it.

Published effect: none with controls. The guide that episodes are from reports 90 % of masked words, on training texts.
Measured for the specification on cued recall: the answers' gradient through what was written gives .997 accuracy where
the cut memory gives .778; on masked words, with the guide's settings, the utility was within its standard error.

Known problems: a storage loss that can be lowered without the memory may keep it from ever being used; weigh the
answers more. With `between="carry"` old episodes crowd the memory, the evaluation, which begins empty, is of another
situation than training, and a memory whose inner steps are too large for its chunks overflows (`omega`, Known limits).
Remedies that look at one call with the whole sequence (reconstruction, prediction) refuse these steps.

Example: `Episodic(retrieval_weight=5.0)` on a task of masked words, with `GateFloor()` among the remedies.

Source: the Atlas tuning guide and what its code does (atlas specification, 1.3 to 1.7). Differs: the memory is written
with a gradient unless `detach_write`; unweighted losses; held-out rows; controls.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from mnemoscope.contracts import IGNORE, Batch
from mnemoscope.tasks import Split, task_rng
from mnemoscope.tasks.episodes import Episode, MemoryUse, memory_use, n_answers
from mnemoscope.tasks.episodes import Episodic as EpisodicTask
from mnemoscope.training.batches import VALIDATION_SEED, in_mode
from mnemoscope.training.lessons.carrying import States
from mnemoscope.training.lessons.lesson import Course, Lesson, LessonConfig
from mnemoscope.training.loss import is_scored
from mnemoscope.training.objective import objective_of
from mnemoscope.training.randomness import forked_rng
from mnemoscope.training.remedies import Computed
from mnemoscope.training.remedies.gate_floor import EpisodeMode

PARTS = ("storage", "retrieval")


@runtime_checkable
class FollowsEpisodes(Protocol):
    """A treatment that acts differently while an episode stores and while it retrieves."""

    def set_mode(self, mode: EpisodeMode) -> None:
        """What the next forward passes are; "normal" for neither."""
        ...


@dataclass(frozen=True, kw_only=True)
class Episodic(LessonConfig):
    """Settings.

    Args:
        storage_weight: of the storage loss in what is minimised, at least 0; 0 stores without a loss.
        retrieval_weight: of the answers' loss, positive.
        storage_loss: "task" for the targets that the task gives storage, which may be none, or "next_token" for the
            tokens that follow in each stored sequence.
        between: from episode to episode, "reset" the memory or "carry" it on.
        detach_write: cut the memory off between storage and retrieval, as the guide's code does.
        eval_words: answers of each split that the memory's worth is measured on, at least 2.
    """

    kind: Literal["episodic"] = "episodic"
    storage_weight: float = 1.0
    retrieval_weight: float = 1.0
    storage_loss: Literal["task", "next_token"] = "task"
    between: Literal["reset", "carry"] = "reset"
    detach_write: bool = False
    eval_words: int = 2000

    def __post_init__(self) -> None:
        if not 0 <= self.storage_weight < math.inf or not 0 < self.retrieval_weight < math.inf:
            raise ValueError(
                "Episodic.storage_weight, .retrieval_weight: must be finite, at least 0 and positive, got "
                f"{self.storage_weight} and {self.retrieval_weight}"
            )
        if self.eval_words < 2:
            raise ValueError(f"Episodic.eval_words: must be at least 2, got {self.eval_words}; the default is 2000")

    def begin(self, course: Course) -> "EpisodicLesson":
        """On models that are read piece by piece, and tasks of episodes.

        Raises:
            ValueError: a model or task that is not so; carried on, a state that grows with every token.
        """
        return EpisodicLesson(self, course)


class Phases(NamedTuple):
    """An episode as tensors on the model's device, shape (b, t) each."""

    storage: Int[Tensor, "b stored"]
    storage_targets: Int[Tensor, "b stored"]
    retrieval: Int[Tensor, "b asked"]
    retrieval_targets: Int[Tensor, "b asked"]


class EpisodicLesson(Lesson):
    """One episode a row and step; the memory that the last one left, where it is carried on."""

    def __init__(self, settings: Episodic, course: Course) -> None:
        super().__init__(course)
        if not isinstance(course.task, EpisodicTask):
            raise ValueError(
                f"Episodic: needs a task of episodes, got {type(course.task).__name__}; use masked_words or cued_recall"
            )
        self.settings, self.task = settings, course.task
        self.states = States(course.model, "Episodic")
        self._carried: Any = None
        if settings.between == "carry" and self.states.grows():
            raise ValueError(
                "Episodic.between: the model's state grows with every token (attention without a window keeps them "
                "all), and would never end; give attention a window, or use between='reset'"
            )

    def forward(self, step: int) -> Computed:
        """The weighted loss of both phases; its logits and targets are those of the joined sequence."""
        phases, before = self._phases(self._episode(self.course.config.seed, "train", step)), self._carried

        def run() -> tuple[Tensor, Tensor, Any]:
            start = self.states.start(len(phases.storage)) if before is None else before
            return self._run(phases, start)

        again = self.course.repeated(lambda: self._weighted(phases, *run()[:2]))
        storage, retrieval, after = run()
        if self.settings.between == "carry":
            self._carried = self.states.detached(after)
        return Computed(
            inputs=torch.cat([phases.storage, phases.retrieval], dim=1),
            targets=torch.cat([phases.storage_targets, phases.retrieval_targets], dim=1),
            logits=torch.cat([storage, retrieval], dim=1),
            loss=self._weighted(phases, storage, retrieval),
            again=again,
        )

    def figures(self, computed: Computed) -> dict[str, float]:
        """Loss and figure of the answers, and both phases' losses without and with their weights."""
        n, losses = self.task.reset_at, dict[str, float]()
        for name, part in zip(PARTS, (slice(0, n), slice(n, None)), strict=True):
            loss = self._loss(computed.logits[:, part].detach(), computed.targets[:, part])
            if loss is not None:
                losses |= {f"{name}_loss": loss.item(), f"{name}_loss_weighted": self._weight(name) * loss.item()}
        answers = replace(
            computed,
            logits=computed.logits[:, n:],
            targets=computed.targets[:, n:],
            loss=torch.tensor(losses["retrieval_loss"], dtype=torch.float64),
        )
        return self.course.figures(answers) | losses

    def evaluate(self) -> dict[str, float]:
        """Those of whole validation sequences, and what the memory is worth on rows of training and of validation."""
        found = super().evaluate()
        held_out = self.memory_use("validation")
        for split, use in (("train", self.memory_use("train")), ("validation", held_out)):
            found |= {f"{split}_{name}": value for name, value in _worth(use).items()}
        return found | {"memory_used": float(held_out.used)}

    @torch.no_grad()
    def memory_use(self, split: Split) -> MemoryUse:
        """What the memory is worth on a split, over at least `eval_words` answers; the model stays as it was."""
        targets, queries = list[NDArray[np.int64]](), list[NDArray[np.int64]]()
        answers: dict[str, list[NDArray[np.int64]]] = {"memory": [], "reset": [], "wrong": []}
        with in_mode(self.course.model, training=False), forked_rng(self.course.device):
            for episode in self._until_enough(split):
                targets.append(episode.retrieval.targets)
                queries.append(_queries(episode.retrieval))
                answers["memory"].append(self._answers(episode))
                answers["reset"].append(self._answers(episode, store=False))
                answers["wrong"].append(self._answers(episode.wrong()))
        memory, reset, wrong = (np.concatenate(answers[name]) for name in ("memory", "reset", "wrong"))
        asked, query = np.concatenate(targets), np.concatenate(queries)
        return memory_use(asked, memory=memory, reset=reset, wrong=wrong, query=query)

    def state(self) -> dict[str, Tensor]:
        """The memory that the last episode left, where it is carried on."""
        return {} if self._carried is None else self.states.packed("memory", self._carried)

    def set_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned.

        Raises:
            ValueError: the state of another lesson or model.
        """
        if bool(state) != (self.settings.between == "carry") or any(not name.startswith("memory.") for name in state):
            raise ValueError(
                f"EpisodicLesson: with between={self.settings.between!r} it needs a memory or none, got "
                f"{', '.join(state) or 'nothing'}; resume the run's own lesson"
            )
        self._carried = self.states.unpacked("memory", state) if state else None

    def _run(self, phases: Phases, start: Any) -> tuple[Tensor, Tensor, Any]:
        """Logits of both phases, and the memory after them."""
        with self._mode("storage"):
            storage, memory = self.states.read(phases.storage, start)
        if self.settings.detach_write:
            memory = self.states.detached(memory)
        with self._mode("retrieval"):
            retrieval, memory = self.states.read(phases.retrieval, memory)
        return storage, retrieval, memory

    @contextmanager
    def _mode(self, mode: EpisodeMode) -> Iterator[None]:
        """Tells the remedies for the block which phase it is."""
        told = [each for each in self.course.treatments if isinstance(each, FollowsEpisodes)]
        for each in told:
            each.set_mode(mode)
        try:
            yield
        finally:
            for each in told:
                each.set_mode("normal")

    def _weighted(self, phases: Phases, storage: Tensor, retrieval: Tensor) -> Float[Tensor, ""]:
        asked = self._loss(retrieval, phases.retrieval_targets)
        if asked is None:
            raise ValueError("Episodic: no answer of the batch is scored; use a larger batch")
        loss = self._weight("retrieval") * asked
        stored = self._loss(storage, phases.storage_targets) if self.settings.storage_weight else None
        return loss if stored is None else loss + self._weight("storage") * stored

    def _loss(self, logits: Float[Tensor, "b t vocab"], targets: Int[Tensor, "b t"]) -> Float[Tensor, ""] | None:
        """The mean loss of what is scored; None where nothing is."""
        loss: Callable[[Tensor, Tensor], Tensor] = objective_of(self.course.task, self.course.config.loss).loss
        return loss(logits, targets) if bool(is_scored(targets).any()) else None

    def _weight(self, phase: str) -> float:
        return self.settings.storage_weight if phase == "storage" else self.settings.retrieval_weight

    def _episode(self, seed: int, split: Split, step: int) -> Episode:
        return self.task.episode(task_rng(seed, split, step), self.course.config.batch_size, split)

    def _phases(self, episode: Episode) -> Phases:
        """An episode's tensors, with the storage targets that the settings ask for."""
        stored = episode.storage.targets
        if self.settings.storage_loss == "next_token":
            stored = np.concatenate([_following(part) for part in episode.storage_sequences()], axis=1)
        asked = episode.retrieval
        parts = (episode.storage.inputs, stored, asked.inputs, asked.targets)
        return Phases(*(self._tensor(part) for part in parts))

    def _tensor(self, values: NDArray[np.int64]) -> Int[Tensor, "b t"]:
        return torch.from_numpy(np.asarray(values, np.int64)).to(self.course.device)

    def _until_enough(self, split: Split) -> Iterator[Episode]:
        """Batches of episodes until there are `eval_words` answers; of training, those of the first steps."""
        config, n_words, index = self.course.config, 0, 0
        most = self.course.task.n_sequences(split)
        size = max(2, config.batch_size if most is None else min(config.batch_size, most))
        while n_words < self.settings.eval_words:
            rng = (
                task_rng(config.seed, split, index + 1) if split == "train" else task_rng(VALIDATION_SEED, split, index)
            )
            episode = self.task.episode(rng, size, split)
            n_new = n_answers(episode.retrieval.targets, _queries(episode.retrieval))
            if not n_new:
                raise ValueError(f"Episodic: no answer of a {split} batch is scored; use a larger batch")
            n_words, index = n_words + n_new, index + 1
            yield episode

    def _answers(self, episode: Episode, store: bool = True) -> NDArray[np.int64]:
        """The tokens held most probable in retrieval, shape (b, t), from an empty memory or after storage."""
        memory = self.states.start(episode.storage.size)
        if store:
            with self._mode("storage"):
                _, memory = self.states.read(self._tensor(episode.storage.inputs), memory)
        with self._mode("retrieval"):
            logits, _ = self.states.read(self._tensor(episode.retrieval.inputs), memory)
        return logits.argmax(dim=-1).cpu().numpy()


def _queries(asked: Batch) -> NDArray[np.int64]:
    """Which answer of its row each token belongs to; where the task does not say, each token is one."""
    return asked.about.get("query", np.broadcast_to(np.arange(asked.inputs.shape[1]), asked.inputs.shape))


def _following(sequence: Batch) -> NDArray[np.int64]:
    following = np.full_like(sequence.inputs, IGNORE)
    following[:, :-1] = sequence.inputs[:, 1:]
    return following


def _worth(use: MemoryUse) -> dict[str, float]:
    return {
        "accuracy_memory": use.memory.mean,
        "accuracy_reset": use.reset.mean,
        "accuracy_wrong": use.wrong.mean,
        "utility": use.utility.mean,
        "utility_se": use.utility.se,
        "specificity": use.specificity.mean,
        "specificity_se": use.specificity.se,
    }

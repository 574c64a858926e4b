"""What there is to learn: one file per task, whose docstring draws one tiny sequence.

May live here: tasks, their configs, and where their randomness and text come from. May import: NumPy, the standard
library, pydantic's ConfigDict and Field, `mnemoscope.contracts`; never torch, never a sibling room.

A task file holds a frozen config with a `kind`, and a final class with the shape of `Task`. Randomness comes in
through `batch`, from `task_rng`; a task keeps none. A new task is one file, and a line in `TASKS` and `TaskConfig`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from pydantic import Field

from mnemoscope.contracts.batch import Batch
from mnemoscope.tasks.associative_recall import AssociativeRecall, AssociativeRecallConfig
from mnemoscope.tasks.babi import Babi, BabiConfig
from mnemoscope.tasks.babi_files import BabiFiles, BabiFilesConfig
from mnemoscope.tasks.bigrams import Bigrams, BigramsConfig
from mnemoscope.tasks.compositional import Compositional, CompositionalConfig
from mnemoscope.tasks.copying import Copying, CopyingConfig
from mnemoscope.tasks.cued_recall import CuedRecall, CuedRecallConfig
from mnemoscope.tasks.demand_control import DemandControl, DemandControlConfig
from mnemoscope.tasks.forgetting import Forgetting, ForgettingConfig
from mnemoscope.tasks.in_context_path_star import InContextPathStar, InContextPathStarConfig
from mnemoscope.tasks.induction_heads import InductionHeads, InductionHeadsConfig
from mnemoscope.tasks.key_value import KeyValue, KeyValueConfig
from mnemoscope.tasks.mad_compression import MadCompression, MadCompressionConfig
from mnemoscope.tasks.mad_fuzzy_recall import MadFuzzyRecall, MadFuzzyRecallConfig
from mnemoscope.tasks.mad_memorisation import MadMemorisation, MadMemorisationConfig
from mnemoscope.tasks.mad_recall import MadNoisyRecallConfig, MadRecall, MadRecallConfig
from mnemoscope.tasks.mad_selective_copying import MadSelectiveCopying, MadSelectiveCopyingConfig
from mnemoscope.tasks.masked_words import MaskedWords, MaskedWordsConfig
from mnemoscope.tasks.modular_arithmetic import ModularArithmetic, ModularArithmeticConfig
from mnemoscope.tasks.mqar import Mqar, MqarConfig
from mnemoscope.tasks.needle import Needle, NeedleConfig
from mnemoscope.tasks.passkey import Passkey, PasskeyConfig
from mnemoscope.tasks.path_star import PathStar, PathStarConfig
from mnemoscope.tasks.planetary import Planetary, PlanetaryConfig
from mnemoscope.tasks.regbench import RegBench, RegBenchConfig
from mnemoscope.tasks.repeat_copy import RepeatCopy, RepeatCopyConfig
from mnemoscope.tasks.selective_copying import SelectiveCopying, SelectiveCopyingConfig
from mnemoscope.tasks.sequential_digits import SequentialDigits, SequentialDigitsConfig
from mnemoscope.tasks.sparse_parity import SparseParity, SparseParityConfig
from mnemoscope.tasks.stories import Stories, StoriesConfig
from mnemoscope.tasks.streams import SPLITS, Split, task_rng
from mnemoscope.tasks.text import Text, TextConfig
from mnemoscope.tasks.three_moons import ThreeMoons, ThreeMoonsConfig
from mnemoscope.tasks.tiny_graphs import TinyGraphs, TinyGraphsConfig

__all__ = [
    "SPLITS",
    "TASKS",
    "AssociativeRecall",
    "AssociativeRecallConfig",
    "Babi",
    "BabiConfig",
    "BabiFiles",
    "BabiFilesConfig",
    "Bigrams",
    "BigramsConfig",
    "Compositional",
    "CompositionalConfig",
    "Copying",
    "CopyingConfig",
    "CuedRecall",
    "CuedRecallConfig",
    "DemandControl",
    "DemandControlConfig",
    "Forgetting",
    "ForgettingConfig",
    "InContextPathStar",
    "InContextPathStarConfig",
    "InductionHeads",
    "InductionHeadsConfig",
    "KeyValue",
    "KeyValueConfig",
    "MadCompression",
    "MadCompressionConfig",
    "MadFuzzyRecall",
    "MadFuzzyRecallConfig",
    "MadMemorisation",
    "MadMemorisationConfig",
    "MadNoisyRecallConfig",
    "MadRecall",
    "MadRecallConfig",
    "MadSelectiveCopying",
    "MadSelectiveCopyingConfig",
    "MaskedWords",
    "MaskedWordsConfig",
    "MeasuredInBytes",
    "ModularArithmetic",
    "ModularArithmeticConfig",
    "Mqar",
    "MqarConfig",
    "Needle",
    "NeedleConfig",
    "Passkey",
    "PasskeyConfig",
    "PathStar",
    "PathStarConfig",
    "Planetary",
    "PlanetaryConfig",
    "RegBench",
    "RegBenchConfig",
    "RepeatCopy",
    "RepeatCopyConfig",
    "SelectiveCopying",
    "SelectiveCopyingConfig",
    "SequentialDigits",
    "SequentialDigitsConfig",
    "SparseParity",
    "SparseParityConfig",
    "Split",
    "Stories",
    "StoriesConfig",
    "Task",
    "TaskConfig",
    "Text",
    "TextConfig",
    "ThreeMoons",
    "ThreeMoonsConfig",
    "TinyGraphs",
    "TinyGraphsConfig",
    "build_task",
    "task_rng",
]


@runtime_checkable
class Task(Protocol):
    """What training and examination rely on."""

    @property
    def vocab_size(self) -> int:
        """Inputs and scored targets lie in [0, vocab_size); 0 for tasks of vectors, which have no tokens."""
        ...

    @property
    def length(self) -> int:
        """Tokens per sequence."""
        ...

    @property
    def unit(self) -> str:
        """What is shown beside the loss: "accuracy", "bits per byte", "bit errors" or "mean absolute error"."""
        ...

    @property
    def chance_loss(self) -> float | None:
        """Nats per scored token of a predictor without context; None where there is no such number."""
        ...

    @property
    def memoryless_loss(self) -> float | None:
        """Nats per scored token of the best predictor that sees the present token alone; None where nobody knows.

        The demand control: no memory can be worth more than this less `floor_loss`.
        """
        ...

    @property
    def floor_loss(self) -> float | None:
        """Nats per scored token that no predictor can beat in expectation; None where nobody knows."""
        ...

    def words(self, tokens: Sequence[int]) -> list[str]:
        """The tokens as people read them; as many words as tokens."""
        ...

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        """Draw `size` sequences of a split: int64 arrays of shape (size, length) that `rng` determines."""
        ...

    def n_sequences(self, split: Split) -> int | None:
        """The most sequences that one batch of a split may have; None where there is no end to them."""
        ...

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step, for the manifest of a run.

        `tokeniser_sha256`, where there is one, tells what the tokens mean: a model goes on with no other.
        """
        ...


@runtime_checkable
class MeasuredInBytes(Protocol):
    """A task with the unit "bits per byte" whose tokens need not be bytes."""

    def bits_per_byte(self, loss: float, split: Split) -> float:
        """The mean loss over targets of a split, in nats per token, as bits per byte of its text."""
        ...


TaskConfig: TypeAlias = Annotated[
    AssociativeRecallConfig
    | BabiConfig
    | BabiFilesConfig
    | BigramsConfig
    | CompositionalConfig
    | CopyingConfig
    | CuedRecallConfig
    | DemandControlConfig
    | ForgettingConfig
    | InContextPathStarConfig
    | InductionHeadsConfig
    | KeyValueConfig
    | MadCompressionConfig
    | MadFuzzyRecallConfig
    | MadMemorisationConfig
    | MadNoisyRecallConfig
    | MadRecallConfig
    | MadSelectiveCopyingConfig
    | MaskedWordsConfig
    | ModularArithmeticConfig
    | MqarConfig
    | NeedleConfig
    | PasskeyConfig
    | PathStarConfig
    | PlanetaryConfig
    | RegBenchConfig
    | RepeatCopyConfig
    | SelectiveCopyingConfig
    | SequentialDigitsConfig
    | SparseParityConfig
    | StoriesConfig
    | TextConfig
    | ThreeMoonsConfig
    | TinyGraphsConfig,
    Field(discriminator="kind"),
]
"""The config of any task; `kind` says of which."""

TASKS: Mapping[str, Callable[[Any], Task]] = {
    "associative_recall": AssociativeRecall,
    "babi": Babi,
    "babi_files": BabiFiles,
    "bigrams": Bigrams,
    "compositional_mqar": Compositional,
    "copy": Copying,
    "cued_recall": CuedRecall,
    "demand_control": DemandControl,
    "forgetting_mqar": Forgetting,
    "in_context_path_star": InContextPathStar,
    "induction_heads": InductionHeads,
    "key_value": KeyValue,
    "mad_compression": MadCompression,
    "mad_fuzzy_recall": MadFuzzyRecall,
    "mad_memorisation": MadMemorisation,
    "mad_noisy_recall": MadRecall,
    "mad_recall": MadRecall,
    "mad_selective_copying": MadSelectiveCopying,
    "masked_words": MaskedWords,
    "modular_arithmetic": ModularArithmetic,
    "mqar": Mqar,
    "needle": Needle,
    "passkey": Passkey,
    "path_star": PathStar,
    "planetary": Planetary,
    "regbench": RegBench,
    "repeat_copy": RepeatCopy,
    "selective_copying": SelectiveCopying,
    "sequential_digits": SequentialDigits,
    "sparse_parity": SparseParity,
    "stories": Stories,
    "text": Text,
    "three_moons": ThreeMoons,
    "tiny_graphs": TinyGraphs,
}
"""The class of every kind of task; it takes the config of its kind."""


def build_task(config: TaskConfig) -> Task:
    """The task that a config describes.

    Raises:
        ValueError: the config's data cannot be had (a corpus that is missing, too short or not text).
    """
    return TASKS[config.kind](config)

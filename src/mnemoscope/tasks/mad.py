"""The MAD suite: its published settings, how it is trained, and its score.

    base setting of each task        one change at a time                               settings
    mad_recall                       vocabulary, length, training sequences                   11
    mad_noisy_recall                 the same, and the share of noise                         14
    mad_fuzzy_recall                 as mad_recall                                            11
    mad_selective_copying            the same with two lengths, and tokens to copy            13
    mad_memorisation                 vocabulary                                                6
    mad_compression                  as mad_recall                                            11

A setting is trained once for each learning rate and weight decay of the grid, and its best run counts. The MAD score of
a task is the mean of that accuracy over its settings.

Source: Poli, Thomas et al., "Mechanistic Design and Scaling of Hybrid Architectures" (2024, arXiv 2403.17844);
athms/mad-lab, `configs/tasks`, `mad/configs.py`, `mad/analysis.py`, commit 0f49a45. What differs is told by the tasks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from mnemoscope.contracts.batch import IGNORE
from mnemoscope.tasks.mad_compression import MadCompressionConfig
from mnemoscope.tasks.mad_fuzzy_recall import MadFuzzyRecallConfig
from mnemoscope.tasks.mad_memorisation import MadMemorisationConfig
from mnemoscope.tasks.mad_recall import MadNoisyRecallConfig, MadRecallConfig
from mnemoscope.tasks.mad_selective_copying import MadSelectiveCopyingConfig

MadConfig: TypeAlias = (
    MadRecallConfig
    | MadNoisyRecallConfig
    | MadFuzzyRecallConfig
    | MadSelectiveCopyingConfig
    | MadMemorisationConfig
    | MadCompressionConfig
)
"""The config of any task of the suite."""

_VOCABULARIES, _LENGTHS, _TRAINING = (32, 64, 128), (256, 512, 1024), (6400, 3200, 1600, 800)

SWEEPS: tuple[tuple[MadConfig, Mapping[str, Sequence[int | float]]], ...] = (
    (MadRecallConfig(), {"vocab_size": _VOCABULARIES, "length": _LENGTHS, "n_train": _TRAINING}),
    (
        MadNoisyRecallConfig(),
        # The 16 tokens of noise come on top of 32, 64 and 128.
        {"vocab_size": (48, 80, 144), "length": _LENGTHS, "n_train": _TRAINING, "frac_noise": (0.4, 0.6, 0.8)},
    ),
    (MadFuzzyRecallConfig(), {"vocab_size": _VOCABULARIES, "length": _LENGTHS, "n_train": _TRAINING}),
    (
        MadSelectiveCopyingConfig(),
        {"vocab_size": _VOCABULARIES, "length": (512, 1024), "n_train": _TRAINING, "n_tokens": (32, 64, 96)},
    ),
    (MadMemorisationConfig(), {"vocab_size": (512, 1024, 2048, 4096, 8192)}),
    (
        MadCompressionConfig(layout="autoencoder", length=32),
        {"vocab_size": _VOCABULARIES, "length": (64, 128, 256), "n_train": _TRAINING},
    ),
)
"""The base setting of every task, and the values that each parameter takes in turn."""

N_TEST = 1280
"""Test sequences of every setting."""

BATCH_SIZE, EPOCHS = 128, 200
LEARNING_RATES, WEIGHT_DECAYS = (1e-4, 5e-4, 1e-3), (0.0, 0.1)
LAST_LEARNING_RATE = 1e-6
"""AdamW on batches of 128 sequences, 200 times as many as the training split has, with a cosine from each learning rate
down to this one."""

D_MODEL, N_LAYERS = 128, 4
"""Width of the models, and their layers: mixer, MLP, mixer, MLP."""


def mad_settings() -> tuple[MadConfig, ...]:
    """Every setting of the suite: the base of each task, then each change to it."""
    settings: list[MadConfig] = []
    for base, changes in SWEEPS:
        settings.append(base)
        for name, values in changes.items():
            settings.extend(replace(base, **{name: value}) for value in values)
    return tuple(settings)


def mad_scores(accuracies: Mapping[MadConfig, Sequence[float]]) -> dict[str, float]:
    """The MAD score of every task: the mean over its settings of the accuracy of the best run.

    Args:
        accuracies: for each setting those of its runs, between 0 and 1.

    Returns:
        the score by kind of task, for the kinds that occur.

    Raises:
        ValueError: a setting without a run, or an accuracy out of range.
    """
    best: dict[str, list[float]] = {}
    for config, runs in accuracies.items():
        if not runs or not all(0 <= accuracy <= 1 for accuracy in runs):
            raise ValueError(
                f"mad_scores: every setting needs at least one run, and accuracies between 0 and 1, got {list(runs)} "
                f"for {config}"
            )
        best.setdefault(config.kind, []).append(max(runs))
    return {kind: float(np.mean(settings)) for kind, settings in best.items()}


def macro_accuracy(predictions: Any, targets: Any) -> float:
    """The accuracy of MAD: the mean over tokens of the share of their occurrences that is predicted right.

    As published, a token that is predicted but never is the target counts with share 0. It differs from the share of
    right answers where tokens are not equally frequent.

    Args:
        predictions: tokens of shape (b, t), of a whole test split.
        targets: tokens of the same shape, `IGNORE` where nothing is scored.

    Raises:
        ValueError: nothing is scored.
    """
    scored = np.asarray(targets) != IGNORE
    predicted, wanted = np.asarray(predictions)[scored], np.asarray(targets)[scored]
    if not wanted.size:
        raise ValueError("macro_accuracy: needs at least one scored target, got none")
    tokens = np.union1d(predicted, wanted)
    hits = np.bincount(np.searchsorted(tokens, wanted), weights=predicted == wanted, minlength=tokens.size)
    occurrences = np.bincount(np.searchsorted(tokens, wanted), minlength=tokens.size)
    return float((hits / np.maximum(occurrences, 1)).mean())

"""How well RegBench is done: accuracy and distances to the true distributions, and n-gram baselines.

    in a state with k edges       accuracy    tvd
    the truth                     1           0
    all on one of its letters     1           1 - 1/k
    all on another letter         0           1

`accuracy`, `tvd` and `kl` compare predictions with the exact distributions of `mnemoscope.tasks.regbench.RegBench.draw`
at the positions of `visited` or `inside_strings`. `ngram_predictions` is what counting within the sequence reaches. A
predictor that is right but sure has an accuracy of 1 and still a TVD of about .38, so the two must be read together.

Source: Akyürek, Wang, Kim, Andreas, "In-Context Language Learning" (2024); berlino/seq_icl, commit 9b9223d, `dfa.py`
and `ngram.py`.
"""

import numpy as np
from numpy.typing import NDArray

from mnemoscope.tasks.automata import PAD, SEPARATOR

SMOOTHING = 1e-7


def visited(truth: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The positions of the published plots: after every letter and separator, those before a separator too."""
    return truth.sum(-1) > 0


def inside_strings(truth: NDArray[np.float64], inputs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The positions of the published training log: `visited`, without those whose next input is a separator."""
    next_is_letter = np.ones(inputs.shape, dtype=np.bool_)
    next_is_letter[:, :-1] = inputs[:, 1:] != SEPARATOR
    return visited(truth) & next_is_letter


def accuracy(predicted: NDArray[np.float64], truth: NDArray[np.float64], at: NDArray[np.bool_]) -> float:
    """How often the greedy token is one that the automaton may emit.

    Args:
        predicted: probabilities or logits, shape (b, t, 20).
        truth: from `RegBench.draw`.
        at: the positions that count, shape (b, t): `visited` or `inside_strings`.

    Raises:
        ValueError: shapes that do not fit, or no position that counts.
    """
    _check_shapes(predicted, truth, at)
    greedy = predicted[at].argmax(-1)
    return float((truth[at][np.arange(greedy.size), greedy] > 0).mean())


def tvd(predicted: NDArray[np.float64], truth: NDArray[np.float64], at: NDArray[np.bool_]) -> float:
    """Total variation distance: half the sum of absolute differences of probabilities, mean over positions.

    The published training log leaves out the half; the published plots have it.

    Args:
        predicted: probabilities, not logits, shape (b, t, 20).
        truth: from `RegBench.draw`.
        at: the positions that count, shape (b, t): `visited` or `inside_strings`.

    Raises:
        ValueError: shapes that do not fit, no position that counts, or numbers that are no probabilities.
    """
    _check_probabilities(predicted, truth, at)
    return float(np.abs(predicted[at] - truth[at]).sum(-1).mean() / 2)


def kl(predicted: NDArray[np.float64], truth: NDArray[np.float64], at: NDArray[np.bool_]) -> float:
    """Nats that predictions cost beyond the truth, mean over positions; 1e-7 is added within both logarithms.

    Args:
        predicted: probabilities, not logits, shape (b, t, 20).
        truth: from `RegBench.draw`.
        at: the positions that count, shape (b, t): `visited` or `inside_strings`.

    Raises:
        ValueError: shapes that do not fit, no position that counts, or numbers that are no probabilities.
    """
    _check_probabilities(predicted, truth, at)
    p, q = truth[at], predicted[at]
    return float((p * (np.log(p + SMOOTHING) - np.log(q + SMOOTHING))).sum(-1).mean())


def ngram_predictions(inputs: NDArray[np.int64], order: int) -> NDArray[np.float64]:
    """Next-token probabilities by counting n-grams in what was read so far of each sequence, with back-off.

    A string is counted with order - 1 pads before it. A letter that has followed the last order - 1 tokens gets its
    share of all their occurrences, the present one included; the letters known otherwise divide the rest in
    proportion to the prediction of the next lower order. Order 1 is the share among all tokens, pads included.

    Args:
        inputs: from a batch, shape (b, t).
        order: n, 2 or 3 in the published baselines; at least 1.

    Returns:
        shape (b, t, 20), 0 at padding. Rows may sum to less than 1: where all known letters have followed, nobody
        gets the rest.
    """
    rows, base = np.arange(len(inputs)), SEPARATOR
    counts = [np.zeros((len(inputs), base**n)) for n in range(1, order + 1)]
    context = np.zeros(len(inputs), dtype=np.int64)
    predicted = np.zeros((*inputs.shape, SEPARATOR + 1))
    _count_pads(counts, np.ones(len(inputs), dtype=np.bool_))
    for t in range(inputs.shape[1]):
        letter = (inputs[:, t] != SEPARATOR) & (inputs[:, t] != PAD)
        for n, table in enumerate(counts):
            table[rows[letter], (context % base**n * base + inputs[:, t])[letter]] += 1
        context = np.where(letter, (context * base + inputs[:, t]) % base ** (order - 1), 0)
        _count_pads(counts, inputs[:, t] == SEPARATOR)
        predicted[:, t, 1:SEPARATOR] = _backed_off(counts, context)
    predicted[inputs == PAD] = 0
    return predicted


def _check_shapes(predicted: NDArray[np.float64], truth: NDArray[np.float64], at: NDArray[np.bool_]) -> None:
    if not (predicted.shape == truth.shape == (*at.shape, SEPARATOR + 1) and at.any()):
        raise ValueError(
            f"regbench: predicted and truth must have the shape {(*at.shape, SEPARATOR + 1)} of at and "
            f"{SEPARATOR + 1} tokens, and at must be true somewhere, got {predicted.shape}, {truth.shape} and "
            f"{int(at.sum())} positions"
        )


def _check_probabilities(predicted: NDArray[np.float64], truth: NDArray[np.float64], at: NDArray[np.bool_]) -> None:
    _check_shapes(predicted, truth, at)
    lowest, most = float(predicted[at].min()), float(predicted[at].sum(-1).max())
    # Less than 1 in all is allowed: n-gram predictions may keep some back.
    if not (lowest >= 0 and most <= 1.01):
        raise ValueError(
            f"regbench: predicted must be probabilities, at least 0 and at most 1 in all, got {lowest:.3g} at the "
            f"lowest and {most:.3g} in all; take the softmax of logits"
        )


def _count_pads(counts: list[NDArray[np.float64]], starts: NDArray[np.bool_]) -> None:
    for n, table in enumerate(counts, start=1):
        table[starts, 0] += len(counts) - n


def _backed_off(counts: list[NDArray[np.float64]], context: NDArray[np.int64]) -> NDArray[np.float64]:
    rows, letters = np.arange(len(context))[:, None], np.arange(1, SEPARATOR)
    found = counts[0][:, 1:] / np.maximum(counts[0].sum(1, keepdims=True), 1)
    for n in range(1, len(counts)):
        place = (context % SEPARATOR**n)[:, None]
        direct = counts[n][rows, place * SEPARATOR + letters] / np.maximum(counts[n - 1][rows, place], 1)
        lower = np.where(direct > 0, 0.0, found)
        mass = lower.sum(1, keepdims=True)
        share = np.divide(1 - direct.sum(1, keepdims=True), mass, where=mass > 0, out=np.zeros_like(mass))
        found = direct + lower * share
    return found

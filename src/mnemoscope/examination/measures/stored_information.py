"""Stored information: whether the answer can be told from what a memory returns (D15).

What it says: two linear probes of the answer are fitted, one on the site's own input at that position, one on the input
and the read; the gain is what the second is better, in nats per answer, on sequences held out from both. Input that
already holds the answer leaves nothing to gain. How to read it: with a verdict of "not missed", a gain says *stored and
not used*, no gain says *not stored*. Compare with the gain on reads of other sequences, which is 0 up to overfitting.
Traps: a probe finds structure in untrained memories too, so that the verdict takes only what it gains above the reads
of a copy with fresh parameters (`examination/protocol/controls.py`) as stored; a linear probe misses what only a deep
one could tell; answers are cut to the 128 most frequent; inputs wider than 128 are cut to one score for each answer, by
ridge regression on half of the sequences that fit; with few sequences or many answers the gain falls below what is
stored, since the wider probe fits more noise. Cost: one pass over the calibration sequences and some dozen small
logistic regressions a site, about a second, and as much again for the untrained copy; for wide inputs three eigenvalue
problems with as many rows as half of those that fit.

Source: Alain & Bengio 2016 (arXiv 1610.01644); control by shuffling after Hewitt & Liang 2019 (arXiv 1909.03368).
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from mnemoscope.contracts.precision import in_float64

MAX_FEATURES = 128
MAX_ANSWERS = 128
PENALTIES = (1e1, 1.0, 1e-1, 1e-2, 1e-3)
RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3)
STEPS = 40
FEWEST_FITTED = 6


class Gains(NamedTuple):
    """Nats per answer that a read adds for each held-out answer, and what another sequence's read adds."""

    gain: Float[Tensor, "n"]
    shuffled: Float[Tensor, "n"]
    sequence: Int[Tensor, "n"]
    n_answers: int


def stored_information(
    read: Float[Tensor, "n r"],
    own_input: Float[Tensor, "n d"],
    answers: Int[Tensor, "n"],
    sequence: Int[Tensor, "n"],
    generator: torch.Generator,
) -> Gains | None:
    """What a linear probe of the answer gains from the read over the site's own input.

    Args:
        read: what the memory returned at positions with an answer.
        own_input: what it was given there.
        answers: classes, such as tokens.
        sequence: which sequence each row comes from: those with an index of 2 modulo 3 are held out.
        generator: of the shuffles.

    Returns:
        gains on the held-out rows; None for fewer than two answers, or fewer than 6 sequences to fit and 2 to judge.
    """
    classes, place = _most_frequent(answers)
    kept = place >= 0
    read, own_input, place, sequence = read[kept], own_input[kept], place[kept], sequence[kept]
    held_out = sequence % 3 == 2
    n_sequences = [len(sequence[rows].unique()) for rows in (held_out, ~held_out)]
    if len(classes) < 2 or n_sequences[0] < 2 or n_sequences[1] < FEWEST_FITTED:
        return None
    wide = max(own_input.shape[1], read.shape[1]) > MAX_FEATURES
    scoring = _one_in(2, sequence, ~held_out) if wide else torch.zeros_like(held_out)
    task = _Task(place, held_out, scoring, sequence, len(classes))
    alone, *both = _features(own_input, read, task, generator)
    base = _probe(alone, task)
    gain, shuffled = (base - _probe(features, task) for features in both)
    return Gains(gain, shuffled, sequence[held_out], len(classes))


class _Task(NamedTuple):
    """Which answer each row has, which rows judge, and which find the scores that wide inputs are cut to."""

    place: Int[Tensor, "n"]
    held_out: Bool[Tensor, "n"]
    scoring: Bool[Tensor, "n"]
    sequence: Int[Tensor, "n"]
    n_classes: int


def _most_frequent(answers: Int[Tensor, "n"]) -> tuple[Tensor, Tensor]:
    """The commonest answers, and the index of each row's answer among them (-1 for the others)."""
    classes, inverse, counts = answers.unique(return_inverse=True, return_counts=True)
    order = counts.argsort(descending=True, stable=True)[:MAX_ANSWERS]
    place = torch.full((len(classes),), -1)
    place[order] = torch.arange(len(order))
    return classes[order], place[inverse]


def _features(
    own: Float[Tensor, "n d"], read: Float[Tensor, "n r"], task: _Task, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Of the input alone, of input and read, and of input and another sequence's read."""
    own, read = _standardised(own, task.held_out), _standardised(read, task.held_out)
    swapped = read[_of_another(task, generator)]
    if not bool(task.scoring.any()):
        return own, torch.cat([own, read], 1), torch.cat([own, swapped], 1)
    alone = _scores(own, task)
    with_read, with_other = (torch.cat([alone, _scores(torch.cat([own, x], 1), task)], 1) for x in (read, swapped))
    return alone, with_read, with_other


def _standardised(x: Float[Tensor, "n d"], without: Bool[Tensor, "n"]) -> Float[Tensor, "n d"]:
    """By the mean and deviation of the other rows."""
    x = in_float64(x)
    mean, deviation = x[~without].mean(0), x[~without].std(0)
    return (x - mean) / torch.where(deviation > 1e-8 * (1 + mean.abs()), deviation, 1.0)


def _scores(x: Float[Tensor, "n d"], task: _Task) -> Float[Tensor, "n c"]:
    """One score for each answer, by ridge regression on rows that no probe is fitted on.

    A random projection in place of it would show another part of the input through the read than through the input, so
    that a read which only copies its input would seem to add to it; scores of the rows themselves, or of each without
    itself, would give their answers away.
    """
    learn, judge = task.scoring, ~(task.scoring | task.held_out)
    wanted = F.one_hot(task.place, task.n_classes).to(x.dtype)
    wanted = wanted - wanted[learn].mean(0)
    values, vectors = torch.linalg.eigh(x[learn] @ x[learn].T)
    values, turned, likeness = values.clamp_min(0), vectors.T @ wanted[learn], x @ x[learn].T @ vectors
    ridges = [float(values.mean()) * share + 1e-12 for share in RIDGES]
    found = [likeness @ (turned / (values + ridge).unsqueeze(1)) for ridge in ridges]
    best = min(found, key=lambda scores: float((scores - wanted)[judge].square().sum()))
    return _standardised(best, ~judge)


def _one_in(n: int, sequence: Int[Tensor, "n"], among: Bool[Tensor, "n"]) -> Bool[Tensor, "n"]:
    """Marks the rows of every nth sequence among some rows."""
    _, inverse = sequence[among].unique(return_inverse=True)
    found = torch.zeros_like(among)
    found[among] = inverse % n == 0
    return found


def _of_another(task: _Task, generator: torch.Generator) -> Int[Tensor, "n"]:
    """For each row the index of a row of another sequence, held-out rows among themselves."""
    found = torch.empty_like(task.sequence)
    for part in (task.held_out, ~task.held_out):
        rows = part.nonzero().flatten()
        _, inverse, counts = task.sequence[rows].unique(return_inverse=True, return_counts=True)
        by_sequence = rows[torch.randperm(len(counts), generator=generator)[inverse].argsort(stable=True)]
        found[by_sequence] = by_sequence.roll(int(counts.max()))
    return found


def _probe(x: Float[Tensor, "n d"], task: _Task) -> Float[Tensor, "m"]:
    """Nats of each held-out row under ridge-penalised logistic regression; a third of the rest choose the penalty."""
    # Whole sequences choose, since the answers of one sequence have much in common.
    fit = ~(task.held_out | task.scoring)
    choose = _one_in(3, task.sequence, fit)
    learn = fit & ~choose
    losses = [(_nats(x, task, learn, choose, penalty).mean(), penalty) for penalty in PENALTIES]
    best = min(losses, key=lambda found: float(found[0]))[1]
    return _nats(x, task, fit, task.held_out, best)


@torch.enable_grad()
def _nats(x: Float[Tensor, "n d"], task: _Task, learn: Tensor, judge: Tensor, penalty: float) -> Float[Tensor, "j"]:
    weight = torch.zeros(x.shape[1], task.n_classes, dtype=x.dtype, requires_grad=True)
    bias = torch.zeros(task.n_classes, dtype=x.dtype, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=STEPS, history_size=10, line_search_fn="strong_wolfe")
    features, classes = x[learn], task.place[learn]

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = F.cross_entropy(features @ weight + bias, classes) + penalty * weight.square().sum() / 2
        loss.backward()
        return loss

    optimiser.step(closure)
    with torch.no_grad():
        return F.cross_entropy(x[judge] @ weight + bias, task.place[judge], reduction="none")

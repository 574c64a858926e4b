"""A sampled sequence as lines of text: tokens with the targets below them, or vectors.

Of a long sequence only those lines are kept that hold its ends, what is scored, or what the answers need.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnemoscope.cli.terminal import filled

MOST_LINES = 16
"""Lines of inputs that are printed whole; of longer sequences some are left out."""

MOST_KEPT = 24
"""Lines of inputs that are printed of a long sequence."""

_LABEL = 11
_NUMBER = 7
_FIRST, _LAST = 4, 2
"""Positions of a sequence of vectors that are printed, at its beginning and of those last scored."""


def sampled(task: Any, seed: int, width: int) -> list[str]:
    """One training sequence of a task, in lines of at most `width` columns.

    Args:
        task: any `mnemoscope.tasks.Task`.
        seed: of the sequence.
        width: columns of the terminal.
    """
    from mnemoscope.tasks import task_rng

    batch = task.batch(task_rng(seed, "train", 0), 1, "train")
    if task.vocab_size == 0:
        return _vectors(batch.inputs[0], batch.targets[0], seed, width)
    head = f"one sequence of {task.length} tokens, vocabulary {task.vocab_size}, seed {seed}"
    scored = np.flatnonzero(batch.targets[0] >= 0)
    # What follows the last answer is padding, or is not asked.
    end = int(scored[-1]) + 1
    inputs = task.words(batch.inputs[0].tolist())[:end]
    answers = dict(zip(scored.tolist(), task.words(batch.targets[0, scored].tolist()), strict=True))
    if _is_next_token(batch.inputs[0], batch.targets[0], scored):
        return [head, *_text(inputs, answers, width)]
    return [head, *_pairs(inputs, answers, _needed(batch.about, scored), width)]


def _is_next_token(inputs: NDArray[np.int64], targets: NDArray[np.int64], scored: NDArray[np.int64]) -> bool:
    """Whether most positions are scored, each against the next input, so that targets need no line of their own."""
    mostly = scored.size > 1 and 2 * scored.size > scored[-1] + 1
    return bool(mostly and np.array_equal(targets[scored[:-1]], inputs[scored[:-1] + 1]))


def _needed(about: Any, scored: NDArray[np.int64]) -> set[int]:
    """The positions of the newest tokens that the answers need."""
    if "distance" not in about:
        return set()
    distance = about["distance"][0, scored]
    return set((scored - distance)[distance >= 0].tolist())


def _text(inputs: list[str], answers: dict[int, str], width: int) -> list[str]:
    lines = filled("  " + " ".join(inputs), width, 2).splitlines()
    last = f"  {len(answers)} positions are scored against what comes next, the last against {answers[len(inputs) - 1]}"
    if len(lines) > MOST_LINES:
        half = MOST_LINES // 2
        lines = [*lines[:half], f"  ... {len(lines) - MOST_LINES} lines ...", *lines[-half:]]
    return [*lines, *filled(last, width, 2).splitlines()]


def _pairs(inputs: list[str], answers: dict[int, str], needed: set[int], width: int) -> list[str]:
    """Lines of inputs, and below those that hold scored positions a line of targets."""
    cells = [max(len(word), len(answers.get(at, ""))) for at, word in enumerate(inputs)]
    lines = _broken(cells, width - _LABEL)
    wanted = {*answers, *needed, 0, len(inputs) - 1}
    kept = [i for i, line in enumerate(lines) if len(lines) <= MOST_LINES or wanted.intersection(line)]
    kept = sorted({*kept, *(i + 1 for i, after in itertools.pairwise(kept) if after == i + 2)})
    if len(kept) > MOST_KEPT:
        kept = [*kept[: MOST_KEPT // 2], *kept[-MOST_KEPT // 2 :]]
    printed, before = [], -1
    for i in kept:
        if i > before + 1:
            printed.append(f"  ... {sum(len(line) for line in lines[before + 1 : i])} tokens ...")
        printed.append("  inputs   " + " ".join(inputs[at].rjust(cells[at]) for at in lines[i]))
        if any(at in answers for at in lines[i]):
            printed.append("  targets  " + " ".join(answers.get(at, "").rjust(cells[at]) for at in lines[i]).rstrip())
        before = i
    return printed


def _broken(cells: Sequence[int], width: int) -> list[range]:
    """Which cells stand in each line, one space between them."""
    lines, start, used = [], 0, 0
    for at, cell in enumerate(cells):
        if used + cell > width and at > start:
            lines.append(range(start, at))
            start, used = at, 0
        used += cell + 1
    return [*lines, range(start, len(cells))]


def _vectors(inputs: NDArray[Any], targets: NDArray[Any], seed: int, width: int) -> list[str]:
    head = f"one sequence of {len(inputs)} vectors of {inputs.shape[1]} numbers, seed {seed}"
    scored = np.flatnonzero(~np.isnan(targets).all(1))
    if 2 * sum(map(_is_bits, inputs.T)) > inputs.shape[1] and all(map(_is_bits, targets.T)):
        end = int(scored[-1]) + 1
        legend = "  time runs to the right; # is 1, . is 0, blank is not scored"
        return [head, legend, *_raster("inputs", inputs[:end], width), "", *_raster("targets", targets[:end], width)]
    shown = sorted({*range(min(_FIRST, len(inputs))), *scored[-_LAST:].tolist()})
    lines = [head]
    for name, vectors in (("inputs", inputs), ("targets", targets)):
        before = -1
        for position in shown:
            if position > before + 1:
                lines.append(f"  {'':<8} ...")
            label = name if position == 0 else ""
            lines.append(f"  {label:<8}{position:>5} {_numbers(vectors[position], width - 16)}".rstrip())
            before = position
    return lines


def _numbers(vector: NDArray[Any], width: int) -> str:
    most = max(2, width // _NUMBER)
    cells = [" " * (_NUMBER - 1) + "." if np.isnan(number) else f"{number:{_NUMBER}.2f}" for number in vector]
    if len(cells) > most:
        half = (most - 1) // 2
        cells = [*cells[:half], "...".rjust(_NUMBER), *cells[len(cells) - half :]]
    return "".join(cells)


def _is_bits(series: NDArray[Any]) -> bool:
    return bool(np.isin(series[~np.isnan(series)], (0, 1)).all())


def _raster(name: str, vectors: NDArray[Any], width: int) -> list[str]:
    """A line for every channel, the middle of time left out where it does not fit; x stands for numbers of its own."""
    room = width - _LABEL
    half = (room - 5) // 2
    lines = []
    for channel, series in enumerate(vectors.T):
        others = sorted({f"{number:.2f}" for number in series if number not in (0, 1) and not np.isnan(number)})
        marks = "".join(" " if np.isnan(number) else {0: ".", 1: "#"}.get(number, "x") for number in series)
        if len(marks) > room:
            marks = f"{marks[:half]} ... {marks[-half:]}"
        lines.append(f"  {name if channel == 0 else '':<9}{marks}".rstrip())
        if others:
            lines.append(f"  {'':<9}(x is {', '.join(others[:4])})")
    return lines

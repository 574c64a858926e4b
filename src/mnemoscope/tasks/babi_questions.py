"""What the stories of `mnemoscope.tasks.babi` are asked, and the answers.

Whom and what a question is about is uniform over all of which the story says enough.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mnemoscope.tasks.babi_story import (
    COUNTED,
    COUNTING,
    INVERSE,
    LISTED,
    LISTS,
    ONE,
    QUESTIONS,
    RELATIONS,
    THREE,
    TRUTH,
    TWO,
    YES_NO,
    question_sentences,
)
from mnemoscope.tasks.babi_world import ANYWHERE, MAX_CARRIED, PLACE_OF, Facts, Past, Size, seen_from_either

_LAST = 1 << 62
"""Sorts behind everything."""


class Asked(NamedTuple):
    """Questions of stories, arrays of shape (questions, b).

    Args:
        sentence: the number of the question.
        answer: the number of the answer.
        newest: the newest fact that the answer needs.
    """

    sentence: NDArray[np.int64]
    answer: NDArray[np.int64]
    newest: NDArray[np.int64]


def ask_relations(rng: np.random.Generator, facts: Facts, asked_after: list[int]) -> Asked:
    """After so many facts each, ask for one end of one of the relations told so far, in one of two forms."""
    shape = len(asked_after), facts.who.shape[1]
    newest, row = np.array([rng.integers(told, size=shape[1]) for told in asked_after]), np.arange(shape[1])
    there, here, direction = seen_from_either(rng, *(end[newest, row] for end in (facts.what, facts.where, facts.who)))
    inverse = rng.integers(2, size=shape)
    form = np.where(inverse == 1, INVERSE, RELATIONS)
    return Asked(question_sentences(form, (direction + 2 * inverse) % 4, here), there, newest)


def ask_events(
    rng: np.random.Generator, past: Past, items: NDArray[np.int64], size: Size, asked_after: list[int]
) -> Asked:
    """After so many facts each, ask of each story a question of the kind whose `item` is given."""
    known = _known(past, size, np.array(asked_after))
    of_item, subject = _subjects(size)
    scores = rng.random(known.newest.shape) * ((known.newest > 0) & of_item[:, items])
    picked = scores.argmax(axis=1)
    at = np.arange(len(picked))[:, None], picked, np.arange(items.size)
    who, shown, answer = subject[picked], PLACE_OF[known.shown[at]], known.answer[at]
    lists, yes_no = np.flatnonzero(items == LISTS), items == YES_NO
    false = (rng.integers(2, size=who.shape) == 1) & yes_no
    shown = np.where(false, (shown + rng.integers(1, size.places, size=who.shape)) % size.places, shown)
    shown = np.where(yes_no | (items == THREE), shown, 0)
    answer = np.where(items == COUNTING, COUNTED + answer, np.where(yes_no, TRUTH + 1 - false, PLACE_OF[answer]))
    answer[:, lists] = _lists(known, who[:, lists] * items.size + lists, lists)
    return Asked(question_sentences(items, who, shown), answer, known.newest[at] - 1)


class _Known(NamedTuple):
    """What can be asked after some facts: shape (questions, 2 P + 2 O, b), of people and their places, people and what
    they carry, objects and their places, objects and their places before; then of shape (questions, O, b).

    Args:
        newest: one more than the newest fact that the answer needs; 0: too little was told.
        answer: bits of a place, or how many objects.
        shown: bits of the place now.
        keeper: the entry that each object goes with, times b, plus the story.
        got: one more than the newest fact about each object.
    """

    newest: NDArray[np.int64]
    answer: NDArray[np.int64]
    shown: NDArray[np.int64]
    keeper: NDArray[np.int64]
    got: NDArray[np.int64]


def _known(past: Past, size: Size, told: NDArray[np.int64]) -> _Known:
    n_people, _, n_objects = size
    row, query = np.arange(past.state.shape[2]), np.arange(told.size)[:, None, None]
    changed = past.state[1:] != past.state[:-1], (past.carries[1:] != past.carries[:-1]).any(axis=1)
    stamps = np.concatenate(changed, axis=1) * np.arange(1, len(past.state))[:, None, None]
    stamps = np.maximum.accumulate(stamps, axis=0)[told - 1]
    moved, came, got, hands = np.split(stamps, [n_people, n_people + n_objects, n_people + 2 * n_objects], axis=1)
    place, at, keeper = np.split(past.state[told], [n_people, n_people + n_objects], axis=1)
    # What nobody carries goes with its own place, to which it came before it was dropped.
    needed = np.maximum(got, stamps.reshape(told.size, -1)[query, keeper])
    before = past.state[came - 1, np.arange(n_people, n_people + n_objects)[:, None], row]
    newest = moved, hands, needed, came * (before != ANYWHERE)
    return _Known(
        np.concatenate(newest, axis=1),
        np.concatenate([place, past.carries[told].sum(axis=1), at, before], axis=1),
        np.concatenate([place, place, at, at], axis=1),
        keeper,
        got,
    )


@cache
def _subjects(size: Size) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Of everything in a `_Known`: whether questions of an item are about it, and which person or object it is."""
    people, objects = np.arange(size.people), np.arange(size.objects)
    group = np.repeat(np.arange(4), [size.people, size.people, size.objects, size.objects])
    asked = np.array([[ONE, YES_NO], [COUNTING, LISTS], [TWO, TWO], [THREE, THREE]])[group]
    of_item = (asked[:, :, None] == np.arange(len(QUESTIONS))).any(axis=1)
    return of_item, np.concatenate([people, people, objects, objects])


def _lists(known: _Known, person: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers of answers: what a person, given as in `_Known.keeper`, carries, in the order of getting it."""
    mine = known.keeper[:, :, rows] == person[:, None]
    things = known.got[:, :, rows] * 16 + np.arange(1, mine.shape[1] + 1)[:, None]
    things = np.sort(np.where(mine, things, _LAST), axis=1)[:, :MAX_CARRIED] % 16
    return LISTED + (things * 9 ** np.arange(things.shape[1])[:, None]).sum(axis=1)

"""The words of `mnemoscope.tasks.babi`: how facts and questions are told, and how a story is laid out in tokens.

    facts ... | question ? - - - answer | facts ... | question ? - - - answer | <pad> ...

The answer is scored and never read: where it is due stands "-".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from mnemoscope.contracts.batch import IGNORE
from mnemoscope.tasks.babi_world import MAX_CARRIED, RELATE, Facts, World, one_of, seen_from_either

QUESTIONS = ("one", "two", "three", "relations", "counting", "lists", "yes_no")
"""Kinds of question; the position of one in this tuple is its `item`."""

PEOPLE = ("anna", "ben", "clara", "david", "emma", "felix", "grace", "henry")
PLACES = ("attic", "bathroom", "bedroom", "cellar", "garden", "hallway", "kitchen", "office")
OBJECTS = ("apple", "ball", "book", "cup", "hat", "key", "lamp", "milk")
DIRECTIONS = ("north", "east", "south", "west")
COUNTS = ("none", "one", "two", "three")

WORDS = (
    *("<pad>", "-", ".", "?", "the", "to", "of", "is", "was", "in", "where", "what", "how", "many", "objects"),
    *("carrying", "before", "went", "walked", "took", "grabbed", "dropped", "left", "gave", "handed"),
    *("yes", "no", "nothing", *COUNTS, *DIRECTIONS, *PEOPLE, *PLACES, *OBJECTS),
)
"""The vocabulary; the position of a word in this tuple is its token."""

_TOKEN = {word: token for token, word in enumerate(WORDS)}
_PAD, _BLANK, _STOP = _TOKEN["<pad>"], _TOKEN["-"], _TOKEN["."]
_PERSON, _PLACE, _OBJECT = _TOKEN[PEOPLE[0]], _TOKEN[PLACES[0]], _TOKEN[OBJECTS[0]]
_DIRECTION, _COUNT = _TOKEN[DIRECTIONS[0]], _TOKEN[COUNTS[0]]

_WIDTH = 8
"""Words of the longest fact, and of the longest question."""

_NONE = -1
"""Fills rows of words that are shorter than others; such places are left out of a sequence."""

_FACTS = ("W V to the P .", "W V the O .", "W V the O .", "W V the O to R .", "the A is D of the P .")
"""By kind of fact: W who, V verb, O object, P place, R who receives, A the place that lies in direction D."""

_VERBS = np.array(
    [
        [_TOKEN[verb] for verb in pair]
        for pair in (("went", "walked"), ("took", "grabbed"), ("dropped", "left"), ("gave", "handed"), ("is", "is"))
    ]
)

LIST_SLOTS = MAX_CARRIED + 1
"""Places for the words of a list and the full stop that ends it."""

PACKED_QUESTION, PACKED_FACT = _WIDTH + LIST_SLOTS + 1, len(Facts._fields)
"""Integers of a question and of a fact in `packed` rows."""


@dataclass(frozen=True)
class Asked:
    """One question to each story.

    Args:
        words: of the question, shape (b, 8), padded with -1.
        answer: words of the answer, shape (b, 4), padded with -1.
        newest: the newest fact that the answer needs, shape (b,).
    """

    words: NDArray[np.int64]
    answer: NDArray[np.int64]
    newest: NDArray[np.int64]


def fact_words(facts: Facts) -> NDArray[np.int64]:
    """The words of each fact, of shape (b, facts, 8), padded with -1."""
    related = facts.kind == RELATE
    values = {
        "W": _PERSON + facts.who,
        "V": _VERBS[facts.kind, facts.wording],
        "O": _OBJECT + facts.what,
        "P": _PLACE + facts.where,
        "R": _PERSON + facts.where,
        "A": _PLACE + facts.what,
        "D": _DIRECTION + facts.who,
    }
    used = [0, 1, 2, 3] if not related.any() else [4]
    words = np.full((*facts.kind.shape, _WIDTH), _NONE)
    for column in range(_WIDTH):
        for kind in used:
            template = _FACTS[kind].split()
            if column < len(template):
                word = template[column]
                value = values[word] if word in values else np.full_like(facts.kind, _TOKEN[word])
                np.copyto(words[..., column], value, where=facts.kind == kind)
    return words


def packed(facts: Facts, asked: list[Asked]) -> NDArray[np.int64]:
    """Questions and facts of each story in one row of integers; distinct stories have distinct rows."""
    rows, n_facts = facts.kind.shape
    questions = [np.concatenate([q.words, q.answer, q.newest[:, None]], axis=1) for q in asked]
    return np.concatenate([*questions, np.stack(facts, axis=2).reshape(rows, PACKED_FACT * n_facts)], axis=1)


def unpacked(rows: NDArray[np.int64], n_facts: int, n_questions: int) -> tuple[Facts, list[Asked]]:
    """The facts and questions that `packed` put into rows."""
    width = PACKED_QUESTION
    questions = [rows[:, width * query : width * (query + 1)] for query in range(n_questions)]
    facts = rows[:, width * n_questions :][:, : PACKED_FACT * n_facts].reshape(len(rows), n_facts, PACKED_FACT)
    asked = [Asked(block[:, :_WIDTH], block[:, _WIDTH:-1], block[:, -1]) for block in questions]
    return Facts(*np.moveaxis(facts, 2, 0)), asked


def laid_out(
    facts: NDArray[np.int64], asked: list[Asked], asked_after: list[int], blanks: NDArray[np.int64], length: int
) -> tuple[NDArray[np.int64], ...]:
    """Facts and questions as sequences.

    Args:
        facts: of `fact_words`.
        asked: the questions.
        asked_after: after how many facts each question comes.
        blanks: of `blank_words`.
        length: tokens of a sequence.

    Returns:
        inputs, targets, distance, load and query, each of shape (b, length).
    """
    rows, blocks, fact_ends, answer_starts, end, told = len(facts), [], [], [], 0, 0
    for question, after in zip(asked, asked_after, strict=True):
        blocks += [facts[:, told:after].reshape(rows, _WIDTH * (after - told)), question.words, blanks]
        fact_ends += [end + _WIDTH * (fact + 1) for fact in range(after - told)]
        end, told = end + _WIDTH * (after - told + 1) + blanks.shape[1], after
        answer_starts.append(end - LIST_SLOTS)
    words = np.concatenate(blocks, axis=1)
    at = (words >= 0).cumsum(axis=1) - 1
    inputs = np.full((rows, length), _PAD)
    row, column = np.nonzero(words >= 0)
    inputs[row, at[row, column]] = words[row, column]
    found = tuple(np.full(inputs.shape, fill) for fill in (IGNORE, -1, -1, -1))
    for query, (question, after) in enumerate(zip(asked, asked_after, strict=True)):
        row, slot = np.nonzero(question.answer >= 0)
        position = at[row, answer_starts[query] + slot]
        # The last word of a fact that tells anything stands before its full stop.
        needed = at[row, np.array(fact_ends)[question.newest[row]] - 1] - 1
        for array, value in zip(found, (question.answer[row, slot], position - needed, after, query), strict=True):
            array[row, position] = value
    return inputs, *found


def blank_words(is_list: NDArray[np.bool_], think_steps: int) -> NDArray[np.int64]:
    """What follows each story's questions: thinking steps and places for an answer, padded with -1."""
    blanks = np.full((is_list.size, think_steps + LIST_SLOTS), _BLANK)
    blanks[~is_list, think_steps + 1 :] = _NONE
    return blanks


def ask(rng: np.random.Generator, world: World, items: NDArray[np.int64]) -> Asked:
    """Ask of each story a question of the kind whose `item` is given."""
    words, answer = (np.zeros((items.size, width), dtype=np.int64) for width in (_WIDTH, LIST_SLOTS))
    found = Asked(words, answer, np.zeros_like(items))
    for item in np.unique(items).tolist():
        mine = np.flatnonzero(items == item)
        asked = _ASK[QUESTIONS[item]](rng, world.of(mine))
        found.words[mine], found.answer[mine], found.newest[mine] = asked.words, asked.answer, asked.newest
    return found


def ask_relation(rng: np.random.Generator, facts: Facts, told: int) -> Asked:
    """Ask for one end of one of the first `told` relations, in one of two forms."""
    rows = np.arange(len(facts.who))
    newest = rng.integers(told, size=rows.size)
    there, here, direction = seen_from_either(
        rng, facts.what[rows, newest], facts.where[rows, newest], facts.who[rows, newest]
    )
    direct = _sentence("what is D of the P ?", rows.size, D=_DIRECTION + direction, P=_PLACE + here)
    inverse = _sentence("what is the P D of ?", rows.size, D=_DIRECTION + (direction + 2) % 4, P=_PLACE + here)
    words = np.where(rng.integers(2, size=(rows.size, 1)) == 0, direct, inverse)
    return Asked(words, _one_word(_PLACE + there), newest)


def _ask_one(rng: np.random.Generator, world: World) -> Asked:
    rows, who = np.arange(len(world.place)), one_of(rng, world.moved >= 0)
    words = _sentence("where is W ?", rows.size, W=_PERSON + who)
    return Asked(words, _one_word(_PLACE + world.place[rows, who]), world.moved[rows, who])


def _ask_two(rng: np.random.Generator, world: World) -> Asked:
    rows, what = np.arange(len(world.place)), one_of(rng, world.at >= 0)
    holder = world.holder[rows, what]
    carried_there = np.maximum(world.held[rows, what], world.moved[rows, holder])
    newest = np.where(holder >= 0, carried_there, world.dropped[rows, what])
    words = _sentence("where is the O ?", rows.size, O=_OBJECT + what)
    return Asked(words, _one_word(_PLACE + world.at[rows, what]), newest)


def _ask_three(rng: np.random.Generator, world: World) -> Asked:
    rows, what = np.arange(len(world.place)), one_of(rng, world.before >= 0)
    place = _PLACE + world.at[rows, what]
    words = _sentence("where was the O before the P ?", rows.size, O=_OBJECT + what, P=place)
    return Asked(words, _one_word(_PLACE + world.before[rows, what]), world.came[rows, what])


def _ask_counting(rng: np.random.Generator, world: World) -> Asked:
    rows, who = np.arange(len(world.place)), one_of(rng, world.changed >= 0)
    words = _sentence("how many objects is W carrying ?", rows.size, W=_PERSON + who)
    return Asked(words, _one_word(_COUNT + world.carried[rows, who]), world.changed[rows, who])


def _ask_lists(rng: np.random.Generator, world: World) -> Asked:
    rows, who = np.arange(len(world.place)), one_of(rng, world.changed >= 0)
    mine = world.holder == who[:, None]
    taken = np.argsort(np.where(mine, world.held, world.now + 1), axis=1, kind="stable")
    taken = np.pad(taken, ((0, 0), (0, LIST_SLOTS)))[:, :LIST_SLOTS]
    n, slot = mine.sum(axis=1)[:, None], np.arange(LIST_SLOTS)
    answer = np.where(slot < n, _OBJECT + taken, np.where(slot == n, _STOP, _NONE))
    empty = np.array([_TOKEN["nothing"], _STOP, *[_NONE] * (LIST_SLOTS - 2)])
    words = _sentence("what is W carrying ?", rows.size, W=_PERSON + who)
    return Asked(words, np.where(n > 0, answer, empty), world.changed[rows, who])


def _ask_yes_no(rng: np.random.Generator, world: World) -> Asked:
    rows, who = np.arange(len(world.place)), one_of(rng, world.moved >= 0)
    true = rng.integers(2, size=rows.size) == 1
    n_places, place = world.size.places, world.place[rows, who]
    other = (place + rng.integers(1, n_places, size=rows.size)) % n_places
    words = _sentence("is W in the P ?", rows.size, W=_PERSON + who, P=_PLACE + np.where(true, place, other))
    return Asked(words, _one_word(np.where(true, _TOKEN["yes"], _TOKEN["no"])), world.moved[rows, who])


_ASK: Mapping[str, Callable[[np.random.Generator, World], Asked]] = {
    "one": _ask_one,
    "two": _ask_two,
    "three": _ask_three,
    "counting": _ask_counting,
    "lists": _ask_lists,
    "yes_no": _ask_yes_no,
}


def answers_to(question: str, n_places: int, n_objects: int) -> set[int]:
    """The tokens that can stand in answers to a kind of question."""
    if question == "yes_no":
        return {_TOKEN["yes"], _TOKEN["no"]}
    if question == "counting":
        return set(range(_COUNT, _COUNT + min(MAX_CARRIED, n_objects) + 1))
    if question == "lists":
        return {_STOP, _TOKEN["nothing"], *range(_OBJECT, _OBJECT + n_objects)}
    return set(range(_PLACE, _PLACE + n_places))


def _sentence(template: str, rows: int, **words: NDArray[np.int64]) -> NDArray[np.int64]:
    sentences = np.empty((rows, _WIDTH), dtype=np.int64)
    sentences[:] = _fixed_words(template)
    for column, word in enumerate(template.split()):
        if word in words:
            sentences[:, column] = words[word]
    return sentences


@cache
def _fixed_words(template: str) -> NDArray[np.int64]:
    """The words of a template that are in the vocabulary; -1 for others, and after the last."""
    tokens = [_TOKEN.get(word, _NONE) for word in template.split()]
    return np.array(tokens + [_NONE] * (_WIDTH - len(tokens)))


def _one_word(answers: NDArray[np.int64]) -> NDArray[np.int64]:
    words = np.full((answers.size, LIST_SLOTS), _NONE)
    words[:, 0] = answers
    return words

"""The words of `mnemoscope.tasks.babi`: how facts and questions are told, and how a story is laid out in tokens.

    facts ... | question ? - - - answer | facts ... | question ? - - - answer | <pad> ...

The answer is scored and never read: where it is due stands "-". A story is a row of sentences, each of them a number,
its row in a table of words; so whole stories are told, hashed and laid out at once.
"""

from collections.abc import Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray

from mnemoscope.contracts.batch import IGNORE
from mnemoscope.tasks.babi_world import MAX_CARRIED, Facts

QUESTIONS = ("one", "two", "three", "relations", "counting", "lists", "yes_no")
"""Kinds of question; the position of one in this tuple is its `item`."""

ONE, TWO, THREE, RELATIONS, COUNTING, LISTS, YES_NO = range(len(QUESTIONS))
INVERSE = len(QUESTIONS)
"""The other form of a question about a relation."""

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
"""Words of the longest sentence."""

_NONE = -1
"""Fills rows of words that are shorter than others; such places are left out of a sequence."""

_FACTS = ("W V to the P .", "W V the O .", "W V the O .", "W V the O to R .", "the A is D of the P .")
"""By kind of fact, of who, what and where: W person who, D direction who, O object what, A place what, P place where, R
person where; V is one of two verbs."""

_QUESTIONS = (
    *("where is W ?", "where is the U ?", "where was the U before the P ?", "what is D of the P ?"),
    *("how many objects is W carrying ?", "what is W carrying ?", "is W in the P ?", "what is the P D of ?"),
)
"""By item, and last the other form of a relation; U object who."""

_VERBS = (("went", "walked"), ("took", "grabbed"), ("dropped", "left"), ("gave", "handed"), ("is", "is"))

_FORM = 2 * 8**3
_ASKING, _BLANKS = _FORM * len(_FACTS), _FORM * (len(_FACTS) + len(_QUESTIONS))
"""Numbers of sentences: facts from 0, questions from _ASKING, so many blanks from _BLANKS."""

_SENTENCE_BITS, _PER_INTEGER = 14, 4
"""Every number of a sentence is below 2 to the power of the first; so many are packed in an integer."""

_SHIFTS = _SENTENCE_BITS * np.arange(_PER_INTEGER)

LIST_SLOTS = MAX_CARRIED + 1
"""Places for the words of a list and the full stop that ends it."""

COUNTED, TRUTH, LISTED = 8, 12, 14
"""Numbers of answers: places from 0, counts, no and yes, lists."""


def _all_sentences() -> NDArray[np.int64]:
    """The words of every sentence, padded with -1."""
    who, what, where, wording = np.unravel_index(np.arange(_FORM), (8, 8, 8, 2))
    letters = {
        **{"W": _PERSON + who, "D": _DIRECTION + who % 4, "U": _OBJECT + who, "O": _OBJECT + what},
        **{"A": _PLACE + what, "P": _PLACE + where, "R": _PERSON + where},
    }
    words = np.full((len(_FACTS) + len(_QUESTIONS), _FORM, _WIDTH), _NONE)
    for form, template in enumerate((*_FACTS, *_QUESTIONS)):
        for column, word in enumerate(template.split()):
            if word == "V":
                words[form, :, column] = np.array([_TOKEN[verb] for verb in _VERBS[form]])[wording]
            else:
                words[form, :, column] = letters[word] if word in letters else _TOKEN[word]
    blanks = np.where(np.arange(_WIDTH) < np.arange(_WIDTH + 1)[:, None], _BLANK, _NONE)
    return np.concatenate([words.reshape(-1, _WIDTH), blanks])


def _all_answers() -> NDArray[np.int64]:
    """The words of every answer, padded with -1."""
    places, counts = _PLACE + np.arange(8), _COUNT + np.arange(MAX_CARRIED + 1)
    words = np.full((LISTED + 9**MAX_CARRIED, LIST_SLOTS), _NONE)
    words[:LISTED, 0] = [*places, *counts, _TOKEN["no"], _TOKEN["yes"]]
    things = np.indices((9,) * MAX_CARRIED).reshape(MAX_CARRIED, -1)[::-1].T
    lists = words[LISTED:]
    lists[:, :-1] = np.where(things > 0, _OBJECT + things - 1, _NONE)
    lists[np.arange(len(lists)), (things > 0).sum(axis=1)] = _STOP
    lists[0, :2] = _TOKEN["nothing"], _STOP
    return words


_SENTENCES, _ANSWERS = _all_sentences().astype(np.int8), _all_answers()
_LENGTHS = (_SENTENCES >= 0).sum(axis=1)


def fact_sentences(facts: Facts, wording: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers of the sentences that tell facts, with one or the other verb where `wording` is 0 or 1."""
    return facts.kind * _FORM + facts.who * 128 + facts.what * 16 + facts.where * 2 + wording


def question_sentences(form: NDArray[np.int64], who: NDArray[np.int64], where: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers of the sentences that ask: by item or INVERSE, whom or what (or which direction), and a place."""
    return _ASKING + form * _FORM + who * 128 + where * 2


def items_of(questions: NDArray[np.int64]) -> NDArray[np.int64]:
    """The `item` of each question, from the number of its sentence."""
    form = questions // _FORM - len(_FACTS)
    return np.where(form == INVERSE, RELATIONS, form)


def answers_to(question: str, n_places: int, n_objects: int) -> set[int]:
    """The tokens that can stand in answers to a kind of question."""
    if question == "yes_no":
        return {_TOKEN["yes"], _TOKEN["no"]}
    if question == "counting":
        return set(range(_COUNT, _COUNT + min(MAX_CARRIED, n_objects) + 1))
    if question == "lists":
        return {_STOP, _TOKEN["nothing"], *range(_OBJECT, _OBJECT + n_objects)}
    return set(range(_PLACE, _PLACE + n_places))


@final
class Layout:
    """Where the sentences of stories stand, and stories as sequences.

    Some facts, a question, and what follows it, again and again; where a story has fewer facts than another kind of
    story or fewer blanks, stand sentences without words.
    """

    def __init__(self, shares: Sequence[NDArray[np.int64]], think_steps: int, length: int) -> None:
        """Plan for some kinds of story, given by how many facts come before each question and after the one before."""
        room = np.max(shares, axis=0)
        self._blanks = [_blank_sentences(think_steps + slots, think_steps + LIST_SLOTS) for slots in (1, LIST_SLOTS)]
        n_blanks = self._blanks[0].size
        start = np.cumsum(room + 1 + n_blanks) - (room + 1 + n_blanks)
        self.facts = [
            np.concatenate([first + np.arange(share) for first, share in zip(start, kind, strict=True)])
            for kind in shares
        ]
        """By kind of story, the column of every fact."""
        self.questions: NDArray[np.int64] = start + room
        """The column of every question."""
        self._after = self.questions[:, None] + 1 + np.arange(n_blanks)
        self._loads = np.cumsum(shares, axis=1)
        self._n_columns = -(-int(self._after[-1, -1] + 1) // _PER_INTEGER) * _PER_INTEGER
        self._length = length

    def stories(self, items: NDArray[np.int64]) -> NDArray[np.int64]:
        """Stories of nothing but blanks, of shape (columns, b)."""
        stories = np.full((self._n_columns, items.size), _BLANKS)
        stories[self._after] = np.where(items == LISTS, self._blanks[1][:, None], self._blanks[0][:, None])
        return stories

    def laid_out(
        self, content: NDArray[np.int64], answers: NDArray[np.int64], newest: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], dict[str, NDArray[np.int64]]]:
        """Stories as sequences.

        Args:
            content: stories, `packed`.
            answers: numbers of the answers, shape (b, questions).
            newest: the column of the newest fact that each answer needs, shape (b, questions).

        Returns:
            inputs of shape (b, length), and targets, distance, item, load and query by name.
        """
        stories = unpacked(content)
        words, ends = _SENTENCES.take(stories, axis=0), _LENGTHS.take(stories).cumsum(axis=1)
        inputs = np.full((len(stories), self._length), _PAD)
        inputs[np.arange(self._length) < ends[:, -1:]] = words[words >= 0]
        answer = _ANSWERS.take(answers, axis=0)
        row, query, slot = np.nonzero(answer >= 0)
        item = items_of(stories[row, self.questions[query]])
        position = ends[row, self._after[query, -1]] - np.where(item == LISTS, LIST_SLOTS, 1) + slot
        # The last word of a fact that tells anything stands before its full stop.
        needed = ends[row, newest[row, query]] - 2
        scored = {
            "targets": answer[row, query, slot],
            "distance": position - needed,
            "item": item,
            "load": self._loads[(item == RELATIONS).astype(np.int64), query],
            "query": query,
        }
        found = {name: np.full(inputs.shape, IGNORE if name == "targets" else -1) for name in scored}
        for name, values in scored.items():
            found[name][row, position] = values
        return inputs, found


def packed(stories: NDArray[np.int64]) -> NDArray[np.int64]:
    """Stories of shape (columns, b) as few integers, of shape (b, columns / 4); distinct stories have distinct ones."""
    parts = stories.reshape(-1, _PER_INTEGER, stories.shape[1]) << _SHIFTS[:, None]
    return np.bitwise_or.reduce(parts, axis=1).T


def unpacked(content: NDArray[np.int64]) -> NDArray[np.int64]:
    """Stories of shape (b, columns), from `packed` ones."""
    return (content[:, :, None] >> _SHIFTS & (1 << _SENTENCE_BITS) - 1).reshape(len(content), -1)


def _blank_sentences(n_words: int, at_most: int) -> NDArray[np.int64]:
    """Numbers of sentences that are `n_words` times "-" together, as many sentences as `at_most` words need."""
    return np.array([_BLANKS + min(_WIDTH, max(0, n_words - before)) for before in range(0, at_most, _WIDTH)])

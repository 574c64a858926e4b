"""Questions about small stories, in the manner of bAbI: some facts are told, then one word or a few answer a question.

One sequence of `BabiConfig(question="two", n_facts=3, n_questions=1)`, in order:

    inputs     anna went to the attic . anna took the ball . anna walked to the office .
    inputs     where is the ball ? - - -      -      <pad> <pad> ...
    targets      .   .   .   .  . . . .    office      .     .                            (. = IGNORE)

A word is a token, and so is the stop that ends a fact; the vocabulary is `WORDS` of `mnemoscope.tasks.babi_story`.
After each question come `think_steps` tokens "-" and then one for each word of the answer, at which that word is
scored; the model never reads an answer. The rest of a sequence is <pad>. `question` is one of `QUESTIONS`:

    one          where is anna ?                           one fact: where she went last
    two          where is the ball ?                       two: who got or dropped it, where they went
    three        where was the ball before the office ?    three: who got it, how it came to two places
    relations    what is north of the attic ?  or  what is the attic north of ?      one, told from either place
    counting     how many objects is anna carrying ?       none one two three
    lists        what is anna carrying ?                   objects as she got them, then "."; or "nothing" and "."
    yes_no       is anna in the attic ?                    each answer equally likely

"mixed" draws one of these for each sequence. Lists have four places for words: what follows the "." is not scored.
Relations are told of one path through the places, so such a story has at most n_places - 1 facts. Other stories
are of people who move, and take, drop and give objects (`mnemoscope.tasks.babi_world`). Whom and what a question is
about is uniform over all of which the story says enough. Questions come at the end, or (`interleaved`) after equal
shares of the facts. The story and its questions decide which split owns a sequence.

Why: questions whose answer needs one fact, two, or none, in words, so that load and distance can be varied.

Known limits: sentences come from a few patterns, so success says little about language.

Source: Weston et al., "Towards AI-Complete Question Answering" (2015), tasks 1 to 8 of the twenty; thinking steps and
a loss on answers alone as in Csordás and Schmidhuber (2019), arXiv 1904.10278. What differs: an own world, words and
laws; a list ends with a full stop, so that its length is asked for too. `babi_files` reads the original data.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from mnemoscope.contracts.batch import IGNORE, Batch
from mnemoscope.tasks.babi_questions import Asked, ask_events, ask_relations
from mnemoscope.tasks.babi_story import (
    COUNTING,
    LIST_SLOTS,
    LISTS,
    QUESTIONS,
    RELATIONS,
    THREE,
    TWO,
    WORDS,
    Layout,
    answers_to,
    fact_sentences,
    packed,
)
from mnemoscope.tasks.babi_world import MOVE, TAKE, Size, draw_events, draw_relations
from mnemoscope.tasks.streams import Split, draw_owned, split_index, split_stream, task_rng

_MUST = np.full((3, len(QUESTIONS)), -1)
_MUST[1, [TWO, THREE, COUNTING, LISTS]] = TAKE
_MUST[2, THREE] = MOVE
"""What the first three facts of a story must be, by item, so that there is something to ask about; -1: anything."""

_FEWEST_FACTS: Mapping[str, int] = dict(zip(QUESTIONS, (1, 2, 3, 1, 2, 2, 1), strict=True))
"""Facts that a story needs before its first question."""


@dataclass(frozen=True, kw_only=True)
class BabiConfig:
    """What stories tell and what they ask.

    Args:
        kind: names the task in a stored config.
        question: one of `QUESTIONS`, or "mixed".
        length: tokens of a sequence; at least those of the longest story.
        n_facts: facts of a story, enough for the first question; of "relations" at most n_places - 1 are told.
        n_questions: questions of a story, at least 1.
        interleaved: questions after equal shares of the facts; otherwise after all of them.
        think_steps: tokens between a question and its answer, at least 0.
        n_people: 2 to 8.
        n_places: 2 to 8.
        n_objects: 1 to 8.

    Raises:
        ValueError: a value out of its range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["babi"] = "babi"
    question: Literal["one", "two", "three", "relations", "counting", "lists", "yes_no", "mixed"] = "mixed"
    length: int = 96
    n_facts: int = 10
    n_questions: int = 2
    interleaved: bool = True
    think_steps: int = 3
    n_people: int = 4
    n_places: int = 6
    n_objects: int = 4

    def __post_init__(self) -> None:
        if self.question not in (*QUESTIONS, "mixed"):
            raise ValueError(
                f"BabiConfig.question: must be one of {', '.join(QUESTIONS)}, mixed, got {self.question!r}"
            )
        for name, low, high in (("n_people", 2, 8), ("n_places", 2, 8), ("n_objects", 1, 8)):
            self._check(name, low, high)
        for name, low in (("n_questions", 1), ("think_steps", 0)):
            self._check(name, low, None)
        for question in self.questions:
            needed = _FEWEST_FACTS[question] * (self.n_questions if self.interleaved else 1)
            if self.n_facts < needed:
                raise ValueError(
                    f"BabiConfig.n_facts: must be at least {needed}, so that the first of {self.n_questions} questions "
                    f"{question!r} can be answered, got {self.n_facts}; nearest valid: {needed}"
                )
        if "relations" in self.questions and self.interleaved and self.n_questions >= self.n_places:
            raise ValueError(
                f"BabiConfig.n_questions: must be at most the n_places - 1 = {self.n_places - 1} relations of a story, "
                f"got {self.n_questions}; nearest valid: {self.n_places - 1}, or interleaved=False"
            )
        longest = max(map(self.longest, self.questions))
        if self.length < longest:
            raise ValueError(
                f"BabiConfig.length: must be at least {longest}, the tokens of the longest story with {self.n_facts} "
                f"facts and {self.n_questions} questions, got {self.length}; nearest valid: {longest}"
            )

    @property
    def questions(self) -> tuple[str, ...]:
        """Every kind of question that a sequence may ask."""
        return QUESTIONS if self.question == "mixed" else (self.question,)

    def facts_of(self, question: str) -> int:
        """Facts of a story with questions of this kind."""
        return min(self.n_facts, self.n_places - 1) if question == "relations" else self.n_facts

    def asked_after(self, question: str) -> list[int]:
        """After how many facts each question of a story comes."""
        n, n_facts = self.n_questions, self.facts_of(question)
        return [n_facts * (query + 1) // n if self.interleaved else n_facts for query in range(n)]

    def longest(self, question: str) -> int:
        """Tokens of the longest story with questions of this kind."""
        asked = {"one": 4, "two": 5, "three": 8, "relations": 7, "counting": 7, "lists": 5, "yes_no": 6}[question]
        answer = LIST_SLOTS if question == "lists" else 1
        fact = 8 if question == "relations" else 7
        return fact * self.facts_of(question) + self.n_questions * (asked + self.think_steps + answer)

    def _check(self, name: str, low: int, high: int | None) -> None:
        got = getattr(self, name)
        if got < low or (high is not None and got > high):
            valid = f"at least {low}" if high is None else f"between {low} and {high}"
            nearest = low if got < low else high
            raise ValueError(f"BabiConfig.{name}: must be {valid}, got {got}; nearest valid: {nearest}")


@final
class Babi:
    """Batches of stories and questions; the attributes are those of `mnemoscope.tasks.Task`."""

    unit: str = "accuracy"
    vocab_size: int = len(WORDS)
    floor_loss: float = 0.0
    """Every answer follows from its story."""

    def __init__(self, config: BabiConfig) -> None:
        self.config = config
        self.length: int = config.length
        self._size = Size(people=config.n_people, places=config.n_places, objects=config.n_objects)
        shares = [np.diff(config.asked_after(question), prepend=0) for question in ("one", "relations")]
        self._layout = Layout(shares, config.think_steps, config.length)
        answers = [answers_to(question, config.n_places, config.n_objects) for question in config.questions]
        self.chance_loss: float = math.log(len(set().union(*answers)))
        """Nats per word of an answer of guessing uniformly among all words that answers can have."""

    @property
    def memoryless_loss(self) -> float:
        """Entropy of the words of answers, in nats, counted over 8192 sequences of a fixed seed.

        The present token is "-" wherever something is scored, so it says nothing. For "one", "two", "three" and
        "relations" it is ln(n_places), for "yes_no" ln 2, up to the counting.
        """
        return self._answer_entropy

    @cached_property
    def _answer_entropy(self) -> float:
        targets = self.batch(task_rng(0, "train", 0), 8192, "train").targets
        counts = np.bincount(targets[targets != IGNORE])
        shares = counts[counts > 0] / counts.sum()
        return max(0.0, -math.fsum(shares * np.log(shares)))

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        """Draw `size` sequences; the same state of `rng` gives different ones for different splits.

        Raises:
            ValueError: size below 1, or an unknown split.
        """
        split_index(split)
        if size < 1:
            raise ValueError(f"Babi.batch: size must be at least 1, got {size}; nearest valid: 1")
        inputs, about = self._layout.laid_out(*draw_owned(self._draw, split_stream(rng, split), size, split))
        return Batch(inputs=inputs, targets=about.pop("targets"), about=about)

    def words(self, tokens: Sequence[int]) -> list[str]:
        """The words of `WORDS`."""
        return [WORDS[token] for token in tokens]

    def n_sequences(self, split: Split) -> None:
        """No end: sequences are generated."""
        return None

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step: NumPy, whose streams change with releases."""
        return {"name": "babi", "numpy": np.__version__}

    def _draw(self, rng: np.random.Generator, rows: int) -> tuple[NDArray[np.int64], ...]:
        """Stories as few integers, the numbers of their answers, and the columns of the newest facts these need."""
        # A tenth of the stories are not the split's; a few more to begin with cost less than drawing again.
        rows += 8 + rows // 32
        known = np.array([QUESTIONS.index(question) for question in self.config.questions])
        items = known[rng.integers(known.size, size=rows)]
        stories = self._layout.stories(items)
        answers, newest = np.empty((2, self.config.n_questions, rows), dtype=np.int64)
        related = items == RELATIONS
        for kind, tell in enumerate((self._tell_events, self._tell_relations)):
            mine = np.flatnonzero(related == kind)
            if mine.size:
                told, asked = tell(rng, items[mine])
                stories[self._layout.facts[kind][:, None], mine] = told
                stories[self._layout.questions[:, None], mine] = asked.sentence
                answers[:, mine], newest[:, mine] = asked.answer, self._layout.facts[kind][asked.newest]
        return packed(stories), answers.T, newest.T

    def _tell_events(self, rng: np.random.Generator, items: NDArray[np.int64]) -> tuple[NDArray[np.int64], Asked]:
        config = self.config
        facts, past = draw_events(rng, _MUST[:, items], self._size, config.n_facts)
        told = fact_sentences(facts, rng.integers(2, size=facts.kind.shape))
        return told, ask_events(rng, past, items, self._size, config.asked_after("one"))

    def _tell_relations(self, rng: np.random.Generator, items: NDArray[np.int64]) -> tuple[NDArray[np.int64], Asked]:
        config = self.config
        facts = draw_relations(rng, items.size, config.n_places, config.facts_of("relations"))
        asked = ask_relations(rng, facts, config.asked_after("relations"))
        return fact_sentences(facts, np.zeros_like(facts.kind)), asked


def question_matches(predictions: NDArray[np.int64], batch: Batch) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Whether every word of an answer is predicted right, question by question.

    Args:
        predictions: the token held most probable at each position, of shape (b, t).
        batch: of `Babi` or `BabiFiles`.

    Returns:
        for each question of the batch whether it is answered right, and its `item`.
    """
    row, position = np.nonzero(batch.targets != IGNORE)
    query, item = batch.about["query"][row, position], batch.about["item"][row, position]
    _, first, question = np.unique(row * (query.max(initial=0) + 1) + query, return_index=True, return_inverse=True)
    wrong = predictions[row, position] != batch.targets[row, position]
    return np.bincount(question, weights=wrong, minlength=first.size) == 0, item[first]


def error_by_item(matches: NDArray[np.bool_], items: NDArray[np.int64]) -> dict[int, float]:
    """The share of questions of each item that are answered wrong; bAbI's figure is the mean of these.

    Args:
        matches: of `question_matches`.
        items: of `question_matches`.
    """
    return {int(item): float(1 - matches[items == item].mean()) for item in np.unique(items)}

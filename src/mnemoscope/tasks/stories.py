"""Small English stories whose facts recur, from a grammar: predict the next word of a window of stories.

One story; the numbers are the facts in the order in which they are told:

    once there was a girl named ivy . she had a red duck named button . her home was close to the mill .
                                1               2   3          4                                  5
    then ivy took the path to the fair . at the fair button the duck ran away . ...  <end>
         1                        6             6    4          3

A word is a token, and so are full stops and <end>. A window begins with a story, holds as many as fit, and the last
is cut off:

    window      once there was a ... <end> a boy called ...
    inputs      once there was a ... <end> a boy
    targets     there was a ...  <end> a boy called

Every token is scored. Where a target is a fact that recurs, `about` gives the distance to its last mention, which
fact it is (`FACTS` of `mnemoscope.tasks.story_grammar`), how many facts the story has told so far, and the number of
this recurrence in its window. There are 1076858821671494177488896 stories, of 54 to 134 tokens; the hash of a story
decides which split owns it.

As the grammar is known, so is the probability of every word given all before it: `surprises` are its negative
logarithms for the targets of a batch, and `floor_loss` is their exact mean. (The hash is left out of account: who could
invert it would gain at most ln 20 nats per story in the held-out splits.)

Why: language with a known floor, so that what a model lacks can be told from what nobody could know.

Known limits: the grammar is small; its sentences are not those of people.

Source: none; made to take the place of BabiStories and TinyStories (Zhang et al., "Memory Mosaics", 2024; Eldan and
Li, 2023), stories of a small vocabulary written by language models, where nothing is to be downloaded.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from mnemoscope.contracts.batch import Batch
from mnemoscope.tasks.story_grammar import FACTS, Grammar, build_grammar, expected_losses, longest_path, mean_tokens
from mnemoscope.tasks.streams import Split, draw_owned, split_index, split_stream

_ABOUT = ("distance", "item", "load")


@dataclass(frozen=True, kw_only=True)
class StoriesConfig:
    """How long the windows are.

    Args:
        kind: names the task in a stored config.
        length: tokens (words) of a sequence, at least 1.

    Raises:
        ValueError: a value out of its range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["stories"] = "stories"
    length: int = 256

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"StoriesConfig.length: must be at least 1, got {self.length}; nearest valid: 1")


@final
class Stories:
    """Windows of generated stories; the attributes are those of `mnemoscope.tasks.Task`."""

    unit: str = "accuracy"

    def __init__(self, config: StoriesConfig) -> None:
        self.config = config
        self.length: int = config.length
        self._grammar = build_grammar()
        self.vocab_size: int = len(self._grammar.words)
        expected = expected_losses(config.length)
        self.chance_loss: float = expected.chance
        """Entropy of a target, in nats: what the best predictor without context reaches."""
        self.memoryless_loss: float = expected.memoryless
        """Entropy of a target given the token before it, in nats."""
        self.floor_loss: float = expected.floor
        """Entropy of a target given all that its window holds before it, in nats."""

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        """Draw `size` windows; the same state of `rng` gives different ones for different splits.

        Raises:
            ValueError: size below 1, or an unknown split.
        """
        told, window = self._windows(rng, size, split)
        tokens, places = told.tokens[window], window[:, 1:]
        about = {name: getattr(told, name)[places] for name in _ABOUT}
        recurs = about["distance"] >= 0
        about["query"] = np.where(recurs, recurs.cumsum(axis=1) - 1, -1)
        return Batch(inputs=tokens[:, :-1].copy(), targets=tokens[:, 1:].copy(), about=about)

    def surprises(self, rng: np.random.Generator, size: int, split: Split) -> NDArray[np.float64]:
        """Nats of every target of the batch that the same state of `rng` gives, for a predictor that knows the grammar.

        Returns:
            non-negative numbers of shape (size, length), whose mean estimates `floor_loss` without bias.

        Raises:
            ValueError: size below 1, or an unknown split.
        """
        told, window = self._windows(rng, size, split)
        return told.nats[window[:, 1:]]

    def words(self, tokens: Sequence[int]) -> list[str]:
        """The words of the stories."""
        return [self._grammar.words[token] for token in tokens]

    def n_sequences(self, split: Split) -> None:
        """No end: stories are generated."""
        return None

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step: NumPy, whose streams change with releases."""
        return {"name": "stories", "numpy": np.__version__}

    def _windows(self, rng: np.random.Generator, size: int, split: Split) -> tuple["Told", NDArray[np.int64]]:
        """Stories in a row, and where in the row the length + 1 tokens of each window stand."""
        split_index(split)
        if size < 1:
            raise ValueError(f"Stories.batch: size must be at least 1, got {size}; nearest valid: 1")
        stream, needed = split_stream(rng, split), self.length + 1
        enough = size * math.ceil(needed / mean_tokens() + 1)
        drawn = np.empty((0, 0), dtype=np.int64)
        while True:
            (more,) = draw_owned(self._draw, stream, enough, split)
            drawn = more if not drawn.size else np.concatenate([drawn, more])
            told = tell(self._grammar, drawn)
            firsts = first_stories(told.starts, needed, size)
            if len(firsts) == size:
                return told, told.starts[firsts][:, None] + np.arange(needed)

    def _draw(self, rng: np.random.Generator, rows: int) -> tuple[NDArray[np.int64]]:
        return (draw_stories(self._grammar, rng, rows),)


class Told(NamedTuple):
    """Stories in a row, arrays of one entry for each token.

    Args:
        tokens: the words.
        nats: surprise of each.
        distance: tokens between the one before and the last mention of the same fact; -1 where none recurs.
        item: which fact recurs, -1 where none does.
        load: facts of the story so far, -1 where none recurs.
        starts: where each story begins, and where the last ends; shape (stories + 1,).
    """

    tokens: NDArray[np.int64]
    nats: NDArray[np.float64]
    distance: NDArray[np.int64]
    item: NDArray[np.int64]
    load: NDArray[np.int64]
    starts: NDArray[np.int64]


def draw_stories(grammar: Grammar, rng: np.random.Generator, rows: int) -> NDArray[np.int64]:
    """Draw stories: for each its choices, in a row of integers that tells it apart from all others.

    Returns:
        first the option taken in each state, -1 after the end, then the words chosen for the slots that it uses.
    """
    n_options, state = (grammar.options >= 0).sum(axis=1), np.zeros(rows, dtype=np.int64)
    used = np.zeros((len(grammar.symbols), len(grammar.slots)), dtype=np.bool_)
    sentence, place = np.nonzero(grammar.new)
    used[sentence, grammar.symbols[sentence, place] - len(grammar.words)] = True
    path, chosen = np.full((rows, longest_path()), -1), np.zeros((rows, len(grammar.slots)), dtype=np.bool_)
    for step in range(path.shape[1]):
        going = np.flatnonzero(state >= 0)
        here = state[going]
        option = rng.integers(n_options[here])
        path[going, step] = option
        chosen[going] |= used[grammar.options[here, option]]
        state[going] = grammar.following[here, option]
    facts = rng.integers(grammar.slot_sizes, size=chosen.shape)
    return np.concatenate([path, np.where(chosen, facts, 0)], axis=1)


def tell(grammar: Grammar, drawn: NDArray[np.int64]) -> Told:
    """The tokens of drawn stories, one after the other."""
    n_steps, v = drawn.shape[1] - len(grammar.slots), len(grammar.words)
    path, facts = drawn[:, :n_steps], drawn[:, n_steps:]
    states = np.zeros(path.shape, dtype=np.int64)
    for step in range(1, n_steps):
        states[:, step] = grammar.following[states[:, step - 1], path[:, step - 1]]
    rules = np.where(path >= 0, grammar.options[states, path], -1)
    symbols = np.where((rules >= 0)[:, :, None], grammar.symbols[rules], -1)
    story, step, place = np.nonzero(symbols >= 0)
    symbol, rule = symbols[story, step, place], rules[story, step]
    slot = np.where(symbol >= v, symbol - v, -1)
    tokens = np.where(slot >= 0, grammar.slot_starts[slot] + facts[story, slot], symbol)
    nats = grammar.nats[states[story, step], path[story, step], place]
    starts = np.searchsorted(story, np.arange(len(drawn) + 1))
    items = np.array([_item(name) for name in (*grammar.slots, "")])[slot]
    return Told(tokens, nats, *_recurrences(items, grammar.new[rule, place], story, starts), starts)


def first_stories(starts: NDArray[np.int64], needed: int, size: int) -> list[int]:
    """With which story each of `size` windows of `needed` tokens begins, none sharing a story; fewer at the end."""
    following = np.searchsorted(starts, starts + needed).tolist()
    firsts, story = [], 0
    while len(firsts) < size and story < starts.size and following[story] < starts.size:
        firsts.append(story)
        story = following[story]
    return firsts


def _recurrences(
    items: NDArray[np.int64], new: NDArray[np.bool_], story: NDArray[np.int64], starts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    distance = np.full(items.size, -1)
    for item in range(len(FACTS)):
        mentions = np.flatnonzero(items == item)
        again = ~new[mentions[1:]]
        distance[mentions[1:][again]] = np.diff(mentions)[again] - 1
    known = np.cumsum(new & (items >= 0))
    before = np.concatenate([[0], known])[starts[story]]
    recurs = distance >= 0
    return distance, np.where(recurs, items, -1), np.where(recurs, known - before, -1)


def _item(slot: str) -> int:
    name = "hero" if slot in ("girl", "boy") else slot
    return FACTS.index(name) if name in FACTS else -1

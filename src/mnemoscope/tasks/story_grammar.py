"""The grammar of `mnemoscope.tasks.stories`: its sentences, the order they come in, and what it costs to foresee them.

A sentence is a pattern of words and slots. {+pet} is the first mention of a fact, drawn uniformly among the words of
its slot; {pet} mentions it again, and can be said only where it is known. A story is a walk through states; a state is
a phase of the story, whether it is of a girl or a boy, and which facts are known. Each sentence that is possible in a
state is equally likely.

Words of different slots, and those outside slots, are all different. So what was read so far leaves no doubt how it
came about, and the probability of each next word is exact: with n_i the number of the state's sentences that agree
with its first i words,

    P(word i + 1) = (n_{i+1} / n_i) * (1 / words of the slot, where the word is a first mention)
"""

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

END = "<end>"

_SLOTS: Mapping[str, str] = {
    "girl": "amy bella cora daisy ella fiona grace hannah ivy julia kate lily mia nora rosie sophie",
    "boy": "adam ben carl dylan eric finn george henry isaac jack leo max noah oscar peter tom",
    "home": "river forest lighthouse mill bridge harbour orchard lake quarry railway church windmill",
    "colour": "red blue green yellow white black brown grey golden orange purple silver",
    "animal": "cat dog rabbit pony duck goat hamster parrot turtle lamb mouse hen",
    "pet": "biscuit bubbles button clover dusty feather ginger muffin noodle pebble pepper pickle poppy scout smudge",
    "friend": "alex billie casey charlie drew frankie jamie jordan kim lee morgan pat robin sam taylor terry",
    "wish": "kite drum bicycle telescope violin boat hat lantern sledge puzzle camera whistle tent compass globe",
    "food": "soup bread pancakes apples noodles cheese rice honey porridge plums carrots dumplings",
    "trip": "market beach park castle library meadow fair station garden island cave tower",
    "weather": "sunny rainy windy foggy snowy cloudy warm cold",
    "stranger": "sailor baker farmer painter miller gardener tailor fisherman",
    "sound": "loud soft strange funny deep sudden sad tiny",
    "feeling": "worried scared sorry brave tired curious proud lonely",
    "count": "two three four five six seven eight nine",
}

FACTS = ("hero", "home", "colour", "animal", "pet", "friend", "wish", "food", "trip")
"""What recurs; the position of a fact in this tuple is its `item`."""

_OPENING = """
once there was a girl named {+hero} .
a girl called {+hero} lived far away .
"""
_INTRODUCTIONS = """
she lived in a house by the {+home} .
her home was close to the {+home} .
she had a {+colour} {+animal} named {+pet} .
her best present was a {+colour} {+animal} called {+pet} .
she often played with {+friend} .
her friend {+friend} lived next door .
more than anything she wanted a {+wish} .
she dreamed of a {+wish} every night .
she liked to eat {+food} .
her mother made {+food} every week .
"""
_TURN = """
one {+weather} morning {hero} walked to the {+trip} .
one day it was {+weather} and {hero} went to the {+trip} .
then {hero} took the path to the {+trip} .
then {hero} and {friend} went to the {+trip} .
one {+weather} morning {hero} took {pet} to the {+trip} .
"""
_TROUBLE = """
at the {trip} {hero} met an old {+stranger} .
at the {trip} {pet} the {animal} ran away .
at the {trip} {hero} saw a {wish} in a window .
{hero} heard a {+sound} sound behind the {trip} .
{hero} looked around but {pet} was gone .
{hero} could not find the way back to the {home} .
soon {hero} was hungry and thought of {food} .
soon {friend} fell into the water .
"""
_FEELING = """
{hero} felt {+feeling} .
she was very {+feeling} .
she was {+feeling} and called {pet} .
the {colour} {animal} looked {+feeling} too .
{friend} felt {+feeling} too .
"""
_HELP = """
{hero} sat down near the {trip} to think .
a man from the {home} came to help .
a woman came to the {trip} to help .
{friend} came to the {trip} to help .
{hero} ran to tell {friend} .
{pet} the {colour} {animal} knew what to do .
she gave some {food} to a bird .
"""
_EFFORT = """
{hero} tried {+count} times .
after a while {hero} had an idea .
after {+count} hours {hero} wanted to give up .
{hero} looked for {pet} everywhere .
{hero} thought about the {wish} again .
{friend} tried {+count} times .
"""
_TALK = """
{hero} said we can do it .
{hero} said do not worry {friend} .
thank you {friend} said {hero} .
good {animal} said {hero} to {pet} .
{hero} said there is {food} near the {home} .
come with me said {hero} .
"""
_RESOLUTION = """
at last everything was fine .
at last {hero} laughed again .
at last {hero} found {pet} .
at last {friend} smiled .
in the end {hero} got the {wish} .
in the end {pet} came back from the {trip} .
"""
_RETURN = """
{hero} went home in the evening .
{hero} went back to the house by the {home} .
{hero} and {pet} went back to the {home} .
at home there was {food} for supper .
"""
_CLOSING = """
{hero} never forgot the {trip} . <end>
{hero} slept well that night . <end>
the {colour} {animal} slept beside {hero} . <end>
{hero} and {friend} stayed friends . <end>
and {hero} kept the {wish} forever . <end>
"""

_PHASES = (
    (_OPENING, False),
    (_INTRODUCTIONS, False),
    (_TURN, False),
    (_TROUBLE, False),
    (_FEELING, True),
    (_HELP, False),
    (_EFFORT, True),
    (_TALK, True),
    (_RESOLUTION, False),
    (_RETURN, True),
    (_CLOSING, False),
)
"""The sentences of each phase of a story, and whether it may be left out: those of the next are then possible too."""

_INTRODUCING = 1
"""The phase that may have any number of sentences, at least `_FEWEST`, each about something that is not known."""

_FEWEST = 2


class State(NamedTuple):
    """Where a story stands: the phase to come, the slot of its hero, the known slots, the sentences of this phase."""

    phase: int
    hero: str
    known: frozenset[str]
    told: int


class Grammar(NamedTuple):
    """The grammar as arrays, of s states, j sentences of a state, r sentences, w places of words, k slots, v words.

    Args:
        words: the vocabulary.
        slots: names of the slots.
        slot_starts: where the words of each slot begin in the vocabulary, shape (k,).
        slot_sizes: how many they are, shape (k,).
        symbols: of each sentence: a word, or v + slot; -1 after its end; shape (r, w).
        new: whether a symbol is a first mention, shape (r, w).
        options: the sentences of each state, -1 after the last, shape (s, j).
        following: the state after each, -1 where the story ends, shape (s, j).
        nats: surprise at each word of a sentence in its state, shape (s, j, w).
    """

    words: tuple[str, ...]
    slots: tuple[str, ...]
    slot_starts: NDArray[np.int64]
    slot_sizes: NDArray[np.int64]
    symbols: NDArray[np.int64]
    new: NDArray[np.bool_]
    options: NDArray[np.int64]
    following: NDArray[np.int64]
    nats: NDArray[np.float64]


@cache
def build_grammar() -> Grammar:
    """The grammar, built once. State 0 is that of a story that has not begun; states follow those they come from."""
    states, sentences = _reachable()
    numbers = {state: number for number, state in enumerate(states)}
    patterns = sorted({pattern for options in sentences.values() for pattern, _ in options})
    slots, width = tuple(_SLOTS), max(len(pattern) for pattern in patterns)
    literals = sorted({symbol for pattern in patterns for symbol in pattern if symbol[0] != "{"} - {END})
    words = [END, *literals, *(word for slot in slots for word in _SLOTS[slot].split())]
    sizes = np.array([len(_SLOTS[slot].split()) for slot in slots])
    starts = len(literals) + 1 + np.concatenate([[0], np.cumsum(sizes)[:-1]])
    tokens = {word: token for token, word in enumerate(words)}
    of_slot = {slot: len(words) + index for index, slot in enumerate(slots)}
    symbols = np.full((len(patterns), width), -1)
    new = np.zeros(symbols.shape, dtype=np.bool_)
    for row, pattern in enumerate(patterns):
        for column, symbol in enumerate(pattern):
            symbols[row, column] = of_slot[symbol.strip("{+}")] if symbol[0] == "{" else tokens[symbol]
            new[row, column] = symbol.startswith("{+")
    most = max(len(options) for options in sentences.values())
    options = np.full((len(states), most), -1)
    following = np.full(options.shape, -1)
    for state, number in numbers.items():
        for column, (pattern, after) in enumerate(sentences[state]):
            options[number, column] = patterns.index(pattern)
            following[number, column] = -1 if after is None else numbers[after]
    news = np.where(new, np.log(np.append(sizes, 1))[np.clip(symbols - len(words), -1, None)], 0.0)
    nats = _surprises(symbols, news, options)
    return Grammar(tuple(words), slots, starts, sizes, symbols, new, options, following, nats)


def _reachable() -> tuple[list[State], dict[State, list[tuple[tuple[str, ...], State | None]]]]:
    """Every state, those that come from others after them, and the sentences and successors of each."""
    start = State(0, "", frozenset(), 0)
    sentences, waiting = {}, [start]
    while waiting:
        state = waiting.pop()
        if state not in sentences:
            sentences[state] = _options(state)
            waiting += [after for _, after in sentences[state] if after is not None]
    order = sorted(sentences, key=lambda state: (state.phase, state.told, state.hero, sorted(state.known)))
    return order, sentences


def _options(state: State) -> list[tuple[tuple[str, ...], State | None]]:
    """The sentences that are possible in a state, with the states they lead to."""
    found, phase = [], state.phase
    while True:
        for hero in ("girl", "boy") if phase == 0 else (state.hero,):
            found += [
                (pattern, _after(state, phase, hero, pattern))
                for pattern in _patterns(phase, hero)
                if _possible(state, pattern)
            ]
        if not (_PHASES[phase][1] or (phase == _INTRODUCING and state.told >= _FEWEST)):
            return found
        phase += 1


def _patterns(phase: int, hero: str) -> list[tuple[str, ...]]:
    renamed = {"{hero}": f"{{{hero}}}", "{+hero}": f"{{+{hero}}}"}
    if hero == "boy":
        renamed |= {"she": "he", "her": "his", "girl": "boy"}
    lines = _PHASES[phase][0].strip().splitlines()
    return [tuple(renamed.get(word, word) for word in line.split()) for line in lines]


def _possible(state: State, pattern: tuple[str, ...]) -> bool:
    told = {symbol.strip("{+}") for symbol in pattern if symbol.startswith("{+")}
    used = {symbol.strip("{}") for symbol in pattern if symbol[0] == "{" and symbol[1] != "+"}
    return not told & state.known and used <= state.known


def _after(state: State, phase: int, hero: str, pattern: tuple[str, ...]) -> State | None:
    if pattern[-1] == END:
        return None
    told = {symbol.strip("{+}") for symbol in pattern if symbol.startswith("{+")}
    recurring = {*FACTS, "girl", "boy"}
    known = state.known | (told & recurring)
    if phase == _INTRODUCING:
        return State(phase, hero, known, state.told + 1)
    return State(phase + 1, hero, known, 0)


def _surprises(
    symbols: NDArray[np.int64], news: NDArray[np.float64], options: NDArray[np.int64]
) -> NDArray[np.float64]:
    agree = np.cumprod(symbols[:, None, :] == symbols[None, :, :], axis=2)
    nats = np.zeros((*options.shape, symbols.shape[1]))
    for state, row in enumerate(options):
        mine = row[row >= 0]
        counts = agree[np.ix_(mine, mine)].sum(axis=1)
        before = np.concatenate([np.full((mine.size, 1), mine.size), counts[:, :-1]], axis=1)
        nats[state, : mine.size] = np.where(symbols[mine] >= 0, np.log(before / counts) + news[mine], 0.0)
    return nats


@cache
def longest_path() -> int:
    """Sentences of the longest story."""
    return _longest(np.ones(len(build_grammar().symbols), dtype=np.int64))


def n_stories() -> int:
    """How many different stories there are."""
    grammar = build_grammar()
    v, counts = len(grammar.words), [0] * len(grammar.options)
    for state in reversed(range(len(counts))):
        for sentence, after in zip(grammar.options[state], grammar.following[state], strict=True):
            if sentence >= 0:
                told = grammar.symbols[sentence][grammar.new[sentence]] - v
                ways = int(np.prod(grammar.slot_sizes[told])) if told.size else 1
                counts[state] += ways * (1 if after < 0 else counts[after])
    return counts[0]


class Expected(NamedTuple):
    """Means over windows of a number of tokens after the first, each of which begins with a story.

    Args:
        chance: entropy of a token, in nats.
        memoryless: entropy of a token given the one before.
        floor: entropy of a token given all before it in its window.
    """

    chance: float
    memoryless: float
    floor: float


@cache
def mean_tokens() -> float:
    """Tokens of a story, <end> among them, on average."""
    lengths = _walk()[1]
    return float(lengths @ np.arange(lengths.size))


@cache
def expected_losses(length: int) -> Expected:
    """Exact entropies of windows of `length` targets."""
    grammar, (told, lengths, nats) = build_grammar(), _walk()
    begins = np.zeros(length + 1)
    begins[0] = 1
    for place in range(1, length + 1):
        reach = min(place, lengths.size - 1)
        begins[place] = lengths[1 : reach + 1] @ begins[place - 1 : place - reach - 1 if place > reach else None : -1]
    # How often the j-th token of some story is a target, per target.
    until = length - np.arange(lengths.size)
    share = np.where(until >= 0, np.cumsum(begins)[np.maximum(until, 0)], 0.0) / length
    share[0] -= 1 / length
    v, k = len(grammar.words), len(grammar.slots)
    pairs = np.zeros((v + k, v + k))
    stop = grammar.words.index(".")
    openings = set(grammar.options[0])
    for sentence, symbols in enumerate(grammar.symbols):
        before = 0 if sentence in openings else stop
        for column, symbol in enumerate(symbols[symbols >= 0]):
            pairs[before, symbol] += told[sentence, : told.shape[1] - column] @ share[column:]
            before = symbol
    spread = np.eye(v + k, v)
    for slot in range(k):
        spread[v + slot, grammar.slot_starts[slot] :][: grammar.slot_sizes[slot]] = 1 / grammar.slot_sizes[slot]
    of_words = spread.T @ pairs @ spread
    chance = _entropy(of_words.sum(0))
    # Where they are equal, rounding must not put them in the wrong order.
    memoryless = min(chance, _entropy(of_words.ravel()) - _entropy(of_words.sum(1)))
    return Expected(chance, memoryless, min(memoryless, float(nats @ share)))


@cache
def _walk() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Exact laws of one story, by its tokens 0, 1, ...

    Returns:
        the probability that each sentence begins at each token, that the story has so many tokens, and the expected
        surprise at each token.
    """
    grammar = build_grammar()
    sizes = (grammar.symbols >= 0).sum(axis=1)
    longest = _longest(sizes) + 1
    here = np.zeros((len(grammar.options), longest))
    told, lengths, nats = np.zeros((len(sizes), longest)), np.zeros(longest), np.zeros(longest)
    here[0, 0] = 1
    for state, row in enumerate(grammar.options):
        for option, sentence in enumerate(row[row >= 0]):
            share, size = here[state] / (row >= 0).sum(), sizes[sentence]
            told[sentence] += share
            for column in range(size):
                nats[column:] += share[: longest - column] * grammar.nats[state, option, column]
            after = grammar.following[state, option]
            (lengths if after < 0 else here[after])[size:] += share[: longest - size]
    return told, lengths, nats


def _longest(sizes: NDArray[np.int64]) -> int:
    """The longest story, where each sentence counts for its `sizes`."""
    grammar = build_grammar()
    longest = np.zeros(len(grammar.options), dtype=np.int64)
    for state in reversed(range(longest.size)):
        row, after = grammar.options[state], grammar.following[state]
        longest[state] = np.where(row >= 0, sizes[row] + np.where(after >= 0, longest[after], 0), 0).max()
    return int(longest[0])


def _entropy(probabilities: NDArray[np.float64]) -> float:
    positive = probabilities[probabilities > 0]
    return float(-(positive * np.log(positive)).sum())

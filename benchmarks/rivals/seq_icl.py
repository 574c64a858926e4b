"""RegBench in seq_icl's way: one automaton after the other as dictionaries, minimised, and walked symbol by symbol.

Own code for the steps of berlino/seq_icl, commit 9b9223d, `dfa.py`: `RandomDFASampler`, `DFA` and `ICLDFADataModule`.
The library that it minimises automata with is not a dependency here; what that library does (a sink makes the
automaton complete, pairs of states are struck out until the rest is a bisimulation, what cannot be reached or leads
nowhere is left out) is written out.
"""

import numpy as np
from numpy.typing import NDArray

from benchmarks.rivals.generators import Sequences, demand
from mnemoscope.contracts import IGNORE
from mnemoscope.tasks import RegBenchConfig
from mnemoscope.tasks.automata import MAX_OUT_DEGREE, MAX_STATES, MIN_LETTERS, MIN_STATES, N_LETTERS, minimised

Transitions = dict[int, dict[str, int]]
"""For every state the state that each of its letters leads to; state 0 is initial."""

SINK = -1
TOKENS = {".": 0, **{chr(97 + letter): 1 + letter for letter in range(N_LETTERS)}, "|": 1 + N_LETTERS}


def random_automaton(rng: np.random.Generator) -> Transitions:
    """1 to 3 edges a state, distinct letters, distinct targets, none the state itself."""
    n_states = int(rng.integers(MIN_STATES, MAX_STATES + 1))
    n_letters = int(rng.integers(MIN_LETTERS, N_LETTERS + 1))
    alphabet = tuple(chr(97 + letter) for letter in rng.choice(N_LETTERS, size=n_letters, replace=False))
    rng = np.random.default_rng(rng.integers(0, 2**32))
    edges: Transitions = {}
    for state in range(n_states):
        n_edges = rng.integers(1, MAX_OUT_DEGREE + 1)
        letters = rng.choice(alphabet, size=n_edges, replace=False)
        others = [other for other in range(n_states) if other != state]
        found = rng.choice(others, size=n_edges, replace=False)
        edges[state] = dict(zip(map(str, letters), map(int, found), strict=True))
    return edges


def minimal(edges: Transitions) -> Transitions:
    """The minimal automaton of the language: complete it, merge states, name each class, and keep what is reached."""
    letters = sorted({letter for state in edges.values() for letter in state})
    complete = {state: {letter: out.get(letter, SINK) for letter in letters} for state, out in edges.items()}
    complete[SINK] = dict.fromkeys(letters, SINK)
    class_of: dict[int, frozenset[int]] = {}
    for one, other in bisimilar(complete):
        class_of[one] = class_of.get(one, frozenset()) | {other}
    names = {class_of[0]: 0}
    merged, queue = Transitions(), [class_of[0]]
    while queue:
        part = queue.pop(0)
        leads_to = {letter: class_of[to] for letter, to in complete[min(part)].items() if SINK not in class_of[to]}
        for to in leads_to.values():
            if to not in names:
                names[to] = len(names)
                queue.append(to)
        merged[names[part]] = {letter: names[to] for letter, to in leads_to.items()}
    return merged


def bisimilar(complete: Transitions) -> set[tuple[int, int]]:
    """All pairs of states with the same language: from every pair, those that a letter tells apart are struck out."""
    pairs = {(one, other) for one in complete for other in complete if (one == SINK) == (other == SINK)}
    while True:
        told_apart = {
            pair
            for pair in pairs
            if any((to, complete[pair[1]][letter]) not in pairs for letter, to in complete[pair[0]].items())
        }
        if not told_apart:
            return pairs
        pairs = pairs - told_apart


def word(edges: Transitions, length: int, rng: np.random.Generator) -> str:
    """A random string, a call of `choice` for every symbol."""
    state, symbols = 0, ""
    for _ in range(length):
        symbol = str(rng.choice(list(edges[state])))
        symbols += symbol + " "
        state = edges[state][symbol]
    return symbols.rstrip()


def regbench(config: RegBenchConfig, rows: int, seed: int) -> tuple[Sequences, list[Transitions], list[Transitions]]:
    """Sequences, and the automata before and after they were minimised; the published cut at 1,024 is left out."""
    rng = np.random.default_rng(seed)
    drawn = [random_automaton(rng) for _ in range(rows)]
    smallest = [minimal(edges) for edges in drawn]
    sequences = []
    for edges in smallest:
        own = np.random.default_rng(rng.integers(0, 2**32))
        n_strings = rng.integers(config.min_strings, config.max_strings + 1)
        lengths = [rng.integers(1, config.max_string_length + 1) for _ in range(n_strings)]
        text = " | ".join(word(edges, length, own) for length in lengths)
        sequences.append([TOKENS[symbol] for symbol in text.split()])
    longest = max(map(len, sequences)) - 1
    inputs, targets = np.zeros((rows, longest), np.int64), np.full((rows, longest), IGNORE)
    for row, tokens in enumerate(sequences):
        inputs[row, : len(tokens) - 1], targets[row, : len(tokens) - 1] = tokens[:-1], tokens[1:]
    targets[targets == TOKENS["|"]] = IGNORE
    return (inputs, targets), drawn, smallest


def check_supports(sequences: Sequences, drawn: list[Transitions], smallest: list[Transitions]) -> None:
    """Our minimisation of each drawn automaton has as many states, and along the sequence the same next letters."""
    shape = (len(drawn), MAX_STATES, MAX_OUT_DEGREE)
    symbols, targets = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for row, edges in enumerate(drawn):
        for state, out in edges.items():
            for place, letter in enumerate(sorted(out)):
                symbols[row, state, place], targets[row, state, place] = TOKENS[letter], out[letter]
    ours = minimised(symbols, targets)
    demand(ours.n_states.tolist() == [len(edges) for edges in smallest], "another number of states")
    for row, (edges, tokens) in enumerate(zip(smallest, sequences[0].tolist(), strict=True)):
        mine, theirs = 0, 0
        for token in tokens:
            letters = ours.symbols[row, mine]
            demand(sorted(letters[letters > 0]) == sorted(TOKENS[letter] for letter in edges[theirs]), "other letters")
            if token in (TOKENS["|"], TOKENS["."]):
                mine, theirs = 0, 0
                continue
            mine = int(ours.targets[row, mine][letters == token][0])
            theirs = edges[theirs][chr(96 + token)]


def check_ours(truth: NDArray[np.float64], inputs: NDArray[np.int64], targets: NDArray[np.int64]) -> None:
    """Every scored letter is one that the automaton may emit there, each of them as likely as the others."""
    row, at = np.nonzero(targets >= 0)
    emitted = truth[row, at]
    demand(bool((emitted[np.arange(row.size), targets[row, at]] > 0).all()), "a letter that cannot come")
    demand(np.allclose(emitted.max(-1), 1 / (emitted > 0).sum(-1)), "edges that are not equally likely")
    follows = (inputs[:, 1:] == targets[:, :-1]) | (inputs[:, 1:] == TOKENS["."])
    demand(bool(follows[targets[:, :-1] >= 0].all()), "a target that is not the next input")

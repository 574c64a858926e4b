"""Random automata: the published law, minimal and canonical form, and walks that obey the edges."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoscope.tasks.automata import MAX_STATES, SEPARATOR, Automata, draw_automata, minimised, walk

PUBLISHED = draw_automata(np.random.default_rng(0), 4000)


def edges_of(automata, row=0):
    """The edges of an automaton as {state: {letter: state}}."""
    return {
        state: {
            int(letter): int(target)
            for letter, target in zip(automata.symbols[row, state], automata.targets[row, state], strict=True)
            if letter
        }
        for state in range(int(automata.n_states[row]))
    }


def arrays(edges):
    """One automaton as arrays; states that are not named have an edge to themselves."""
    symbols, targets = np.zeros((2, 1, MAX_STATES, 3), dtype=np.int64)
    symbols[..., 0], targets[0, :, 0] = 18, np.arange(MAX_STATES)
    for state, out in edges.items():
        symbols[0, state], targets[0, state] = 0, 0
        for place, letter in enumerate(sorted(out)):
            symbols[0, state, place], targets[0, state, place] = letter, out[letter]
    return symbols, targets


def language(edges, start, depth):
    """Every string of up to `depth` letters."""
    words = {()}
    if depth:
        for letter, target in edges[start].items():
            words |= {(letter, *word) for word in language(edges, target, depth - 1)}
    return words


@st.composite
def raw_automata(draw):
    n_states = draw(st.integers(1, 6))
    letters = st.lists(st.integers(1, 3), min_size=1, max_size=3, unique=True)
    return {s: {x: draw(st.integers(0, n_states - 1)) for x in draw(letters)} for s in range(n_states)}


@settings(deadline=None, max_examples=100)
@given(edges=raw_automata())
def test_the_minimal_automaton_has_the_language_and_no_two_states_with_the_same(edges):
    found = edges_of(minimised(*arrays(edges)))
    assert language(found, 0, 5) == language(edges, 0, 5)
    # n states that differ at all differ by a string of at most n - 1 letters.
    depth = min(len(found), 6)
    languages = [frozenset(language(found, state, depth)) for state in found]
    assert len(set(languages)) == len(found)


@settings(deadline=None, max_examples=60)
@given(edges=raw_automata(), data=st.data())
def test_the_names_of_states_do_not_matter(edges, data):
    others = data.draw(st.permutations(range(1, len(edges))))
    name = dict(enumerate([0, *others]))
    renamed = {name[state]: {letter: name[target] for letter, target in out.items()} for state, out in edges.items()}
    first, second = minimised(*arrays(edges)), minimised(*arrays(renamed))
    assert np.array_equal(first.content(), second.content())


def test_states_are_numbered_by_first_reach_and_equal_ones_are_merged():
    # 1 and 3 behave alike, 4 is out of reach.
    edges = {0: {2: 3, 6: 2}, 1: {5: 2}, 2: {1: 1, 2: 0}, 3: {5: 2}, 4: {9: 0}}
    found = minimised(*arrays(edges))
    assert edges_of(found) == {0: {2: 1, 6: 2}, 1: {5: 2}, 2: {1: 1, 2: 0}}
    assert found.n_states.tolist() == [3]


def test_two_states_in_turn_may_become_one():
    found = minimised(*arrays({0: {1: 1}, 1: {1: 0}}))
    assert edges_of(found) == {0: {1: 0}}


def test_final_sizes_follow_the_published_law():
    """400 automata of the published generator: mean 7.0 states (2 to 12), 7.2 letters, out-degrees in thirds."""
    letters = [np.unique(row[row > 0]).size for row in PUBLISHED.symbols]
    degrees = PUBLISHED.out_degree[PUBLISHED.out_degree > 0]
    assert abs(PUBLISHED.n_states.mean() - 7.0) < 0.2
    assert PUBLISHED.n_states.min() >= 1
    assert PUBLISHED.n_states.max() == 12
    assert abs(np.mean(letters) - 7.2) < 0.4
    assert np.allclose(np.bincount(degrees)[1:] / degrees.size, 1 / 3, atol=0.01)


def test_every_automaton_is_canonical():
    for row in range(300):
        edges = edges_of(PUBLISHED, row)
        assert all(1 <= len(out) <= 3 and list(out) == sorted(out) for out in edges.values())
        first_reached = list(dict.fromkeys([0, *(target for out in edges.values() for target in out.values())]))
        assert first_reached == list(range(len(edges)))
    assert (PUBLISHED.symbols[np.arange(MAX_STATES) >= PUBLISHED.n_states[:, None]] == 0).all()


def test_content_tells_all_and_comes_back():
    copy = Automata.of(PUBLISHED.content())
    for name in ("symbols", "targets", "n_states"):
        assert np.array_equal(getattr(copy, name), getattr(PUBLISHED, name))


def test_letters_and_first_edges_are_uniform():
    letters = np.bincount(PUBLISHED.symbols[PUBLISHED.symbols > 0], minlength=19)[1:]
    assert (np.abs(letters / letters.sum() - 1 / 18) < 0.004).all()


def test_every_edge_is_walked_alike_and_separators_start_anew():
    found = minimised(*arrays({0: {1: 1, 6: 2}, 1: {3: 2}, 2: {1: 0, 3: 1, 4: 0}}))
    n, n_tokens = 4000, 12
    automata = found.take(np.zeros(n, dtype=np.int64))
    separators = np.zeros((n, n_tokens), dtype=np.bool_)
    separators[:, [3, 7]] = True
    tokens, states = walk(automata, separators, np.random.default_rng(0))
    edges, taken = edges_of(found), {}
    for row in range(n):
        state = 0
        for t in range(n_tokens):
            token = int(tokens[row, t])
            if separators[row, t]:
                assert token == SEPARATOR
                state = 0
            else:
                taken[state, token] = taken.get((state, token), 0) + 1
                state = edges[state][token]
            assert states[row, t] == state
    for state, out in edges.items():
        counts = np.array([taken[state, letter] for letter in out])
        expected = counts.sum() / len(out)
        assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()


def test_distributions_are_uniform_over_the_edges():
    found = minimised(*arrays({0: {1: 1, 6: 2}, 1: {3: 2}, 2: {1: 0, 3: 1}}))
    probabilities = found.distributions(np.array([[0, 1, 2, -1]], dtype=np.int8))
    expected = np.zeros((1, 4, 20))
    for position, letters in enumerate(([1, 6], [3], [1, 3])):
        expected[0, position, letters] = 1 / len(letters)
    assert np.array_equal(probabilities, expected)


def test_automata_are_those_of_the_first_release():
    """A change here changes the data of every stored run."""
    automata = draw_automata(np.random.default_rng(7), 3)
    assert automata.n_states.tolist() == [12, 9, 8]
    assert edges_of(automata) == {
        0: {10: 1, 17: 2},
        1: {7: 3, 13: 4, 17: 5},
        2: {7: 6, 14: 7, 17: 3},
        3: {7: 0, 10: 8, 15: 6},
        4: {13: 9},
        5: {6: 4, 7: 10, 8: 3},
        6: {8: 3, 13: 4, 16: 11},
        7: {13: 1, 15: 10},
        8: {7: 0, 15: 1},
        9: {12: 11},
        10: {1: 6, 11: 3},
        11: {17: 10},
    }


@pytest.mark.parametrize("pool", [3, 4, 5])
def test_three_distinct_are_uniform_over_ordered_choices(pool):
    from mnemoscope.tasks.automata import _draw_three

    draws = _draw_three(np.random.default_rng(0), np.full(40_000, pool))
    place = {choice: index for index, choice in enumerate(itertools.permutations(range(pool), 3))}
    counts = np.bincount([place[tuple(row)] for row in draws.tolist()], minlength=len(place))
    expected = 40_000 / len(place)
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()

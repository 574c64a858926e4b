"""The world that the stories of `mnemoscope.tasks.babi` tell of: what happens in it and what is true when.

People move between places, take objects, drop them, and give them to others in the same place. Everything is arrays
whose last axis is stories; only time is a loop. Each fact has a number, 0, 1, ... in the order of telling. A fact is
one assignment to the state of its story, whose entries are, with P people and O objects:

    0 ... P-1           where each person is          a bit of its own for each place; 0: unknown
    P ... P+O-1         where each object is          the same; ANYWHERE, all bits: unknown
    P+O ... P+2O-1      what each object goes with    the entry of whoever carries it, or its own where nobody does

so that somebody is where an object may be just where two entries have a bit in common. What is known follows from
what was told alone: somebody's place is unknown until they move; an object lies nobody knows where until it is taken.

The next fact is a move, taking, dropping or giving with chances 10 : 5 : 2 : 3 among those that are possible. Then each
possible one of that kind is equally likely: who moves, and then where to; who takes what; what is dropped; what is
given to whom.
"""

from functools import cache
from itertools import permutations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_CARRIED = 3
"""Objects that one person can carry."""

MOVE, TAKE, DROP, GIVE, RELATE = range(5)
_WEIGHTS = np.array([0.5, 0.25, 0.1, 0.15])
"""Of moving, taking, dropping and giving, among those that are possible."""

_ORDERS = np.array(list(permutations(range(4))))
_LEFT = _WEIGHTS[_ORDERS][:, ::-1].cumsum(axis=1)[:, ::-1]
_ORDER_CHANCES = (_WEIGHTS[_ORDERS] / _LEFT).prod(axis=1).cumsum()[:-1]
_RANKS = 4 - np.argsort(_ORDERS, axis=1).T
"""By kind of fact and order of the four kinds, 4 for the first and 1 for the last. With an order drawn one by one with
`_WEIGHTS`, the first possible kind is one drawn with `_WEIGHTS` among those possible."""

_BOUND = 9
"""Above all ranks: of the kind that a fact must be."""

ANYWHERE = 255
PLACE_OF = np.zeros(ANYWHERE + 1, dtype=np.int64)
PLACE_OF[1 << np.arange(8)] = np.arange(8)
"""The place that a bit stands for."""

STEPS = np.array([[0, 1], [1, 0], [0, -1], [-1, 0]])
"""North, east, south, west; two further is the opposite."""


class Size(NamedTuple):
    """How many people, places and objects there are."""

    people: int
    places: int
    objects: int


class Facts(NamedTuple):
    """What was told, arrays of shape (facts, b); what a fact lacks is 0.

    Args:
        kind: MOVE, TAKE, DROP, GIVE or RELATE.
        who: the person who acts; of RELATE, the direction.
        what: the object; of RELATE, the place that lies there.
        where: of MOVE the place, of GIVE the person who receives, of RELATE the place that it is seen from.
    """

    kind: NDArray[np.int64]
    who: NDArray[np.int64]
    what: NDArray[np.int64]
    where: NDArray[np.int64]


class Past(NamedTuple):
    """Every state of the stories: before the first fact, and after each.

    Args:
        state: shape (facts + 1, P + 2 O, b). What an object goes with is entry * b + story.
        carries: whether an object is carried by a person, shape (facts + 1, O, P, b).
    """

    state: NDArray[np.int64]
    carries: NDArray[np.bool_]


def draw_events(rng: np.random.Generator, must: NDArray[np.int64], size: Size, n_facts: int) -> tuple[Facts, Past]:
    """Stories of `n_facts` facts.

    Args:
        rng: of the split.
        must: of the first facts of each story, shape (m, b): TAKE: somebody takes something; MOVE: somebody who
            carries something moves; -1: anything.
        size: of the world.
        n_facts: of a story.
    """
    n_people, _, n_objects = size
    must, rows = must[:n_facts], must.shape[1]
    row, n_kept, n_held = np.arange(rows), n_people + n_objects, n_people * rows
    past = _unknown(size, n_facts, rows)
    scores, held = _scores(rng, must, size, n_facts)
    moves, idle = scores[:, :n_people], scores[:, n_people:].reshape(held.shape)
    turns = _turns(size.places)
    turn = rng.integers(turns.shape[1], size=(n_facts, rows))
    people = np.arange(n_held).reshape(n_people, rows)
    entries, goes_with = (rows * table for table in _choices(n_people, n_objects))
    flat = past.state.reshape(n_facts + 1, -1)
    picked, old = np.empty((n_facts, rows), dtype=np.int64), np.empty((n_facts, rows), dtype=np.int64)
    for now in range(n_facts):
        before, after, carries = past.state[now], flat[now + 1], past.carries[now]
        room = np.add.reduce(carries, axis=0) < MAX_CARRIED
        possible = np.logical_and(before[n_people:n_kept, None] & before[:n_people], room > carries)
        np.copyto(idle[now], held[now], where=(before[n_kept:] < n_held)[:, None])
        idle[now, :, :-1] *= possible
        if now < len(must) and (must[now] == MOVE).any():
            moves[now] *= carries.any(axis=0) | (must[now] != MOVE)
        choice = scores[now].argmax(axis=0, out=picked[now])
        entry = entries.take(choice) + row
        was = flat[now].take(entry, out=old[now])
        moved = turns.take(was * turns.shape[1] + turn[now], mode="clip")
        after[:] = flat[now]
        after[entry] = np.where(choice < n_people, moved, goes_with.take(choice) + row)
        keeper = past.state[now + 1, n_kept:]
        past.state[now + 1, n_people:n_kept] = after.take(keeper)
        np.equal(keeper[:, None], people, out=past.carries[now + 1])
    return _told(past, picked, old, size), past


def _unknown(size: Size, n_facts: int, rows: int) -> Past:
    """A past of which only what is true before the first fact is filled in."""
    n_people, _, n_objects = size
    state = np.empty((n_facts + 1, n_people + 2 * n_objects, rows), dtype=np.int64)
    own = np.arange(n_people * rows, (n_people + n_objects) * rows).reshape(n_objects, rows)
    state[0, :n_people], state[0, n_people:-n_objects], state[0, -n_objects:] = 0, ANYWHERE, own
    return Past(state, np.zeros((n_facts + 1, n_objects, n_people, rows), dtype=np.bool_))


def _scores(
    rng: np.random.Generator, must: NDArray[np.int64], size: Size, n_facts: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of everything that may happen next, the possible one with the highest score happens.

    Returns:
        scores of shape (facts, P + O (P + 1), b): of each person that they move, of each object that each person gets
        it while nobody carries it, or that nobody has it any more; and those of objects, of shape (facts, O, P + 1, b),
        while somebody carries them. 0 is impossible.
    """
    n_people, _, n_objects = size
    rows = must.shape[1]
    rank = _RANKS[:, np.searchsorted(_ORDER_CHANCES, rng.random((n_facts, rows)), side="right")]
    for kind in (MOVE, TAKE):
        rank[kind, : len(must)][must == kind] = _BOUND
    idle = rng.random((n_facts, n_people + n_objects * (n_people + 1), rows))
    free = idle[:, n_people:].reshape(n_facts, n_objects, n_people + 1, rows)
    held = np.empty_like(free)
    np.add(free[:, :, :-1], rank[GIVE, :, None, None], out=held[:, :, :-1])
    np.add(free[:, :, -1], rank[DROP, :, None], out=held[:, :, -1])
    idle[:, :n_people] += rank[MOVE, :, None]
    free[:, :, :-1] += rank[TAKE, :, None, None]
    free[:, :, -1] = 0
    return idle, held


@cache
def _choices(n_people: int, n_objects: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """By what happens, in the order of `_scores`: the entry that it changes, and what an object goes with then."""
    moves, people = np.arange(n_people), np.tile(np.arange(n_people + 1), n_objects)
    objects = np.repeat(np.arange(n_objects), n_people + 1)
    goes_with = np.where(people < n_people, people, n_people + objects)
    return np.concatenate([moves, n_people + n_objects + objects]), np.concatenate([moves, goes_with])


@cache
def _turns(n_places: int) -> NDArray[np.int64]:
    """Bits of the next place, by the bits of the present one and a number below n_places (n_places - 1).

    With that number uniform, so is the next place among the others, or among all where the present one is unknown.
    """
    turn = np.arange(n_places * (n_places - 1))
    turns = np.broadcast_to(1 << turn % n_places, (ANYWHERE + 1, turn.size)).copy()
    for place in range(n_places):
        turns[1 << place] = 1 << (place + 1 + turn % (n_places - 1)) % n_places
    return turns


def _told(past: Past, picked: NDArray[np.int64], old: NDArray[np.int64], size: Size) -> Facts:
    """Facts, from what was picked of all that may happen and from the entries that it changed."""
    n_people, _, n_objects = size
    rows = picked.shape[1]
    moves, holder = picked < n_people, old // rows
    what, whom = np.divmod(np.maximum(picked - n_people, 0), n_people + 1)
    entry = _choices(n_people, n_objects)[0].take(picked)
    value = past.state[1:].reshape(len(picked), -1)[np.arange(len(picked))[:, None], entry * rows + np.arange(rows)]
    dropped, idle = whom == n_people, holder >= n_people
    kind = np.where(moves, MOVE, np.where(dropped, DROP, np.where(idle, TAKE, GIVE)))
    who = np.where(moves, picked, np.where(idle, whom, holder))
    where = np.where(moves, PLACE_OF.take(value, mode="clip"), np.where(dropped | idle, 0, whom))
    return Facts(kind, who, what, where)


@cache
def _walks(n_steps: int) -> NDArray[np.int64]:
    """Directions of every path of so many steps on a grid that never meets itself."""
    walks = np.indices((4,) * n_steps).reshape(n_steps, -1)
    spots = np.zeros((n_steps + 1, walks.shape[1]), dtype=np.int64)
    (STEPS @ [4 * n_steps, 1])[walks].cumsum(axis=0, out=spots[1:])
    spots.sort(axis=0)
    return walks[:, (spots[1:] != spots[:-1]).all(axis=0)]


def draw_relations(rng: np.random.Generator, rows: int, n_places: int, n_facts: int) -> Facts:
    """Stories of n_facts < n_places facts that say how neighbouring places lie to each other, in any order.

    The places of a story lie along a path on a grid that never meets itself, so that no two lie on one spot; all
    paths are equally likely. Each fact is told from either of its places.
    """
    walks = _walks(n_facts)
    directions = walks[:, rng.integers(walks.shape[1], size=rows)]
    places = np.argsort(rng.random((n_places, rows)), axis=0)
    order, row = np.argsort(rng.random((n_facts, rows)), axis=0), np.arange(rows)
    ends = places[order + 1, row], places[order, row], directions[order, row]
    what, where, who = seen_from_either(rng, *ends)
    return Facts(np.full_like(who, RELATE), who, what, where)


def seen_from_either(
    rng: np.random.Generator, there: NDArray[np.int64], here: NDArray[np.int64], direction: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Two places and the direction of one from the other, told so or the other way round, as a coin falls."""
    turned = rng.integers(2, size=there.shape) == 1
    return np.where(turned, here, there), np.where(turned, there, here), (direction + 2 * turned) % 4

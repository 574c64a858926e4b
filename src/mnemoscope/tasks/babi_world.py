"""The world that the stories of `mnemoscope.tasks.babi` tell of: what happens in it, what can be asked, what is true.

People move between places, take objects, drop them, and give them to others in the same place. Everything is arrays
with one row per story; only time is a loop. Each fact has a number, 0, 1, ... in the order of telling.

What is known follows from what was told alone: somebody's place is unknown until they move; an object lies nobody
knows where until it is taken, and then is where its holder is, or where it was dropped.
"""

from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

MAX_CARRIED = 3
"""Objects that one person can carry."""

MOVE, TAKE, DROP, GIVE, RELATE = range(5)
_WEIGHTS = np.array([0.5, 0.25, 0.1, 0.15])
"""Of moving, taking, dropping and giving, among those that are possible."""

STEPS = np.array([[0, 1], [1, 0], [0, -1], [-1, 0]])
"""North, east, south, west; two further is the opposite."""


class Facts(NamedTuple):
    """What was told, arrays of shape (b, facts); what a fact lacks is 0.

    Args:
        kind: MOVE, TAKE, DROP, GIVE or RELATE.
        who: the person who acts; of RELATE, the direction.
        what: the object; of RELATE, the place that lies there.
        where: of MOVE the place, of GIVE the person who receives, of RELATE the place that it is seen from.
        wording: 0 or 1, which of two verbs.
    """

    kind: NDArray[np.int64]
    who: NDArray[np.int64]
    what: NDArray[np.int64]
    where: NDArray[np.int64]
    wording: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Size:
    """How many people, places and objects there are."""

    people: int
    places: int
    objects: int


@final
class World:
    """People and objects of `rows` stories after the facts so far; -1 is unknown, nobody or never."""

    def __init__(self, size: Size, now: int, people: NDArray[np.int64], objects: NDArray[np.int64]) -> None:
        self.size, self.now = size, now
        self._people, self._objects = people, objects
        self.place, self.moved, self.changed = people
        """Where somebody is, the fact by which they came there, the newest one by which what they carry changed."""
        self.holder, self.held, self.dropped, self.at, self.came, self.before = objects
        """Who carries an object, the fact by which its newest holder got it, the fact by which it was dropped (where
        nobody carries it), where it is, the fact by which it came there (a move of its holder, or its being taken for
        the first time), and where it was before that."""

    @classmethod
    def unknown(cls, rows: int, size: Size) -> "World":
        """Before the first fact."""
        return cls(size, -1, np.full((3, rows, size.people), -1), np.full((6, rows, size.objects), -1))

    @property
    def carried(self) -> NDArray[np.int64]:
        """How many objects each person carries, of shape (b, people)."""
        return (self.holder[:, None, :] == np.arange(self.size.people)[:, None]).sum(axis=2)

    def of(self, rows: NDArray[np.int64]) -> "World":
        """The world of some of the stories, for questions about it."""
        return World(self.size, self.now, self._people[:, rows], self._objects[:, rows])

    def step(self, rng: np.random.Generator, must: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
        """One more thing happens; returns kind, who, what and where, each of shape (b,).

        Args:
            rng: of the split.
            must: TAKE: somebody takes something; MOVE: somebody who carries something moves; -1: anything. Shape (b,).
        """
        self.now += 1
        carried, held = self.carried, self.holder >= 0
        room = carried < MAX_CARRIED
        takes, gives = self._takes(room), self._gives(room)
        possible = np.ones((len(room), 4), dtype=np.bool_)
        for act, choices in ((TAKE, takes), (DROP, held), (GIVE, gives)):
            possible[:, act] = choices.reshape(len(room), -1).any(axis=1)
        possible = np.where(must[:, None] < 0, possible, np.arange(4) == must[:, None])
        chances = np.cumsum(possible * _WEIGHTS, axis=1)
        kind = (rng.random((len(room), 1)) * chances[:, -1:] >= chances).sum(axis=1)
        facts = np.zeros((3, len(room)), dtype=np.int64)
        movers = (carried > 0) | (must[:, None] < 0)
        for act, choices in ((MOVE, movers), (TAKE, takes), (DROP, held), (GIVE, gives)):
            rows = np.flatnonzero(kind == act)
            facts[:, rows] = (self._move, self._take, self._drop, self._give)[act](rng, rows, choices[rows])
        return kind, *facts

    def _takes(self, room: NDArray[np.bool_]) -> NDArray[np.bool_]:
        here = (self.at[:, None, :] == self.place[:, :, None]) | (self.at[:, None, :] < 0)
        return here & (self.holder[:, None, :] < 0) & (room & (self.place >= 0))[:, :, None]

    def _gives(self, room: NDArray[np.bool_]) -> NDArray[np.bool_]:
        near = (self.at[:, :, None] == self.place[:, None, :]) & room[:, None, :]
        others = self.holder[:, :, None] != np.arange(self.size.people)
        return near & others & (self.holder[:, :, None] >= 0)

    def _move(
        self, rng: np.random.Generator, rows: NDArray[np.int64], movers: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], ...]:
        who = one_of(rng, movers)
        old = self.place[rows, who]
        where = rng.integers(self.size.places - (old >= 0))
        where += (old >= 0) & (where >= old)
        self.place[rows, who], self.moved[rows, who] = where, self.now
        row, what = np.nonzero(np.equal(self.holder[rows], who[:, None]))
        mine = rows[row], what
        self.before[mine], self.at[mine], self.came[mine] = self.at[mine], where[row], self.now
        return who, np.zeros_like(who), where

    def _take(
        self, rng: np.random.Generator, rows: NDArray[np.int64], takes: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], ...]:
        who, what = one_pair(rng, takes)
        first = self.at[rows, what] < 0
        self.came[rows[first], what[first]] = self.now
        self.at[rows, what] = self.place[rows, who]
        self._hand(rows, what, who)
        return who, what, np.zeros_like(who)

    def _drop(
        self, rng: np.random.Generator, rows: NDArray[np.int64], held: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], ...]:
        what = one_of(rng, held)
        who = self.holder[rows, what]
        self.holder[rows, what], self.dropped[rows, what] = -1, self.now
        self.changed[rows, who] = self.now
        return who, what, np.zeros_like(who)

    def _give(
        self, rng: np.random.Generator, rows: NDArray[np.int64], gives: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], ...]:
        what, whom = one_pair(rng, gives)
        who = self.holder[rows, what]
        self.changed[rows, who] = self.now
        self._hand(rows, what, whom)
        return who, what, whom

    def _hand(self, rows: NDArray[np.int64], what: NDArray[np.int64], whom: NDArray[np.int64]) -> None:
        self.holder[rows, what], self.held[rows, what] = whom, self.now
        self.changed[rows, whom], self.dropped[rows, what] = self.now, -1


def one_of(rng: np.random.Generator, choices: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For each row of `choices`, the column of one that is true, each equally likely."""
    return np.where(choices, rng.random(choices.shape), -1.0).argmax(axis=1)


def one_pair(rng: np.random.Generator, choices: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each matrix of `choices`, row and column of an entry that is true, each equally likely."""
    rows, height, width = choices.shape
    first, second = np.divmod(one_of(rng, choices.reshape(rows, height * width)), width)
    return first, second


def draw_relations(rng: np.random.Generator, rows: int, n_places: int, n_facts: int) -> Facts:
    """Stories of n_facts < n_places facts that say how neighbouring places lie to each other, in any order.

    The places of a story lie along a path on a grid that never meets itself, so that no two lie on one spot. Each
    fact is told from either of its places.
    """
    directions, left = np.zeros((rows, n_facts), dtype=np.int64), np.arange(rows)
    stride = STEPS @ [4 * n_places, 1]
    while left.size:
        drawn = directions[left] = rng.integers(4, size=(left.size, n_facts))
        spots = np.zeros((left.size, n_facts + 1), dtype=np.int64)
        stride[drawn].cumsum(axis=1, out=spots[:, 1:])
        spots.sort(axis=1)
        left = left[(spots[:, 1:] == spots[:, :-1]).any(axis=1)]
    places = np.argsort(rng.random((rows, n_places)), axis=1)[:, : n_facts + 1]
    order = np.argsort(rng.random((rows, n_facts)), axis=1)
    ends = [np.take_along_axis(part, order, axis=1) for part in (places[:, 1:], places[:, :-1], directions)]
    what, where, who = seen_from_either(rng, *ends)
    return Facts(np.full_like(who, RELATE), who, what, where, np.zeros_like(who))


def seen_from_either(
    rng: np.random.Generator, there: NDArray[np.int64], here: NDArray[np.int64], direction: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Two places and the direction of one from the other, told so or the other way round, as a coin falls."""
    turned = rng.integers(2, size=there.shape) == 1
    return np.where(turned, here, there), np.where(turned, there, here), (direction + 2 * turned) % 4

"""Stories and questions: a reader of the words alone replays each story and finds every answer."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoscope.contracts.batch import IGNORE, Batch
from mnemoscope.tasks.babi import Babi, BabiConfig, error_by_item, question_matches
from mnemoscope.tasks.babi_story import DIRECTIONS, OBJECTS, PEOPLE, PLACES, QUESTIONS, WORDS
from mnemoscope.tasks.streams import SPLITS, task_rng

COUNTS = ("none", "one", "two", "three")
OPPOSITE = {"north": "south", "south": "north", "east": "west", "west": "east"}


class Reader:
    """Replays a story word by word: plain dictionaries, and the position of the telling word of every fact."""

    def __init__(self):
        self.place, self.carries, self.route, self.lies = {}, {}, {}, {}
        self.moved, self.changed, self.got, self.dropped, self.came, self.related = {}, {}, {}, {}, {}, {}
        self.n_facts = 0

    def fact(self, words, last):
        self.n_facts += 1
        match words:
            case [who, "went" | "walked", "to", "the", place]:
                assert self.place.get(who) != place
                self.place[who], self.moved[who] = place, last
                for thing in self.carries.get(who, []):
                    self.route[thing].append(place)
                    self.came[thing] = last
            case [who, "took" | "grabbed", "the", thing]:
                assert thing not in self.holders()
                assert self.route.setdefault(thing, [self.place[who]])[-1] == self.place[who]
                self.get(who, thing, last)
            case [who, "dropped" | "left", "the", thing]:
                self.carries[who].remove(thing)
                self.changed[who] = self.dropped[thing] = last
            case [who, "gave" | "handed", "the", thing, "to", whom]:
                assert who != whom
                assert self.place[who] == self.place[whom]
                self.carries[who].remove(thing)
                self.changed[who] = last
                self.get(whom, thing, last)
            case ["the", there, "is", direction, "of", "the", here]:
                assert (direction, here) not in self.lies
                assert (OPPOSITE[direction], there) not in self.lies
                self.lies[direction, here], self.lies[OPPOSITE[direction], there] = there, here
                self.related[direction, here] = self.related[OPPOSITE[direction], there] = last
            case _:
                raise AssertionError(words)

    def get(self, who, thing, last):
        self.carries.setdefault(who, []).append(thing)
        assert len(self.carries[who]) <= 3
        self.changed[who] = self.got[thing] = last

    def holders(self):
        return {thing: who for who, things in self.carries.items() for thing in things}

    def answer(self, words):
        """Kind of question, words of the answer, and where the newest word stands that it needs."""
        match words:
            case ["where", "is", who] if who in PEOPLE:
                return "one", [self.place[who]], self.moved[who]
            case ["where", "is", "the", thing]:
                who = self.holders().get(thing)
                newest = self.dropped[thing] if who is None else max(self.got[thing], self.moved[who])
                return "two", [self.route[thing][-1]], newest
            case ["where", "was", "the", thing, "before", "the", place]:
                route = self.route[thing]
                assert route[-1] == place
                return "three", [route[-2]], self.came[thing]
            case ["what", "is", direction, "of", "the", here]:
                return "relations", [self.lies[direction, here]], self.related[direction, here]
            case ["what", "is", "the", there, direction, "of"]:
                return "relations", [self.lies[OPPOSITE[direction], there]], self.related[OPPOSITE[direction], there]
            case ["how", "many", "objects", "is", who, "carrying"]:
                return "counting", [COUNTS[len(self.carries.get(who, []))]], self.changed[who]
            case ["what", "is", who, "carrying"]:
                return "lists", [*(self.carries.get(who) or ["nothing"]), "."], self.changed[who]
            case ["is", who, "in", "the", place]:
                return "yes_no", ["yes" if self.place[who] == place else "no"], self.moved[who]
        raise AssertionError(words)


def read(words, think_steps):
    """Every question: its kind, where it is answered, the answer, the newest word needed, and the facts so far."""
    reader, found, sentence, position = Reader(), [], [], 0
    while position < len(words) and words[position] != "<pad>":
        word = words[position]
        if word == ".":
            reader.fact(sentence, position - 1)
            sentence = []
        elif word == "?":
            kind, answer, newest = reader.answer(sentence)
            found.append((kind, position + 1 + think_steps, answer, newest, reader.n_facts))
            n_places = think_steps + (4 if kind == "lists" else 1)
            assert words[position + 1 : position + 1 + n_places] == ["-"] * n_places
            position += n_places
            sentence = []
        else:
            sentence.append(word)
        position += 1
    assert not sentence
    assert set(words[position:]) <= {"<pad>"}
    return found


@st.composite
def babi_configs(draw):
    question, interleaved = draw(st.sampled_from([*QUESTIONS, "mixed"])), draw(st.booleans())
    n_places, n_questions = draw(st.integers(2, 8)), draw(st.integers(1, 4))
    if question in ("relations", "mixed"):
        n_questions = min(n_questions, n_places - 1)
    options = {
        "question": question,
        "n_facts": 3 * n_questions + draw(st.integers(0, 8)),
        "n_questions": n_questions,
        "interleaved": interleaved,
        "think_steps": draw(st.integers(0, 3)),
        "n_people": draw(st.integers(2, 8)),
        "n_places": n_places,
        "n_objects": draw(st.integers(1, 8)),
    }
    longest = max(map(BabiConfig(length=10_000, **options).longest, QUESTIONS))
    return BabiConfig(length=longest + draw(st.integers(0, 9)), **options)


@settings(deadline=None, max_examples=50)
@given(config=babi_configs(), seed=st.integers(0, 2**32))
def test_a_reader_of_the_words_answers_every_question(config, seed):
    task = Babi(config)
    batch = task.batch(task_rng(seed, "train", 0), 6, "train")
    for row in range(6):
        found = read(task.words(batch.inputs[row].tolist()), config.think_steps)
        assert len(found) == config.n_questions
        scored = {}
        for query, (kind, start, answer, newest, n_facts) in enumerate(found):
            assert config.question in (kind, "mixed")
            for slot, word in enumerate(answer):
                position = start + slot
                scored[position] = word
                assert batch.about["distance"][row, position] == position - newest
                assert batch.about["item"][row, position] == QUESTIONS.index(kind)
                assert batch.about["load"][row, position] == n_facts
                assert batch.about["query"][row, position] == query
        positions = np.flatnonzero(batch.targets[row] != IGNORE)
        assert dict(zip(positions.tolist(), task.words(batch.targets[row, positions].tolist()), strict=True)) == scored
    assert all(np.array_equal(values >= 0, batch.targets != IGNORE) for values in batch.about.values())


def choices(reader, config):
    """Everything that may be told next: by kind, what can be chosen first."""
    people, objects, held = PEOPLE[: config.n_people], OBJECTS[: config.n_objects], reader.holders()
    room = [who for who in people if who in reader.place and len(reader.carries.get(who, [])) < 3]
    lies = {thing: reader.route.get(thing, [None])[-1] for thing in objects}
    return {
        "went": [(who,) for who in people],
        "took": [
            (who, thing)
            for who in room
            for thing in objects
            if thing not in held and lies[thing] in (None, reader.place[who])
        ],
        "dropped": [(held[thing], thing) for thing in sorted(held)],
        "gave": [
            (held[thing], thing, who)
            for thing in sorted(held)
            for who in room
            if who != held[thing] and lies[thing] == reader.place[who]
        ],
    }


@pytest.mark.parametrize(("n_people", "n_places", "n_objects"), [(4, 6, 4), (2, 2, 6)])
def test_what_happens_follows_its_chances(n_people, n_places, n_objects):
    other = {"walked": "went", "grabbed": "took", "left": "dropped", "handed": "gave"}
    weights = {"went": 10, "took": 5, "dropped": 2, "gave": 3}
    sizes = {"n_people": n_people, "n_places": n_places, "n_objects": n_objects}
    config = BabiConfig(question="one", n_facts=12, n_questions=1, length=110, **sizes)
    task, surplus, variance = Babi(config), Counter(), Counter()

    def note(event, happened, chance):
        surplus[event] += happened - chance
        variance[event] += chance * (1 - chance)

    for row in task.batch(task_rng(0, "train", 0), 1200, "train").inputs.tolist():
        reader = Reader()
        for fact in " ".join(task.words(row)).split(" . ")[:-1]:
            words, options = fact.split(), choices(reader, config)
            kind, total = other.get(words[1], words[1]), sum(weights[kind] for kind in weights if options[kind])
            for each in weights:
                note(each, kind == each, weights[each] / total if options[each] else 0)
            named = tuple(word for word in words if word in (*PEOPLE, *OBJECTS))
            for end in (0, -1):
                note((kind, end), named == options[kind][end], 1 / len(options[kind]))
            if kind == "went":
                places = [place for place in PLACES[:n_places] if place != reader.place.get(words[0])]
                note("where", words[-1] == places[-1], 1 / len(places))
            note("wording", words[1] == kind, 0.5)
            reader.fact(words, 0)
    assert len(surplus) == 14
    assert all(abs(surplus[event]) < 5 * math.sqrt(variance[event]) + 1e-9 for event in surplus)


@pytest.mark.parametrize("question", QUESTIONS)
def test_stories_fill_the_length_that_is_required(question):
    longest = BabiConfig(question=question, length=99).longest(question)
    used = Babi(BabiConfig(question=question, length=longest)).batch(task_rng(0, "train", 0), 4000, "train").inputs != 0
    # All relations have eight words; that all events are gifts, of seven, is possible in principle alone.
    assert used.sum(axis=1).max() >= (longest if question == "relations" else longest - 16)


def test_questions_come_after_equal_shares_of_the_facts():
    config = BabiConfig(question="one", n_facts=7, n_questions=3, length=99)
    assert config.asked_after("one") == [2, 4, 7]
    assert replace(config, interleaved=False).asked_after("one") == [7, 7, 7]
    about = Babi(config).batch(task_rng(0, "train", 0), 5, "train").about["load"]
    assert [row[row >= 0].tolist() for row in about] == [[2, 4, 7]] * 5


def test_one_sequence():
    task = Babi(BabiConfig(question="two", n_facts=3, n_questions=1, length=32))
    batch = task.batch(task_rng(0, "train", 0), 1, "train")
    scored = np.flatnonzero(batch.targets[0] != IGNORE)
    assert " ".join(task.words(batch.inputs[0].tolist())) == (
        "anna went to the cellar . anna grabbed the apple . clara went to the attic . where is the apple ? - - - - "
        "<pad> <pad> <pad> <pad> <pad> <pad>"
    )
    assert scored.tolist() == [25]
    assert task.words(batch.targets[0, scored].tolist()) == ["cellar"]
    assert {name: values[0, 25] for name, values in batch.about.items()} == {
        "distance": 16,
        "item": 1,
        "load": 3,
        "query": 0,
    }


@pytest.mark.parametrize("question", ["two", "relations", "mixed"])
def test_no_split_shows_the_stories_of_another(question):
    # So few stories exist that an undivided generator would repeat them.
    task = Babi(BabiConfig(question=question, n_facts=3, n_questions=1, n_people=2, n_places=4, n_objects=1, length=45))
    rows = {
        split: {tuple(row) for row in task.batch(np.random.default_rng(0), 3000, split).inputs.tolist()}
        for split in SPLITS
    }
    assert len(rows["train"]) < 2990
    assert sum(map(len, rows.values())) == len(set().union(*rows.values()))


def test_mixed_stories_ask_every_kind_equally_often():
    batch = Babi(BabiConfig()).batch(task_rng(0, "train", 0), 7000, "train")
    counts = Counter(batch.about["item"].max(axis=1).tolist())
    assert sorted(counts) == list(range(7))
    assert all(abs(count - 1000) < 5 * math.sqrt(1000 * 6 / 7) for count in counts.values())


@pytest.mark.parametrize("question", ["one", "two", "three", "relations", "yes_no"])
def test_answers_of_places_and_yes_no_are_uniform(question):
    words = ("no", "yes") if question == "yes_no" else PLACES[:6]
    task = Babi(BabiConfig(question=question))
    batch = task.batch(task_rng(0, "train", 0), 4000, "train")
    found = Counter(task.words(batch.targets[batch.targets != IGNORE].tolist()))
    assert sorted(found) == sorted(words)
    share = 1 / len(words)
    assert all(abs(n - 8000 * share) < 6 * math.sqrt(8000 * share * (1 - share)) for n in found.values())
    assert task.chance_loss == pytest.approx(math.log(len(words)))
    assert task.chance_loss - 1e-3 < task.memoryless_loss <= task.chance_loss


@pytest.mark.parametrize("question", ["counting", "lists", "mixed"])
def test_the_present_token_is_worth_what_memoryless_says(question):
    task = Babi(BabiConfig(question=question))
    fitted, held_out = (task.batch(task_rng(1, split, 0), 1500, split) for split in ("train", "validation"))
    assert set(fitted.inputs[fitted.targets != IGNORE].tolist()) == {WORDS.index("-")}
    counts = np.bincount(fitted.targets[fitted.targets != IGNORE], minlength=len(WORDS))
    losses = -np.log((counts / counts.sum())[held_out.targets[held_out.targets != IGNORE]])
    assert losses.mean() == pytest.approx(task.memoryless_loss, abs=6 * losses.std() / math.sqrt(1500))
    assert task.floor_loss < task.memoryless_loss < task.chance_loss
    assert np.count_nonzero(counts) == round(math.exp(task.chance_loss))


def test_questions_are_right_when_all_their_words_are():
    targets = np.array([[IGNORE, 4, 5, IGNORE, 6], [7, IGNORE, IGNORE, 8, 9]])
    about = {
        "query": np.array([[-1, 0, 0, -1, 1], [0, -1, -1, 1, 1]]),
        "item": np.array([[-1, 5, 5, -1, 0], [0, -1, -1, 5, 5]]),
    }
    batch = Batch(inputs=np.zeros_like(targets), targets=targets, about=about)
    matches, items = question_matches(np.array([[0, 4, 9, 0, 6], [1, 0, 0, 8, 9]]), batch)
    assert matches.tolist() == [False, True, False, True]
    assert items.tolist() == [5, 0, 0, 5]
    assert error_by_item(matches, items) == {0: 0.5, 5: 0.5}
    assert error_by_item(*question_matches(targets, batch)) == {0: 0.0, 5: 0.0}


def test_the_vocabulary_is_fixed():
    assert len(set(WORDS)) == len(WORDS) == Babi(BabiConfig()).vocab_size == 60
    assert WORDS[:4] == ("<pad>", "-", ".", "?")
    assert all(set(part) < set(WORDS) for part in (PEOPLE, PLACES, OBJECTS, DIRECTIONS, COUNTS))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"question": "four"}, "question: must be one of one, two, .*, mixed, got 'four'"),
        ({"n_facts": 5}, "n_facts: must be at least 6, .* first of 2 questions 'three' .* got 5; nearest valid: 6"),
        ({"question": "lists", "n_facts": 1, "n_questions": 1}, "n_facts: must be at least 2"),
        ({"n_questions": 0}, "n_questions: must be at least 1, got 0; nearest valid: 1"),
        ({"question": "relations", "n_questions": 6}, r"at most the n_places - 1 = 5 .* got 6; nearest valid: 5"),
        ({"think_steps": -1}, "think_steps: must be at least 0, got -1; nearest valid: 0"),
        ({"n_people": 1}, "n_people: must be between 2 and 8, got 1; nearest valid: 2"),
        ({"n_places": 9}, "n_places: must be between 2 and 8, got 9; nearest valid: 8"),
        ({"n_objects": 0}, "n_objects: must be between 1 and 8, got 0; nearest valid: 1"),
        ({"length": 93}, "length: must be at least 94, .* 10 facts and 2 questions, got 93; nearest valid: 94"),
    ],
)
def test_config_refuses(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        BabiConfig(**options)

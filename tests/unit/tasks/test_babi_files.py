"""Files in bAbI's format: what is read, what is scored, and what is said of a line that is not in the format."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoscope.contracts.batch import IGNORE
from mnemoscope.tasks.babi import error_by_item, question_matches
from mnemoscope.tasks.babi_files import BabiFiles, BabiFilesConfig, Line, Story, load_babi, parse_babi, told
from mnemoscope.tasks.streams import SPLITS, task_rng

STORY = "1 Ann moved to the attic.\n2 Ben went to the hall.\n3 Where is Ann? \tattic\t1\n"
LISTS = "1 Ann took the cup.\n2 Ann took the hat.\n3 What is Ann carrying?\tcup,hat\t1 2\n"
PEOPLE, PLACES = ("Ann", "Ben", "Cleo", "Dan"), ("attic", "hall", "shed", "barn", "office")


def moves(numbers):
    """One story for each number: two people move, and one is asked for."""
    lines = []
    for number in numbers:
        first, second = PLACES[number % 5], PLACES[number // 5 % 5]
        who, other = PEOPLE[number // 25 % 4], PEOPLE[(number // 25 + 1) % 4]
        lines.append(f"1 {who} moved to the {first}.\n2 {other} went to the {second}.\n3 Where is {who}?\t{first}\t1\n")
    return "".join(lines)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "qa1_single-supporting-fact_train.txt").write_text(moves(range(80)))
    (tmp_path / "qa1_single-supporting-fact_test.txt").write_text(moves(range(75, 100)))
    (tmp_path / "qa8_lists-sets_train.txt").write_text(LISTS * 3 + LISTS.replace("Ann", "Ben"))
    (tmp_path / "qa8_lists-sets_test.txt").write_text(LISTS.replace("hat", "key"))
    (tmp_path / "LICENSE.txt").write_text("not a task")
    return tmp_path


def test_lines_are_read_as_they_stand(tmp_path):
    path = tmp_path / "qa1_x_train.txt"
    path.write_text(STORY + "\n" + LISTS)
    first, second = parse_babi(path)
    assert first == (
        Line(("ann", "moved", "to", "the", "attic", ".")),
        Line(("ben", "went", "to", "the", "hall", ".")),
        Line(("where", "is", "ann", "?"), ("attic",), (0,)),
    )
    assert second[2] == Line(("what", "is", "ann", "carrying", "?"), ("cup", "hat"), (0, 1))


def test_a_story_is_told_with_its_answers_left_out():
    lines = (
        Line(("ann", "moved", "to", "the", "attic", ".")),
        Line(("where", "is", "ann", "?"), ("attic",), (0,)),
        Line(("ann", "took", "the", "cup", ".")),
        Line(("what", "is", "there", "?"), ("ann", "cup"), (0, 2)),
    )
    words, scored = told(Story(8, lines), think_steps=2)
    assert " ".join(words) == "ann moved to the attic . where is ann ? - - - ann took the cup . what is there ? - - - -"
    assert scored == [
        (12, "attic", {"distance": 8, "item": 8, "load": 1, "query": 0}),
        (24, "ann", {"distance": 8, "item": 8, "load": 2, "query": 1}),
        (25, "cup", {"distance": 9, "item": 8, "load": 2, "query": 1}),
    ]


@st.composite
def stories(draw):
    """Stories in which facts and questions come in any order, each question after the facts that support it."""
    word = st.sampled_from(("ann", "ben", "cup", "hat", "attic", "hall", "to", "the"))
    told_so_far, lines = [], []
    for is_question in [False, *draw(st.lists(st.booleans(), max_size=7)), True]:
        words = tuple(draw(st.lists(word, min_size=1, max_size=5)))
        if not is_question:
            told_so_far.append(len(lines))
            lines.append(Line((*words, ".")))
            continue
        answer = tuple(draw(st.lists(word, min_size=1, max_size=3)))
        support = draw(st.lists(st.sampled_from(told_so_far), min_size=1, max_size=3, unique=True))
        lines.append(Line((*words, "?"), answer, tuple(support)))
    return tuple(lines)


def written(lines):
    """A story as bAbI's files have it."""
    rows = []
    for number, line in enumerate(lines, start=1):
        text = " ".join(line.words[:-1]).capitalize() + line.words[-1]
        support = " ".join(str(fact + 1) for fact in line.support)
        rows.append(f"{number} {text}" + (f" \t{','.join(line.answer)}\t{support}" if line.answer else ""))
    return "\n".join(rows) + "\n"


@given(several=st.lists(stories(), min_size=1, max_size=4), think_steps=st.integers(0, 3))
@settings(deadline=None)
def test_what_is_written_is_read_and_a_reader_finds_every_answer_due(tmp_path_factory, several, think_steps):
    path = tmp_path_factory.mktemp("babi") / "qa1_x_train.txt"
    path.write_text("".join(map(written, several)))
    read = parse_babi(path)
    assert read == several
    for lines in read:
        words, scored = told(Story(1, lines), think_steps)
        questions = [line for line in lines if line.answer]
        assert [answer for _, answer, _ in scored] == [word for line in questions for word in line.answer]
        assert [about["query"] for *_, about in scored] == [i for i, line in enumerate(questions) for _ in line.answer]
        assert words.count("-") == len(scored) + think_steps * len(questions)
        assert [word for word in words if word != "-"] == [word for line in lines for word in line.words]
        for position, _, about in scored:
            newest = max(questions[about["query"]].support)
            # A fact is known at its last word before the full stop, and so often has a full stop ended one by then.
            known_at = position - about["distance"]
            assert words[position] == "-"
            assert words[known_at + 1] == "."
            ended_before = sum(word in (".", "?") for word in words[:known_at])
            assert ended_before == newest
            assert about["load"] == sum(word == "." for word in words[:position])


def test_every_file_is_loaded_by_task_and_split(folder):
    everything = load_babi(folder)
    assert {split: len(stories) for split, stories in everything.items()} == {"train": 84, "validation": 0, "test": 26}
    assert {story.task for story in load_babi(folder, 8)["train"]} == {8}
    (folder / "qa8_lists-sets_valid.txt").write_text(LISTS.replace("cup", "hat"))
    assert len(load_babi(folder, 8)["validation"]) == 1


def test_batches_hold_the_stories(folder):
    task = BabiFiles(BabiFilesConfig(folder=str(folder), task=1))
    assert task.length == 12 + 4 + 3 + 1
    batch = task.batch(task_rng(0, "test", 0), 25, "test")
    found = set()
    for inputs, targets in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
        words = task.words(inputs)
        assert words[-8:-5] == ["where", "is", words[0]]
        assert words[-5:] == ["?", "-", "-", "-", "-"]
        assert targets[:-1] == [IGNORE] * 19
        assert task.words(targets[-1:]) == [words[4]]
        found.add(tuple(words))
    assert len(found) == 25
    assert batch.about["distance"][:, -1].tolist() == [15] * 25
    assert error_by_item(*question_matches(batch.targets, batch)) == {1: 0.0}


def test_splits_share_no_story_and_what_recurs_is_left_out(folder):
    task = BabiFiles(BabiFilesConfig(folder=str(folder), task=1))
    rows = {split: {tuple(row) for row in task._splits[split]["inputs"].tolist()} for split in SPLITS}
    assert sum(map(len, rows.values())) == len(set().union(*rows.values())) == 100
    # Stories 75 to 79 stand in both files; some of them are validation stories.
    manifest = task.manifest()
    assert manifest["left_out"] == 5
    assert manifest["test_stories"] == 25
    assert manifest["train_stories"] + manifest["validation_stories"] == 75
    assert task.n_sequences("train") is None
    assert task.n_sequences("validation") == manifest["validation_stories"] > 0


def test_losses_are_those_of_the_answers(folder):
    task = BabiFiles(BabiFilesConfig(folder=str(folder), task=1))
    assert task.chance_loss == pytest.approx(math.log(5))
    assert task.memoryless_loss == pytest.approx(math.log(5))
    assert task.floor_loss == 0


def test_padding_follows_short_stories(folder):
    task = BabiFiles(BabiFilesConfig(folder=str(folder), task=1, length=40, think_steps=0))
    batch = task.batch(np.random.default_rng(0), 3, "train")
    assert batch.inputs.shape == (3, 40)
    assert (batch.inputs[:, 17:] == 0).all()
    assert (batch.targets[:, 16] != IGNORE).all()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "must hold stories, got an empty file"),
        ("2 Ann moved.\n", "line 1: must begin with 1 or, for a new story, 1 and a space, got '2 Ann moved.'"),
        ("1 Ann moved.\n3 Ben moved.\n", "line 2: must begin with 2 or, for a new story, 1 .* got '3 Ben moved.'"),
        ("1 Ann moved.\nBen moved.\n", "line 2: must begin with 2 .* got 'Ben moved.'"),
        ("1 Ann moved.\n2\n", "line 2: must have words after its number, got ''"),
        ("1 Ann moved.\n2 Where is Ann?\n", "line 2: .*question.*tab.* got 'Where is Ann\\?'"),
        ("1 Ann moved.\n2 Where is Ann?\tattic\n", "line 2: .*question.*tab"),
        ("1 Ann moved.\n2 Where is Ann?\t\t1\n", "line 2: .*question.*tab"),
        ("1 Ann moved.\n2 Where is Ann?\tattic\tone\n", "line 2: the supporting .*, 1, got 'one'"),
        ("1 Ann moved.\n2 Where is Ann?\tattic\t2\n", "line 2: the supporting .*, 1, got '2'"),
        ("1 Where is Ann?\tattic\t1\n", "line 1: the supporting .* of which there are none, got '1'"),
        ("1 Ann moved.\n", "must hold questions .* got none"),
    ],
)
def test_ill_formed_files_are_refused_with_the_line(tmp_path, text, complaint):
    path = tmp_path / "qa1_x_train.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=complaint):
        parse_babi(path)


def test_other_encodings_are_refused(tmp_path):
    path = tmp_path / "qa1_x_train.txt"
    path.write_bytes("1 Zoë moved.\n".encode("latin-1"))
    with pytest.raises(ValueError, match="must be UTF-8 text, got an undecodable byte at offset 4"):
        parse_babi(path)


def test_missing_files_are_refused(folder, tmp_path):
    with pytest.raises(ValueError, match=r"got '.*nowhere', which is none"):
        load_babi(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"must hold a file named qa3_\*_train.txt, got files of the tasks \[1, 8\]"):
        load_babi(folder, 3)
    (folder / "qa1_single-supporting-fact_test.txt").unlink()
    with pytest.raises(ValueError, match=r"qa1_\*_test.txt"):
        load_babi(folder, 1)


def test_short_lengths_and_large_batches_are_refused(folder):
    with pytest.raises(ValueError, match=r"length must be at least 20, .* got 19; nearest valid: 20"):
        BabiFiles(BabiFilesConfig(folder=str(folder), task=1, length=19))
    with pytest.raises(ValueError, match=r"size must be at most 25, .* got 26; nearest valid: 25"):
        BabiFiles(BabiFilesConfig(folder=str(folder), task=1)).batch(task_rng(0, "test", 0), 26, "test")
    (folder / "qa1_single-supporting-fact_train.txt").write_text(moves(range(75, 80)))
    with pytest.raises(ValueError, match="the validation split must hold a story that no later split holds"):
        BabiFiles(BabiFilesConfig(folder=str(folder), task=1))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"folder": ""}, "folder: must be the path of a folder, got an empty string"),
        ({"task": 0}, "task: must be at least 1, got 0; nearest valid: 1"),
        ({"length": 0}, "length: must be at least 1, got 0"),
        ({"think_steps": -2}, "think_steps: must be at least 0, got -2; nearest valid: 0"),
    ],
)
def test_config_refuses(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        BabiFilesConfig(**options)

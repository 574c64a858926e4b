"""Tasks in the terminal: what is printed fits, nothing scored is lost, and drawings keep their columns."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemoscope.cli import samples
from mnemoscope.cli.samples import sampled
from mnemoscope.cli.show import Show
from mnemoscope.cli.terminal import columns, filled, fitted
from mnemoscope.contracts import IGNORE, Batch
from mnemoscope.tasks import TASKS

NEEDED = {"babi_files": (f"folder={Path(__file__).parents[1] / 'tasks' / 'babi'}",)}
"""Parameters of tasks that have no default for them."""


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("kind", TASKS)
def test_every_task_fits_the_terminal(kind, width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    assert Show(name=kind, options=NEEDED.get(kind, ())).run() == 0
    lines = capsys.readouterr().out.splitlines()
    # A path is a parameter of any length.
    assert max(len(line) for line in lines if "folder = " not in line) <= width
    assert len(lines) <= 180
    assert any(line.startswith("one sequence of ") for line in lines)


@dataclasses.dataclass
class Fixed:
    """A task of one sequence."""

    inputs: np.ndarray
    targets: np.ndarray
    about: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    vocab_size: int = 100

    @property
    def length(self):
        return self.inputs.shape[1]

    def words(self, tokens):
        return [str(token) for token in tokens]

    def batch(self, rng, size, split):
        assert (size, split) == (1, "train")
        return Batch(inputs=self.inputs, targets=self.targets, about=self.about)


def tokens(length, scored, distance=None):
    inputs = np.arange(length)[None] % 10
    targets = np.full_like(inputs, IGNORE)
    targets[0, scored] = 77
    about = {}
    if distance is not None:
        about["distance"] = np.where(targets >= 0, distance, -1)
    return Fixed(inputs, targets, about)


def test_targets_stand_below_their_inputs_and_padding_is_left_out():
    assert sampled(tokens(8, [2, 5]), 3, 80) == [
        "one sequence of 8 tokens, vocabulary 100, seed 3",
        "  inputs   0 1  2 3 4  5",
        "  targets      77     77",
    ]


def test_long_sequences_keep_their_ends_what_is_scored_and_what_it_needs():
    lines = sampled(tokens(1000, [999], distance=500), 0, 51)
    assert lines[1:] == [
        "  inputs   " + " ".join("01234567890123456789"),
        "  ... 460 tokens ...",
        "  inputs   " + " ".join("01234567890123456789"),
        "  ... 480 tokens ...",
        "  inputs   " + " ".join("0123456789012345678") + "  9",
        "  targets  " + " " * 38 + "77",
    ]


@given(length=st.integers(2, 3000), width=st.integers(40, 200), data=st.data())
def test_lines_fit_and_every_token_is_printed_or_counted(length, width, data):
    scored = sorted(data.draw(st.sets(st.integers(0, length - 1), min_size=1, max_size=5)))
    lines = sampled(tokens(length, scored), 0, width)[1:]
    assert max(map(len, lines)) <= width
    printed = sum(len(line.split()) - 1 for line in lines if line.startswith("  inputs"))
    left_out = sum(int(line.split()[1]) for line in lines if line.startswith("  ..."))
    assert printed + left_out == scored[-1] + 1
    assert sum(line.count("77") for line in lines if line.startswith("  targets")) == len(scored)


def test_next_tokens_need_no_targets():
    inputs = np.array([[5, 6, 7, 8]])
    lines = sampled(Fixed(inputs, np.array([[6, 7, 8, 9]])), 0, 80)
    assert lines[1:] == ["  5 6 7 8", "  4 positions are scored against what comes next, the last against 9"]
    # The present token as a target is not the next one, even where the first two agree by chance.
    assert "targets" in "\n".join(sampled(Fixed(np.array([[5, 5, 7]]), np.array([[5, 5, 7]])), 0, 80))


def test_bits_run_to_the_right():
    inputs = np.array([[[1, 0.0], [0, -0.5], [0, 0], [0, 0], [1, 1]]])
    targets = np.array([[[np.nan], [np.nan], [1.0], [0.0], [np.nan]]])
    task = Fixed(np.concatenate([inputs, np.zeros((1, 5, 1))], axis=2), targets, vocab_size=0)
    assert sampled(task, 0, 80)[2:] == [
        "  inputs   #...",
        "           .x..",
        "           (x is -0.50)",
        "           ....",
        "",
        "  targets    #.",
    ]


def test_numbers_are_listed_at_both_ends():
    inputs = np.arange(20.0).reshape(1, 10, 2) / 4
    targets = np.full((1, 10, 2), np.nan)
    targets[0, -1, 0] = 1.5
    lines = sampled(Fixed(inputs, targets, vocab_size=0), 0, 80)
    assert lines[1] == "  inputs      0    0.00   0.25"
    assert lines[5:8] == ["           ...", "              9    4.50   4.75", "  targets     0       .      ."]
    assert lines[-1] == "              9    1.50      ."


def test_columns_are_those_of_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "97")
    assert columns() == 97
    monkeypatch.setenv("COLUMNS", "3")
    assert columns() == 40


def test_prose_is_filled_and_drawings_are_cut_where_all_lines_are_blank():
    drawing = "    inputs   1 2 3 4 | 5 6 7 8 | 9 9      (. = IGNORE)\n    targets  . . . . | 5 6 7 8 | . ."
    text = (
        f"One two three four five six seven eight nine ten.\n\n{drawing}\n\n    a    is short\n    bb   is a longer row"
    )
    assert fitted(text, 120) == text
    assert fitted(text, 40).splitlines() == [
        "One two three four five six seven eight",
        "nine ten.",
        "",
        "    inputs   1 2 3 4 | 5 6 7 8 | 9 9",
        "    targets  . . . . | 5 6 7 8 | . .",
        "    (. = IGNORE)",
        "",
        "    a    is short",
        "    bb   is a longer row",
    ]
    assert fitted("    a    is short\n    bb   is a row that is too long by far", 30).splitlines() == [
        "    a    is short",
        "    bb   is a row that is too",
        "         long by far",
    ]


def test_a_wide_drawing_goes_on_below():
    drawing = "    inputs   11 12 13 14 15 16  21 22 23\n    targets   .  .  .  . 15 16   .  . 23"
    assert fitted(drawing, 36).splitlines() == [
        "    inputs   11 12 13 14 15 16",
        "    targets   .  .  .  . 15 16",
        "        21 22 23",
        "         .  . 23",
    ]


def test_hanging_indents():
    assert filled("  name  one two three", 14, 8).splitlines() == ["  name  one", "        two", "        three"]


def test_limits_of_long_samples():
    lines = sampled(tokens(5000, list(range(0, 5000, 37))), 0, 80)
    assert sum(line.startswith("  inputs") for line in lines) <= samples.MOST_KEPT

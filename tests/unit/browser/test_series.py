"""Streams that grow, against the slow and strict reader of a run directory."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemoscope.browser.series import MOST_NAMES, Curve, Series
from mnemoscope.browser.thinning import between, thinned
from mnemoscope.runs import MetricWriter, read_rows, series


def same_as_slow(fast: Series, path: Path) -> None:
    rows = read_rows(path)
    names = dict.fromkeys(name for row in rows for name in row if name != "step")
    assert set(fast.names) == set(names)
    for name in names:
        steps, values = series(rows, name)
        np.testing.assert_array_equal(fast.curve(name).steps, steps)
        np.testing.assert_array_equal(fast.curve(name).values, values)


def test_every_look_says_what_the_slow_reader_says(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    fast = Series(path)
    fast.refresh()
    assert fast.names == []
    for segment, after in enumerate((0, 4, 3, 0)):
        writer = MetricWriter(path, after)
        for step in range(after + 1, after + 7):
            even = {"validation_loss": math.nan} if step % 2 == 0 else {}
            writer.write(step, {"loss": step + segment / 10, **even})
            fast.refresh()
            same_as_slow(fast, path)
        writer.close()
    assert fast.last_step == 6
    assert fast.problem == ""


def test_a_torn_line_waits_for_its_end_and_is_forgotten_with_its_segment(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"segment": 0, "after_step": 0}\n{"step": 1, "loss": 2}\n{"step": 2, "lo')
    fast = Series(path)
    fast.refresh()
    assert fast.curve("loss").values.tolist() == [2]
    writer = MetricWriter(path, 1)
    writer.write(2, {"loss": 1.5})
    writer.close()
    fast.refresh()
    same_as_slow(fast, path)
    assert fast.problem == ""


def test_lines_that_are_no_rows_are_counted_and_left_out(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    bad = [
        "[1]",
        "7",
        "{",
        '{"step": "x", "loss": 1}',
        '{"loss": 1}',
        '{"step": 3, "loss": "much"}',
        '{"step": 4, "a": []}',
    ]
    huge = '{"step": 5, "loss": ' + "9" * 400 + "}"
    path.write_text("\n".join([*bad, huge, '{"step": 9, "loss": 0.5}', "[" * 5000]) + "\n", encoding="utf-8")
    fast = Series(path)
    fast.refresh()
    assert fast.curve("loss").steps.tolist() == [9]
    assert "9 lines" in fast.problem


def test_a_file_that_becomes_another_is_read_anew(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2}\n{"step": 2, "loss": 1}\n', encoding="utf-8")
    fast = Series(path)
    fast.refresh()
    other = tmp_path / "other"
    other.write_text('{"step": 1, "accuracy": 0.5}\n', encoding="utf-8")
    other.replace(path)
    fast.refresh()
    assert fast.names == ["accuracy"]
    path.unlink()
    fast.refresh()
    assert fast.names == []


def test_names_are_bounded(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    row = {"step": 1, **{f"figure {i}": i for i in range(MOST_NAMES + 5)}}
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    fast = Series(path)
    fast.refresh()
    assert len(fast.names) == MOST_NAMES
    assert "names" in fast.problem


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=1, max_size=300), st.integers(1, 40))
def test_thinning_keeps_ends_peaks_and_order(values: list[float], n: int):
    curve = Curve(np.arange(float(len(values))), np.array(values))
    thin = thinned(curve, n)
    assert len(thin.steps) <= max(2 * n + 2, 2)
    assert (np.diff(thin.steps) > 0).all()
    assert (thin.steps[0], thin.steps[-1]) == (0, len(values) - 1)
    finite = curve.values[np.isfinite(curve.values)]
    if len(finite):
        kept = thin.values[np.isfinite(thin.values)]
        assert (kept.min(), kept.max()) == (finite.min(), finite.max())


def test_between_takes_both_ends():
    curve = Curve(np.arange(5.0), np.arange(5.0))
    assert between(curve, 1, 3).steps.tolist() == [1, 2, 3]
    assert between(curve, None, 0).steps.tolist() == [0]


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 100])
def test_a_single_peak_survives_any_length(n: int):
    values = np.zeros(n)
    values[n // 2] = 7.0
    assert 7.0 in thinned(Curve(np.arange(float(n)), values), 3).values

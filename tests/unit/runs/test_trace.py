import json

import pytest

from mnemoscope.runs import SCHEMA_VERSION, write_record
from mnemoscope.runs.trace import TRACE, differences, load_trace, mean_difference
from tests.unit.reporting.trace_samples import hidden, text


def test_a_trace_is_read_as_it_was_written(tmp_path):
    record = text()
    write_record(tmp_path / TRACE, record)
    assert load_trace(tmp_path) == record
    assert load_trace(tmp_path).schema_version == SCHEMA_VERSION


def test_a_folder_without_one_says_how_to_make_it(tmp_path):
    with pytest.raises(ValueError, match=r"holds no trace\.json; make one: mnemoscope trace"):
        load_trace(tmp_path)


@pytest.mark.parametrize("column", ["targets", "losses"])
def test_a_column_of_another_length_is_refused(tmp_path, column):
    value = json.loads(text().model_dump_json())
    value[column] = value[column][:-1]
    (tmp_path / TRACE).write_text(json.dumps(value))
    with pytest.raises(ValueError, match=rf"{column}: must have a value for each of 4 tokens, got 3"):
        load_trace(tmp_path)


def test_differences_are_without_less_with_and_none_where_nothing_is_scored():
    record = text()
    assert differences(record, record.sites[0]) == pytest.approx([2.0, 0.0, -0.5, 0.25])
    assert mean_difference(record, record.sites[0]) == pytest.approx(1.75 / 4)
    asked = hidden()
    assert differences(asked, asked.sites[0]) == [None, None, pytest.approx(3.0)]
    assert mean_difference(asked, asked.sites[0]) == pytest.approx(3.0)

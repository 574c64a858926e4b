from typing import get_args

import pytest

from mnemoscope.cli.printing import print_verdicts, verdict_lines
from mnemoscope.runs.examination import Verdict
from tests.unit.reporting import samples
from tests.unit.reporting.samples import examination, memory

LONG = "model.layers.17.linear_attention_with_a_rather_long_name_that_is_wider_than_any_terminal.state"


def lines(record, width: int) -> list[str]:
    return verdict_lines("run", record, width)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal_but_for_a_command(width):
    shown = lines(samples.complete().examination, width)
    assert all(len(line) <= width for line in shown if "try:" not in line)
    assert any(line.strip() == "try: mnemoscope train RECIPE --steps 3000 --out OUT" for line in shown)


@pytest.mark.parametrize("width", [40, 80, 120])
def test_names_and_verdicts_are_whole_at_any_width(width):
    for name in ("m", "blocks.1.memory", LONG):
        for verdict in get_args(Verdict):
            shown = "\n".join(lines(examination(sites=[memory(name, verdict=verdict)]), width))
            assert name in shown
            assert verdict in shown
            assert "3.100 [3.000, 3.200]" in shown


def test_a_wide_terminal_has_every_column_and_a_narrow_one_drops_zero_first():
    wide = lines(examination(), 120)[1]
    assert wide.split() == ["site", "verdict", "optimal", "constant", "zero", "last", "4", "tokens", "share"]
    narrow = lines(examination(), 80)[1]
    assert narrow.split() == ["site", "verdict", "optimal", "constant", "share"]


def test_columns_are_aligned():
    record = examination(sites=[memory("a"), samples.decorative("blocks.10.memory")])
    head, first, second = lines(record, 120)[1:4]
    at = head.index("verdict")
    assert first[at:].startswith("load-bearing (sole)")
    assert second[at:].startswith("decorative")
    assert len(head) == len(first) == len(second)


def test_what_is_missing_or_failed_comes_before_the_table():
    shown = lines(samples.complete().examination, 80)
    first = next(i for i, line in enumerate(shown) if line.startswith("site"))
    above = "\n".join(shown[:first])
    assert "(look 2 of 3)" in above
    assert "UNFINISHED" in above
    assert "horizon of blocks.1.memory: interrupted" in above
    assert "CONTROL FAILED: shuffled reads, blocks.2.memory" in above
    assert "identity" not in "\n".join(shown)


def test_groups_and_parts_of_the_data_have_rows_of_their_own():
    shown = lines(samples.complete().examination, 120)
    together = next(i for i, line in enumerate(shown) if "switched off together" in line)
    assert shown[together + 1].startswith("all memories")
    demanding = next(i for i, line in enumerate(shown) if line.strip().startswith("demanding (5% of positions, 480"))
    assert shown[demanding + 1].startswith("blocks.2.memory")
    assert "2.400 [2.300, 2.500]" in shown[demanding + 1]


def test_what_would_flip_a_verdict_stands_below_its_reason():
    shown = lines(examination(), 200)
    at = next(i for i, line in enumerate(shown) if line.strip().startswith("blocks.1.memory: its history"))
    assert shown[at + 1].strip().startswith("To flip this verdict, the lower end of the best-constant effect")


def test_edge_cases_print(capsys):
    for case in samples.EDGES:
        print_verdicts("run", case().examination)
    told = capsys.readouterr().out
    assert "no memory was found" in told
    assert "effects only" in told
    assert "\u202e" not in told

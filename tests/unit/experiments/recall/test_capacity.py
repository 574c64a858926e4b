"""What feature maps hold: ranks as they are known, and a study at a size that takes seconds."""

from dataclasses import replace
from pathlib import Path

import pytest

from mnemoscope.experiments.recall.capacity import (
    FOLDER,
    MAPS,
    MEMORY_CAPACITY,
    Capacity,
    Map,
    by_map,
    memory_capacity,
    rank_of,
)
from mnemoscope.experiments.reproducing import reproduce
from mnemoscope.experiments.reproduction_page import reproduction_of
from mnemoscope.memories.feature_maps import FeatureMap

TINY = Capacity(
    loads=(2, 3, 16, 64),
    n_values=4,
    width=4,
    sketch_width=6,
    chunk_tokens=4,
    steps=20,
    alone=18,
    batch_size=2,
    test_sequences=4,
)
"""The loads that claims name, and few steps."""


@pytest.mark.parametrize(
    ("name", "features", "rank"),
    [
        ("identity", 16, 16),
        ("elementwise 1", 17, 17),
        ("elementwise 2", 33, 33),
        ("monomial 2", 153, 153),
        ("monomial 3", 969, 400),
        ("sketch 1", 64, 17),
        ("sketch 2", 64, 64),
    ],
)
def test_ranks(name: str, features: int, rank: int):
    """Of 400 keys of 16 channels, which span at most 400 directions."""
    options = next(Capacity().options(a_map) for a_map in MAPS if a_map.name == name)
    assert FeatureMap(options, 16).n_features == features
    assert rank_of(options, 16) == rank


def test_the_study(tmp_path: Path):
    tiny = replace(MEMORY_CAPACITY, sizes={"small": TINY})
    found = reproduce(tiny, 1, "small", tmp_path, print)
    figures = found[0].figures
    assert {claim.figure for claim in tiny.claims} <= figures.keys()
    assert figures["monomial gain"] == figures["monomial 2 at 64"] - figures["identity at 64"]
    assert figures["behind"] == figures["identity early"] - figures["elementwise 2 early"]
    assert all(1 <= figures[f"{a_map.name} rank of keys"] <= 64 for a_map in MAPS)
    (table,) = by_map(TINY, found)
    assert [row[0] for row in table.rows] == [a_map.name for a_map in MAPS]
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert len(reproduction_of(tiny, "small", found, 1, "").charts) == 4
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / FOLDER).rglob("*.json")}
    assert len(kept) == len(MAPS)
    assert memory_capacity(TINY, 0, tmp_path).figures == figures
    assert all(path.stat().st_mtime_ns == before for path, before in kept.items())


def test_names_and_settings():
    assert Map("identity").name == "identity"
    assert Map("sketch", 3).name == "sketch 3"
    with pytest.raises(ValueError, match=r"Capacity\.steps: must be a multiple of 20, got 30"):
        replace(TINY, steps=30)
    with pytest.raises(ValueError, match=r"Capacity\.loads: must be at least one, ascending, got \(3, 2\)"):
        replace(TINY, loads=(3, 2))

"""Several processes at one examination: the record of one process, errors and interrupts that are everybody's."""

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mnemoscope.contracts import Batch
from mnemoscope.examination.protocol.conditions import ROUTES, starts
from mnemoscope.examination.protocol.waves import Fit, fit_in_waves, wave
from mnemoscope.examination.running.parcels import packed, unpacked
from mnemoscope.examination.running.ranks import Alone
from mnemoscope.examination.subject.digest import digest
from tests.unit.examination import ranked

Records = dict[str, list[dict[str, Any]]]


def processes(folder: Path, count: int, *cases: str, beside_one: tuple[str, ...] = ()) -> Records:
    """Records of every case by rank, behind them that of one process where it is wanted."""
    context = multiprocessing.get_context("spawn")
    started = [context.Process(target=ranked.run, args=(rank, count, folder, cases)) for rank in range(count)]
    started += [context.Process(target=ranked.run, args=(0, 1, folder, beside_one))] if beside_one else []
    for process in started:
        process.start()
    for process in started:
        process.join(400)
    alive = [process for process in started if process.is_alive()]
    for process in alive:
        process.kill()
        process.join()
    assert not alive

    def read(case: str, who: object) -> Any:
        path = folder / f"{case}-{who}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    ends = {case: ["one"] if case in beside_one else [] for case in cases}
    return {case: [read(case, who) for who in [*range(count), *ends[case]]] for case in cases}


def untimed(record: dict[str, Any]) -> dict[str, Any]:
    assert "error" not in record, record["where"]
    return {name: value for name, value in record.items() if name != "seconds"}


def same(records: list[dict[str, Any]]) -> dict[str, Any]:
    """The one record that all have, to the bit."""
    first, *others = map(untimed, records)
    for other in others:
        assert first == other
    return first


def test_two_processes_give_the_record_of_one(tmp_path: Path):
    found = processes(tmp_path, 2, "two_memories", "other_batches", "two_memories_alone")
    record = same([*found["two_memories"], found["two_memories_alone"][0]])
    assert [site["verdict"] for site in record["sites"]] == ["load-bearing (sole)", "starved"]
    assert found["two_memories_alone"][1] is None
    for said in found["other_batches"]:
        assert said["error"] == "ValueError"
        assert "must have the same batches, got others on rank 1 than on rank 0" in said["message"]


@pytest.mark.long
def test_what_is_found_out_in_the_middle_holds_for_all(tmp_path: Path):
    found = processes(tmp_path, 3, "ragged", "brittle", beside_one=("ragged", "brittle"))
    assert same(found["ragged"])["replay"].endswith("stacked where they fit")
    record = same(found["brittle"])
    assert "window memories.0 1: losses are not finite, effect left out" in record["warnings"]
    assert record["sites"][0]["horizon"] == []


@pytest.mark.long
@pytest.mark.parametrize("count", [2, 4])
def test_planted_memories_on_several_processes(count: int, tmp_path: Path):
    """A sole memory beside attention, and what the other kinds add: several memories, a bank."""
    found = processes(tmp_path, count, "G1", "G5", beside_one=("G1", "G5"))
    for records in found.values():
        same(records)


@pytest.mark.long
def test_an_error_on_one_rank_ends_all_and_leaves_them_able_to_go_on(tmp_path: Path):
    found = processes(tmp_path, 2, "failing", "other_weights", "two_memories")
    here, there = found["failing"][1], found["failing"][0]
    assert (here["error"], here["message"]) == ("ZeroDivisionError", "a loss that fails")
    assert there["message"] == "a loss that fails (on rank 1 of 2)"
    assert all("the same model" in said["message"] for said in found["other_weights"])
    same(found["two_memories"])


@pytest.mark.long
def test_an_interrupt_stops_all_at_the_same_place(tmp_path: Path):
    found = processes(tmp_path, 2, "said_to_stop", "interrupted")
    record = same(found["said_to_stop"])
    assert record["n_test"] < 256
    assert record["missing"][0].endswith("test batches: interrupted")
    assert [said["error"] for said in found["interrupted"]] == ["KeyboardInterrupt"] * 2


@pytest.mark.long
def test_a_rank_that_dies_ends_the_others(tmp_path: Path):
    there, here = processes(tmp_path, 2, "killed")["killed"]
    assert here is None
    assert there["error"] == "ConnectionError"
    assert "lost the others" in there["message"]


def fit(cost: float, *after: str) -> Fit:
    return Fit(work=list, keep=lambda constants: None, cost=cost, after=frozenset(after))


def test_a_wave_is_what_others_wait_for_and_what_fits_beside_it():
    fits = {"a": fit(3), "b": fit(1), "free": fit(2), "long": fit(5), "both": fit(1, "a", "b")}
    assert wave(fits, frozenset(), 2) == [["a"], ["b", "free"]]
    del fits["a"], fits["b"], fits["free"]
    assert wave(fits, frozenset({"a", "b", "free"}), 2) == [["long"], ["both"]]


def test_fits_are_kept_before_what_waits_for_them():
    seen: list[str] = []
    told: list[float] = []

    def named(name: str, *after: str) -> Fit:
        def work() -> list[torch.Tensor]:
            assert set(after) <= set(seen)
            return []

        return Fit(work=work, keep=lambda constants: seen.append(name), cost=1, after=frozenset(after))

    fit_in_waves({"c": named("c", "b"), "b": named("b", "a"), "a": named("a")}, Alone(), told.append)
    assert seen == ["a", "b", "c"]
    assert told == pytest.approx([1 / 3, 2 / 3, 1])


def test_joint_fits_start_at_the_largest_fit_within():
    a, b, routes = frozenset({"a"}), frozenset({"b"}), frozenset({ROUTES})
    found = starts([a | b, a | routes, a | b | routes], {"a": [], "b": [], ROUTES: []})
    assert found == {a: None, b: None, routes: None, a | b: a, a | routes: routes, a | b | routes: a | routes}


def test_values_arrive_as_they_were_sent():
    value = {
        ("off", "a"): [torch.arange(3), torch.tensor(True)],
        "rest": (torch.full((2, 0), 1.0), torch.tensor([[1.5, torch.nan]], dtype=torch.bfloat16), "words", None),
    }
    parcel, contents = packed(value)
    again = unpacked(parcel, torch.cat(contents), torch.device("cpu"))
    assert list(again) == list(value)
    for sent, received in zip(
        torch.utils._pytree.tree_leaves(value), torch.utils._pytree.tree_leaves(again), strict=True
    ):
        if isinstance(sent, torch.Tensor):
            torch.testing.assert_close(received, sent, rtol=0, atol=0, equal_nan=True)
        else:
            assert sent == received


def batch(change: Callable[[torch.Tensor], torch.Tensor] = torch.clone) -> Batch:
    tokens = torch.arange(6).reshape(2, 3)
    return Batch(inputs=change(tokens), targets=tokens, about={"load": np.ones((2, 3))})


def test_a_digest_sees_contents_and_not_places():
    assert digest([batch()]) == digest([batch()])
    others = [lambda x: x + 1, lambda x: x.float(), lambda x: x.flip(0)]
    assert len({digest([batch(change)]) for change in (torch.clone, *others)}) == 4
    assert digest({"input_ids": torch.ones(2)}) != digest({"input_ids": torch.ones(3)})
    assert digest([object()]) == digest([object()])

"""Corpora on the hub: what is read of a stream, that it is kept, and what is said when it cannot be had."""

import json
import sys

import datasets
import pytest

from mnemoscope.tasks import SPLITS, Text, TextConfig, task_rng
from mnemoscope.tasks.corpus import corpus_bytes, load_corpus
from mnemoscope.tasks.hub import HubText, hub_file, parse_hub

REAL = datasets.load_dataset


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MNEMOSCOPE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub with one data set, which is streamed from a file of rows; returns what it was asked for."""
    asked = []

    def serve(rows, suffix="json"):
        path = tmp_path / f"rows.{suffix}"
        if suffix == "json":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        else:
            datasets.Dataset.from_list(rows).to_parquet(path)

        def load_dataset(name, config, *, split, revision, streaming):
            asked.append((name, config, split, revision, streaming))
            return REAL(suffix, data_files=str(path), split="train", streaming=streaming)

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        return asked

    return serve


def failing(error):
    def load_dataset(*_, **__):
        raise error

    return load_dataset


@pytest.mark.parametrize(
    ("corpus", "expected"),
    [
        ("hub:a/b", HubText(name="a/b")),
        ("hub:a-1/b.c_d?split=test", HubText(name="a-1/b.c_d", split="test")),
        (
            "hub:a/b?config=x-1&column=story&revision=1a2b&split=train%5B:10%25%5D",
            HubText(name="a/b", config="x-1", column="story", revision="1a2b", split="train[:10%]"),
        ),
    ],
)
def test_names_say_what_to_read(corpus, expected):
    assert parse_hub(corpus) == expected


@pytest.mark.parametrize(
    ("corpus", "complaint"),
    [
        ("hub:", "must be hub:owner/name, got the name ''"),
        ("hub:wikitext", "must be hub:owner/name, got the name 'wikitext'"),
        ("hub:a/b/c", "must be hub:owner/name"),
        ("hub:../b", "must be hub:owner/name"),
        ("hub:a/b?colum=x", "must be among config, split, column, revision, .* nearest valid: 'column'"),
        ("hub:a/b?split=x&split=y", "each once, got split&split"),
        ("hub:a/b?split", "must have parameters like split=train&column=text"),
    ],
)
def test_misspelt_names_are_refused(corpus, complaint):
    with pytest.raises(ValueError, match=complaint):
        parse_hub(corpus)


@pytest.mark.parametrize("suffix", ["json", "parquet"])
def test_documents_are_joined_in_order_up_to_a_number_of_bytes(hub, suffix):
    asked = hub(
        [{"text": text, "id": n} for n, text in enumerate(["one", None, "", "zwei", "drei €€", "vier"])], suffix
    )
    assert hub_file("hub:a/b", 13).read_bytes() == b"one\n\nzwei\n\ndr"
    assert hub_file("hub:a/b", 1000).read_text() == "one\n\nzwei\n\ndrei €€\n\nvier"
    assert asked == [("a/b", None, "train", None, True)] * 2


@pytest.mark.parametrize("n_bytes", range(1, 25))
def test_the_last_character_is_whole(hub, n_bytes):
    hub([{"text": "a€b😀c"}, {"text": "d€€"}])
    whole = "a€b😀c\n\nd€€"
    if n_bytes < 4:
        assert whole.startswith(hub_file("hub:a/b", n_bytes).read_text())
        return
    kept = hub_file("hub:a/b", n_bytes).read_text()
    assert whole.startswith(kept)
    assert min(n_bytes - 3, len(whole.encode())) <= len(kept.encode()) <= n_bytes


def test_no_more_is_read_than_needed(monkeypatch):
    def rows():
        yield {"text": "x" * 100}
        pytest.fail("read on")

    stream = datasets.IterableDataset.from_generator(rows)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: stream)
    assert hub_file("hub:a/b", 60).read_bytes() == b"x" * 60


def test_what_was_read_once_is_read_again_without_a_network(hub, monkeypatch):
    hub([{"story": f"story {n} is about {n * n} bears\n"} for n in range(200)])
    config = TextConfig(corpus="hub:a/b?column=story", max_bytes=4000, length=16, tokeniser="characters")
    first = Text(config)
    monkeypatch.setattr(datasets, "load_dataset", failing(ConnectionError("no network")))
    monkeypatch.setitem(sys.modules, "datasets", None)
    again = Text(config)
    assert again.manifest() == first.manifest()
    for split in SPLITS:
        one, other = (task.batch(task_rng(0, split, 0), 4, split).inputs for task in (first, again))
        assert (one == other).all()


def test_every_parameter_and_number_of_bytes_has_its_own_file(hub):
    hub([{"text": "some text", "story": "some story"}])
    corpora = ["hub:a/b", "hub:a/c", "hub:a/b?column=story", "hub:a/b?config=x", "hub:a/b?revision=x"]
    files = {hub_file(corpus, n) for corpus in [*corpora, "hub:a/b?split=test"] for n in (5, 6)}
    assert len(files) == 12
    assert all(file.exists() for file in files)


def test_a_corpus_of_the_hub_cannot_be_written_to(hub):
    hub([{"text": "some text"}])
    data = corpus_bytes("hub:a/b", 9)
    assert data.tobytes() == b"some text"
    with pytest.raises(ValueError, match="read-only"):
        data[0] = 0


def test_a_stream_that_breaks_leaves_nothing(tmp_path, monkeypatch):
    def rows():
        yield {"text": "x" * 100}
        raise ConnectionResetError("reset by peer")

    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.IterableDataset.from_generator(rows))
    with pytest.raises(ValueError, match=r"corpus 'hub:a/b': must be reachable .* ConnectionResetError: reset by peer"):
        hub_file("hub:a/b", 1000)
    assert list((tmp_path / "cache" / "hub").iterdir()) == []


@pytest.mark.parametrize(
    ("error", "complaint"),
    [
        (ConnectionError("Couldn't reach 'a/b'"), "must be reachable or have been read before .*Couldn't reach 'a/b'"),
        (
            datasets.exceptions.DatasetNotFoundError("no a/b"),
            "must be a public data set .*DatasetNotFoundError: no a/b",
        ),
        (
            ValueError("Bad split: tran. Available splits: ['train']"),
            r"must be a public .*Available splits: \['train'\]",
        ),
    ],
)
def test_a_failure_says_what_to_look_at(monkeypatch, error, complaint):
    monkeypatch.setattr(datasets, "load_dataset", failing(error))
    with pytest.raises(ValueError, match=complaint):
        Text(TextConfig(corpus="hub:a/b", max_bytes=10_000))


def test_without_a_network_the_package_itself_says_so(monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"must be reachable or have been read before .* HF_HUB_OFFLINE"):
        hub_file("hub:nobody/nothing", 1000)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match=r"needs the package datasets.*pip install 'mnemoscope\[text\]'"):
        hub_file("hub:a/b", 1000)


def test_a_folder_of_that_name_is_not_read_instead(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="must be on the hub, got a path of that name"):
        hub_file("hub:a/b", 1000)


@pytest.mark.parametrize("suffix", ["json", "parquet"])
@pytest.mark.parametrize(
    ("corpus", "complaint"),
    [
        ("hub:a/b?column=txet", r"must have the column 'txet', got text, id; nearest valid: hub:a/b\?column=text"),
        ("hub:a/b?column=id", "column 'id' must hold text, got int"),
    ],
)
def test_a_column_that_is_missing_or_no_text_is_refused(hub, suffix, corpus, complaint):
    hub([{"text": "some text", "id": 1}], suffix)
    with pytest.raises(ValueError, match=complaint):
        hub_file(corpus, 1000)


def test_a_column_without_text_is_refused(hub):
    hub([{"text": ""}, {"text": None}])
    with pytest.raises(ValueError, match="must hold text, got 0 bytes in the column 'text' of the split 'train'"):
        hub_file("hub:a/b", 1000)


def test_a_corpus_of_the_hub_needs_an_end():
    with pytest.raises(ValueError, match=r"max_bytes: must say where to stop .* got None; use at least 5140"):
        TextConfig(corpus="hub:a/b")
    with pytest.raises(ValueError, match="must be hub:owner/name"):
        TextConfig(corpus="hub:b", max_bytes=10_000)
    with pytest.raises(ValueError, match=r"where nothing says after how many bytes .*hub_file\(corpus, max_bytes\)"):
        load_corpus("hub:a/b")

"""`mnemoscope trace` as a user types it, and `mnemoscope report --files`."""

import io
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

import mnemoscope
from mnemoscope.cli.main import main
from mnemoscope.cli.trace_view import print_trace, shown_site, stream
from mnemoscope.models import StackConfig
from mnemoscope.reporting.trace import tokens_of
from mnemoscope.runs.trace import Trace, load_trace
from mnemoscope.tasks import MqarConfig, TextConfig
from mnemoscope.training import Recipe, TrainConfig, train_recipe
from tests.unit.reporting.trace_samples import hidden, text

TRAIN = TrainConfig(
    steps=2, batch_size=4, warmup_steps=1, eval_every=2, eval_sequences=4, log_every=2, checkpoint_every=2
)
FAST = ("--calibration", "16", "--fit-steps", "1")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    model = StackConfig.of("attention(window=4), gated_delta", vocab_size=256, d_model=16)
    prose = TextConfig(corpus="prose", length=16, max_bytes=20_000)
    train_recipe(Recipe(name="text", model=model, task=prose, train=TRAIN), folder / "text")
    asked = MqarConfig(vocab_size=32, length=16, n_pairs=2)
    train_recipe(Recipe(name="recall", model=model, task=asked, train=TRAIN), folder / "recall")
    return folder


def mnemoscope_(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["mnemoscope", *map(str, words)])
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_a_text_is_traced_shown_and_kept(runs, tmp_path, monkeypatch, capsys):
    (tmp_path / "t.txt").write_text("The name of the name, the café of the name.")
    json = tmp_path / "deep" / "t.json"
    words = ("trace", runs / "text", "--text", tmp_path / "t.txt", "--json", json, "--rows", 3, *FAST)
    assert mnemoscope_(monkeypatch, *words) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines()[:-2])) <= 80
    assert "\x1b[" not in printed
    assert "13 more scored tokens" in printed
    assert "the first 17 of 44 tokens are traced" in " ".join(printed.split())
    record = load_trace(runs / "text")
    assert Trace.model_validate_json(json.read_text()) == record
    assert "".join(record.inputs) == "The_name_of_the_"
    assert record.targets[-1] == "n"
    assert record.next_token
    assert record.is_text
    assert record.command.startswith("mnemoscope trace ")
    assert (runs / "text" / "trace.html").read_text().count("<ruby") == 17


def test_a_task_is_traced_on_its_test_split(runs, tmp_path, monkeypatch, capsys):
    words = ("trace", runs / "recall", "--index", 2, "--by", "mean", "--rows", 0, "--out", tmp_path, *FAST)
    assert mnemoscope_(monkeypatch, *words) == 0
    assert "sequence 2 of the test split" in " ".join(capsys.readouterr().out.split())
    record = load_trace(tmp_path)
    assert not record.is_text
    assert not record.next_token
    scored = [i for i, target in enumerate(record.targets) if target is not None]
    assert scored
    assert all((record.losses[i] is None) == (i not in scored) for i in range(len(record.inputs)))
    assert not (runs / "recall" / "trace.json").exists()


def test_the_facade_traces_runs_and_modules(runs):
    given = mnemoscope.trace(runs / "text", [1, 2, 3, 4, 5], replaced_by="mean")
    assert len(given.inputs) == 4
    model = torch.nn.Sequential(torch.nn.Embedding(8, 8), torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
    batches = [torch.randint(8, (4, 9)) for _ in range(2)]
    found = mnemoscope.trace(model, torch.arange(8), calibration=batches, sites=["1"], replaced_by="mean")
    assert [site.name for site in found.sites] == ["1"]
    assert found.targets == [str(i) for i in range(1, 8)]
    with pytest.raises(ValueError, match="a module needs calibration="):
        mnemoscope.trace(model, [1, 2, 3])
    with pytest.raises(ValueError, match=r"lie in 0 \.\.\. 255, got 999"):
        mnemoscope.trace(runs / "text", [1, 2, 999])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere",), "nowhere"),
        (("RECALL", "--text", "FILE"), "whose tokens are no text"),
        (("TEXT", "--text", "missing.txt"), "missing.txt"),
        (("TEXT", "--text", "BINARY"), "must be UTF-8 text"),
        (("TEXT", "--text", "SHORT"), "at least 3 tokens, got 1"),
        (("TEXT", "--text", "FILE", "--index", "1"), "--index is for sequences of the test split"),
        (("TEXT", "--index", "99"), "index must be one of 0"),
        (("TEXT", "--length", "1"), "length must be at least 2"),
        (("TEXT", "--rows", "-1"), "--rows must be 0"),
        (("TEXT", "--sites", "blocks.*.memry"), "no module matches"),
        (("TEXT", "--by", "mean", "--show", "nothing"), "names no site that was traced"),
    ],
)
def test_mistakes_are_one_line_and_exit_with_2(runs, tmp_path, monkeypatch, capsys, words, said):
    files = {"FILE": b"some text", "BINARY": b"\xff\xfe\x00", "SHORT": b"a"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    known = {"TEXT": str(runs / "text"), "RECALL": str(runs / "recall")} | {n: str(tmp_path / n) for n in files}
    assert mnemoscope_(monkeypatch, "trace", *(known.get(word, word) for word in words), *FAST) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_marks_stand_below_their_tokens_in_lines_that_fit():
    record = hidden()
    lines = stream(tokens_of(record, record.sites[0]), 10, apart=True)
    assert [(words.plain, marks) for words, marks in lines] == [("k1 v2", ""), ("k1 → v2", "#######")]


@pytest.mark.parametrize(("silent", "coloured"), [(False, True), (True, False)])
def test_colour_is_left_out_where_it_is_not_wanted(monkeypatch, silent, coloured):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    if silent:
        monkeypatch.setenv("NO_COLOR", "1")
    else:
        monkeypatch.delenv("NO_COLOR", raising=False)
    file = io.StringIO()
    record = text()
    monkeypatch.setattr("mnemoscope.cli.trace_view.Console", lambda **options: Console(file=file, **options))
    print_trace(record, shown_site(record, None), 0)
    printed = file.getvalue()
    assert ("\x1b[3" in printed or "\x1b[9" in printed) == coloured
    print_trace(record, shown_site(record, "blocks.1.*"), 0)
    assert "wrote -: it shows no state" in file.getvalue()


def test_a_report_brings_its_files(runs, tmp_path, monkeypatch, capsys):
    from mnemoscope.runs import RunDirectory
    from tests.unit.reporting import samples

    RunDirectory(runs / "text").write_examination(samples.before().examination)
    assert mnemoscope_(monkeypatch, "report", runs / "text", "--out", tmp_path / "r.html", "--files") == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "r.html")
    assert {path.suffix for path in (tmp_path / "r-files").iterdir()} == {".csv", ".tex", ".svg", ".pdf"}

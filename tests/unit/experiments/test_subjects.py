"""What a user can name, and the data it is examined on."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mnemoscope.examination import Budget
from mnemoscope.examination.subject.vectors import VectorLoss
from mnemoscope.experiments.factories import called, functions_in
from mnemoscope.experiments.held_out import BYTES, Data, Encoder, of_text, read, task_of
from mnemoscope.experiments.subjects import subject_of
from mnemoscope.tasks import MqarConfig
from tests.unit.examination.tiny_huggingface import VOCABULARY, build

BUDGET = Budget(n_calibration=16, n_test=32)
FACTORIES = """
import helper
from torch import nn
from helper import imported

class Model(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)

def model(): return Model()
def with_batches(): return Model(), iter([1, 2])
def with_loss(): return Model(), [1, 2], lambda model, batch: batch
def number(): return 3
def four(): return Model(), [1], print, 4
def text(): return Model(), "abc"
def no_loss(): return Model(), [1], 4
def needs(width): return Model()
def breaks(): return undefined
value = 4
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "helper.py").write_text("from torch import nn\ndef imported(): return nn.Linear(3, 3)\n")
    (tmp_path / "models.py").write_text(FACTORIES)
    return tmp_path / "models.py"


def test_a_factory_returns_model_batches_and_loss(file: Path):
    before = list(sys.path)
    assert called(file, "model").batches is None
    assert called(file, "with_batches")[1:] == ([1, 2], None)
    made = called(file, "with_loss")
    assert made.loss is not None
    assert made.batches == [1, 2]
    assert called(file, "imported").model.in_features == 3
    assert sys.path == before
    assert functions_in(file)[:3] == ["Model", "model", "with_batches"]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("modle", "did you mean 'model'"),
        ("number", r"must return a model, .* got int"),
        ("four", r"got \(Model, list, builtin_function_or_method, int\)"),
        ("text", "a list of batches second, got str"),
        ("no_loss", "a loss third, .* got int"),
        ("needs", "must take no arguments, and it needs width"),
        ("breaks", r"raised NameError: name 'undefined' is not defined \(line 18\)"),
        ("value", "must be a function, got int"),
    ],
)
def test_what_a_factory_does_wrong_is_said(file: Path, function: str, message: str):
    before = list(sys.path)
    with pytest.raises(ValueError, match=message):
        called(file, function)
    assert sys.path == before


def test_files_that_cannot_be_read_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="no file"):
        called(tmp_path / "none.py", "model")
    (tmp_path / "broken.py").write_text("def model(:")
    with pytest.raises(ValueError, match=r"is not Python: SyntaxError.*line 1"):
        called(tmp_path / "broken.py", "model")
    (tmp_path / "missing.py").write_text("import no_such_module\ndef model(): pass")
    with pytest.raises(ValueError, match="cannot be imported: ModuleNotFoundError"):
        called(tmp_path / "missing.py", "model")


def test_windows_of_a_text_do_not_overlap_and_test_windows_stand_behind(tmp_path: Path):
    # Each line is its own number, so that a window tells where it stood.
    (tmp_path / "text.txt").write_text("".join(f"{n:07d}\n" for n in range(600)))
    data = Data(source=str(tmp_path / "text.txt"), length=15, batch=8)
    held_out = of_text(str(tmp_path / "text.txt"), BYTES, data, BUDGET)
    assert {batch.size for batch in [*held_out.calibration, *held_out.test]} == {4}
    starts = [
        [int(bytes(row[:7].tolist())) for batch in part for row in batch.inputs]
        for part in (held_out.calibration, held_out.test)
    ]
    assert len(set(starts[0])) == 16
    assert len(set(starts[1])) == 32
    assert max(starts[0]) + 2 <= 200 <= min(starts[1])
    batch = held_out.test[0]
    assert torch.equal(batch.inputs[:, 1:], batch.targets[:, :-1])


def test_the_token_that_begins_a_text_begins_every_window(tmp_path: Path):
    (tmp_path / "text.txt").write_text("abcdefgh" * 100)
    encoder = Encoder("mine", lambda text: text.astype(np.int64), first=1)
    held_out = of_text(str(tmp_path / "text.txt"), encoder, Data(source="x", length=8), BUDGET)
    rows = torch.cat([batch.inputs for batch in held_out.test])
    assert (rows[:, 0] == 1).all()
    whole = bytes([*rows[0, 1:].tolist(), int(held_out.test[0].targets[0, -1])])
    assert len(whole) == 8
    assert whole in b"abcdefgh" * 2


def test_tasks_are_named_with_their_parameters():
    assert task_of("task:mqar,n_pairs=2,length=16") == MqarConfig(n_pairs=2, length=16)
    held_out = read("task:copy", BYTES, Data(source="task:copy"), BUDGET)
    assert held_out.loss == VectorLoss(kind="bits")
    with pytest.raises(ValueError, match="did you mean 'n_pairs'"):
        task_of("task:mqar,n_pair=2")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch": 1}, "--batch must be at least 2"),
        ({"length": 1, "source": "x"}, "--length must be at least 2"),
        ({"length": 9}, "--length is for windows of a text"),
        ({"length": 9, "source": "task:mqar"}, "--length is for windows of a text"),
    ],
)
def test_settings_that_would_be_ignored_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Data(**settings)


def test_a_text_that_is_too_short_is_refused(tmp_path: Path):
    (tmp_path / "text.txt").write_text("abc" * 50)
    with pytest.raises(ValueError, match="at least 8 windows of 15 tokens"):
        of_text(str(tmp_path / "text.txt"), BYTES, Data(source="x", length=15), BUDGET)


def saved(folder: Path, characters: str | None = None, **how) -> Path:
    build("Llama").save_pretrained(folder, **how)
    if characters is not None:
        from tokenizers import Tokenizer, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        words = {"<s>": 0, **{character: n for n, character in enumerate(characters, start=1)}}
        tokeniser = Tokenizer(models.WordLevel(words, unk_token="<s>"))
        tokeniser.pre_tokenizer = pre_tokenizers.Split("", "isolated")
        PreTrainedTokenizerFast(tokenizer_object=tokeniser, bos_token="<s>").save_pretrained(folder)
    return folder


def test_a_model_of_hugging_face_comes_with_its_weights_and_tokeniser(tmp_path: Path):
    folder = saved(tmp_path / "tiny", "abcdefgh \n")
    (tmp_path / "text.txt").write_text("abc def\n" * 400)
    subject = subject_of(str(folder), Data(source=str(tmp_path / "text.txt"), length=8), BUDGET)
    assert torch.equal(subject.model.state_dict()["lm_head.weight"], build("Llama").state_dict()["lm_head.weight"])
    assert subject.name == "tiny"
    assert subject.folder == Path("examinations/tiny")
    tokens = torch.cat([batch.inputs for batch in subject.batches])
    assert int(tokens.max()) <= 10
    assert tokens[0].tolist() in [[1, 2, 3, 9, 4, 5, 6, 10][i:] + [1, 2, 3, 9, 4, 5, 6, 10][:i] for i in range(8)]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("prose", "has no tokeniser that can be loaded"),
        (f"task:mqar,vocab_size={VOCABULARY + 1},length=64", "knows 37 tokens, and .* has token 37"),
        (None, "brings no data"),
    ],
)
def test_data_that_do_not_fit_a_model_are_refused(tmp_path: Path, source: str | None, message: str):
    folder = saved(tmp_path / "tiny")
    with pytest.raises(ValueError, match=message):
        subject_of(str(folder), Data(source=source), BUDGET)


def test_weights_that_are_pickled_need_permission(tmp_path: Path):
    folder = saved(tmp_path / "tiny")
    torch.save(build("Llama").state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    data = Data(source="task:mqar,vocab_size=36,length=32,n_pairs=4")
    with pytest.raises(ValueError, match="--allow-pickle"):
        subject_of(str(folder), data, BUDGET)
    assert subject_of(str(folder), data, BUDGET, allow_pickle=True).sizes == (16, 32)


def test_transformers_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = saved(tmp_path / "tiny")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r"pip install 'mnemoscope\[hf\]'"):
        subject_of(str(folder), Data(source="prose"), BUDGET)


def test_what_is_nowhere_is_refused_with_the_nearest_name(tmp_path: Path):
    (tmp_path / "model.py").write_text("def build(): pass")
    (tmp_path / "runs").mkdir()
    with pytest.raises(ValueError, match=r"did you mean .*runs"):
        subject_of(str(tmp_path / "rums"), Data(), BUDGET)
    with pytest.raises(ValueError, match=r"neither a run .* nor a Hugging Face model"):
        subject_of(str(tmp_path / "runs"), Data(), BUDGET)
    with pytest.raises(ValueError, match=r"model\.py:build"):
        subject_of(str(tmp_path / "model.py"), Data(), BUDGET)


def test_a_file_that_holds_no_model_is_told_from_one_that_is_not_there(tmp_path: Path):
    (tmp_path / "empty.json").touch()
    with pytest.raises(ValueError, match=r"empty\.json is a file, and nothing that can be examined"):
        subject_of(str(tmp_path / "empty.json"), Data(), Budget())
    with pytest.raises(ValueError, match=r"there is no .*missing\.json"):
        subject_of(str(tmp_path / "missing.json"), Data(), Budget())

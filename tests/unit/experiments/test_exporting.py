"""A run as a Hugging Face folder: what is written, what comes back, what is refused."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

from mnemoscope.examination import Budget
from mnemoscope.examination.subject.continuation import self_test, states_at, with_states
from mnemoscope.examination.subject.states import LayerState
from mnemoscope.experiments import exporting
from mnemoscope.experiments.examining import Choice, examine_subject
from mnemoscope.experiments.exporting import EXPORT, Exported, export_run
from mnemoscope.experiments.held_out import Data
from mnemoscope.experiments.subjects import subject_of
from mnemoscope.models import StackConfig
from mnemoscope.runs import RunDirectory, read_record
from mnemoscope.tasks import MqarConfig, NeedleConfig, PlanetaryConfig
from mnemoscope.training import Recipe, load_run, train_recipe
from tests.unit.experiments.exported_runs import BYTES, TRAINING, trained
from tests.unit.reporting.samples import decorative, examination

MQAR = MqarConfig(vocab_size=16, length=16, n_pairs=2)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("runs") / "text", BYTES)


@pytest.fixture(scope="module")
def recall(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("runs") / "recall", MQAR)


def run_snippet(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (snippet,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    exec(snippet, {})


@torch.no_grad()
def test_a_run_of_bytes(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "deep" / "out"
    exported = export_run(text, out)
    assert exported == read_record(out / EXPORT, Exported)
    assert (exported.run, exported.step, exported.tokeniser, exported.n_compared) == ("text", 4, "bytes", 64)
    assert exported.largest_difference <= 1e-5
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert str(tmp_path) not in "".join(path.read_text(encoding="utf-8") for path in out.glob("*.json"))
    model, tokeniser = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    batch = tokeniser(["The café", "A"], padding=True, return_tensors="pt")
    run = load_run(text).model.eval()
    torch.testing.assert_close(model(**batch).logits[0], run(batch["input_ids"])[0], rtol=0, atol=1e-5)
    assert model.generation_config.pad_token_id == 255
    made = pipeline("text-generation", model=model, tokenizer=tokeniser)("The ", max_new_tokens=4, do_sample=False)
    assert made[0]["generated_text"].startswith("The ")
    capsys.readouterr()
    run_snippet(out, monkeypatch)
    assert capsys.readouterr().out.startswith("The ")


def test_a_run_that_reads_no_text(recall: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    exported = export_run(recall, tmp_path / "out")
    assert exported.tokeniser is None
    assert not list((tmp_path / "out").glob("token*"))
    page = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "There is no tokeniser: tokens are numbers of the task `mqar`, not of a text." in page
    assert "pipeline_tag" not in page
    run_snippet(tmp_path / "out", monkeypatch)
    assert "torch.Size([1, 8, 16])" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("task", "called"),
    [
        (replace(BYTES, tokeniser="characters"), "characters"),
        (replace(BYTES, tokeniser="bpe", bpe_vocab=280), "bpe"),
        (NeedleConfig(length=509), "bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.kind,
)
def test_tokens_are_those_of_the_task(task, called: str, tmp_path: Path):
    run = trained(tmp_path / "run", task, "gated_delta(n_heads=2)", steps=1)
    exported = export_run(run, tmp_path / "out")
    tokeniser, known = AutoTokenizer.from_pretrained(tmp_path / "out"), load_run(run).task
    assert exported.tokeniser == called
    assert len(tokeniser) == known.vocab_size
    assert known.words(tokeniser("in it")["input_ids"]) is not None


def test_the_snippets_of_the_page_run(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    export_run(text, tmp_path / "exported" / "a")
    page = (Path(__file__).parents[3] / "docs" / "huggingface.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, scope)
    assert AutoModelForCausalLM.from_pretrained("exported/b").config.num_hidden_layers == 2
    made, prompt = scope["made"], scope["prompt"]
    assert made.shape == (2, prompt["input_ids"].shape[1] + 32)


def test_the_card_has_recipe_and_verdicts(recall: Path, tmp_path: Path):
    directory = RunDirectory.open(recall)
    directory.write_examination(examination(sites=[decorative("blocks.1.mixer")]))
    try:
        export_run(recall, tmp_path / "out")
    finally:
        directory.verdicts_path.unlink()
    page = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "| layout | `attention(window=4), gated_delta(n_heads=2)` |" in page
    assert "| `blocks.1.mixer` | decorative | " in page
    assert json.loads(re.findall(r"```json\n(.*?)```", page, re.DOTALL)[0])["n_pairs"] == 2


@pytest.mark.filterwarnings("ignore")
def test_an_exported_folder_is_examined_at_its_read_points(recall: Path, tmp_path: Path):
    export_run(recall, tmp_path / "out")
    budget = Budget(n_calibration=16, n_test=16, fit_steps=1, joint_fit_steps=1, windows=(1,), n_resamples=200, looks=1)
    data = Data(source="task:mqar,vocab_size=16,length=16,n_pairs=2", batch=8)
    subject = subject_of(str(tmp_path / "out"), data, budget)
    made = examine_subject(subject, budget, Choice())
    assert [site.name for site in made.sites] == ["stack.blocks.1.mixer"]
    assert [route.name for route in made.routes] == ["stack.blocks.0.mixer"]
    assert made.sites[0].horizon_method == "windowed"
    tokens = torch.as_tensor(subject.batches[0].inputs)
    continuation = self_test(subject.model, tokens)
    assert continuation.multi.usable, continuation.reason
    assert continuation.step.usable, continuation.reason
    states = states_at(subject.model, tokens, 9, continuation)
    assert sorted(states) == [0, 1]
    swapped = {1: LayerState(tuple(tensor.flip(0) for tensor in states[1].recurrent), ())}
    changed = with_states(subject.model, tokens, 9, swapped, continuation)
    whole = subject.model(tokens).logits.detach()
    torch.testing.assert_close(changed[:, :9], whole[:, :9])
    assert not torch.allclose(changed[:, 9:], whole[:, 9:], atol=1e-3)


def test_what_is_in_the_way(text: Path, recall: Path, tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    export_run(text, out)
    with pytest.raises(ValueError, match="got one that holds files; replace it with --force"):
        export_run(recall, out)
    assert export_run(recall, out, force=True).run == "recall"
    assert not (out / "tokenizer.json").exists()
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    for force in (False, True):
        with pytest.raises(ValueError, match="name another; it is no export"):
            export_run(text, other, force=force)
    assert (other / "notes.txt").read_text() == "mine"
    with pytest.raises(ValueError, match="is a file; name a folder"):
        export_run(text, other / "notes.txt")
    with pytest.raises(ValueError, match="the file is missing"):
        export_run(tmp_path / "none", tmp_path / "another")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "out"]


def test_a_model_that_does_not_come_back_leaves_nothing(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(exporting, "EXACT", -1.0)
    with pytest.raises(ValueError, match="must have the run's logits to"):
        export_run(text, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_vectors_are_refused(tmp_path: Path):
    model = StackConfig.of_vectors("lstm", n_channels=8, n_outputs=8, d_model=8)
    recipe = Recipe(name="copy", model=model, task=PlanetaryConfig(), train=replace(TRAINING, steps=1, eval_every=1))
    train_recipe(recipe, tmp_path / "run", progress=False)
    with pytest.raises(ValueError, match="reads vectors, and Hugging Face's causal language models read tokens"):
        export_run(tmp_path / "run", tmp_path / "out")
    assert not (tmp_path / "out").exists()

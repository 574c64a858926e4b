"""lm-eval's `hf` backend on an exported folder: its figures on a task of our own are those of the run's model."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM

from mnemoscope.experiments.exporting import EXPORT, Exported, export_run
from mnemoscope.models import Stack
from mnemoscope.runs import RunDirectory, read_record
from mnemoscope.training import load_run
from tests.unit.experiments.exported_runs import BYTES, trained
from tests.unit.reporting.samples import decorative, examination

pytestmark = pytest.mark.long

CHOICES = """
task: small_choice
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: choices
doc_to_target: label
target_delimiter: ""
metric_list: [{metric: acc}]
"""
TEXTS = """
task: small_perplexity
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{question}}"
metric_list: [{metric: bits_per_byte}]
"""
ANSWERS = """
task: small_answers
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{choices[0]}}"
generation_kwargs: {until: ["\\n\\n\\n"], max_gen_toks: 12, do_sample: false}
metric_list: [{metric: exact_match}]
"""
DOCUMENTS = [
    {"question": "The café is", "choices": [" open.", " an object"], "label": 1},
    {"question": "A longer question, so that rows are padded:", "choices": [" yes", " not at all"], "label": 0},
    {"question": "def", "choices": [" f(x):", "\u00ff<0xFF>"], "label": 0},
]
PROGRAM = """
import json, sys
import mnemoscope.models.huggingface
import lm_eval
from lm_eval.tasks import TaskManager

folder, tasks = sys.argv[1:]
arguments = {"pretrained": folder, "prefix_token_id": 10}
results = lm_eval.simple_evaluate(
    model="hf", model_args=arguments, tasks=["small_choice", "small_perplexity", "small_answers"], batch_size=3,
    device="cpu", task_manager=TaskManager(include_path=tasks, include_defaults=False), bootstrap_iters=0,
)
samples = {name: {one["doc_id"]: one["resps"] for one in found} for name, found in results["samples"].items()}
print(json.dumps({"results": results["results"], "samples": samples}))
"""


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory):
    """The run's model, and what lm-eval says of its export."""
    folder = tmp_path_factory.mktemp("lm_eval")
    run = trained(folder / "run", BYTES, steps=100)
    export_run(run, folder / "out")
    data = folder / "data.json"
    data.write_text(json.dumps(DOCUMENTS), encoding="utf-8")
    (folder / "tasks").mkdir()
    for name, task in (("choices", CHOICES), ("texts", TEXTS), ("answers", ANSWERS)):
        (folder / "tasks" / f"{name}.yaml").write_text(task.replace("DATA", str(data)), encoding="utf-8")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM, str(folder / "out"), str(folder / "tasks")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    return load_run(run).model.eval(), said | {"run": run, "tasks": folder / "tasks"}


@torch.no_grad()
def log_likelihood(model: Stack, before: bytes, text: bytes) -> float:
    tokens = torch.tensor([list(before + text)])
    scores = F.log_softmax(model(tokens[:, :-1]), dim=-1)[0, len(before) - 1 :]
    return float(scores.gather(1, tokens[0, len(before) :, None]).sum())


def test_choices_have_the_models_likelihoods(evaluated):
    model, said = evaluated
    right = []
    for index, document in enumerate(DOCUMENTS):
        question = document["question"].encode()
        wanted = [log_likelihood(model, question, choice.encode()) for choice in document["choices"]]
        got = [float(answer[0][0]) for answer in said["samples"]["small_choice"][str(index)]]
        assert got == pytest.approx(wanted, abs=1e-4)
        right.append(wanted.index(max(wanted)) == document["label"])
    assert said["results"]["small_choice"]["acc,none"] == pytest.approx(sum(right) / len(right))


def test_texts_have_the_models_bits_per_byte(evaluated):
    model, said = evaluated
    texts = [document["question"].encode() for document in DOCUMENTS]
    nats = -sum(log_likelihood(model, b"\n", text) for text in texts)
    bits = nats / math.log(2) / sum(map(len, texts))
    assert said["results"]["small_perplexity"]["bits_per_byte,none"] == pytest.approx(bits, abs=1e-4)


COMPARE = """
import sys
from pathlib import Path
from mnemoscope.experiments.changing import ChangeConfig, changes_of
from mnemoscope.experiments.exporting import evaluate_export, export_run
from mnemoscope.experiments.lm_eval import LmEvalConfig, table

run, out, *tasks = sys.argv[1:]
changes = ChangeConfig(changes=changes_of(["blocks.1.mixer=delete"], ["blocks.0.mixer=2"]), fit_steps=1)
exported = export_run(run, out, change=changes)
figures = evaluate_export(run, out, exported, LmEvalConfig(tasks=tuple(tasks))).lm_eval
print("\\n".join(table(figures)))
"""


def test_a_changed_export_is_compared_with_the_unchanged_run(evaluated, tmp_path: Path):
    model, said = evaluated
    run, tasks = said["run"], said["tasks"]
    RunDirectory.open(run).write_examination(
        examination(sites=[decorative("blocks.1.mixer")], margin=10.0, n_calibration=16, n_test=16)
    )
    out = tmp_path / "changed"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "OMP_NUM_THREADS": "1"}
    files = [str(tasks / f"{name}.yaml") for name in ("choices", "texts")]
    command = [sys.executable, "-c", COMPARE, str(run), str(out), *files]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    exported = read_record(out / EXPORT, Exported)
    figures = {figure.task: figure for figure in exported.lm_eval}
    left = AutoModelForCausalLM.from_pretrained(out).stack.eval()
    for name, of in (("small_choice", accuracies), ("small_perplexity", bits_per_byte)):
        before, after = of(model), of(left)
        figure = figures[name]
        assert figure.before == pytest.approx(mean(before), abs=1e-4)
        assert figure.after == pytest.approx(mean(after), abs=1e-4)
        assert figure.difference == pytest.approx(figure.after - figure.before)
    differences = [one - other for one, other in zip(accuracies(left), accuracies(model), strict=True)]
    assert figures["small_choice"].n_documents == len(DOCUMENTS)
    assert figures["small_choice"].difference_stderr == pytest.approx(stdev(differences) / len(differences) ** 0.5)
    assert figures["small_perplexity"].difference_stderr is None
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["task", "metric", "n", "before", "after", "difference"]
    assert f"{figures['small_choice'].difference:+.4f} ± " in done.stdout


def accuracies(model: Stack) -> list[float]:
    """Of each document: whether the right choice is the likeliest."""
    found = []
    for document in DOCUMENTS:
        question = document["question"].encode()
        scores = [log_likelihood(model, question, choice.encode()) for choice in document["choices"]]
        found.append(float(scores.index(max(scores)) == document["label"]))
    return found


def bits_per_byte(model: Stack) -> list[float]:
    texts = [document["question"].encode() for document in DOCUMENTS]
    nats = -sum(log_likelihood(model, b"\n", text) for text in texts)
    return [nats / math.log(2) / sum(map(len, texts))]


@torch.no_grad()
def test_answers_of_a_padded_batch_are_those_of_the_stream(evaluated):
    model, said = evaluated
    for index, document in enumerate(DOCUMENTS):
        tokens = torch.tensor([list(document["question"].encode())])
        logits, state = model.prefill(tokens)
        found = [logits[:, -1].argmax(-1)]
        for _ in range(11):
            logits, state = model.step(found[-1], state)
            found.append(logits.argmax(-1))
        text = bytes(int(token) for token in found).decode(errors="replace")
        assert said["samples"]["small_answers"][str(index)][0][0].strip() == text.strip()

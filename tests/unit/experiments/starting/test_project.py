"""The project that `mnemoscope new` writes: clean, and it does in one command what its README says."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from mnemoscope.contracts import ReadPoint
from mnemoscope.examination import Budget
from mnemoscope.experiments.starting import begin_project
from mnemoscope.runs import RunDirectory
from mnemoscope.training import train

FILES = ["README.md", "model.py", "task.py", "recipe.py", "run.py", "test_experiment.py", "pyproject.toml"]
MODULES = ("model", "task", "recipe", "run")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    begin_project(tmp_path / "my_experiment")
    return tmp_path / "my_experiment"


@pytest.fixture
def run(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module `run` of the project, with a recipe of a second."""
    monkeypatch.syspath_prepend(project)
    monkeypatch.chdir(project)
    module = importlib.import_module("run")
    training = replace(
        module.TRAINING, steps=4, warmup_steps=0, batch_size=8, eval_every=2, eval_sequences=16, checkpoint_every=2
    )
    monkeypatch.setattr(module, "TRAINING", training)
    budget = {"n_calibration": 16, "n_test": 16, "fit_steps": 1, "joint_fit_steps": 1, "windows": (1,)}
    monkeypatch.setattr(module, "EXAMINATION", Budget(**budget, n_resamples=200))
    monkeypatch.setattr(module, "BATCH", 8)
    yield module
    for name in MODULES:
        sys.modules.pop(name, None)


def python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)


def test_the_files_are_named_after_the_project_and_nothing_else_is_there(project: Path):
    assert sorted(file.name for file in project.iterdir()) == sorted([*FILES, ".gitignore"])
    assert [entry.name for entry in project.parent.iterdir()] == ["my_experiment"]
    assert (project / "README.md").read_text().startswith("# my_experiment\n")
    assert 'NAME = "my_experiment"' in (project / "run.py").read_text()
    assert not any("{{" in (project / name).read_text() for name in FILES)


@pytest.mark.parametrize("name", ["e", "my-experiment-2", "A" * 64])
def test_the_code_is_clean_under_any_name(name: str, tmp_path: Path):
    begin_project(tmp_path / "deep" / name)
    ruff = shutil.which("ruff", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert ruff is not None
    for words in (["check", "--no-cache", "."], ["format", "--no-cache", "--check", "."]):
        done = subprocess.run([ruff, *words], cwd=tmp_path / "deep" / name, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["", "2nd", "a b", "a/..", "é", "A" * 65, "x{{y", "-x", "x.y"])
def test_odd_names_are_refused_and_nothing_is_made(name: str, tmp_path: Path):
    with pytest.raises(ValueError, match=r"^new: a project's name begins with a letter[^\n]*$"):
        begin_project(f"{tmp_path}/sub/{name}" if name else "")
    assert not list(tmp_path.iterdir())


def test_what_exists_is_left_alone(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("folder", "file", "link"):
        with pytest.raises(ValueError, match="exists already"):
            begin_project(tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder", "link"]


def test_its_model_trains_two_steps(run: ModuleType):
    recipe, model = sys.modules["recipe"], sys.modules["model"].build(sys.modules["recipe"].MODEL, seed=0)
    result = train(model, run.Recall(recipe.TASK), replace(run.TRAINING, steps=2), progress=False)
    assert result.step == 2
    assert 0 < result.validation["validation_loss"] < 8


def test_one_command_trains_examines_and_reports_and_goes_on(
    run: ModuleType, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["run.py", "--out", "runs/a"])
    run.main()
    assert "memory: " in capsys.readouterr().out
    verdicts = json.loads((project / "runs/a/verdicts.json").read_text())
    assert [site["name"] for site in verdicts["sites"]] == ["memory"]
    assert [route["name"] for route in verdicts["routes"]] == ["attention"]
    assert "my_experiment" in (project / "runs/a/report.html").read_text()
    resolved = RunDirectory(project / "runs/a").read_config().resolved
    assert (resolved["name"], resolved["task"]) == ("my_experiment", {"n_pairs": 8, "n_keys": 24, "n_values": 24})

    trained = run.train(project / "runs/a")
    rows = RunDirectory(project / "runs/a").read_metrics()
    assert [row["step"] for row in rows] == [2, 4]
    again = dict(run.train(project / "runs/a").named_parameters())
    assert all(torch.equal(weight, again[name]) for name, weight in trained.named_parameters())

    monkeypatch.setattr(run, "TRAINING", replace(run.TRAINING, steps=6))
    with pytest.raises(SystemExit, match=r"^run\.py: .*a run resumes with the settings it began with"):
        run.main()


def test_the_first_run_is_what_examine_can_be_given(run: ModuleType):
    model, batches = run.trained()
    assert [name for name, module in model.named_modules() if isinstance(module, ReadPoint)] == [
        "attention.read",
        "memory.read",
    ]
    assert sum(batch.size for batch in batches) == 32
    assert RunDirectory(run.FIRST).begun


@pytest.mark.long
def test_the_code_is_type_correct(project: Path):
    words = ["-m", "basedpyright", "--level", "error", "--pythonpath", sys.executable, "."]
    done = python(project, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 errors" in done.stdout


@pytest.mark.long
def test_its_own_tests_pass_and_its_memory_learns_to_carry_the_task(project: Path):
    tested = python(project, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    done = python(project, "run.py")
    assert done.returncode == 0, done.stderr
    assert "memory: load-bearing (sole)" in done.stdout
    (site,) = json.loads((project / "runs/first/verdicts.json").read_text())["sites"]
    assert site["share"]["value"] > 0.9

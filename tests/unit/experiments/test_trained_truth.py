"""Trained truth: both arms of a hybrid, runs that go on where they were, and the page."""

import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from mnemoscope.cli.trained_truth import TrainedTruth
from mnemoscope.examination import Budget
from mnemoscope.experiments.huggingface import load_model
from mnemoscope.experiments.trained import (
    HYBRIDS,
    Hybrid,
    Outcome,
    agreement,
    failures,
    find_hybrids,
    outcomes,
    page,
    run_truth,
)
from mnemoscope.experiments.trained import truth as room
from mnemoscope.experiments.trained.hybrids import LocalMixer
from mnemoscope.experiments.trained.truth import trained
from mnemoscope.runs import Estimate, RunDirectory, write_record
from mnemoscope.tasks import build_task
from mnemoscope.training import list_checkpoints

BUDGET = Budget(n_calibration=16, n_test=16, fit_steps=2, joint_fit_steps=2, n_resamples=200, windows=(1,))
HUGGING_FACE = ("qwen3-next", "falcon-h1")


def tiny(name: str, steps: int = 2) -> Hybrid:
    hybrid = HYBRIDS[name]
    train = replace(hybrid.train, steps=steps, warmup_steps=1, batch_size=4, eval_sequences=4, checkpoint_every=1)
    return replace(hybrid, train=train)


def built(name: str, arm: Any) -> nn.Module:
    return HYBRIDS[name].model(0, arm)


def silent(line: str) -> None:
    pass


@pytest.mark.parametrize("name", HYBRIDS)
def test_the_arms_differ_in_the_memories_alone(name: str):
    intact, without = built(name, "with"), built(name, "without")
    inside = tuple(f"{path}." for path in HYBRIDS[name].memories)
    kept = {key: value for key, value in intact.state_dict().items() if not key.startswith(inside)}
    assert kept
    assert len(kept) < len(intact.state_dict())
    others = {key: value for key, value in without.state_dict().items() if not key.startswith(inside)}
    assert kept.keys() == others.keys()
    assert all(torch.equal(kept[key], others[key]) for key in kept)
    assert all(isinstance(without.get_submodule(path), LocalMixer) for path in HYBRIDS[name].memories)


@pytest.mark.parametrize("name", HYBRIDS)
def test_the_arms_are_of_one_size(name: str):
    intact, without = (sum(p.numel() for p in built(name, arm).parameters()) for arm in ("with", "without"))
    assert abs(intact - without) <= 99 * len(HYBRIDS[name].memories)


def test_what_stands_in_a_memorys_place_sees_four_tokens():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        mixer = LocalMixer(6, 5, stateful=False).double()
    x = torch.randn(1, 9, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    changed = x.clone()
    changed[:, 2] += 1
    differs = (mixer(x) != mixer(changed)).any(-1)[0]
    assert differs.nonzero().flatten().tolist() == [2, 3, 4, 5]
    taps, bias, (wide, gate) = mixer.convolution.weight[:, 0], mixer.convolution.bias, mixer.inner.weight.chunk(2)
    assert bias is not None
    inner = x[0] @ wide.T
    local = torch.stack([bias + sum(taps[:, 3 - j] * inner[t - j] for j in range(min(t, 3) + 1)) for t in range(9)])
    expected = (nn.functional.silu(local) * nn.functional.silu(x[0] @ gate.T)) @ mixer.out.weight.T
    torch.testing.assert_close(mixer(x)[0], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["narrow", "qwen3-next", pytest.param("falcon-h1", marks=pytest.mark.long)])
def test_a_hybrid_from_training_to_table(name: str, tmp_path: Path):
    hybrid, said = tiny(name), list[str]()
    before = torch.get_num_threads(), torch.get_rng_state()
    (outcome,) = run_truth([hybrid], 1, tmp_path, said.append, BUDGET)
    assert torch.get_num_threads() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert said[-1].startswith(f"{name} seed 0: ")
    assert (outcome.hybrid, outcome.seed, outcome.steps) == (name, 0, 2)
    assert outcome.headroom.value == pytest.approx(outcome.loss["without"] - outcome.loss["with"], abs=1e-6)
    assert len(outcome.differences) == outcome.n_test
    examination = RunDirectory(tmp_path / name / "seed-0" / "with").read_examination()
    assert examination.base_loss.value == pytest.approx(outcome.loss["with"], abs=1e-5)
    assert len(outcome.sites) == len(hybrid.memories)
    assert f"{outcome.loss['without']:.3f}" in page([hybrid], 1, [outcome], "mnemoscope trained-truth")

    if name in HUGGING_FACE:
        folder, tokens = tmp_path / name / "seed-0", torch.arange(12)[None]
        model, _ = trained(hybrid, 0, "with", folder / "with", silent)
        with torch.no_grad():
            assert torch.equal(load_model(str(folder / "model")).eval()(tokens).logits, model(tokens))

    said.clear()
    assert run_truth([hybrid], 1, tmp_path, said.append, BUDGET) == [outcome]
    assert outcomes([hybrid], 3, tmp_path) == [outcome]
    assert said == []


class Stopping:
    """A task that is interrupted while it draws."""

    def __init__(self, task: Any, after: int) -> None:
        self.task, self.left = task, after

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def batch(self, rng: Any, size: int, split: Any) -> Any:
        self.left -= split == "train"
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)
        return self.task.batch(rng, size, split)


def test_a_training_that_was_stopped_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    hybrid = tiny("narrow", steps=4)
    through, _ = trained(hybrid, 0, "with", tmp_path / "through", silent)
    with monkeypatch.context() as stopped:
        stopped.setattr(room, "build_task", lambda config: Stopping(build_task(config), after=2))
        with pytest.raises(KeyboardInterrupt):
            run_truth([hybrid], 1, tmp_path, silent, BUDGET)
    folder = tmp_path / "narrow" / "seed-0" / "with"
    assert RunDirectory(folder).read_manifest().exit_state == "interrupted"
    assert outcomes([hybrid], 1, tmp_path) == []
    said = list[str]()
    again, _ = trained(hybrid, 0, "with", folder, said.append)
    assert said == ["narrow seed 0: go on training with its memory"]
    assert all(torch.equal(through.state_dict()[key], value) for key, value in again.state_dict().items())


def test_a_killed_training_goes_on(tmp_path: Path):
    hybrid, folder = tiny("narrow"), tmp_path / "run"
    first, _ = trained(hybrid, 0, "with", folder, silent)
    run = RunDirectory(folder)
    run.write_manifest(run.read_manifest().model_copy(update={"exit_state": "running"}))
    list_checkpoints(run.checkpoints_path)[-1].rename(tmp_path / "lost")
    again, _ = trained(hybrid, 0, "with", folder, silent)
    assert all(torch.equal(first.state_dict()[key], value) for key, value in again.state_dict().items())


def test_an_interrupted_examination_is_not_kept(monkeypatch: pytest.MonkeyPatch):
    left = SimpleNamespace(missing=["3 of 4 test batches: interrupted"])
    monkeypatch.setattr(room, "examine", lambda model, batches, budget: left)
    with pytest.raises(KeyboardInterrupt):
        room.examined(nn.Linear(1, 1), [], BUDGET)


def test_another_training_in_the_folder_is_refused(tmp_path: Path):
    trained(tiny("narrow"), 0, "with", tmp_path / "run", silent)
    with pytest.raises(ValueError, match="trained for 2 steps"):
        trained(tiny("narrow", steps=3), 0, "with", tmp_path / "run", silent)
    (tmp_path / "narrow" / "seed-0").mkdir(parents=True)
    write_record(tmp_path / "narrow" / "seed-0" / "outcome.json", outcome())
    with pytest.raises(ValueError, match="trained for 600 steps, narrow has 3"):
        outcomes([tiny("narrow", steps=3)], 1, tmp_path)


def outcome(verdict: str | None = "load-bearing (sole)", headroom: float = 3.0, **changes: Any) -> Outcome:
    values = {
        "hybrid": "narrow",
        "seed": 0,
        "steps": 600,
        "parameters": {"with": 75876, "without": 75840},
        "loss": {"with": 0.1, "without": 0.1 + headroom},
        "accuracy": {"with": 0.975, "without": 0.03},
        "verdict": verdict,
        "because": "",
        "optimal_constant": Estimate(value=3.2, low=3.1, high=3.3),
        "share": Estimate(value=0.98, low=0.96, high=1.0),
        "sites": {"blocks.0.mixer": verdict},
        "margin": 0.07,
        "headroom": Estimate(value=headroom, low=headroom - 0.02, high=headroom + 0.02),
        "differences": [headroom - 0.1, headroom + 0.1],
        "n_test": 2,
        "seconds": {},
        "version": "0123",
    }
    return Outcome(**(values | changes))


@pytest.mark.parametrize(
    ("verdict", "headroom", "says"),
    [
        ("load-bearing (sole)", 3.0, "yes: memory used and needed"),
        ("load-bearing (shared)", 0.0, "no: memory used, not needed"),
        ("saturated", 0.5, "yes: memory used and needed"),
        ("decorative", 0.0, "yes: memory neither used nor needed"),
        ("redundant", -0.3, "yes: memory neither used nor needed"),
        ("decorative", 0.5, "no: memory not used, yet worse without"),
        ("local-only", 0.08, "undecided: the headroom straddles the margin"),
        ("inconclusive", 3.0, "undecided: the verdict is open"),
        (None, 3.0, "undecided: the verdict is open"),
    ],
)
def test_agreement(verdict: str | None, headroom: float, says: str):
    assert agreement(outcome(verdict, headroom)) == says


def test_the_page_names_rows_that_are_not_finished():
    found = [outcome(), outcome(seed=2, headroom=2.0, margin=0.06)]
    lines = page([HYBRIDS["narrow"]], 3, found, "mnemoscope trained-truth --subject narrow").splitlines()
    assert lines[2] == "`mnemoscope trained-truth --subject narrow`"
    rows = [line for line in lines if line.startswith("| ")]
    assert rows[2] == (
        "| 0 | 0.100 | 97.5% | 3.200 [3.100, 3.300] | 98% [96%, 100%] | load-bearing (sole) | 3.100 | "
        "3.000 [2.980, 3.020] | yes: memory used and needed |"
    )
    assert rows[3] == "| 1 | not finished | – | – | – | – | – | – | – |"
    (told,) = (line for line in lines if line.startswith("UNFINISHED"))
    assert told.startswith("UNFINISHED: 2 of 3 seeds. D19 headroom: 2.500 over seeds, from 2.000 to 3.000 (")
    assert told.endswith(
        "margin 0.070. Verdict and D19 agree in 2 of 2 seeds; 2 of 2 lose more than the margin under both."
    )


def test_the_page_gives_the_verdict_of_each_of_several_memories():
    text = page([HYBRIDS["falcon-h1"]], 1, [outcome(hybrid="falcon-h1", sites={"a": "decorative", "b": None})], "x")
    assert "| load-bearing (sole); a: decorative, b: effects only |" in text


@pytest.mark.parametrize(
    ("changes", "fails"),
    [
        ({}, False),
        ({"headroom": 0.05}, True),
        ({"headroom": 0.08}, True),
        ({"optimal_constant": Estimate(value=0.08, low=0.06, high=0.1)}, True),
        ({"headroom": 0.0, "hybrid": "wide"}, False),
    ],
)
def test_the_control_must_miss_its_memory_under_both(changes: dict[str, Any], fails: bool):
    found = [outcome(**changes)]
    assert bool(failures([HYBRIDS["narrow"], HYBRIDS["wide"]], found)) == fails
    assert ("FAILED: narrow seed 0: " in page([HYBRIDS["narrow"]], 1, found, "x")) == fails


def test_a_page_of_nothing():
    text = page([HYBRIDS["wide"]], 1, [], "x")
    assert "UNFINISHED: 0 of 1 seeds." in text


def test_hybrids_by_name():
    assert [hybrid.name for hybrid in find_hybrids([])] == ["narrow", "wide", "qwen3-next", "falcon-h1"]
    assert [hybrid.name for hybrid in find_hybrids(["wide"])] == ["wide"]
    with pytest.raises(ValueError, match="nearest valid: 'narrow'"):
        find_hybrids(["narow"])


def test_at_least_one_seed(tmp_path: Path):
    with pytest.raises(ValueError, match="at least 1, got 0"):
        run_truth([tiny("narrow")], 0, tmp_path, silent, BUDGET)


def test_the_verb_shows_what_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    monkeypatch.setattr("sys.argv", ["mnemoscope", "trained-truth", "--finished", "--subject", "wide"])
    assert TrainedTruth(subject="wide", runs=tmp_path / "runs", finished=True).run() == 0
    shown = capsys.readouterr().out
    assert "`mnemoscope trained-truth --subject wide`" in shown
    assert "UNFINISHED: 0 of 3 seeds." in shown
    TrainedTruth(subject="wide", runs=tmp_path / "runs", finished=True, out=tmp_path / "page.md").run()
    assert (tmp_path / "page.md").read_text() == shown.rstrip("\n") + "\n"
    assert not (tmp_path / "runs").exists()


def test_the_verb_that_is_stopped_leaves_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    def stopped(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mnemoscope.experiments.trained.run_truth", stopped)
    with pytest.raises(KeyboardInterrupt):
        TrainedTruth(subject="wide", runs=tmp_path, out=tmp_path / "page.md").run()
    assert "the same command goes on from there" in capsys.readouterr().out
    assert "UNFINISHED" in (tmp_path / "page.md").read_text()


def test_mistakes_of_the_verb(tmp_path: Path):
    with pytest.raises(ValueError, match="nearest valid: 'narrow'"):
        TrainedTruth(subject="narow").run()
    with pytest.raises(ValueError, match="--out must be in a folder that is there"):
        TrainedTruth(out=tmp_path / "nowhere" / "page.md").run()

"""Seeds of a reproduction in processes of their own: the same figures as one after another, and none twice."""

from dataclasses import dataclass, replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest
import torch

from mnemoscope.experiments.executors import LocalPool
from mnemoscope.experiments.executors.attempts import read_attempts
from mnemoscope.experiments.head_collapse import HEAD_COLLAPSE
from mnemoscope.experiments.published import EXPERIMENTS, on_text
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Result, finished, reproduce, seed_file
from mnemoscope.experiments.reproducing_seeds import SeedJob, reproduce_on, run_seed


@dataclass(frozen=True, kw_only=True)
class Walk:
    steps: int = 5
    broken_seed: int | None = None


def measure(settings: Walk, seed: int) -> Measured:
    if seed == settings.broken_seed:
        raise ArithmeticError("no luck")
    walked = torch.randn(settings.steps, generator=torch.Generator().manual_seed(seed)).cumsum(0).tolist()
    return Measured(figures={"end": walked[-1], "threads": torch.get_num_threads()}, series={"walk": walked})


WALK = Experiment(
    name="walk",
    what="Walk",
    source="-",
    claims=(Claim(figure="end", what="end"),),
    sizes={"small": Walk(), "paper": Walk(broken_seed=2)},
    measure=measure,
)


def without_times(result: Result) -> Result:
    return result.model_copy(update={"seconds": 0.0})


def test_processes_give_what_one_after_another_gives(tmp_path: Path):
    said = list[str]()
    with pytest.raises(ChildProcessError, match=r"1 of 3 seeds failed \(walk seed 2: ArithmeticError: no luck\)"):
        reproduce_on(LocalPool(processes=3), WALK, 3, "paper", tmp_path / "side by side", said.append)
    found = finished(WALK, 3, "paper", tmp_path / "side by side")
    alone = reproduce(WALK, 2, "paper", tmp_path / "alone", said.append)
    assert [*map(without_times, found)] == [*map(without_times, alone)]
    assert [result.figures["threads"] for result in found] == [1, 1]
    assert [line[:6] for line in said[:3]] == ["[1/3] ", "[2/3] ", "[3/3] "]
    assert sorted(line[6:] for line in said[:3]) == [
        "walk seed 0: finished",
        "walk seed 1: finished",
        "walk seed 2: ArithmeticError: no luck",
    ]

    said.clear()
    again = reproduce_on(LocalPool(), WALK, 2, "paper", tmp_path / "side by side", said.append)
    assert again == found
    assert [line.split(": in ")[0] for line in said] == ["walk seed 0", "walk seed 1"]
    tried = [read_attempts(seed_file(WALK, "paper", tmp_path / "side by side", seed)) for seed in range(3)]
    assert [[row.outcome for row in rows] for rows in tried] == [
        ["finished"],
        ["finished"],
        ["ArithmeticError: no luck"],
    ]


def test_results_of_other_settings_are_refused_before_anything_is_sent(tmp_path: Path):
    reproduce(WALK, 1, "small", tmp_path, lambda line: None)
    other = replace(WALK, sizes={"small": Walk(steps=6)})
    with pytest.raises(ValueError, match="was measured with"):
        reproduce_on(LocalPool(), other, 1, "small", tmp_path, lambda line: None)
    with pytest.raises(ValueError, match="seeds must be at least 1, got 0"):
        reproduce_on(LocalPool(), WALK, 0, "small", tmp_path, lambda line: None)


def test_a_seed_is_a_job_with_the_files_of_a_reproduction(tmp_path: Path):
    job = SeedJob(experiment=WALK, size="small", seed=3, out=tmp_path)
    assert (job.name, job.threads, job.is_finished) == ("walk seed 3", 1, False)
    run_seed(job)
    assert job.is_finished
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.json")] == ["walk/small/seed-3.json"]


@pytest.mark.parametrize("name", [*EXPERIMENTS])
def test_every_experiment_can_be_sent(name: str):
    sent = ForkingPickler.loads(ForkingPickler.dumps(EXPERIMENTS[name]))
    assert (sent.name, sent.sizes, sent.claims) == (name, EXPERIMENTS[name].sizes, EXPERIMENTS[name].claims)


def test_an_experiment_on_another_text_can_be_sent():
    experiment = on_text(HEAD_COLLAPSE, "code")
    assert ForkingPickler.loads(ForkingPickler.dumps(experiment)).sizes == experiment.sizes

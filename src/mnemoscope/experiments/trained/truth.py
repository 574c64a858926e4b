"""Train a hybrid with and without its memories, examine it, and measure what retraining without them costs (D19).

    runs/narrow/seed-0/with/        the run of the hybrid, its examination in verdicts.json
    runs/narrow/seed-0/without/     the run of the same hybrid, every memory replaced by a module of the local window
    runs/narrow/seed-0/outcome.json what is shown of the seed
    runs/falcon-h1/seed-0/model/    a Hugging Face hybrid in the form that `mnemoscope examine` and transformers load

Whatever is there already is not done again, and a training that was stopped goes on from its last checkpoint.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from mnemoscope.contracts import Batch
from mnemoscope.examination import Budget, NextTokenLoss, examine
from mnemoscope.examination.judgement.statistics import Bootstrap
from mnemoscope.examination.subject.losses import score
from mnemoscope.experiments.calibrate import version_of_instrument
from mnemoscope.experiments.held_out import Data, of_task
from mnemoscope.experiments.trained.hybrids import ARMS, Arm, Hybrid, Logits
from mnemoscope.runs import Estimate, Examination, RunDirectory, SiteRecord, write_record
from mnemoscope.runs.reading import read_record
from mnemoscope.runs.record import SCHEMA_VERSION, Record
from mnemoscope.tasks import build_task
from mnemoscope.training import load_checkpoint, restore_model, train
from mnemoscope.training.threads import cpu_threads

BUDGET = Budget(n_calibration=256, n_test=1024, fit_steps=150, joint_fit_steps=75)
AT_ONCE = 64
OUTCOME = "outcome.json"
INSTRUMENT = "instrument"
"""Names the version of the instrument among the versions of an examination."""

PerSequence: TypeAlias = Float[np.ndarray, "2 n"]
"""Loss per scored token and fraction of right answers, of every sequence."""

Say = Callable[[str], None]


class Outcome(Record):
    """What one seed of a hybrid says.

    `verdict`, `optimal_constant` and `share` are those of all memories together, `sites` the verdict of each.
    `headroom` is the loss of the retrained model without memories less that of the hybrid (D19), in nats per scored
    token, and `differences` its values on the test sequences; `margin` is the examination's.
    """

    schema_version: int = SCHEMA_VERSION
    hybrid: str
    seed: int
    steps: int
    parameters: dict[str, int]
    loss: dict[str, float]
    accuracy: dict[str, float]
    verdict: str | None
    because: str
    optimal_constant: Estimate
    share: Estimate | None
    sites: dict[str, str | None]
    margin: float
    headroom: Estimate
    differences: list[float]
    n_test: int
    seconds: dict[str, float]
    version: str


def run_truth(
    hybrids: Sequence[Hybrid], n_seeds: int, runs: str | Path, say: Say, budget: Budget = BUDGET
) -> list[Outcome]:
    """Every seed of every hybrid, one seed of all hybrids before the next.

    Args:
        hybrids: what to train and examine.
        n_seeds: seeds 0 ... n_seeds - 1.
        runs: folder of all runs; made if absent.
        say: told what happens.
        budget: of each examination.

    Raises:
        ValueError: fewer than one seed, or a folder that holds another training.
        KeyboardInterrupt: a signal stopped it; the same call goes on from there.
    """
    if n_seeds < 1:
        raise ValueError(f"trained-truth: seeds must be at least 1, got {n_seeds}; 3 are enough for a table")
    found = []
    for seed in range(n_seeds):
        for hybrid in hybrids:
            folder = _folder(runs, hybrid, seed)
            there = _outcome(hybrid, folder)
            found.append(there or _run_seed(hybrid, seed, folder, say, budget))
    return found


def outcomes(hybrids: Sequence[Hybrid], n_seeds: int, runs: str | Path) -> list[Outcome]:
    """What is finished, hybrid by hybrid."""
    wanted = [(hybrid, _folder(runs, hybrid, seed)) for hybrid in hybrids for seed in range(n_seeds)]
    return [outcome for outcome in (_outcome(*each) for each in wanted) if outcome is not None]


def _run_seed(hybrid: Hybrid, seed: int, folder: Path, say: Say, budget: Budget) -> Outcome:
    models: dict[Arm, nn.Module] = {}
    seconds: dict[str, float] = {}
    for arm in ARMS:
        models[arm], seconds[f"train {arm}"] = trained(hybrid, seed, arm, folder / arm, say)
    export(models["with"], folder / "model")
    run = RunDirectory.open(folder / "with")
    with cpu_threads(hybrid.train.threads):
        data = of_task(build_task(hybrid.task), Data(batch=AT_ONCE, seed=seed), budget)
        if not run.verdicts_path.exists():
            say(f"{hybrid.name} seed {seed}: examine")
            run.write_examination(examined(models["with"], [*data.calibration, *data.test], budget))
        examination = run.read_examination()
        losses: dict[Arm, PerSequence] = {arm: held_out_losses(models[arm], data.test) for arm in ARMS}
    outcome = _summary(hybrid, seed, models, examination, losses, seconds)
    write_record(folder / OUTCOME, outcome)
    say(f"{hybrid.name} seed {seed}: {outcome.verdict}, retrained without it {outcome.headroom}")
    return outcome


def trained(hybrid: Hybrid, seed: int, arm: Arm, folder: Path, say: Say) -> tuple[nn.Module, float]:
    """The trained model of an arm in evaluation mode, and the seconds it took; from its run if that is finished.

    Raises:
        KeyboardInterrupt: a signal stopped the training, after a checkpoint.
    """
    model, run = hybrid.model(seed, arm), RunDirectory(folder)
    if not (run.manifest_path.exists() and run.read_manifest().exit_state == "finished"):
        begun = run.begun
        say(f"{hybrid.name} seed {seed}: {'go on training' if begun else 'train'} {arm} its memory")
        run = run if begun else RunDirectory.create(folder)
        result = train(model, build_task(hybrid.task), hybrid.training(seed), run, begun, progress=False)
        if result.exit_state == "interrupted":
            raise KeyboardInterrupt
    checkpoint = load_checkpoint(run.checkpoints_path)
    assert checkpoint is not None, f"{folder}: finished without a checkpoint"
    restore_model(checkpoint, model)
    _check_steps(hybrid, checkpoint.step, folder)
    seconds = [float(row["seconds"]) for row in run.read_timings()]
    return model.eval(), max(seconds, default=0.0)


def export(model: nn.Module, folder: Path) -> None:
    """Write a Hugging Face model into a folder, whole or not at all; other models are in their run."""
    if not isinstance(model, Logits) or folder.exists():
        return
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    model.save(unfinished)
    unfinished.rename(folder)


def examined(model: nn.Module, batches: list[Batch], budget: Budget) -> Examination:
    """The examination of a hybrid; a Hugging Face model is examined as it came, without the wrapper.

    Raises:
        KeyboardInterrupt: it was interrupted while it tested; what it would decide by then is not kept.
    """
    version = version_of_instrument()
    examination = examine(model.model if isinstance(model, Logits) else model, batches, budget=budget)
    if any("interrupted" in what for what in examination.missing):
        raise KeyboardInterrupt
    return examination.model_copy(update={"versions": examination.versions | {INSTRUMENT: version}})


def held_out_losses(model: nn.Module, batches: Sequence[Batch]) -> PerSequence:
    """Loss and accuracy of every sequence."""
    loss, found = NextTokenLoss(), []
    with torch.no_grad():
        for batch in batches:
            scores = score(loss, model, batch, accuracy=True)
            assert scores.per_token is not None
            assert scores.correct is not None
            n_scored = (~scores.per_token.isnan()).sum(1)
            found.append(torch.stack([scores.per_sequence, scores.correct.sum(1) / n_scored]))
    return torch.cat(found, 1).double().numpy()


def _summary(
    hybrid: Hybrid,
    seed: int,
    models: dict[Arm, nn.Module],
    examination: Examination,
    losses: Mapping[Arm, PerSequence],
    seconds: dict[str, float],
) -> Outcome:
    site = all_memories(examination)
    differences = losses["without"][0] - losses["with"][0]
    return Outcome(
        hybrid=hybrid.name,
        seed=seed,
        steps=hybrid.train.steps,
        parameters={arm: sum(p.numel() for p in models[arm].parameters()) for arm in ARMS},
        loss={arm: float(losses[arm][0].mean()) for arm in ARMS},
        accuracy={arm: float(losses[arm][1].mean()) for arm in ARMS},
        verdict=site.verdict,
        because=site.because,
        optimal_constant=site.effects["read"]["optimal_constant"],
        share=site.share,
        sites={each.name: each.verdict for each in examination.sites},
        margin=examination.margin,
        headroom=Bootstrap(len(differences), 2000, seed).mean(differences),
        differences=[float(value) for value in differences],
        n_test=examination.n_test,
        seconds=seconds | {"examine": sum(examination.seconds.values())},
        version=examination.versions.get(INSTRUMENT, "unknown"),
    )


def all_memories(examination: Examination) -> SiteRecord:
    """All memories together: their group, or the only one."""
    return examination.groups[0] if examination.groups else examination.sites[0]


def _folder(runs: str | Path, hybrid: Hybrid, seed: int) -> Path:
    return Path(runs) / hybrid.name / f"seed-{seed}"


def _outcome(hybrid: Hybrid, folder: Path) -> Outcome | None:
    if not (folder / OUTCOME).exists():
        return None
    outcome = read_record(folder / OUTCOME, Outcome)
    _check_steps(hybrid, outcome.steps, folder)
    return outcome


def _check_steps(hybrid: Hybrid, steps: int, folder: Path) -> None:
    if steps != hybrid.train.steps:
        raise ValueError(
            f"trained-truth: {folder} was trained for {steps} steps, {hybrid.name} has {hybrid.train.steps}; "
            "choose another --runs folder"
        )

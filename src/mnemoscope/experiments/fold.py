"""Accept and fold: the memory of a run that is worth one vector is replaced by it, or deleted, and what is left tested.

    OUT/config.json, manifest.json, checkpoints/     a run whose model is the folded stack
    OUT/folding.json                                 what was folded, what it costs, what it saves

Only memories whose examination says that their content is not needed are folded, and only if the folded model is
equivalent on held-out sequences: the upper end of the paired difference of the losses must be below the examination's
margin.

Source: the constant, Li & Janson 2024, "Optimal ablation for interpretability" (arXiv 2409.09951); equivalence within a
margin, Schuirmann 1987 (two one-sided tests, of which the harmful side is asked here).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from pydantic import TypeAdapter
from torch import nn

from mnemoscope.examination import Budget
from mnemoscope.examination.running.editing import edited
from mnemoscope.examination.subject.intact import intact
from mnemoscope.examination.subject.losses import Loss, NextTokenLoss, score
from mnemoscope.experiments.folding import Fit, Way, equivalence, fitted, folded_stack, sizes, speeds
from mnemoscope.experiments.held_out import Data
from mnemoscope.experiments.subjects import Subject, of_run
from mnemoscope.models import Stack
from mnemoscope.runs import Estimate, Examination, RunDirectory, SiteRecord, write_record
from mnemoscope.runs.record import SCHEMA_VERSION, Record
from mnemoscope.tasks import build_task
from mnemoscope.training import Recipe, build_optimiser, load_run
from mnemoscope.training.checkpoint import save_checkpoint
from mnemoscope.training.journal import describe_process
from mnemoscope.training.threads import cpu_threads

FOLDING = "folding.json"
EXACT = 1e-4
"""Largest difference of the losses of the folded and the hooked model, of the larger of 1 and their largest value."""

FOLDED: Mapping[str, Way] = {
    "constant-bias": "read",
    "decorative": "read",
    "decorative (scale)": "read",
    "redundant": "read",
    "starved": "read",
    "clock": "positions",
}
"""The verdicts that are folded, and what takes the read's place."""

REFUSED: Mapping[str | None, str] = {
    None: "it was not graded",
    "untrained": "the model is no better than a constant output, so nothing can be said of its memory",
    "not-demanded": "the data do not ask for any memory, so they cannot show what it is worth on others",
    "inconclusive": "its effect is open; examine it on more sequences",
}
"""Why others are not, where it is not that they are used."""


@dataclass(frozen=True, kw_only=True)
class FoldConfig:
    """How a memory is folded.

    Args:
        site: name of the memory site in the examination.
        delete: replace the whole output of the memory's module, by nothing if that is equivalent, else by a vector;
            its gate goes too.
        force: keep the folded model even if it is not equivalent.
        n_test: held-out sequences; None for as many as the examination has.
        fit_steps: of the constant, at most; 300 are an examination's.
    """

    site: str
    delete: bool = False
    force: bool = False
    n_test: int | None = None
    fit_steps: int = 300


class Folding(Record):
    """What was folded.

    `difference` is the paired increase of the loss on held-out sequences, in nats; `accepted` says whether its upper
    end is below `margin`. `hooked_difference` is the largest difference of a sequence's loss between the folded model
    and the original with the constant put in by a hook.
    """

    schema_version: int = SCHEMA_VERSION
    run: str
    site: str
    verdict: str
    way: Literal["read", "positions", "zero", "output"]
    difference: Estimate
    margin: float
    accepted: bool
    forced: bool
    hooked_difference: float
    n_test: int
    parameters: tuple[int, int]
    parameter_bytes: tuple[int, int]
    state_bytes: tuple[int, int]
    flops: tuple[int, int]
    tokens_per_second: tuple[float, float]


def fold_run(directory: str | Path, out: str | Path, config: FoldConfig) -> Folding:
    """Fold a memory of an examined run into a run of its own; the first stays as it is.

    Nothing is written where the folded model is not equivalent, unless `config.force`.

    Args:
        directory: of a run with `verdicts.json`.
        out: a new or empty folder.
        config: what to fold, and how.

    Raises:
        ValueError: no run, no examination, no such site, a verdict that forbids it, or a memory that cannot be folded.
    """
    run = RunDirectory.open(directory)
    if not run.verdicts_path.is_file():
        raise ValueError(f"fold: {directory} has not been examined; run: mnemoscope examine {directory}")
    examination = run.read_examination()
    record = foldable(examination, config.site)
    RunDirectory.create(out)
    budget = budget_of(examination, config.n_test, config.fit_steps)
    subject = of_run(directory, Data(), budget)
    if not isinstance(subject.model, Stack):
        raise ValueError(f"fold: {directory} must hold a stack, got a {type(subject.model).__name__}; nothing was done")
    with cpu_threads(subject.threads):
        way: Way = "zero" if config.delete else FOLDED[str(record.verdict)]
        model, folding = _tried(subject, record, examination.margin, way, config, budget)
        if config.delete and not folding.accepted:
            model, folding = _tried(subject, record, examination.margin, "output", config, budget)
    if folding.accepted or config.force:
        _keep(directory, Path(out), model, folding)
    else:
        Path(out).rmdir()
    return folding


def foldable(examination: Examination, site: str) -> SiteRecord:
    """The record of a site that may be folded.

    Raises:
        ValueError: no such site, or its verdict forbids it.
    """
    by_name = {record.name: record for record in examination.sites}
    if site not in by_name:
        raise ValueError(f"fold: no memory site is called {site!r}; examined were: {', '.join(by_name)}")
    record = by_name[site]
    if record.verdict not in FOLDED:
        because = REFUSED.get(record.verdict, f"its content is used: {record.because}")
        raise ValueError(
            f"fold: {site} is {record.verdict or 'without a verdict'}, and only {', '.join(FOLDED)} are folded; "
            f"{because}"
        )
    return record


def _tried(
    subject: Subject, record: SiteRecord, margin: float, way: Way, config: FoldConfig, budget: Budget
) -> tuple[Stack, Folding]:
    """The folded stack, and what it costs and saves."""
    model, loss = subject.model, subject.loss or NextTokenLoss()
    assert isinstance(model, Stack)
    assert subject.sizes is not None
    n_calibration = math.ceil(subject.sizes[0] / subject.batches[0].size)
    calibration, test = subject.batches[:n_calibration], subject.batches[n_calibration:]
    fit = fitted(model, loss, calibration, record.name, way, budget)
    folded = folded_stack(model, fit)
    hooked = _require_same(model, folded, fit, loss, test[0])
    difference = equivalence(model, folded, loss, test, n_resamples=budget.n_resamples, seed=budget.seed)
    before, after = sizes(model), sizes(folded)
    b, t = test[0].inputs.shape[:2]
    accepted, measured = difference.high < margin, speeds(model, folded, loss, test[0], b * t)
    return folded, Folding(
        run=subject.name,
        site=record.name,
        verdict=str(record.verdict),
        way=way,
        difference=difference,
        margin=margin,
        accepted=accepted,
        forced=config.force and not accepted,
        hooked_difference=hooked,
        n_test=sum(batch.size for batch in test),
        parameters=(before.parameters, after.parameters),
        parameter_bytes=(before.n_bytes, after.n_bytes),
        state_bytes=(model.state_bytes(1, t), folded.state_bytes(1, t)),
        flops=(model.flops(1, t), folded.flops(1, t)),
        tokens_per_second=(measured.before, measured.after),
    )


def _require_same(model: nn.Module, folded: nn.Module, fit: Fit, loss: Loss, batch: object) -> float:
    """The folded model must be the original with the constant put in by a hook, up to rounding."""
    with torch.no_grad(), intact(model), edited(dict(model.named_modules()), fit.edits):
        wanted = score(loss, model, batch).per_sequence
    with torch.no_grad(), intact(folded):
        got = score(loss, folded, batch).per_sequence
    difference = float((got - wanted).abs().max())
    largest = EXACT * max(1.0, float(wanted.abs().max()))
    if not difference <= largest:
        raise ValueError(
            f"fold: the folded model must have the losses of the original with the constant in {fit.owner}, to "
            f"{largest:.1g}, got a difference of {difference:.3g}; fold its output (--delete)"
        )
    return difference


def _keep(directory: str | Path, out: Path, model: Stack, folding: Folding) -> None:
    """A run directory of the folded model, at the step at which it was folded."""
    trained = load_run(directory)
    # Remedies name sites that may be gone.
    recipe = replace(
        trained.recipe, name=f"{trained.recipe.name}, {folding.site} folded", model=model.config, remedies=()
    )
    run, adapter = RunDirectory(out), TypeAdapter(Recipe)
    device = torch.device("cpu")
    manifest = describe_process(build_task(recipe.task), recipe.train, device).model_copy(update={"kind": "fold"})
    run.write_config(
        adapter.dump_python(recipe, mode="json", exclude_defaults=True), adapter.dump_python(recipe, mode="json")
    )
    run.write_manifest(manifest)
    save_checkpoint(run.checkpoints_path, trained.step, model, build_optimiser(model, recipe.train, ()), device)
    write_record(out / FOLDING, folding)
    run.write_manifest(manifest.ending("finished"))


def budget_of(examination: Examination, n_test: int | None, fit_steps: int) -> Budget:
    """The examination's sequences, so that a constant fitted on them is the one it fitted."""
    return Budget(
        n_calibration=examination.n_calibration,
        n_test=n_test or examination.n_test,
        fit_steps=fit_steps,
        seed=examination.seed,
    )

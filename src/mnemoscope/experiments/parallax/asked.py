"""What is asked of trained arms; each answer is kept, so that a stopped command goes on with the first that is missing.

    OUT/parallax-arms/prose-A0/arm-0.json          losses of the arm, and what its bank looks like
    OUT/parallax-arms/prose-deleted/arm-0.json     slots deleted from the bank
    OUT/parallax-arms/prose-gates/arm-0.json       gates exchanged between banks
    OUT/parallax-arms/prose-verdict/arm-0.json     verdict and fold of the bank

A question is asked of the run directories of the arms, which are trained first where they are not there yet.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from mnemoscope.examination import Budget
from mnemoscope.experiments.examining import Choice, examine_subject, keep
from mnemoscope.experiments.held_out import Data
from mnemoscope.experiments.kept_arms import ArmResult, kept_arm
from mnemoscope.experiments.parallax.arms import (
    ARMS,
    TOP_K,
    Arm,
    CortexStudy,
    run_folder,
    text_of,
    trained,
)
from mnemoscope.experiments.parallax.changed import (
    CHUNK,
    Windows,
    best_slots,
    folded_difference,
    losses,
    with_gate_of,
    without_slots,
)
from mnemoscope.experiments.parallax.collapse_claims import CONSTANT_BIAS, DELETED, GATES, before
from mnemoscope.experiments.parallax.watched import PREFIX, Looked, bank_of, look
from mnemoscope.experiments.reproducing import Measured
from mnemoscope.experiments.subjects import of_run
from mnemoscope.models import Stack
from mnemoscope.runs import Examination, RunDirectory
from mnemoscope.tasks import task_rng

ANSWERS = "parallax-arms"
N_LOOKED = 16


@dataclass(frozen=True, kw_only=True)
class CollapseStudy:
    """Which arms, on what, and what the examination of the bank may cost.

    Args:
        cortex: text, model and training.
        arms: that are trained.
        n_calibration: windows that fit constants.
        fit_steps: of one constant.
    """

    cortex: CortexStudy = field(default_factory=CortexStudy)
    arms: tuple[Arm, ...] = ARMS
    n_calibration: int = 64
    fit_steps: int = 100

    @property
    def budget(self) -> Budget:
        """Of the examination and of the fold."""
        return Budget(
            n_calibration=self.n_calibration,
            n_test=self.cortex.n_test,
            fit_steps=self.fit_steps,
            joint_fit_steps=max(1, self.fit_steps // 3),
            untrained_copy=False,
            n_resamples=2000,
        )


def of_arm(cortex: CortexStudy, arm: Arm, seed: int, out: Path) -> ArmResult:
    """Its losses, "ARM_loss" and so on; what its bank looks like, at the end and while it was trained."""
    return kept_arm(out / ANSWERS, _named(cortex, arm), cortex, seed, lambda: _arm(cortex, arm, seed, out))


def of_deletion(cortex: CortexStudy, seed: int, out: Path, arm: Arm = "A0") -> ArmResult:
    """What deleting shares of the slots of an arm costs: "deleted_SHARE" of A0, "ARM_deleted_SHARE" of others."""
    name = _named(cortex, f"{before(arm)}deleted".replace("_", "-"))
    return kept_arm(out / ANSWERS, name, cortex, seed, lambda: _deleted(cortex, arm, seed, out))


def of_gates(settings: CollapseStudy, seed: int, out: Path) -> ArmResult:
    """What it costs a bank to have the gate of another arm, for all of `GATES` whose arms there are."""
    name = _named(settings.cortex, "gates")
    return kept_arm(out / ANSWERS, name, settings, seed, lambda: _exchanged(settings, seed, out))


def of_verdict(settings: CollapseStudy, seed: int, out: Path) -> tuple[str, ArmResult]:
    """The verdict of the bank of A0 in words, which its run directory holds too, and what folding the bank costs."""
    run = run_folder(out, settings.cortex.recipe("A0"), seed)
    name = _named(settings.cortex, "verdict")
    found = kept_arm(out / ANSWERS, name, settings, seed, lambda: _judged(run, settings))
    return verdict_of(RunDirectory(run).read_examination()), found


def verdict_of(examination: Examination) -> str:
    """Of the bank, the only memory there is."""
    (site,) = examination.sites
    return site.verdict or "-"


def curves(run: Path, arm: str) -> dict[str, Sequence[float]]:
    """What the bank of a run looked like while it was trained, by "ARM: NAME", with its steps."""
    rows = [row for row in RunDirectory(run).read_metrics() if f"{PREFIX}cosine" in row]
    if not rows:
        return {}
    named: dict[str, Sequence[float]] = {
        f"{arm}: {name}": [float(row[f"{PREFIX}{name}"]) for row in rows] for name in Looked._fields
    }
    return named | {f"{arm}: step": [float(row["step"]) for row in rows]}


def _named(cortex: CortexStudy, what: str) -> str:
    return f"{Path(cortex.corpus).stem}-{what}"


def _model(cortex: CortexStudy, arm: Arm, seed: int, out: Path) -> Stack:
    model = trained(out, cortex, cortex.recipe(arm), seed).model.cpu().eval()
    assert isinstance(model, Stack)
    return model


def _test(cortex: CortexStudy) -> Windows:
    text = text_of(cortex)
    n = min(cortex.n_test, text.n_sequences("test") or cortex.n_test)
    batch = text.batch(task_rng(0, "test", 0), n, "test")
    return torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets)


def _arm(cortex: CortexStudy, arm: Arm, seed: int, out: Path) -> Measured:
    model, windows, figures = _model(cortex, arm, seed, out), _test(cortex), dict[str, float]()
    with best_slots(model, TOP_K.get(arm)):
        mean = losses(model, windows).mean()
        if bank_of(model) is not None:
            figures = {f"{arm}_{name}": value for name, value in look(model, windows[0][:N_LOOKED])._asdict().items()}
    figures |= {f"{arm}_loss": float(mean), f"{arm}_perplexity": float(mean.exp())}
    return Measured(figures=figures, series=curves(run_folder(out, cortex.recipe(arm), seed), arm))


def _deleted(cortex: CortexStudy, arm: Arm, seed: int, out: Path) -> Measured:
    model, windows = _model(cortex, arm, seed, out), _test(cortex)
    generator, whole = torch.Generator().manual_seed(seed), losses(model, windows)
    costs = {share: losses(without_slots(model, share, generator), windows) - whole for share in DELETED}
    return Measured(figures={f"{before(arm)}deleted_{share:.0%}": float(cost.mean()) for share, cost in costs.items()})


def _exchanged(settings: CollapseStudy, seed: int, out: Path) -> Measured:
    cortex, windows, figures = settings.cortex, _test(settings.cortex), dict[str, float]()
    for pair in (pair for pair in GATES if {*pair} <= {*settings.arms}):
        bank, giver = (_model(cortex, arm, seed, out) for arm in pair)
        cost = losses(with_gate_of(bank, giver), windows) - losses(bank, windows)
        figures["{}_with_gate_of_{}".format(*pair)] = float(cost.mean())
    return Measured(figures=figures)


def _judged(run: Path, settings: CollapseStudy) -> Measured:
    subject = of_run(run, Data(batch=CHUNK), settings.budget)
    examination = examine_subject(subject, settings.budget, Choice())
    keep(subject, examination, run, "mnemoscope reproduce parallax-collapse")
    folded = folded_difference(run, settings.budget)
    return Measured(
        figures={
            CONSTANT_BIAS: float(verdict_of(examination).startswith(CONSTANT_BIAS)),
            "folded": folded.value,
            "folded_high": folded.high,
            "fold_accepted": float(folded.high < examination.margin),
        }
    )

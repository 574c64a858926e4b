"""Patching recovery curves: is what restores nothing when it is patched causally unimportant, and the reverse?

The hybrids of `survey-window` (a memory before or behind attention of several widths; the runs are shared) get the
memory's state of a clean sequence put into a corrupt one at several tokens, and the other way round.

    denoise    share of the difference in logits that the clean state restores
    noise      share that the corrupt state destroys
    use        loss without the memory, over all it could lose (optimal constant)

Only networks that learned the task count. What is said of a memory that restores nothing needs one that does, and what
is said of one that restores needs such a one.

Known limits: patching leaves everything but the state at its own run: beside attention that sees the same tokens, a
state that is used may restore little. Read it with the effect.

Source: Heimersheim & Nanda 2024 (arXiv 2404.15255), whom the survey names otherwise: "components that don't restore
behavior when patched are causally unimportant". What differs: bars of 0.2 and 0.5 are this project's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mnemoscope.examination.judgement.statistics import Bootstrap
from mnemoscope.examination.protocol.patching import Pair, patch, with_other_history
from mnemoscope.experiments.planning import Target
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Plot
from mnemoscope.experiments.survey.arms import all_memories, examined, held_out, score, targets, trained
from mnemoscope.experiments.survey.frame import Finding, study
from mnemoscope.experiments.survey.window import FIRST, LAST, WindowStudy, recipes
from mnemoscope.experiments.survey.window import STUDY as WINDOWS
from mnemoscope.training import TrainedRun

TAPS = 3
"""Of the memory's short convolution: the tail that a patch leaves alone is one less."""
MEMORIES: dict[str, str] = {arm: f"blocks.{0 if arm in FIRST else 1}.mixer" for arm in (*FIRST, *LAST)}
"""Where the memory of an arm stands."""
ARMS = tuple(MEMORIES)
NOTHING, ENOUGH = 0.2, 0.5
LEARNED = 0.95


@dataclass(frozen=True, kw_only=True)
class PatchingStudy:
    """The trained hybrids, and where they are patched.

    Args:
        window: the study that trains them.
        at: tokens, as sixteenths of a sequence.
        n_test: sequences.
    """

    window: WindowStudy = field(default_factory=WindowStudy)
    at: tuple[int, ...] = (4, 6, 8, 10, 12, 14)
    n_test: int = 256


def patching(settings: PatchingStudy, seed: int, out: Path) -> Measured:
    """Curves of every arm, beside the use of its memory."""
    figures, series = dict[str, float](), dict[str, Sequence[float]]()
    places = [at * settings.window.task.length // 16 for at in settings.at]
    for name, recipe in recipes(settings.window).items():
        run = trained(settings.window.training, recipe, seed, out)
        restored, destroyed = curves(run, MEMORIES[name], places, settings.n_test)
        found = examined(settings.window.training, settings.window.examining, recipe, seed, out)
        figures |= {
            f"{name}: accuracy": score(run, settings.n_test).accuracy,
            f"{name}: denoise": max(restored),
            f"{name}: noise": max(destroyed),
            f"{name}: use": all_memories(found).necessity or 0.0,
        }
        series |= {f"{name}: at": [float(place) for place in places]}
        series |= {f"{name}: denoise": restored, f"{name}: noise": destroyed}
    return Measured(figures=figures | agreement(figures), series=series)


def agreement(figures: dict[str, float]) -> dict[str, float]:
    """What patching and use say of each other, the largest contradiction of each kind; NaN without a case."""
    learned = [arm for arm in ARMS if figures[f"{arm}: accuracy"] >= LEARNED]
    silent = [figures[f"{arm}: use"] for arm in learned if figures[f"{arm}: denoise"] < NOTHING]
    spoken = [figures[f"{arm}: use"] for arm in learned if figures[f"{arm}: denoise"] >= ENOUGH]
    return {
        "used_without_restoring": max(silent, default=math.nan),
        "least_use_where_restored": min(spoken, default=math.nan),
        "silent": float(len(silent)),
        "spoken": float(len(spoken)),
    }


def curves(run: TrainedRun, memory: str, places: Sequence[int], n_test: int) -> tuple[list[float], list[float]]:
    """What the memory's state restores and destroys at every token; 0 where the two runs do not surely differ."""
    batches = held_out(run.task, n_test)
    restored, destroyed = list[float](), list[float]()
    for at in places:
        pairs = [Pair(clean=batch, corrupt=with_other_history(batch, at), at=at) for batch in batches]
        found = patch(run.model.eval(), pairs, [memory], local=TAPS - 1)
        bootstrap = Bootstrap(len(found.clean), 500, 0)
        for values, estimate in ((restored, found.denoise(bootstrap)), (destroyed, found.noise(bootstrap))):
            values.append(0.0 if estimate is None else estimate.value)
    return restored, destroyed


def trainings(settings: PatchingStudy) -> Sequence[Target]:
    """Of one seed, for the planner; they are those of `survey-window`."""
    return targets(recipes(settings.window).values())


CLAIMS = (
    Claim(figure="silent", what="memories that restore less than 20 %, of networks that learned", least=1.0),
    Claim(figure="spoken", what="memories that restore half and more, of networks that learned", least=1.0),
    Claim(
        figure="used_without_restoring",
        what="largest use of a memory that restores less than 20 % (of all it could lose)",
        published="none; ours: 10 %",
        most=0.1,
    ),
    Claim(
        figure="least_use_where_restored",
        what="smallest use of a memory that restores half and more (of all it could lose)",
        published="causally important; ours: 10 %",
        least=0.1,
    ),
    *(
        Claim(figure=f"{arm}: {figure}", what=f"{arm}: {what}")
        for arm in ARMS
        for figure, what in (
            ("accuracy", "accuracy"),
            ("denoise", "most restored"),
            ("noise", "most destroyed"),
            ("use", "use"),
        )
    ),
)
SMALL = PatchingStudy(window=WINDOWS.experiment.sizes["small"])

STUDY = study(
    Experiment(
        name="survey-patching",
        what="is what restores nothing when it is patched causally unimportant?",
        source="Heimersheim & Nanda 2024 (arXiv 2404.15255)",
        claims=CLAIMS,
        sizes={"small": SMALL, "paper": PatchingStudy(window=WINDOWS.experiment.sizes["paper"], n_test=2048)},
        measure_in=patching,
        minutes={"small": 0.2},
        trainings=trainings,
        plots=tuple(
            part
            for figure, title in (("denoise", "What a clean state restores"), ("noise", "What a corrupt one destroys"))
            for part in Plot(
                title=title,
                caption="Of the memory's state, put in at each token; pairs are read first, then they are asked.",
                y_label="share of the difference in logits",
                x_label="token at which the state is exchanged",
                lines={arm: f"{arm}: at -> {arm}: {figure}" for arm in ARMS},
            ).split()
        ),
    ),
    Finding(
        slug="patching-tells-importance",
        claim="What does not restore behaviour when it is patched is causally unimportant",
        source="the survey, of Heimersheim & Nanda 2024 (arXiv 2404.15255)",
        decided_by={
            "used_without_restoring": "no memory that restores nothing is used",
        },
        requires=("silent",),
        if_holds="Patching may rule memories out; the effect of the best constant decides.",
        if_not="Do not rule a memory out by patching: beside attention that sees the same tokens it may be needed "
        "without restoring.",
        elsewhere="One memory per network; where several must act together, none restores alone.",
    ),
    Finding(
        slug="what-restores-is-used",
        claim="What restores behaviour when it is patched is causally important",
        source="the converse of the survey's sentence, of Heimersheim & Nanda 2024 (arXiv 2404.15255)",
        decided_by={
            "least_use_where_restored": "every memory that restores half the difference is used",
        },
        requires=("spoken",),
        if_holds="What patching finds is worth an examination.",
        if_not="Do not conclude from patching alone: a backup restores without being needed.",
        elsewhere="One memory per network; where several must act together, none restores alone.",
    ),
)

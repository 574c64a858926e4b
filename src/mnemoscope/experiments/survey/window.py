"""Does a memory beside attention fall idle when attention sees far, and do drawn or dropped windows wake it?

A hybrid of a gated delta rule and attention learns recall, with windows from 4 tokens to all, and with the widest one
under two remedies. All of them can solve the task; the examination says which part does.

    share    of the headroom that the memory carries, among memory and attention (Shapley)
    effect   what the best constant in the memory's place loses (nats an answer)
    at 4     accuracy when the trained network's attention sees 4 tokens in the test, whatever it saw in training

Under a window of 4 the memory is the only far route, and its share is large whatever was learned of it. Whether short
windows train the memory is therefore asked at one window, 4, of the networks that were trained at 4 and at all. What
wakes a memory can only be seen where the wide window lets it sleep: seeds in which it carries more than three quarters
do not decide.

Known limits: two blocks; the share of one recipe differs much between seeds (the specification's pilot: 0 to 100 % over
four), so that a difference must show in two thirds of the seeds. A network that was trained with all tokens meets a
window of 4 for the first time in the test. The local window of the claim of Based is this study's middle one, 16 tokens
of 32. Load and learning rate matter: of four pairs, at 1e-2, the memory learned before attention did and carried
all of it whatever the window, so that there was nothing to wake.

Source: Cabannes et al. 2025, SWAX (arXiv 2509.24552); Benfeghoul et al. 2025 (arXiv 2510.05901); "Large-Window
Laziness" (arXiv 2606.15378). What differs: recall of pairs in place of language; the size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mnemoscope.experiments.planning import Target
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured
from mnemoscope.experiments.survey.arms import (
    LARGER_RECALL,
    RECALL,
    Examining,
    Training,
    examined,
    larger,
    scores,
    targets,
    trained,
    use_claims,
    use_of_memory,
    with_prefix,
)
from mnemoscope.experiments.survey.frame import Finding, study
from mnemoscope.experiments.survey.undoing import accuracy_within
from mnemoscope.tasks import MqarConfig
from mnemoscope.training import Recipe
from mnemoscope.training.remedies import Remedy
from mnemoscope.training.remedies.stochastic_window import StochasticWindow
from mnemoscope.training.remedies.window_dropout import WindowDropout

NARROW, MIDDLE, WIDE, DRAWN, DROPPED = "narrow", "middle", "wide", "drawn", "dropped"
NARROWEST = 4
"""Tokens: what a pair and its query need at least."""
MOST_SEEDS = 2 / 3
COUNTS = 0.1
"""A difference of shares that counts, or of accuracy at one window."""
IDLE = 0.75
"""Share of the memory under the wide window above which there is nothing to wake."""


@dataclass(frozen=True, kw_only=True)
class WindowStudy:
    """Which sequences, how arms are trained, and what an examination costs."""

    training: Training = field(default_factory=Training)
    examining: Examining = field(default_factory=Examining)
    task: MqarConfig = RECALL


def recipes(settings: WindowStudy) -> dict[str, Recipe]:
    """Of every arm."""
    longest = settings.task.length
    doublings = tuple(NARROWEST << i for i in range((longest // NARROWEST).bit_length()))
    remedies: dict[str, tuple[int, tuple[Remedy, ...]]] = {
        NARROW: (NARROWEST, ()),
        MIDDLE: (longest // 2, ()),
        WIDE: (longest, ()),
        DRAWN: (longest, (StochasticWindow(windows=doublings),)),
        DROPPED: (longest, (WindowDropout(strength=0.9, final_strength=0.1, window=NARROWEST),)),
    }
    return {
        name: settings.training.recall(f"hybrid-{name}", layout_of(window), settings.task, remedies=given)
        for name, (window, given) in remedies.items()
    }


def layout_of(window: int) -> str:
    """Memory, then attention of a window."""
    return f"gated_delta(n_heads=2, convolution=3), attention(window={window}, convolution=3)"


def window(settings: WindowStudy, seed: int, out: Path) -> Measured:
    """Accuracy of every arm, and what its memory does."""
    arms = recipes(settings)
    found, series = scores(settings.training, arms, seed, out)
    figures = dict[str, float]()
    for name, recipe in arms.items():
        use = use_of_memory(examined(settings.training, settings.examining, recipe, seed, out))
        near = accuracy_within(trained(settings.training, recipe, seed, out), NARROWEST, settings.training.n_test)
        figures |= with_prefix(name, {"accuracy": found[name].accuracy, "at 4": near, **use})
    share = {name: figures[f"{name}: share"] for name in arms}
    accuracy = {name: figures[f"{name}: accuracy"] for name in arms}
    compared = {
        "room": share[WIDE],
        "narrow_gain": figures[f"{NARROW}: at 4"] - figures[f"{WIDE}: at 4"],
        "drawn_gain": share[DRAWN] - share[WIDE],
        "dropped_gain": share[DROPPED] - share[WIDE],
        "drawn_cost": accuracy[WIDE] - accuracy[DRAWN],
        "dropped_cost": accuracy[WIDE] - accuracy[DROPPED],
    }
    return Measured(figures=figures | compared, series=series)


def trainings(settings: WindowStudy) -> Sequence[Target]:
    """Of one seed, for the planner."""
    return targets(recipes(settings).values())


ARMS = (NARROW, MIDDLE, WIDE, DRAWN, DROPPED)
LEARNED = f"{WIDE}: accuracy"

CLAIMS = (
    Claim(figure=LEARNED, what="accuracy with attention to everything", published="solved", least=0.95),
    Claim(figure=f"{WIDE}: share", what="share of the memory beside it", published="idle; ours: 25 %", most=0.25),
    Claim(figure="room", what="the same; to wake it, there must be room for a larger share", most=IDLE),
    Claim(figure=f"{NARROW}: accuracy", what="accuracy with a window of 4", published="solved", least=0.95),
    Claim(
        figure="narrow_gain",
        what="accuracy under a window of 4 in the test: trained so, less trained with all",
        published="short windows train the memory; ours: 10 points",
        least=COUNTS,
        in_seeds=MOST_SEEDS,
    ),
    Claim(
        figure="drawn_gain",
        what="share of the memory: drawn windows less window of all",
        published="better; ours: 10 points",
        least=COUNTS,
        in_seeds=MOST_SEEDS,
    ),
    Claim(figure="drawn_cost", what="accuracy that drawn windows cost", published="none; ours: 2 points", most=0.02),
    Claim(
        figure="dropped_gain",
        what="share of the memory: scheduled window dropout less window of all",
        published="restored; ours: 10 points",
        least=COUNTS,
        in_seeds=MOST_SEEDS,
    ),
    Claim(figure="dropped_cost", what="accuracy that dropout costs", published="none; ours: 2 points", most=0.02),
    *(Claim(figure=f"{name}: accuracy", what=f"accuracy: {name}") for name in ARMS[1:] if name != WIDE),
    *(Claim(figure=f"{name}: at 4", what=f"accuracy under a window of 4 in the test: {name}") for name in ARMS),
    *use_claims((name for name in ARMS if name != WIDE), [WIDE]),
)
SMALL = WindowStudy(training=Training(steps=900))

STUDY = study(
    Experiment(
        name="survey-window",
        what="does a memory fall idle beside attention that sees far, and do drawn or dropped windows wake it?",
        source="Cabannes et al. 2025 (arXiv 2509.24552); Benfeghoul et al. 2025 (arXiv 2510.05901)",
        claims=CLAIMS,
        sizes={"small": SMALL, "paper": WindowStudy(training=larger(Training()), task=LARGER_RECALL)},
        measure_in=window,
        minutes={"small": 4},
        trainings=trainings,
    ),
    Finding(
        slug="attention-wins",
        claim="When a model can use attention or a memory, it always uses attention",
        source="the survey, on hybrids (Jamba, SWAX); Large-Window Laziness (arXiv 2606.15378)",
        decided_by={f"{WIDE}: share": "beside attention to everything, the memory carries at most a quarter"},
        requires=(LEARNED,),
        if_holds="Do not add a memory beside full attention and expect it to work: narrow the window or drop it out.",
        if_not="Do not judge a hybrid by its layout: examine each trained seed, since which part does the work is "
        "decided in training.",
        elsewhere="Whether larger models choose as these do: a hybrid of hundreds of millions of parameters on text.",
    ),
    Finding(
        slug="short-windows-train-the-memory",
        claim="A short attention window makes the model train its long-term memory, a long one lets it idle",
        source="Cabannes et al. 2025, SWAX (arXiv 2509.24552)",
        decided_by={"narrow_gain": "under a window of 4 in the test, the network trained so recalls more"},
        requires=(LEARNED, f"{NARROW}: accuracy"),
        if_holds="Choose the window shorter than the distances at which answers lie.",
        if_not="The window did not decide at this size: take the widest that the budget allows, and examine.",
        elsewhere="Windows of hundreds of tokens on text, where most answers lie near.",
    ),
    Finding(
        slug="drawn-windows",
        claim="A window that is drawn anew for each batch trains memory and attention together",
        source="Cabannes et al. 2025, SWAX (arXiv 2509.24552)",
        decided_by={
            "drawn_gain": "the memory's share rises above that under the fixed wide window",
            "drawn_cost": "accuracy is not lost",
        },
        requires=(LEARNED, "room"),
        if_holds="Add `stochastic_window` to a hybrid whose memory idles; it costs nothing that was measured here.",
        if_not="Try several seeds and a trial before relying on `stochastic_window`.",
        elsewhere="Short and long contexts of language, which the source compares.",
    ),
    Finding(
        slug="scheduled-window-dropout",
        claim="Dropping the attention window in training, first often and then rarely, restores the use of the memory",
        source="Benfeghoul et al. 2025 (arXiv 2510.05901)",
        decided_by={
            "dropped_gain": "the memory's share rises above that under the fixed wide window",
            "dropped_cost": "accuracy is not lost",
        },
        requires=(LEARNED, "room"),
        if_holds="Add `window_dropout(strength=0.9, final_strength=0.1)` where the memory idles.",
        if_not="It does not work in most seeds here: run a trial of your own recipe (`mnemoscope trial`).",
        elsewhere="Hybrids that were converted from trained transformers, where the source found the bypass.",
    ),
)

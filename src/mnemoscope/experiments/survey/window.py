"""Does a memory beside attention fall idle when attention sees far, and do drawn or dropped windows wake it?

Hybrids of a gated delta rule and attention learn recall, with windows from 4 tokens to all, in either order of the two
blocks. Both parts can solve the task by themselves; the examination says which one does.

    narrow, middle, wide                       the memory first, then attention that sees 4 tokens, half, all
    last middle, last wide                     attention first, the memory last
    last drawn, last dropped                   like "last wide", under two remedies

    share    of the headroom that the memory carries, among memory and attention (Shapley)
    effect   what the best constant in the memory's place loses (nats an answer)
    at 4     accuracy when the trained network's attention sees 4 tokens in the test, whatever it saw in training

Under a window of 4 the memory is the only far route, and its share is large whatever was learned of it. Whether short
windows train the memory is therefore asked at one window, 4, of networks that were trained with shorter windows and
with all. What wakes a memory can only be seen where the wide window lets it sleep, so that remedies are tried where
attention stands first; a seed in which the memory carries more than three quarters even so does not decide.

Known limits: two blocks. With the memory first, the share of one recipe differs much between seeds (the
specification's pilot: 0 to 100 % over four), so that a difference must show in two thirds of them. A network that was
trained with all tokens meets a window of 4 for the first time in the test. The local window of the claim of Based is
this study's middle one, 16 tokens of 32. Load and learning rate matter: of four pairs, at 1e-2, the memory learned
before attention did and carried all of it whatever the window. Behind attention a memory learns late: in a look at one
seed, after 900 steps, a window of 4 and dropped windows left accuracy at .12; hence twice the steps in that order.

Source: Cabannes et al. 2025, SWAX (arXiv 2509.24552); Benfeghoul et al. 2025 (arXiv 2510.05901); "Large-Window
Laziness" (arXiv 2606.15378). What differs: recall of pairs in place of language; the size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mnemoscope.experiments.planning import Target
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured
from mnemoscope.experiments.survey.arms import (
    LARGER_RECALL,
    RECALL,
    Examining,
    Training,
    examined,
    gains_of_share,
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

NARROW, MIDDLE, WIDE = FIRST = ("narrow", "middle", "wide")
LAST_MIDDLE, LAST_WIDE, DRAWN, DROPPED = LAST = ("last middle", "last wide", "last drawn", "last dropped")
ARMS = (*FIRST, *LAST)
WAKING = (DRAWN, DROPPED)
NARROWEST = 4
"""Tokens: what a pair and its query need at least."""
MOST_SEEDS = 2 / 3
COUNTS = 0.1
"""A difference of shares that counts, or of accuracy at one window."""
IDLES, IDLE = 0.25, 0.75
"""Shares of the memory under the wide window: at most the first is idle, above the second is nothing to wake."""


@dataclass(frozen=True, kw_only=True)
class WindowStudy:
    """Which sequences, how arms are trained, and what an examination costs.

    Args:
        training: of networks whose memory stands first.
        patience: how many times as many steps those have whose memory stands last.
        examining: of every arm.
        task: the sequences.
    """

    training: Training = field(default_factory=Training)
    patience: int = 2
    examining: Examining = field(default_factory=Examining)
    task: MqarConfig = RECALL

    @property
    def patient(self) -> Training:
        """Of networks whose memory stands last."""
        return replace(self.training, steps=self.patience * self.training.steps)


def recipes(settings: WindowStudy) -> dict[str, Recipe]:
    """Of every arm."""
    longest, task = settings.task.length, settings.task
    windows: dict[str, int] = {NARROW: NARROWEST, MIDDLE: longest // 2, WIDE: longest}
    first = {name: settings.training.recall(f"hybrid-{name}", layout_of(seen), task) for name, seen in windows.items()}
    doublings = tuple(NARROWEST << i for i in range((longest // NARROWEST).bit_length()))
    lasting: dict[str, tuple[int, tuple[Remedy, ...]]] = {
        LAST_MIDDLE: (longest // 2, ()),
        LAST_WIDE: (longest, ()),
        DRAWN: (longest, (StochasticWindow(windows=doublings),)),
        DROPPED: (longest, (WindowDropout(strength=0.9, final_strength=0.1, window=NARROWEST),)),
    }
    return first | {
        name: memory_last(settings, f"hybrid-{name.replace(' ', '-')}", seen, given)
        for name, (seen, given) in lasting.items()
    }


def memory_last(settings: WindowStudy, name: str, seen: int, remedies: tuple[Remedy, ...]) -> Recipe:
    """A network whose attention of some window stands before its memory."""
    return settings.patient.recall(name, layout_of(seen, memory_first=False), settings.task, remedies=remedies)


def layout_of(window: int, *, memory_first: bool = True) -> str:
    """Memory and attention of a window."""
    blocks = "gated_delta(n_heads=2, convolution=3)", f"attention(window={window}, convolution=3)"
    return ", ".join(blocks if memory_first else reversed(blocks))


def window(settings: WindowStudy, seed: int, out: Path) -> Measured:
    """Accuracy of every arm, and what its memory does."""
    arms = recipes(settings)
    found, series = scores(settings.training, arms, seed, out)
    figures = dict[str, float]()
    for name, recipe in arms.items():
        use = use_of_memory(examined(settings.training, settings.examining, recipe, seed, out))
        near = accuracy_within(trained(settings.training, recipe, seed, out), NARROWEST, settings.training.n_test)
        figures |= with_prefix(name, {"accuracy": found[name].accuracy, "at 4": near, **use})
    compared = {
        "room": figures[f"{LAST_WIDE}: share"],
        "narrow_gain": figures[f"{NARROW}: at 4"] - figures[f"{WIDE}: at 4"],
        "last_middle_gain": figures[f"{LAST_MIDDLE}: at 4"] - figures[f"{LAST_WIDE}: at 4"],
    }
    return Measured(figures=figures | compared | gains_of_share(figures, WAKING, LAST_WIDE), series=series)


def trainings(settings: WindowStudy) -> Sequence[Target]:
    """Of one seed, for the planner."""
    return targets(recipes(settings).values())


LEARNED, LAST_LEARNED = f"{WIDE}: accuracy", f"{LAST_WIDE}: accuracy"


def _gain(name: str, what: str, published: str) -> Iterator[Claim]:
    yield Claim(
        figure=f"{name}_gain",
        what=f"share of the memory: {what} less window of all, 0 where it costs more than 2 points of accuracy",
        published=f"{published}; ours: 10 points",
        least=COUNTS,
        in_seeds=MOST_SEEDS,
    )
    yield Claim(figure=f"{name}_cost", what=f"accuracy that it costs: {what}")


CLAIMS = (
    Claim(figure=LEARNED, what="accuracy: window of all, the memory first", published="solved", least=0.95),
    Claim(figure=LAST_LEARNED, what="accuracy: window of all, the memory last", published="solved", least=0.95),
    Claim(
        figure=f"{WIDE}: share",
        what="share of the memory: wide, it stands first",
        published="idle; ours: 25 %",
        most=IDLES,
    ),
    Claim(
        figure=f"{LAST_WIDE}: share",
        what="share of the memory: wide, it stands last",
        published="idle; ours: 25 %",
        most=IDLES,
    ),
    Claim(
        figure="room",
        what="share of the memory to begin with; to wake it, there must be room for a larger one",
        most=IDLE,
    ),
    Claim(figure=f"{NARROW}: accuracy", what="accuracy: window of 4, the memory first", published="solved", least=0.95),
    Claim(
        figure=f"{LAST_MIDDLE}: accuracy",
        what="accuracy: window of half, the memory last",
        published="solved",
        least=0.95,
    ),
    Claim(
        figure="narrow_gain",
        what="accuracy under a window of 4 in the test, the memory first: trained so, less trained with all",
        published="short windows train the memory; ours: 10 points",
        least=COUNTS,
        in_seeds=MOST_SEEDS,
    ),
    Claim(
        figure="last_middle_gain",
        what="accuracy under a window of 4 in the test, the memory last: trained with half, less trained with all",
        published="short windows train the memory; ours: 10 points",
        least=COUNTS,
        in_seeds=MOST_SEEDS,
    ),
    *_gain(DRAWN, "drawn windows", "better"),
    *_gain(DROPPED, "scheduled window dropout", "restored"),
    *(Claim(figure=f"{name}: accuracy", what=f"accuracy: {name}") for name in (MIDDLE, *WAKING)),
    *(Claim(figure=f"{name}: at 4", what=f"accuracy under a window of 4 in the test: {name}") for name in ARMS),
    *use_claims((name for name in ARMS if name not in (WIDE, LAST_WIDE)), [WIDE, LAST_WIDE]),
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
        minutes={"small": 7},
        trainings=trainings,
    ),
    Finding(
        slug="attention-wins",
        claim="When a model can use attention or a memory, it always uses attention",
        source="the survey, on hybrids (Jamba, SWAX); Large-Window Laziness (arXiv 2606.15378)",
        decided_by={
            f"{WIDE}: share": "where the memory stands first",
            f"{LAST_WIDE}: share": "where attention stands first",
        },
        requires=(LEARNED, LAST_LEARNED),
        if_holds="Do not add a memory beside full attention and expect it to work: narrow the window or draw it anew, "
        "and where one order lets the memory sleep, try the other. Examine each trained seed, since which part does "
        "the work is decided in training.",
        if_not="Do not judge a hybrid by its layout: examine each trained seed, since which part does the work is "
        "decided in training.",
        elsewhere="Whether larger models choose as these do: a hybrid of hundreds of millions of parameters on text.",
    ),
    Finding(
        slug="short-windows-train-the-memory",
        claim="A short attention window makes the model train its long-term memory, a long one lets it idle",
        source="Cabannes et al. 2025, SWAX (arXiv 2509.24552)",
        decided_by={
            "narrow_gain": "where the memory stands first",
            "last_middle_gain": "where attention stands first",
        },
        requires=(LEARNED, f"{NARROW}: accuracy", LAST_LEARNED, f"{LAST_MIDDLE}: accuracy"),
        if_holds="Choose the window shorter than the distances at which answers lie.",
        if_not="The window did not decide at this size: take the widest that the budget allows, and examine.",
        elsewhere="Windows of hundreds of tokens on text, where most answers lie near.",
    ),
    Finding(
        slug="drawn-windows",
        claim="A window that is drawn anew for each batch trains memory and attention together",
        source="Cabannes et al. 2025, SWAX (arXiv 2509.24552)",
        decided_by={f"{DRAWN}_gain": "the memory's share rises, and accuracy is not lost"},
        requires=(LAST_LEARNED, "room"),
        if_holds="Add `stochastic_window` to a hybrid whose memory idles; it costs nothing that was measured here.",
        if_not="Try several seeds and a trial before relying on `stochastic_window`.",
        elsewhere="Short and long contexts of language, which the source compares.",
    ),
    Finding(
        slug="scheduled-window-dropout",
        claim="Dropping the attention window in training, first often and then rarely, restores the use of the memory",
        source="Benfeghoul et al. 2025 (arXiv 2510.05901)",
        decided_by={f"{DROPPED}_gain": "the memory's share rises, and accuracy is not lost"},
        requires=(LAST_LEARNED, "room"),
        if_holds="Add `window_dropout(strength=0.9, final_strength=0.1)` where the memory idles.",
        if_not="It does not work in most seeds here: run a trial of your own recipe (`mnemoscope trial`).",
        elsewhere="Hybrids that were converted from trained transformers, where the source found the bypass.",
    ),
)

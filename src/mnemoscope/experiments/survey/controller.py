"""Does a weaker controller make a network use its external memory?

The memory-augmented network of the source (it writes to the least used slot) learns to recall one pair; its output sees
the controller as well as the reads, so that a controller which remembers may pass the memory by. Controllers are LSTMs
of three widths, which remember, and a feed-forward network, which cannot. The block before it attends to two tokens and
binds a value to its key.

    worth    loss gained when every read is the mean one, also those that the controller sees of the token before
    effect   the same when the best constant stands for what is read at the output alone, as an examination has it: a
             controller without a state passes on what it read a token ago, which that does not count

Known limits: one pair, that is four bits held for up to twenty steps, which an LSTM can do without a memory. Of two
pairs the widest LSTM knew only which values there were after 1,000 steps (right in half of the answers), and three
quarters after 4,000. A weak controller may fail to learn to work the memory at all, which counts as no use of it.

Source: Santoro et al. 2016 (arXiv 1605.06065) as the survey quotes it: "hamstringing the controller" forces memory use;
"controllers consistently learn to use internal state". What differs: the task and the size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mnemoscope.experiments.planning import Target
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Plot
from mnemoscope.experiments.survey.arms import (
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
from mnemoscope.experiments.survey.undoing import without_reads
from mnemoscope.tasks import MqarConfig
from mnemoscope.training import Recipe

LSTMS = ("narrow LSTM", "LSTM", "wide LSTM")
FEED_FORWARD = "feed-forward"
ARMS = (*LSTMS, FEED_FORWARD)
WIDE = LSTMS[-1]
COUNTS = 0.02


@dataclass(frozen=True, kw_only=True)
class ControllerStudy:
    """Which sequences, how arms are trained, what an examination costs, and the memory.

    Args:
        training: of every arm.
        examining: of every arm.
        task: what is learned.
        widths: of the three LSTM controllers, the narrowest first; the feed-forward one is as wide as the widest.
        n_slots: rows of the memory.
        word: numbers in a row.
    """

    training: Training = field(default_factory=Training)
    examining: Examining = field(default_factory=Examining)
    task: MqarConfig = field(default_factory=lambda: MqarConfig(vocab_size=32, length=24, n_pairs=1, power_a=1.0))
    widths: tuple[int, ...] = (8, 32, 128)
    n_slots: int = 16
    word: int = 32

    def recipe(self, name: str, kind: str, width: int) -> Recipe:
        """One training."""
        machine = (
            f"mann(n_slots={self.n_slots}, word={self.word}, n_heads=1, hidden={width}, controller='{kind}', "
            "output='controller_and_reads')"
        )
        return self.training.recall(
            f"controller-{name.replace(' ', '-')}", f"attention(window=2), {machine}", self.task
        )


def recipes(settings: ControllerStudy) -> dict[str, Recipe]:
    """Of every controller."""
    arms = {name: ("lstm", width) for name, width in zip(LSTMS, settings.widths, strict=True)}
    arms[FEED_FORWARD] = ("feed_forward", max(settings.widths))
    return {name: settings.recipe(name, *each) for name, each in arms.items()}


def controller(settings: ControllerStudy, seed: int, out: Path) -> Measured:
    """Accuracy of every arm and what its memory does."""
    arms = recipes(settings)
    found, series = scores(settings.training, arms, seed, out)
    figures = dict[str, float]()
    for name, recipe in arms.items():
        use = use_of_memory(examined(settings.training, settings.examining, recipe, seed, out))
        worth = without_reads(trained(settings.training, recipe, seed, out), settings.training.n_test)
        figures |= with_prefix(name, {"accuracy": found[name].accuracy, "worth": worth, **use})
    narrow, *_, wide = LSTMS
    compared = {
        "bypassed": figures[f"{wide}: worth"],
        "narrow_gain": figures[f"{narrow}: worth"] - figures[f"{wide}: worth"],
        "kind_gain": figures[f"{FEED_FORWARD}: worth"] - figures[f"{wide}: worth"],
        "kind_cost": figures[f"{wide}: accuracy"] - figures[f"{FEED_FORWARD}: accuracy"],
        "narrow_cost": figures[f"{wide}: accuracy"] - figures[f"{narrow}: accuracy"],
    }
    return Measured(figures=figures | compared, series=series)


def trainings(settings: ControllerStudy) -> Sequence[Target]:
    """Of one seed, for the planner."""
    return targets(recipes(settings).values())


SMALL = ControllerStudy(training=Training(d_model=32, steps=1000, learning_rate=5e-3))
PAPER = ControllerStudy(
    training=larger(Training()),
    task=MqarConfig(vocab_size=64, length=64, n_pairs=16, power_a=1.0),
    widths=(16, 64, 256),
    n_slots=128,
    word=40,
)

CLAIMS = (
    Claim(figure=f"{WIDE}: accuracy", what=f"accuracy: {WIDE}", published="learned", least=0.9),
    Claim(
        figure="bypassed",
        what=f"what the memory is worth to the {WIDE} (nats)",
        published="bypassed; ours: 0.02",
        most=COUNTS,
    ),
    Claim(
        figure="narrow_gain",
        what="what the memory is worth: narrow less wide LSTM (nats)",
        published="forces use; ours: 0.02",
        least=COUNTS,
    ),
    Claim(
        figure="kind_gain",
        what="what the memory is worth: feed-forward less wide LSTM (nats)",
        published="forces use; ours: 0.02",
        least=COUNTS,
    ),
    Claim(figure="narrow_cost", what="accuracy that the narrow LSTM costs"),
    Claim(figure="kind_cost", what="accuracy that the feed-forward controller costs"),
    *(Claim(figure=f"{name}: accuracy", what=f"accuracy: {name}") for name in ARMS if name != WIDE),
    *(Claim(figure=f"{name}: worth", what=f"loss where every read is the mean one: {name} (nats)") for name in ARMS),
    *use_claims(ARMS, bears=False),
)

STUDY = study(
    Experiment(
        name="survey-controller",
        what="does a weaker controller make a network use its external memory?",
        source="Santoro et al. 2016 (arXiv 1605.06065), as the survey quotes it",
        claims=CLAIMS,
        sizes={"small": SMALL, "paper": PAPER},
        measure_in=controller,
        minutes={"small": 3.4},
        trainings=trainings,
        plots=(
            Plot(
                title="Validation loss",
                caption="Of every controller.",
                y_label="nats an answer",
                lines={name: f"{name}: step -> {name}: validation" for name in ARMS},
            ),
        ),
    ),
    Finding(
        slug="controllers-bypass-memory",
        claim="A controller with a state of its own learns to use that in place of the external memory",
        source="the survey, of NTM and DNC",
        decided_by={"bypassed": "without its memory, the widest LSTM loses nothing"},
        requires=(f"{WIDE}: accuracy",),
        if_holds="Let outputs be made of reads alone, or take the state from the controller.",
        if_not="An LSTM beside a memory is no proof of a bypass: examine the trained network.",
        elsewhere="Tasks of hundreds of steps, which an LSTM cannot hold, and tasks of few bits, which it can.",
    ),
    Finding(
        slug="hamstrung-controllers",
        claim="Weakening the controller forces the network to use its memory",
        source="Santoro et al. 2016 (arXiv 1605.06065), as the survey quotes it",
        decided_by={
            "narrow_gain": "when the LSTM is narrow",
            "kind_gain": "when the controller has no state",
        },
        requires=(f"{WIDE}: accuracy",),
        if_holds="Narrow the controller or take its state away, and check that accuracy stays.",
        if_not="A weak controller is not enough, or too weak to work a memory: try a curriculum first.",
        elsewhere="Controllers of the published sizes (LSTMs of 100 to 256) on one-shot classification.",
    ),
)

"""Mamba or Mamba-2: does the one with the smaller state win beside attention, though it loses alone?

Two blocks of either, or one of either and one of attention, learn recall and, apart from that, text. Mamba-2 has four
times the channels of state.

Known limits: the source compares language models of hundreds of millions of parameters; a difference below 0.02 nats or
2 points does not count here, so that a lead that is to shrink must be as large to begin with; recall tells two networks
apart only where the worse is short of all answers.

Source: AI21 Labs 2024, "Jamba-1.5" (arXiv 2408.12570), as the survey quotes it. What differs: the size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mnemoscope.experiments.planning import Target
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured
from mnemoscope.experiments.survey.arms import (
    BEATS,
    CEILING,
    LARGER_RECALL,
    RECALL,
    Examining,
    Training,
    below_bigram,
    examined,
    larger,
    scores,
    targets,
    use_of_memory,
    with_prefix,
)
from mnemoscope.experiments.survey.frame import Finding, study
from mnemoscope.tasks import MqarConfig, TextConfig, build_task
from mnemoscope.training import Recipe

BYTES = 256
COUNTS = 0.02
"""Nats, and accuracy, that count."""
MEMORIES = {"mamba": "mamba(d_state=16)", "mamba2": "mamba2(n_heads=4, d_state=64)"}
LAYOUTS = {name: f"{memory} * 2" for name, memory in MEMORIES.items()} | {
    f"{name} hybrid": f"{memory}, attention(convolution=3)" for name, memory in MEMORIES.items()
}


@dataclass(frozen=True, kw_only=True)
class MambaStudy:
    """Which sequences, how arms are trained on either, and what an examination costs."""

    training: Training = field(default_factory=Training)
    reading: Training = field(default_factory=Training)
    examining: Examining = field(default_factory=Examining)
    task: MqarConfig = RECALL
    text: TextConfig = field(default_factory=lambda: TextConfig(corpus="prose", length=64))


def recalling(settings: MambaStudy) -> dict[str, Recipe]:
    """The arms that learn recall."""
    return {
        name: settings.training.recall(f"pair-{name.replace(' ', '-')}", layout, settings.task)
        for name, layout in LAYOUTS.items()
    }


def reading(settings: MambaStudy) -> dict[str, Recipe]:
    """The arms that learn text."""
    return {
        f"text {name}": settings.reading.recipe(
            f"pair-text-{name.replace(' ', '-')}", layout, settings.text, vocab_size=BYTES
        )
        for name, layout in LAYOUTS.items()
    }


def mamba_kinds(settings: MambaStudy, seed: int, out: Path) -> Measured:
    """Accuracy and loss of every arm, and what both memories do beside attention."""
    recall, text = recalling(settings), reading(settings)
    found, series = scores(settings.training, recall, seed, out)
    read, more = scores(settings.reading, text, seed, out)
    figures = {name: found[name].accuracy for name in recall} | {name: read[name].loss for name in text}
    for name in MEMORIES:
        recipe = recall[f"{name} hybrid"]
        use = use_of_memory(examined(settings.training, settings.examining, recipe, seed, out))
        figures |= with_prefix(f"{name} hybrid", use)
    alone = figures["text mamba"] - figures["text mamba2"]
    beside = figures["text mamba hybrid"] - figures["text mamba2 hybrid"]
    compared = {
        "below_bigram": below_bigram(build_task(settings.text), [one.loss for one in read.values()]),
        "recall_room": min(figures[f"{name} hybrid"] for name in MEMORIES),
        "recall_learned": max(figures[f"{name} hybrid"] for name in MEMORIES),
        "alone": alone,
        "beside": -beside,
        "shrinks": alone - beside,
        "recall_beside": figures["mamba hybrid"] - figures["mamba2 hybrid"],
    }
    return Measured(figures=figures | compared, series=series | more)


def trainings(settings: MambaStudy) -> Sequence[Target]:
    """Of one seed, for the planner."""
    return targets([*recalling(settings).values(), *reading(settings).values()])


CLAIMS = (
    Claim(
        figure="below_bigram",
        what="loss on text of the worst arm below that of a bigram (nats a byte)",
        published="text is learned; ours: 0.1",
        least=BEATS,
    ),
    Claim(figure="recall_learned", what="accuracy: the better of both hybrids", published="learned", least=0.9),
    Claim(figure="recall_room", what="accuracy: the worse of both hybrids", most=CEILING),
    Claim(
        figure="alone",
        what="loss on text, alone: Mamba less Mamba-2 (nats a byte)",
        published="Mamba-2 is better alone; ours: 0.02",
        least=COUNTS,
    ),
    Claim(
        figure="beside",
        what="loss on text, beside attention: Mamba-2 less Mamba (nats a byte)",
        published="Mamba is better; ours: 0.02",
        least=COUNTS,
    ),
    Claim(
        figure="recall_beside",
        what="accuracy of recall, beside attention: Mamba less Mamba-2",
        published="Mamba is better; ours: 2 points",
        least=COUNTS,
    ),
    Claim(
        figure="shrinks",
        what="lead of Mamba-2 on text: alone less beside attention (nats a byte)",
        published="less significant beside attention; ours: 0.02",
        least=COUNTS,
    ),
    *(Claim(figure=name, what=f"accuracy: {name}") for name in LAYOUTS),
    *(Claim(figure=f"text {name}", what=f"loss on text: {name} (nats a byte)") for name in LAYOUTS),
    *(Claim(figure=f"{name} hybrid: share", what=f"share of {name} beside attention, recall") for name in MEMORIES),
    *(
        Claim(figure=f"{name} hybrid: effect", what=f"loss without {name} beside attention, recall (nats)")
        for name in MEMORIES
    ),
)
SMALL = MambaStudy(training=Training(steps=400, learning_rate=1e-2), reading=Training(steps=300, batch_size=16))
PAPER = MambaStudy(
    training=larger(Training()),
    reading=larger(Training()),
    task=LARGER_RECALL,
    text=TextConfig(corpus="prose", length=1024),
)

STUDY = study(
    Experiment(
        name="survey-mamba",
        what="beside attention, is Mamba better than Mamba-2 with its larger state?",
        source="AI21 Labs 2024, Jamba-1.5 (arXiv 2408.12570), as the survey quotes it",
        claims=CLAIMS,
        sizes={"small": SMALL, "paper": PAPER},
        measure_in=mamba_kinds,
        minutes={"small": 3},
        trainings=trainings,
    ),
    Finding(
        slug="mamba-beside-attention",
        claim="Beside attention, Mamba reads text better than Mamba-2, whose larger state then matters less",
        source="AI21 Labs 2024, Jamba-1.5 (arXiv 2408.12570)",
        decided_by={
            "beside": "beside attention, Mamba is better",
            "shrinks": "the lead that Mamba-2 has alone shrinks beside attention",
        },
        requires=("below_bigram", "alone"),
        if_holds="In a hybrid, do not pay for a larger recurrent state before an examination shows that it is used.",
        if_not="In a hybrid, choose between them by speed: the difference is less than what counts.",
        elsewhere="Language models large enough for the difference that the source reports.",
    ),
    Finding(
        slug="mamba-recall-beside-attention",
        claim="Beside attention, Mamba recalls more than Mamba-2 with its larger state",
        source="AI21 Labs 2024, Jamba-1.5 (arXiv 2408.12570)",
        decided_by={"recall_beside": "two points of accuracy and more"},
        requires=("recall_learned", "recall_room"),
        if_holds="Do not judge a memory beside attention by what it recalls alone.",
        if_not="Beside attention the kind of the recurrent memory does not decide recall: choose it by speed.",
        elsewhere="Loads above what the attending block recalls by itself.",
    ),
)

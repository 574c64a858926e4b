"""How many layers of a hybrid must attend, where they should stand, and whether the others contribute.

    1:0      all eight blocks attend                 first     a A A A A A A A  (a attends)
    1:7      one in the middle attends               1:3       A a A A A a A A
    0:1      all are linear attention               last      A A A A A A A a

Each learns recall and, apart from that, the hybrids learn text. The 1:3 hybrids are examined: is their linear part
idle?

Differences on recall say something only where the worse network is short of all answers, those on text only where all
compared networks read more than the last byte.

Known limits: four pairs (of eight, the 1:3 hybrid recalled 0.46 in as many steps); narrow blocks, one linear kind with
a small state (the source sweeps six); the loss of text is that of a short training on bytes; "stable" and "contributes"
are within 0.02 nats and a quarter here.

Source: "A Systematic Analysis of Hybrid Linear Attention" (arXiv 2507.06457); placement, Lieber et al. 2024, Jamba
(arXiv 2403.19887) and Bae et al. 2025 (arXiv 2510.04800). What differs: the size, and recall of pairs.
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
    LIGHT_RECALL,
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

LINEAR = "linear_attention(n_heads=8, convolution=3)"
ATTENTION = "attention(n_heads=4, convolution=3)"
BLOCKS: dict[str, str] = {
    "1:0": "aaaaaaaa",
    "1:1": "AaAaAaAa",
    "1:3": "AaAAAaAA",
    "1:7": "AAAaAAAA",
    "0:1": "AAAAAAAA",
    "first": "aAAAAAAA",
    "last": "AAAAAAAa",
}
"""By arm, block by block: a attends, A is linear."""

RATIOS = ("1:1", "1:3", "1:7")
READING = (*RATIOS, "first", "last")
"""Arms that also learn text."""
EXAMINED = "1:3"
BYTES = 256
COUNTS = 0.02
"""Nats, and accuracy, that count."""


@dataclass(frozen=True, kw_only=True)
class HybridStudy:
    """Which sequences, how arms are trained on either, and what an examination costs."""

    training: Training = field(default_factory=Training)
    reading: Training = field(default_factory=Training)
    examining: Examining = field(default_factory=Examining)
    task: MqarConfig = LIGHT_RECALL
    text: TextConfig = field(default_factory=lambda: TextConfig(corpus="prose", length=64))


def layout_of(blocks: str) -> str:
    """The layout of a word of a and A."""
    return ", ".join(ATTENTION if block == "a" else LINEAR for block in blocks)


def recalling(settings: HybridStudy) -> dict[str, Recipe]:
    """The arms that learn recall."""
    return {
        name: settings.training.recall(f"eight-{_file(name)}", layout_of(blocks), settings.task)
        for name, blocks in BLOCKS.items()
    }


def reading(settings: HybridStudy) -> dict[str, Recipe]:
    """The arms that learn text."""
    return {
        f"text {name}": settings.reading.recipe(
            f"eight-text-{_file(name)}", layout_of(blocks), settings.text, vocab_size=BYTES
        )
        for name, blocks in BLOCKS.items()
        if name in READING
    }


def _file(name: str) -> str:
    return name.replace(":", "-to-")


def hybrids(settings: HybridStudy, seed: int, out: Path) -> Measured:
    """Accuracy and loss of every arm, differences between them, and what linear parts carry."""
    recall, text = recalling(settings), reading(settings)
    found, series = scores(settings.training, recall, seed, out)
    read, more = scores(settings.reading, text, seed, out)
    figures = {name: found[name].accuracy for name in recall} | {name: read[name].loss for name in text}
    for name, training, recipe in (
        ("recall", settings.training, recall[EXAMINED]),
        ("text", settings.reading, text[f"text {EXAMINED}"]),
    ):
        figures |= with_prefix(name, use_of_memory(examined(training, settings.examining, recipe, seed, out)))
    losses = [figures[f"text {ratio}"] for ratio in RATIOS]
    task = build_task(settings.text)
    compared = {
        "text_spread": max(losses) - min(losses),
        "recall_gain": figures["1:1"] - figures["1:7"],
        "middle_over_first": figures["1:7"] - figures["first"],
        "text_first_over_middle": figures["text first"] - figures["text 1:7"],
        "ratio_room": min(figures["1:1"], figures["1:7"]),
        "place_room": min(figures["first"], figures["1:7"]),
        "below_bigram": below_bigram(task, [figures[f"text {name}"] for name in READING]),
    }
    return Measured(figures=figures | compared, series=series | more)


def trainings(settings: HybridStudy) -> Sequence[Target]:
    """Of one seed, for the planner."""
    return targets([*recalling(settings).values(), *reading(settings).values()])


PLACED = "the survey, of Jamba; by its content Bae et al. 2025 (arXiv 2510.04800)"
CLAIMS = (
    Claim(figure="1:0", what="accuracy: all blocks attend", published="1.0", least=0.95),
    Claim(figure="0:1", what="accuracy: no block attends; room for attention to help", published="lower", most=0.95),
    *(
        Claim(
            figure=f"{name}_room",
            what=f"accuracy: the worse of {arms}",
            most=CEILING,
        )
        for name, arms in (("ratio", "1:1 and 1:7"), ("place", "attention in the middle and first"))
    ),
    Claim(
        figure="below_bigram",
        what="loss on text of the worst arm below that of a bigram (nats a byte)",
        published="text is learned; ours: 0.1",
        least=BEATS,
    ),
    *(
        Claim(
            figure=f"{name}: headroom",
            what=f"lower end of what could be lost at 1:3 without memories and attention: {name} (nats)",
            least=COUNTS,
        )
        for name in ("recall", "text")
    ),
    Claim(
        figure="text_spread",
        what="loss on text: worst less best of 1:1, 1:3, 1:7 (nats a byte)",
        published="stable; ours: 0.02",
        most=COUNTS,
    ),
    Claim(
        figure="recall_gain",
        what="accuracy of recall: 1:1 less 1:7",
        published="recall improves, above all below 3:1; ours: 2 points",
        least=COUNTS,
    ),
    Claim(figure="recall: share", what="share of the linear blocks, recall at 1:3", published="little", most=0.25),
    Claim(figure="text: share", what="share of the linear blocks, text at 1:3", published="little", most=0.25),
    Claim(
        figure="middle_over_first",
        what="accuracy of recall: attention in the middle less attention first",
        published="never at the front; ours: 2 points",
        least=COUNTS,
    ),
    Claim(
        figure="text_first_over_middle",
        what="loss on text: attention first less attention in the middle (nats a byte)",
        published="never at the front; ours: 0.02",
        least=COUNTS,
    ),
    *(Claim(figure=name, what=f"accuracy: {name}") for name in BLOCKS if name not in ("1:0", "0:1")),
    *(Claim(figure=f"text {name}", what=f"loss on text: {name} (nats a byte)") for name in READING),
    *(
        Claim(figure=f"{name}: effect", what=f"loss without the linear blocks: {name} (nats)")
        for name in ("recall", "text")
    ),
)
SMALL = HybridStudy(
    training=Training(d_model=32, mlp_ratio=1.0, steps=350, learning_rate=1e-2),
    reading=Training(d_model=32, mlp_ratio=1.0, steps=250, batch_size=16),
    examining=Examining(n_calibration=48, n_test=128, fit_steps=30),
)
PAPER = HybridStudy(
    training=larger(Training()),
    reading=larger(Training()),
    task=LARGER_RECALL,
    text=TextConfig(corpus="prose", length=1024),
)

STUDY = study(
    Experiment(
        name="survey-hybrids",
        what="how many layers must attend, where should they stand, and are the linear ones idle?",
        source="A Systematic Analysis of Hybrid Linear Attention (arXiv 2507.06457)",
        claims=CLAIMS,
        sizes={"small": SMALL, "paper": PAPER},
        measure_in=hybrids,
        minutes={"small": 6.7},
        trainings=trainings,
    ),
    Finding(
        slug="ratio-of-attention",
        claim="The ratio of linear to full attention can be chosen freely for language",
        source="A Systematic Analysis of Hybrid Linear Attention (arXiv 2507.06457)",
        decided_by={"text_spread": "the loss on text is the same from 1:1 to 1:7"},
        requires=("below_bigram",),
        if_holds="Choose the ratio by a recall test: the language-modelling loss will not tell ratios apart.",
        if_not="Measure the loss at your ratio: it does depend on it here.",
        elsewhere="Windows longer than 64 bytes; the source trains 340M and 1.3B parameters.",
    ),
    Finding(
        slug="ratio-decides-recall",
        claim="Recall improves with more full attention, above all below one linear layer in three",
        source="A Systematic Analysis of Hybrid Linear Attention (arXiv 2507.06457)",
        decided_by={"recall_gain": "recall is better at 1:1 than at 1:7"},
        requires=("1:0", "0:1", "ratio_room"),
        if_holds="Spend attending layers where recall is asked for.",
        if_not="One attending layer may be enough: measure recall at your load before adding more.",
        elsewhere="Loads that one attending block does not solve: 64 pairs in 256 tokens, of 8192 words.",
    ),
    *(
        Finding(
            slug=f"linear-layers-{slug}",
            claim=f"The linear layers of a hybrid contribute little {to}",
            source="the survey's reading of arXiv 2507.06457",
            decided_by={f"{name}: share": f"on {name}, they carry at most a quarter of the headroom"},
            requires=requires,
            if_holds="Try the network without them at equal cost before paying for them.",
            if_not="A loss that is the same at every ratio does not say that linear layers are idle: examine them.",
            elsewhere="Only the 1:3 hybrids are examined, and on short sequences.",
        )
        for slug, name, to, requires in (
            ("of-hybrids", "recall", "to recall", ("1:0", "recall: headroom")),
            ("on-text", "text", "to language", ("below_bigram", "text: headroom")),
        )
    ),
    Finding(
        slug="attention-not-first",
        claim="Attention must never be placed at the front of a hybrid, for recall's sake",
        source=PLACED,
        decided_by={"middle_over_first": "recall is better with attention in the middle"},
        requires=("1:0", "place_room"),
        if_holds="Put attention in the middle.",
        if_not="Placement is free at this size: choose it by what is convenient, and check at yours.",
        elsewhere="One attending block of eight, without positions in the linear ones, at a load above what it holds.",
    ),
    Finding(
        slug="attention-not-first-on-text",
        claim="Attention must never be placed at the front of a hybrid, for the sake of language",
        source=PLACED,
        decided_by={"text_first_over_middle": "text is read better with attention in the middle"},
        requires=("below_bigram",),
        if_holds="Put attention in the middle.",
        if_not="Placement is free at this size: choose it by what is convenient, and check at yours.",
        elsewhere="One attending block of eight, windows of 64 bytes.",
    ),
)

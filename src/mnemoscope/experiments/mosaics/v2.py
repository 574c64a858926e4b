"""Recall at one to four times the training context: Memory Mosaics v2 beside transformers with rotary positions.

Keys and values are read first, filler follows, and every key is asked for its value (`mqar`); a longer sequence holds
more pairs. All arms go through the same lengths up to that of the training. v2 is trained with the delay of its long
level drawn anew for each batch, with the delay held, and without a long level; last, the long level of the finished
v2 is taken away. What the source leads one to expect:

    recall, v2          ************     recall, RoPE        ****             recall, long level gone    *****
                                                                 ********                                     _______
                        1x        4x                         1x        4x             distance of a key:  <= h  beyond

A plain transformer of this size may not find recall in so few steps, so one with a short convolution, which binds a
token to the one before it as the pairs of v2 do, stands beside it, and lengths are compared with that one.

Source: Zhang, Bottou 2025, "Memory Mosaics at scale" (arXiv 2507.03285): multi-document questions of 4 to 32 thousand
tokens, models of 24 and 32 blocks; read through summaries.
Differs: every length of the source by sixteen (context 256 for 4096, window 16 for 256, delays 4 to 16 for 64 to 256);
a synthetic task; parameters are equal.
"""

from dataclasses import replace

from mnemoscope.experiments.mosaics.v2_arms import V2_TITLES
from mnemoscope.experiments.mosaics.v2_recall import RecallStudy, recall, trainings
from mnemoscope.experiments.reproducing import Claim, Experiment, Plot, Shown

SOURCE = "Zhang, Bottou 2025, Memory Mosaics at scale (arXiv 2507.03285)"
MOST_HEADS = 4


def _claims(settings: RecallStudy) -> tuple[Claim, ...]:
    """Bounds are the published ratios and differences."""
    last, convolved = f"{settings.times[-1]} times the training context", V2_TITLES["rotary_convolved"]
    beyond, within = f"beyond {settings.n_layers} windows", "within the window"
    bounded = (
        Claim(
            figure="v2_kept",
            what=f"v2: recall at {last}, over that at once",
            published="46.4 / 59.3 = .78",
            least=0.78,
        ),
        Claim(figure="rotary_convolved_kept", what=f"{convolved}: the same", published="fails", most=0.5),
        Claim(figure="gain", what=f"recall at {last}, v2 over {convolved}", published=".53 - .41, tuned", least=0.12),
        Claim(
            figure="drawn_gain",
            what=f"recall at {last}, delay drawn over held",
            published=".32 - .16, at 8 times",
            least=0.15,
        ),
        Claim(
            figure="removed_fall_far",
            what=f"v2: fall of the recall of keys {beyond}, long level removed",
            published=".53 - .20",
            least=0.33,
        ),
        Claim(
            figure="removed_fall_near",
            what=f"v2: fall of the recall of keys {within}, long level removed",
            published=".568 - .566, other tasks",
            most=0.01,
        ),
    )
    shown = [
        Claim(figure=f"{arm}_{what}", what=f"{V2_TITLES[arm]}: {title}")
        for arm in settings.arms
        for what, title in (
            *((f"{times}x", f"recall at {times} times the context") for times in settings.times),
            ("near", f"recall {within}"),
            ("far", f"recall {beyond}"),
            ("parameters", "parameters"),
        )
    ]
    without = [
        Claim(figure=f"removed_{times}x", what=f"long level removed: recall at {times} times the context")
        for times in settings.times
    ]
    learned = [
        Claim(
            figure=f"exponent_{which}",
            what=f"exponent a of beta(n), {which} level, mean of heads",
            published="from 1/3",
        )
        for which in ("short", "long")
    ]
    return (
        *bounded,
        Claim(figure="long_gain", what=f"recall at {last}, v2 over {V2_TITLES['v2_short']}"),
        *shown,
        *without,
        *learned,
    )


def _plots(settings: RecallStudy) -> list[Plot]:
    tested = {V2_TITLES[arm]: arm for arm in settings.arms}
    removed = {"v2": "v2", "v2, long level removed": "removed", V2_TITLES["v2_short"]: "v2_short"}
    return [
        Plot(
            title="Recall by length",
            caption="Trained at 1; a longer sequence holds more pairs. Chance is one of the values.",
            y_label="recall (share of queries)",
            x="times",
            x_label="length of the sequence over that of the training",
            lines={title: f"{arm}: recall" for title, arm in tested.items()},
        ),
        Plot(
            title="Recall by distance, at the longest",
            caption="Of keys whose value stands at most so many tokens before the question, more than half as many.",
            y_label="recall (share of queries)",
            x_label="distance (tokens)",
            log_x=True,
            lines={title: f"{arm}: distance -> {arm}: recall by distance" for title, arm in tested.items()},
            marks={"training": float(settings.length), "window": float(settings.short_window)},
        ),
        Plot(
            title="Without the long level, by distance",
            caption="Taken away after the training, and never there.",
            y_label="recall (share of queries)",
            x_label="distance (tokens)",
            log_x=True,
            lines={title: f"{name}: distance -> {name}: recall by distance" for title, name in removed.items()},
            marks={"window": float(settings.short_window)},
        ),
        Plot(
            title="Validation loss through training",
            caption="On sequences of the training context throughout, while the training's own grow to that.",
            y_label="loss (nats a query)",
            lines={title: f"{arm}: step -> {arm}: validation" for title, arm in tested.items()},
        ),
        *bandwidth_plots(settings.n_layers, settings.n_heads),
    ]


def bandwidth_plots(n_layers: int, n_heads: int) -> list[Plot]:
    """The curves of the first heads, a plot for each level of the first and the last block."""
    heads = range(1, min(n_heads, MOST_HEADS) + 1)
    return [
        Plot(
            title=f"Adaptive bandwidth, {name}",
            caption="beta(n) = b_1 n^a + b_0: the more pairs there are, the sharper the read.",
            y_label="beta (inverse temperature)",
            x_label="pairs in memory, n",
            lines={f"head {head}": f"pairs: {name} -> beta: {name}, head {head}" for head in heads},
        )
        for name in (f"block {block} {level}" for block in sorted({1, n_layers}) for level in ("short", "long"))
    ]


SMALL = RecallStudy()
PAPER = replace(
    SMALL,
    length=4096,
    stages=((256, 0.3), (1024, 0.6)),
    vocab_size=4096,
    d_model=768,
    n_layers=12,
    n_heads=12,
    short_window=256,
    long_delay=64,
    longest_delay=256,
    persistent=2048,
    steps=40_000,
    batch_size=8,
    learning_rate=2e-4,
    precision="bf16-mixed",
    device="auto",
)
"""Context, window and delays as published; width and depth are those of the first Memory Mosaics, for one GPU, whose
memory holds no batch of 16."""

MOSAIC_V2 = Experiment(
    name="mosaic-v2",
    what="does Memory Mosaics v2 recall beyond its training context, where a transformer does not, and by which level?",
    source=SOURCE,
    claims=_claims(SMALL),
    sizes={"small": SMALL, "paper": PAPER},
    measure_in=recall,
    trainings=trainings,
    minutes={"small": 28.0},
    plots=_plots(SMALL),
    shown={"paper": Shown(claims=_claims(PAPER), plots=_plots(PAPER))},
)

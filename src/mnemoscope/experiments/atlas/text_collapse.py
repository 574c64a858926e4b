"""StableMax and PerpGrad in episodic training on text: which of them collapses what, with tied and untied heads.

    tied, untied    x    cross-entropy, StableMax    x    PerpGrad 0, 1        and cross-entropy with PerpGrad 0.5

The guide found a collapse under StableMax, blamed the way it interacts with the episodic memory, and left PerpGrad 0.5
untested. Measured are the effective dimensions of head and embedding, each for itself (of tied weights they are one
matrix), the cosine of gradient and weights before the projection, and the memory's utility.

`head-collapse` (E5) asks the same of a language model without any memory; the bars are those of E5, and for PerpGrad
0.5 what the guide calls healthy. Source: the Atlas tuning guide, failure modes 1 and 2; the atlas specification, E5.
Differs: 64 channels, so that one direction is 1.6 % of the width, where the guide's 256 make it 0.39 %; one layer, and
a learning rate of 5e-3, with which the memory is learned in 400 steps (E5 has 1e-3 and 600). The size "paper" is H2 of
the specification (`text_paper`).
"""

from collections.abc import Iterator
from dataclasses import replace

from mnemoscope.experiments.atlas.text_arms import CELLS, HEADS
from mnemoscope.experiments.atlas.text_paper import COLLAPSE_STEPS, PAPER
from mnemoscope.experiments.atlas.text_studies import SMALLER, SOURCE, gate_plots, plain, study, tables, trainings
from mnemoscope.experiments.head_collapse import COLLAPSED, COLLAPSED_EMBEDDING, WHOLE
from mnemoscope.experiments.reproducing import Claim, Experiment, Plot, Shown

ARMS = tuple(head + cell for head in HEADS for cell in CELLS)
HEALTHY = 0.3
"""Share of directions, as the guide has it."""
COLLAPSED_LARGER = 0.1
"""What the specification expects of tied weights under StableMax at the size "paper" (H2)."""


def _claims(tied_stablemax: float = COLLAPSED) -> Iterator[Claim]:
    """Bars of E5, then what else there is."""
    for head in HEADS:
        yield plain(
            head, "head", "effective dimension of the head at the end", ".72 tied, .69 untied (E5)", least=WHOLE
        )
        stablemax = f"{head}-stablemax"
        most = tied_stablemax if head == "tied" else COLLAPSED
        yield plain(stablemax, "head", "effective dimension of the head at the end", "under .01 (guide)", most=most)
        both = f"{head}-both"
        yield plain(both, "head", "effective dimension of the head at the end", "under .01 (guide)", most=COLLAPSED)
        half = f"{head}-half"
        yield plain(half, "embedding", "effective dimension of the embedding at the end", "untested", least=HEALTHY)
    yield plain(
        "untied-stablemax", "embedding", "effective dimension of the embedding at the end", ".91 (E5)", least=WHOLE
    )
    yield plain(
        "tied-perpgrad",
        "embedding_least",
        "least effective dimension of the embedding",
        ".03 (E5), .05 to .09 (guide)",
        most=COLLAPSED_EMBEDDING,
    )
    for arm in ARMS:
        yield plain(arm, "utility", "utility of the memory")
        yield plain(arm, "cosine", "cosine of gradient and weights before the projection, mean")


def _dimensions(part: str) -> Plot:
    return Plot(
        title=f"Effective dimension of the {part}",
        caption="Directions that hold 95 % of the variance, as a share of the width; of tied weights it is one matrix.",
        y_label="share of directions",
        lines={arm: f"{arm}: step -> {arm}: {part}" for arm in ARMS},
    )


_PLOTS = tuple(
    part for plot in (_dimensions("head"), _dimensions("embedding"), gate_plots(ARMS)[0]) for part in plot.split()
)

ATLAS_COLLAPSE_TEXT = Experiment(
    name="atlas-collapse-text",
    what="do StableMax and PerpGrad, full and half, collapse head or embedding in episodic training on text?",
    source=SOURCE,
    claims=tuple(_claims()),
    sizes={
        "small": replace(SMALLER, arms=ARMS),
        "paper": replace(SMALLER, text=PAPER, arms=ARMS, steps=COLLAPSE_STEPS, device="auto"),
    },
    minutes={"small": 22},
    measure_in=study,
    plots=_PLOTS,
    tables=tables,
    shown={"paper": Shown(claims=tuple(_claims(COLLAPSED_LARGER)), plots=_PLOTS)},
    trainings=trainings,
)

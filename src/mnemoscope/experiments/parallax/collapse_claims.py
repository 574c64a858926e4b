"""What the note claims of the bank's collapse, with its bars, and the curves of the page; see `collapse`."""

from collections.abc import Sequence

from mnemoscope.experiments.parallax.arms import ARMS, TITLES, Arm
from mnemoscope.experiments.reproducing import Claim, Plot

DELETED = (0.1, 0.5, 0.9)
WORSE: tuple[Arm, ...] = ("A1", "A2", "A3-1", "A3-4", "A3-8", "A4")
DIVERSE: tuple[Arm, ...] = ("A0", *WORSE, "A7")
"""Arms of as many slots, whose diversity is held against their benefit."""

SPREAD: tuple[Arm, ...] = ("A1", "A2", "A4")
"""Fixes that do not cut addresses themselves."""

SWAPS: tuple[tuple[Arm, Arm], ...] = (("A0", "A1"), ("A1", "A0"))
CONTROLS: tuple[tuple[Arm, Arm], ...] = (("A0", "A5"), ("A1", "A2"))
GATES = (*SWAPS, *CONTROLS)
"""A bank, and the arm whose gate it is given. Those of the controls come from another cortex as well, but were trained
beside a bank as diverse: one slot for the bank, orthogonal slots for the spread one."""

MARGIN, COSINE, EVEN, APART, NEAR = 0.01, 0.94, 0.95, 0.5, 0.5
CONSTANT_BIAS = "constant-bias"

LOOKS = (
    ("cosine", "Slots through training", "Mean cosine over pairs of slots; the note saw 0.94.", "cosine"),
    ("read_rank", "Reads through training", "Centred effective rank: how many directions reads take.", "rank"),
    ("entropy", "Addresses through training", "Over that of even addresses.", "normalised entropy"),
    ("sharpness", "Stability through training", "A bank that is one vector stays so below 1.", "beta lambda_max"),
    ("distance", "Distance from the cortex's states", "1 is that of a random vector.", "share outside"),
)
"""What is looked at while a bank is trained, and its title, caption and axis."""


def collapsed(arm: Arm, slots: str) -> tuple[Claim, ...]:
    """What the note says of a collapsed bank: its slots alike, its addresses even, any of them dispensable.

    Args:
        arm: whose bank it is.
        slots: what its slots are called.
    """
    return (
        Claim(
            figure=f"{arm}_cosine",
            what=f"mean cosine of {slots}, trained",
            published="0.94 after 1.12M tokens",
            least=COSINE,
        ),
        Claim(
            figure=f"{arm}_entropy",
            what="entropy of the addresses, over that of even ones",
            published="nearly uniform",
            least=EVEN,
        ),
        *(
            Claim(
                figure=f"{before(arm)}deleted_{share:.0%}",
                what=f"loss where {share:.0%} of {slots} are deleted (nats a byte)",
                published="negligible",
                most=MARGIN,
            )
            for share in DELETED
        ),
    )


def before(arm: Arm) -> str:
    """What figures of a deletion begin with: nothing for the bank of the collapse itself."""
    return "" if arm == "A0" else f"{arm}_"


def _claims() -> tuple[Claim, ...]:
    tested = [
        *collapsed("A0", "the bank's slots"),
        *(
            Claim(
                figure=f"{arm}_over_A0",
                what=f"loss over the bank's: {TITLES[arm]} (nats a byte)",
                published="worse: above 0",
                least=0.0,
                by_interval=True,
            )
            for arm in WORSE
        ),
        *(
            Claim(
                figure=f"{arm}_cosine",
                what=f"mean cosine of the slots, trained: {TITLES[arm]}",
                published="stayed diverse; ours: 0.5",
                most=APART,
            )
            for arm in WORSE
        ),
        *(
            Claim(
                figure=f"{arm}_entropy",
                what=f"entropy of the addresses, over that of even ones: {TITLES[arm]}",
                published="stayed bumpy; ours: 0.95",
                most=EVEN,
            )
            for arm in SPREAD
        ),
        Claim(
            figure="bank_worth",
            what="what the bank is worth: loss of the cortex alone over the bank's (nats a byte)",
            published="-",
            least=MARGIN,
        ),
        Claim(
            figure="correlation",
            what="correlation of diversity with benefit, over the arms",
            published="negative",
            most=0.0,
            by_interval=True,
        ),
        Claim(
            figure="A5_over_A0",
            what="loss over the bank's: one slot (nats a byte)",
            published="a bias, replicated: about 0",
            least=-MARGIN,
            most=MARGIN,
            by_interval=True,
        ),
        Claim(
            figure="gate_worth",
            what="what the gate is worth to one slot (nats a byte)",
            published="the gate does the work",
            least=MARGIN,
        ),
        Claim(
            figure="A0_distance",
            what="distance of what the bank says from the cortex's states (1: that of a random vector)",
            published="aligned; ours: 0.5",
            most=NEAR,
        ),
        Claim(
            figure="distance_gained",
            what="distance from the cortex's states: spread bank over bank",
            published="diverse slots leave the manifold: above 0",
            least=0.0,
            by_interval=True,
        ),
        *(
            Claim(
                figure=f"{arm}_gate_over_control",
                what=f"loss of {arm} with the gate of {swapped}, over that with the gate of {control} (nats a byte)",
                published="the gate fits one kind of bank alone: above 0",
                least=0.0,
                by_interval=True,
            )
            for (arm, swapped), (_, control) in zip(SWAPS, CONTROLS, strict=True)
        ),
        Claim(
            figure=CONSTANT_BIAS, what="is the verdict constant-bias? (1: yes)", published="a shared bias", least=1.0
        ),
        Claim(
            figure="fold_accepted",
            what="is the bank equivalent to one vector behind its gate? (1: yes)",
            published="one vector",
            least=1.0,
        ),
    ]
    shown = {
        "tokens": "tokens of a training",
        "A0_sharpness": "beta lambda_max(E[q q^T]) of the bank (a collapse is stable below 1)",
        "A0_rank": "centred rank of the bank's slots",
        "A0_read_rank": "centred rank of the bank's reads",
        **{
            f"{bank}_with_gate_of_{giver}": f"loss of {bank} with the gate of {giver} over its own (nats a byte)"
            for bank, giver in GATES
        },
        "A7_distance": "distance of what the bank says from the cortex's states: fixed random slots",
        "A7_cosine": "mean cosine of the slots as they are drawn",
        "A7_over_A0": "loss over the bank's: fixed random slots (nats a byte)",
        "folded": "loss where the bank is one vector (nats a byte)",
        "folded_high": "upper end of its interval",
        **{f"{arm}_perplexity": f"perplexity a byte: {TITLES[arm]}" for arm in ARMS},
    }
    return (*tested, *(Claim(figure=figure, what=what) for figure, what in shown.items()))


def _plot(arms: Sequence[Arm], name: str, title: str, caption: str, y_label: str) -> list[Plot]:
    plot = Plot(
        title=title,
        caption=caption,
        y_label=y_label,
        lines={f"{arm}: {TITLES[arm]}": f"{arm}: step -> {arm}: {name}" for arm in arms},
    )
    return plot.split()


def plots(arms: Sequence[Arm]) -> tuple[Plot, ...]:
    """What banks looked like while they were trained, one figure for each measure, or more where arms are many."""
    return tuple(part for measure in LOOKS for part in _plot(arms, *measure))


CLAIMS = _claims()
PLOTS = plots(DIVERSE)

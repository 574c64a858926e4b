"""What two sources have published of RegBench; they disagree where they overlap, so each stands for itself.

Sources: Zhang et al. 2024, "Memory Mosaics" (arXiv 2405.06394), figure 11 (digitised, within 0.004) and Table 4;
Akyürek, Wang, Kim, Andreas 2024, "In-Context Language Learning" (arXiv 2401.12973), digitised.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mnemoscope.experiments.mosaics.arms import Arm
from mnemoscope.runs.reproduction import TextTable

AUTOMATA = (100, 500, 1000, 2500, 40_000)
"""Training automata of the first source's figure 11."""

OTHER_AUTOMATA = (1000, 2500, 5000, 10_000, 20_000, 40_000)
"""Those of the other source."""


class Curve(NamedTuple):
    """On new languages, for each of `AUTOMATA`."""

    title: str
    accuracy: tuple[float, ...]
    tvd: tuple[float, ...]


FIGURE_11: Mapping[Arm, Curve] = {
    "mosaic": Curve("Memory Mosaic", (0.925, 0.928, 0.934, 0.941, 0.959), (0.57, 0.254, 0.216, 0.185, 0.122)),
    "transformer": Curve("Transformer", (0.523, 0.543, 0.534, 0.926, 0.951), (0.682, 0.645, 0.63, 0.232, 0.144)),
    "mamba": Curve("Mamba", (0.377, 0.578, 0.716, 0.866, 0.914), (0.752, 0.604, 0.483, 0.342, 0.271)),
    "linear_attention": Curve(
        "Linear transformer", (0.464, 0.486, 0.52, 0.798, 0.928), (0.74, 0.642, 0.625, 0.341, 0.195)
    ),
    "hyena": Curve("Hyena", (0.499, 0.579, 0.655, 0.767, 0.908), (0.701, 0.6, 0.539, 0.459, 0.221)),
    "h3": Curve("H3", (0.439, 0.504, 0.553, 0.673, 0.893), (0.738, 0.672, 0.617, 0.514, 0.237)),
    "lstm": Curve("LSTM", (0.424, 0.478, 0.507, 0.629, 0.808), (0.733, 0.665, 0.65, 0.533, 0.363)),
    "rwkv6": Curve("RWKV", (0.4, 0.478, 0.477, 0.559, 0.86), (0.768, 0.695, 0.663, 0.61, 0.281)),
    "s4d": Curve("S4", (0.498, 0.531, 0.52, 0.543, 0.823), (0.681, 0.63, 0.63, 0.602, 0.337)),
    "retention": Curve("RetNet", (0.375, 0.48, 0.525, 0.521, 0.927), (0.768, 0.695, 0.648, 0.617, 0.182)),
    "gla": Curve("GLA", (0.354, 0.465, 0.518, 0.521, 0.927), (0.777, 0.695, 0.651, 0.617, 0.187)),
}
"""Memory Mosaics, figure 11: S4 and RWKV are held against S4D and RWKV-6 here."""

TABLE_4: Mapping[Arm, tuple[float, float]] = {
    "mosaic": (0.959, 0.417),
    "transformer": (0.856, 0.308),
    "mamba": (0.929, 0.268),
    "s4d": (0.846, 0.350),
    "rwkv6": (0.967, 0.183),
    "linear_attention": (0.816, 0.348),
    "h3": (0.794, 0.425),
    "gla": (0.870, 0.284),
    "hyena": (0.953, 0.244),
    "lstm": (0.849, 0.343),
    "retention": (0.876, 0.296),
}
"""Accuracy and TVD on the training languages at 100 automata, Memory Mosaics Table 4."""

COUNTING: Mapping[int, tuple[float, float]] = {2: (0.835, 0.337), 3: (0.937, 0.265)}
"""Accuracy and TVD of back-off n-grams by order, In-Context Language Learning."""

OTHER_SOURCE: Mapping[str, Sequence[str]] = {
    "Transformer": (".545 / .622", ".925 / .208", ".940 / .175", ".950 / .154", ".955 / .138", ".958 / .126"),
    "Mamba": (".694 / .510", ".844 / .369", ".893 / .301", ".910 / .277", ".920 / .258", ".917 / .263"),
    "RetNet": (".502 / .665", ".801 / .392", ".838 / .305", ".882 / .266", ".914 / .215", ".919 / .212"),
    "Linear transformer": (".511 / .626", ".541 / .614", ".810 / .320", ".823 / .299", "- / .254", ".916 / .211"),
    "Hyena": (".580 / .591", ".701 / .490", ".755 / .444", ".806 / .393", ".845 / .325", ".892 / .253"),
    "H3": (".527 / .624", ".652 / .524", ".708 / .473", ".763 / .416", ".795 / .375", ".834 / .333"),
    "RWKV": (".498 / .661", ".490 / .641", ".607 / .561", ".732 / .460", ".772 / .421", ".829 / .318"),
    "LSTM": (".490 / .634", ".589 / .562", ".728 / .458", ".786 / .405", ".812 / .371", ".814 / .369"),
    "S4D": (".527 / .626", ".533 / .616", ".535 / .594", ".635 / .528", ".743 / .438", ".789 / .402"),
}
"""Accuracy / TVD on new languages for each of `OTHER_AUTOMATA`, In-Context Language Learning."""


def on_new_languages(arm: Arm, n_environments: int) -> tuple[float, float] | None:
    """Accuracy and TVD of the first source, where it has such a number of automata."""
    if arm not in FIGURE_11 or n_environments not in AUTOMATA:
        return None
    at, curve = AUTOMATA.index(n_environments), FIGURE_11[arm]
    return curve.accuracy[at], curve.tvd[at]


def tables() -> list[TextTable]:
    """All rows of either source."""
    figure_11 = [
        [curve.title, *(f"{accuracy:.3f} / {tvd:.3f}" for accuracy, tvd in zip(curve.accuracy, curve.tvd, strict=True))]
        for curve in FIGURE_11.values()
    ]
    return [
        TextTable(
            title="Published: Memory Mosaics, figure 11",
            caption="Accuracy / TVD on new languages by training automata (arXiv 2405.06394), digitised.",
            columns=["Model", *(f"{n:,}" for n in AUTOMATA)],
            rows=figure_11,
        ),
        TextTable(
            title="Published: the other source",
            caption="Accuracy / TVD on new languages by training automata, In-Context Language Learning (arXiv "
            "2401.12973), digitised. The two sources disagree where they overlap: compare within one.",
            columns=["Model", *(f"{n:,}" for n in OTHER_AUTOMATA)],
            rows=[[name, *values] for name, values in OTHER_SOURCE.items()],
        ),
    ]

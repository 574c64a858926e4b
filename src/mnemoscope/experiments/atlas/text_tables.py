"""Tables of the studies of ATLAS on text: texts, arms, the same with their floors, and what they gain over seeds.

Arms are told by the label of their text ("A, ", or nothing where there is one) and their name in `text_arms.ARMS`.
"""

from collections.abc import Mapping, Sequence

from mnemoscope.experiments.atlas.text_arms import ARMS
from mnemoscope.experiments.atlas.text_floors import FLOORED
from mnemoscope.experiments.reproducing import Result
from mnemoscope.experiments.trials.acceptance import over_seeds
from mnemoscope.runs.reproduction import TextTable

_MEANS = ("accuracy", "reset", "wrong", "raw_gate")
_GATES = ("storage_gate", "retrieval_gate", "used_gate")


def texts_table(labels: Sequence[str], found: Sequence[Result]) -> TextTable:
    """Which texts."""
    return TextTable(
        title="Texts",
        caption="Nine tenths were trained on; a twentieth is the test.",
        columns=["Text", "Bytes", "sha256"],
        rows=[found[0].texts[f"{label}text"] for label in labels],
    )


def arms_table(names: Sequence[tuple[str, str]], found: Sequence[Result]) -> TextTable:
    """Every arm with its seeds."""
    rows = list[list[str]]()
    for label, name in names:
        means = [f"{_mean(found, f'{label}{name}: {what}'):.3f}" for what in _MEANS]
        rows.append([f"{label}{ARMS[name].title}", *means, *_utilities(found, f"{label}{name}: ")])
    return TextTable(
        title="What the memory is worth",
        caption="Masked words of the test split, mean over seeds: accuracy with the memory, after a reset, with the "
        "memory of another row; utility of every seed with its standard error; the gate before its floor, at the end.",
        columns=["Arm", "Accuracy", "Reset", "Wrong", "Raw gate", *(f"Utility, seed {one.seed}" for one in found)],
        rows=rows,
    )


def floors_tables(names: Sequence[tuple[str, str]], found: Sequence[Result]) -> list[TextTable]:
    """Both tests of the arms that have floors; none where there is no such arm."""
    rows = list[list[str]]()
    for label, name in names:
        arm = f"{label}{name}: "
        if f"{arm}used_gate" in found[0].figures:
            gates = [f"{_mean(found, arm + gate):.3f}" for gate in _GATES]
            both = [", ".join(_utilities(found, arm + kind)) for kind in ("", f"{FLOORED}_")]
            rows.append([f"{label}{ARMS[name].title}", *gates, *both])
    table = TextTable(
        title="With the floors of the training and without",
        caption="The same words, asked of the gate as it is and of the gate with its floors, as it was trained and as "
        "the public code validates; gates of the test before their floor and, in retrieval, with it; utilities of all "
        "seeds.",
        columns=["Arm", "Storage", "Retrieval", "Retrieval, floored", "Utility without", "Utility with floors"],
        rows=rows,
    )
    return [table] if rows else []


def seeds_table(names: Sequence[tuple[str, str]], controls: Mapping[str, str], found: Sequence[Result]) -> TextTable:
    """When the memory begins to be used, and what an arm gains on its control, the seed as the unit."""
    rows = list[list[str]]()
    for label, name in names:
        begins = ", ".join(f"{each.figures[f'{label}{name}: onset']:g}" for each in found)
        gains, control = [each.figures[f"{label}{name}: gain"] for each in found], controls[name]
        gain = "-" if name == control else f"{gains[0]:.3f}" if len(gains) < 2 else str(over_seeds(gains))
        rows.append([f"{label}{ARMS[name].title}", begins, f"{label}{ARMS[control].title}", gain])
    return TextTable(
        title="Over seeds",
        caption="Onset: the first evaluation of the training whose utility is above two standard errors (inf: none), "
        "of every seed. Gain: utility less that of the control with the same seed, mean over seeds with its 95 % "
        "interval (t), which holds what two trainings differ by, not only what words do.",
        columns=["Arm", "Onset (steps)", "Control", "Gain"],
        rows=rows,
    )


def _mean(found: Sequence[Result], figure: str) -> float:
    return sum(each.figures[figure] for each in found) / len(found)


def _utilities(found: Sequence[Result], arm: str) -> list[str]:
    return [f"{one.figures[f'{arm}utility']:+.3f} ± {one.figures[f'{arm}utility_se']:.3f}" for one in found]

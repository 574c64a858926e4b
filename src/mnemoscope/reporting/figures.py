"""Which figures a page has, and their order."""

from collections.abc import Sequence

from mnemoscope.reporting.canvas import Drawing
from mnemoscope.reporting.case import Case
from mnemoscope.reporting.curves import horizon_figure, loads_figure, positions_figure, training_figure
from mnemoscope.reporting.forest import effects_figure, shares_figure


def case_figures(case: Case, key: str) -> list[Drawing]:
    """The figures of one case that its record has numbers for: effects, positions, horizon, loads, training.

    Args:
        case: what was examined.
        key: unique to the case on the page.
    """
    drawings = [
        effects_figure(case.examination, f"{key}-effects"),
        positions_figure(case.examination, f"{key}-positions"),
        horizon_figure(case.examination, f"{key}-horizon"),
        loads_figure(case.examination, f"{key}-loads"),
        training_figure(case.metrics, f"{key}-training"),
    ]
    return [drawing for drawing in drawings if drawing is not None]


def comparison_figures(cases: Sequence[Case]) -> list[Drawing]:
    """The figure above the sections of several cases, where shares were measured."""
    drawing = shares_figure(cases, "shares")
    return [drawing] if drawing else []

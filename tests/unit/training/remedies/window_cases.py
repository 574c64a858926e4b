"""Remedies of attention's window."""

from mnemoscope.training.remedies import StochasticDepth, StochasticWindow, WindowDropout
from tests.unit.training.remedies.models import ROUTE, Case

CASES = {
    "stochastic_depth": Case(
        stack=StochasticDepth(strength=1.0), hybrid=StochasticDepth(strength=0.5, sites=(ROUTE,), rescale=True)
    ),
    "stochastic_window": Case(
        stack=StochasticWindow(windows=(2, 4)), hybrid=StochasticWindow(windows=(2, 4), sites=(ROUTE,))
    ),
    "window_dropout": Case(
        stack=WindowDropout(strength=1.0, window=2), hybrid=WindowDropout(strength=1.0, per="batch", sites=(ROUTE,))
    ),
}

"""Remedies that add a loss."""

from mnemoscope.training.remedies import NecessityMargin, Prediction, Reconstruction
from tests.unit.training.remedies.models import MEMORY, Case

CASES = {
    "necessity_margin": Case(stack=NecessityMargin(), hybrid=NecessityMargin(sites=(MEMORY,), headroom=2.0)),
    "prediction": Case(
        stack=Prediction(strength=1.0, hidden=8, span=5),
        hybrid=Prediction(strength=1.0, hidden=8, anchors=2, sites=(MEMORY,)),
    ),
    "reconstruction": Case(
        stack=Reconstruction(strength=1.0, hidden=8, span=5),
        hybrid=Reconstruction(strength=1.0, hidden=8, anchors=2, sites=(MEMORY,)),
    ),
}

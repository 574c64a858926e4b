"""Settings with which a study takes seconds, and learns nothing."""

from collections.abc import Mapping
from typing import Any

from mnemoscope.experiments.survey.arms import Examining, Training
from mnemoscope.experiments.survey.controller import ControllerStudy
from mnemoscope.experiments.survey.forgetting import ForgettingStudy
from mnemoscope.experiments.survey.heads import HeadStudy
from mnemoscope.experiments.survey.hybrids import HybridStudy
from mnemoscope.experiments.survey.mamba_kinds import MambaStudy
from mnemoscope.experiments.survey.patching import PatchingStudy
from mnemoscope.experiments.survey.recall_state import RecallState
from mnemoscope.experiments.survey.retnet import RetnetStudy
from mnemoscope.experiments.survey.saturation import SaturationStudy
from mnemoscope.experiments.survey.window import WindowStudy
from mnemoscope.tasks import MqarConfig, TextConfig

TRAINING = Training(d_model=16, mlp_ratio=1.0, steps=2, batch_size=4, n_test=16)
EXAMINING = Examining(n_calibration=16, n_test=16, fit_steps=2)
RECALL = MqarConfig(vocab_size=16, length=16, n_pairs=2, power_a=1.0)
TEXT = TextConfig(corpus="prose", length=16, max_bytes=20_000)
WINDOW = WindowStudy(training=TRAINING, examining=EXAMINING, task=RECALL)

SETTINGS: Mapping[str, Any] = {
    "survey-recall-state": RecallState(
        training=TRAINING,
        task=RECALL,
        arms=("attention", "window 8", "linear attention 8", "delta net 8", "delta net 4"),
    ),
    "survey-window": WINDOW,
    "survey-hybrids": HybridStudy(training=TRAINING, reading=TRAINING, examining=EXAMINING, task=RECALL, text=TEXT),
    "survey-forgetting": ForgettingStudy(training=TRAINING, lengths=(8, 16), states=(4, 8)),
    "survey-mamba": MambaStudy(training=TRAINING, reading=TRAINING, examining=EXAMINING, task=RECALL, text=TEXT),
    "survey-retnet": RetnetStudy(training=TRAINING, examining=EXAMINING, task=RECALL),
    "survey-saturation": SaturationStudy(training=TRAINING, recall=RECALL, text=TEXT),
    "survey-controller": ControllerStudy(training=TRAINING, examining=EXAMINING, widths=(2, 4, 8), n_slots=4, word=4),
    "survey-patching": PatchingStudy(window=WINDOW, at=(4, 8), n_test=16),
    "survey-heads": HeadStudy(training=TRAINING, recall=RECALL, text=TEXT, n_layers=1, n_heads=2, prune_steps=1),
}

"""Settings with which a study takes seconds, and learns nothing."""

from collections.abc import Mapping
from typing import Any

from mnemoscope.experiments.survey.arms import Examining, Training
from mnemoscope.experiments.survey.bottleneck import BottleneckStudy
from mnemoscope.experiments.survey.branches import BranchStudy
from mnemoscope.experiments.survey.collapsed_experts import ExpertStudy
from mnemoscope.experiments.survey.collapsed_heads import HeadsStudy
from mnemoscope.experiments.survey.controller import ControllerStudy
from mnemoscope.experiments.survey.curriculum import CurriculumStudy
from mnemoscope.experiments.survey.dilution import DilutionStudy
from mnemoscope.experiments.survey.dnc_amendments import DncStudy
from mnemoscope.experiments.survey.forgetting import ForgettingStudy
from mnemoscope.experiments.survey.heads import HeadStudy
from mnemoscope.experiments.survey.hybrids import HybridStudy
from mnemoscope.experiments.survey.mamba_kinds import MambaStudy
from mnemoscope.experiments.survey.ntm_start import NtmStartStudy
from mnemoscope.experiments.survey.overflow import OverflowStudy
from mnemoscope.experiments.survey.patching import PatchingStudy
from mnemoscope.experiments.survey.recall_state import RecallState
from mnemoscope.experiments.survey.reconstruction import ReconstructionStudy
from mnemoscope.experiments.survey.retnet import RetnetStudy
from mnemoscope.experiments.survey.saturation import SaturationStudy
from mnemoscope.experiments.survey.slots import SlotStudy
from mnemoscope.experiments.survey.telling import TellingStudy
from mnemoscope.experiments.survey.tickets import TicketStudy
from mnemoscope.experiments.survey.window import WindowStudy
from mnemoscope.models import build_model
from mnemoscope.tasks import CopyingConfig, KeyValueConfig, MqarConfig, TextConfig, build_task
from mnemoscope.training import Recipe, TrainedRun

TRAINING = Training(d_model=16, mlp_ratio=1.0, steps=2, batch_size=4, n_test=16)
EXAMINING = Examining(n_calibration=16, n_test=16, fit_steps=2)
RECALL = MqarConfig(vocab_size=16, length=16, n_pairs=2, power_a=1.0)
TEXT = TextConfig(corpus="prose", length=16, max_bytes=20_000)
COPY = CopyingConfig(n_bits=3, max_length=3)
BITS = Training(d_model=8, mlp_ratio=0.0, steps=2, batch_size=4, n_test=16)
MACHINE = NtmStartStudy(training=BITS, task=COPY, n_slots=4, word=4, hidden=4)
WINDOW = WindowStudy(training=TRAINING, examining=EXAMINING, task=RECALL)
HEADS = HeadStudy(training=TRAINING, recall=RECALL, text=TEXT, n_layers=1, n_heads=2, prune_steps=1)

SETTINGS: Mapping[str, Any] = {
    "survey-recall-state": RecallState(
        training=TRAINING,
        task=RECALL,
        arms=("attention", "window 8", "window 16", "linear attention 4", "delta net 4", "delta net 2"),
    ),
    "survey-window": WINDOW,
    "survey-hybrids": HybridStudy(training=TRAINING, reading=TRAINING, examining=EXAMINING, task=RECALL, text=TEXT),
    "survey-forgetting": ForgettingStudy(training=TRAINING, lengths=(8, 16), states=(4, 8), corpus="prose"),
    "survey-mamba": MambaStudy(training=TRAINING, reading=TRAINING, examining=EXAMINING, task=RECALL, text=TEXT),
    "survey-retnet": RetnetStudy(training=TRAINING, examining=EXAMINING, task=RECALL),
    "survey-branches": BranchStudy(training=TRAINING, examining=EXAMINING, task=RECALL),
    "survey-overflow": OverflowStudy(recall=RecallState(training=TRAINING, task=RECALL), loads=(1, 2, 4), n_test=16),
    "survey-tickets": TicketStudy(window=WINDOW),
    "survey-telling": TellingStudy(heads=HEADS, n_test=16),
    "survey-saturation": SaturationStudy(training=TRAINING, reading=TRAINING, recall=RECALL, text=TEXT),
    "survey-controller": ControllerStudy(training=TRAINING, examining=EXAMINING, widths=(2, 4, 8), n_slots=4, word=4),
    "survey-patching": PatchingStudy(window=WINDOW, at=(4, 8), n_test=16),
    "survey-heads": HEADS,
    "survey-ntm-start": MACHINE,
    "survey-dnc": DncStudy(
        training=BITS,
        task=KeyValueConfig(n_bits=3, min_pairs=1, max_pairs=2, two_way=True),
        n_slots=3,
        word=4,
        hidden=4,
    ),
    "survey-reconstruction": ReconstructionStudy(
        training=BITS, task=CopyingConfig(n_bits=2, min_length=3, max_length=3), width=4, decoder=4
    ),
    "survey-slots": SlotStudy(training=TRAINING, task=RECALL, n_slots=4),
    "survey-curriculum": CurriculumStudy(training=BITS, width=4),
    "survey-bottleneck": BottleneckStudy(window=WINDOW),
    "survey-dilution": DilutionStudy(machine=MACHINE, n_test=8),
    "survey-collapsed-experts": ExpertStudy(training=TRAINING, text=TEXT, n_experts=3, width=4),
    "survey-collapsed-heads": HeadsStudy(training=TRAINING, task=RECALL, n_heads=2),
}


def untrained(recipe: Recipe) -> TrainedRun:
    return TrainedRun(recipe=recipe, model=build_model(recipe.model, 0), task=build_task(recipe.task), step=0)

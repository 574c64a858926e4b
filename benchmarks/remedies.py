"""What a remedy costs: a training step with it beside the same step without it, on the same model and data."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

from benchmarks.timing import Spread, print_table, time_interleaved
from mnemoscope.models import StackConfig, build
from mnemoscope.tasks import MqarConfig, PathStarConfig, Task, build_task
from mnemoscope.training.config import TrainConfig
from mnemoscope.training.lessons import Course, Plain
from mnemoscope.training.optimiser import build_optimiser
from mnemoscope.training.remedies import REMEDIES, RemedyConfig
from mnemoscope.training.remedies.multi_hop_targets import MultiHopTargets
from mnemoscope.training.remedies.transplanted_embeddings import TransplantedEmbeddings

WIDTH, SEQUENCES = 64, 32
HYBRID = "gated_delta | attention(window=64), attention(window=64)"
BANK = "bank(n_slots=32) | attention(window=64)"
LAYOUTS = {
    "dnc_masking": BANK,
    "expert_choice": "slots(n_slots=16) | attention(window=64)",
    "loss_free_balancing": "slots(n_slots=16, routing='loss_free') | attention(window=64)",
    "negative_control_diversity": BANK,
    "negative_control_orthogonality": BANK,
    "negative_control_reinitialise_slots": BANK,
    "negative_control_top_k_addressing": BANK,
    "ntm_stability": "ntm(n_slots=32), attention(window=64)",
}
"""Of the remedies that need something else than the hybrid."""

RECALL = MqarConfig(vocab_size=64, length=64, n_pairs=8)
GRAPH = PathStarConfig(n_arms=8, path_length=4, held_out=0.25)
SITES = {"dnc_masking": ("blocks.*.mixer.memory.inner.query",)}
REPEATS = 15

timed = partial(time_interleaved, repeats=REPEATS, clock=time.process_time)
"""Processor time: all of this is work of one thread."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a remedy is measured on."""

    layout: str
    task: Task

    def step(self, remedies: tuple[RemedyConfig, ...]) -> Callable[[], None]:
        """A step as the training loop takes it."""
        vocab_size = self.task.vocab_size
        model = build(StackConfig.of(self.layout, vocab_size=vocab_size, d_model=WIDTH), seed=0).train()
        config = TrainConfig(batch_size=SEQUENCES, steps=1000)
        treatments = [remedy.attach(model) for remedy in remedies]
        optimiser = build_optimiser(model, config, treatments)
        lesson = Plain().begin(Course(model=model, task=self.task, config=config, device=torch.device("cpu")))
        parameters: list[nn.Parameter] = [p for group in optimiser.param_groups for p in group["params"]]

        def one() -> None:
            for treatment in treatments:
                treatment.on_step(500, config.steps)
            computed = lesson.forward(1)
            extras = [extra for each in treatments if (extra := each.extra_loss(computed)) is not None]
            optimiser.zero_grad()
            sum(extras, start=computed.loss).backward()
            clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            for treatment in treatments:
                treatment.after_step(computed)

        return one


def settings(name: str) -> RemedyConfig:
    """A remedy as it is by default, with the graph or sites that it cannot do without."""
    match name:
        case "multi_hop_targets":
            return MultiHopTargets(graph=GRAPH)
        case "transplanted_embeddings":
            return TransplantedEmbeddings(graph=GRAPH)
        case _:
            return REMEDIES[name](sites=SITES.get(name, ()))


def row(name: str) -> tuple[str, ...]:
    """One remedy beside none, on the same model and data."""
    on_graph = name in ("multi_hop_targets", "transplanted_embeddings")
    subject = Subject(layout=LAYOUTS.get(name, HYBRID), task=build_task(GRAPH if on_graph else RECALL))
    seconds = timed({"without": subject.step(()), "with": subject.step((settings(name),))})
    ratio = Spread.of(seconds["with"] / seconds["without"])
    plain = f"{1e3 * Spread.of(seconds['without']).median:.1f} ms"
    return name, subject.layout, plain, f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


def run() -> None:
    """Print every remedy."""
    print(
        f"A step: data, forward, losses, backward, clipping and AdamW on {SEQUENCES} sequences, d_model {WIDTH}.\n"
        "Each remedy at half of the training, as it is by default. Spreads: 10-90 % of paired ratios. Times are\n"
        "processor time, of one thread.\n"
    )
    print_table(("remedy", "model", "step without", "with / without"), [row(name) for name in REMEDIES])

"""From which training length on does a state learn to forget, and does that length grow with the state?

One block of Mamba-2 reads text in windows of T tokens, at several T and sizes of the state, always as many tokens in
all. It is then read on for 4 T tokens, and the same bytes are read afresh from the last multiple of T:

    rise      loss of the bytes in the second halves of (T, 2T], (2T, 3T], (3T, 4T] when they are read on from the
              start, less their loss when T/2 to T tokens are all that was read; more context can only help a memory
              that forgets
    left      of the head that forgets most, what remains of the first token's write after T tokens

It forgets where the rise is at most 0.02 nats. T_forget of a state is the shortest T that forgets; where none does it
counts as twice the longest.

Known limits: one block and bytes of code. The specification also asks that less than half of the first write be left
in some head; untrained networks do that at every T (0.21 and less were seen), so that it decides nothing and is shown
beside its value before training. A rise by position, as the source has it, mixes bytes that differ and is noise of up
to 0.2 nats on as little text as this; hence the same bytes twice.

Source: Chen et al. 2025, "Stuffed Mamba" (arXiv 2410.07145); the criterion, this project's specification of it. What
differs: sizes, the pairing, and text in place of passkeys for the length that can be retrieved.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mnemoscope.contracts import Batch
from mnemoscope.examination import NextTokenLoss
from mnemoscope.examination.measures.state_dynamics import retention_product
from mnemoscope.examination.subject.losses import score
from mnemoscope.experiments.planning import Target
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Plot, Shown
from mnemoscope.experiments.survey.arms import (
    BEATS,
    Training,
    below_bigram,
    held_out,
    larger,
    targets,
    trained,
)
from mnemoscope.experiments.survey.frame import Finding, study
from mnemoscope.memories.parts import Scan
from mnemoscope.models import Model, build_model
from mnemoscope.tasks import TextConfig, build_task
from mnemoscope.training import Recipe, TrainedRun

BYTES = 256
WORSE = 0.02
TIMES = 4
TOKENS_AT_ONCE = 8192


@dataclass(frozen=True, kw_only=True)
class ForgettingStudy:
    """Lengths of the training, sizes of the state, and how it is trained.

    Args:
        training: its batch is that of the shortest length; others have as many tokens a step.
        lengths: T, in tokens.
        states: channels of keys.
        corpus: "prose", "code" or a file.
    """

    training: Training = field(default_factory=Training)
    lengths: tuple[int, ...] = (16, 64, 256)
    states: tuple[int, ...] = (4, 16, 64)
    corpus: str = "code"

    def recipe(self, state: int, length: int) -> Recipe:
        """One training."""
        batch = max(1, self.training.batch_size * self.lengths[0] // length)
        layout = f"mamba2(n_heads=4, d_state={state})"
        task = TextConfig(corpus=self.corpus, length=length)
        return replace(self.training, batch_size=batch).recipe(
            f"forget-{state}-{length}", layout, task, vocab_size=BYTES
        )


def recipes(settings: ForgettingStudy) -> list[Recipe]:
    """Of every state and length."""
    return [settings.recipe(state, length) for state in settings.states for length in settings.lengths]


def forgetting(settings: ForgettingStudy, seed: int, out: Path) -> Measured:
    """Which trainings forget, T_forget of every state, and the slope of T_forget over the state."""
    figures, series = dict[str, float](), dict[str, Sequence[float]]()
    losses = list[float]()
    for state in settings.states:
        for length in settings.lengths:
            run = trained(settings.training, settings.recipe(state, length), seed, out)
            found = beyond(run.model.eval(), settings, length)
            name = f"{state} channels, T {length}"
            figures |= {f"{name}: rise": found.rise, f"{name}: left": found.left}
            figures[f"{name}: forgets"] = float(found.rise <= WORSE)
            figures[f"{name}: untrained left"] = beyond(_untrained(run, seed), settings, length).left
            losses.append(found.fresh)
            curve = found.curve
            series |= {f"{name}: tokens": [(i + 0.5) / 4 for i in range(len(curve))], f"{name}: loss": curve}
        forgotten = [length for length in settings.lengths if figures[f"{state} channels, T {length}: forgets"]]
        figures[f"{state} channels: T_forget"] = float(min(forgotten, default=2 * max(settings.lengths)))
    thresholds = [figures[f"{state} channels: T_forget"] for state in settings.states]
    task = build_task(TextConfig(corpus=settings.corpus, length=min(settings.lengths)))
    figures["below_bigram"] = below_bigram(task, losses)
    figures["slope"] = float(np.polyfit(settings.states, thresholds, 1)[0])
    figures["short_forgets"] = figures[f"{max(settings.states)} channels, T {min(settings.lengths)}: forgets"]
    figures["long_forgets"] = figures[f"{max(settings.states)} channels, T {max(settings.lengths)}: forgets"]
    return Measured(figures=figures, series=series)


class Beyond(NamedTuple):
    """Of one network at one length: see the module; `fresh` is the loss of the bytes read afresh."""

    rise: float
    left: float
    fresh: float
    curve: list[float]


@torch.no_grad()
def beyond(model: Model, settings: ForgettingStudy, length: int) -> Beyond:
    """What reading beyond T costs (nats), what is left of a first write at T, and the loss by quarters of T."""
    n_test = max(16, settings.training.n_test * settings.lengths[0] // length)
    task = build_task(TextConfig(corpus=settings.corpus, length=TIMES * length))
    batches = held_out(task, n_test, max(1, TOKENS_AT_ONCE // (TIMES * length)))
    read_on, afresh, lefts = list[Tensor](), list[Tensor](), list[float]()
    for batch in batches:
        with _retentions(model, length) as left:
            read_on.append(_losses(model, batch))
        lefts += left
        afresh.append(_losses(model, cut(batch, length)).view(read_on[-1].shape))
    long, short = (torch.cat(part).double().unflatten(1, (TIMES, length)) for part in (read_on, afresh))
    late = slice(length // 2, None)
    fresh = short[:, 1:, late].mean()
    return Beyond(
        rise=float(long[:, 1:, late].mean() - fresh),
        left=float(np.mean(lefts)),
        fresh=float(fresh),
        curve=[float(part.mean()) for part in np.array_split(long.flatten(1).mean(0).numpy(), 4 * TIMES)],
    )


def cut(batch: Batch, length: int) -> Batch:
    """The same tokens in sequences of a length that divides theirs."""
    return Batch(inputs=batch.inputs.reshape(-1, length), targets=batch.targets.reshape(-1, length))


def _losses(model: Model, batch: Batch) -> Tensor:
    scored = score(NextTokenLoss(), model, batch)
    assert scored.per_token is not None
    return scored.per_token.cpu()


def _untrained(run: TrainedRun, seed: int) -> Model:
    return build_model(run.recipe.model, seed).eval()


@contextmanager
def _retentions(model: Model, length: int) -> Iterator[list[float]]:
    """Listens to what scans are told of their decay: of the head that forgets most, what is left after T tokens."""
    left = list[float]()

    def listen(scan: torch.nn.Module, given: tuple[Any, ...]) -> None:
        kept = retention_product(given[1].log_retention.exp().transpose(1, 2))[..., length - 1]
        left.append(float(kept.mean(0).min()))

    handles = [m.register_forward_pre_hook(listen) for m in model.modules() if isinstance(m, Scan)]
    try:
        yield left
    finally:
        for handle in handles:
            handle.remove()


def trainings(settings: ForgettingStudy) -> Sequence[Target]:
    """Of one seed, for the planner."""
    return targets(recipes(settings))


def claims_of(settings: ForgettingStudy) -> tuple[Claim, ...]:
    """What the source says, then every training."""
    shown = [
        Claim(figure=f"{state} channels, T {length}: {figure}", what=f"{state} channels, T {length}: {what}")
        for state in settings.states
        for length in settings.lengths
        for figure, what in (
            ("rise", "loss of the same bytes, read on less read afresh (nats)"),
            ("left", "left of the first write after T"),
            ("untrained left", "the same before training"),
        )
    ]
    return (
        Claim(
            figure="below_bigram",
            what="loss of the worst network, within its training length, below that of a bigram (nats a byte)",
            published="text is learned; ours: 0.1",
            least=BEATS,
        ),
        Claim(
            figure="short_forgets",
            what="does the largest state forget when trained at the shortest length? (1: yes)",
            published="no",
            most=0.0,
        ),
        Claim(
            figure="long_forgets",
            what="does it forget when trained at the longest? (1: yes)",
            published="yes",
            least=1.0,
        ),
        Claim(
            figure="slope",
            what="slope of T_forget over the state (tokens a channel)",
            published="positive, linear",
            least=1e-9,
        ),
        *(Claim(figure=f"{s} channels: T_forget", what=f"T_forget at {s} channels (tokens)") for s in settings.states),
        *shown,
    )


def plots_of(settings: ForgettingStudy) -> tuple[Plot, ...]:
    """Loss by position, a figure for each state."""
    return tuple(
        Plot(
            title=f"Loss up to four times the training length, {state} channels",
            caption="Means over a quarter of T. A loss that rises behind 1 has not learned to forget.",
            y_label="nats a byte",
            x_label="tokens, in training lengths T",
            lines={
                f"T {n}": f"{state} channels, T {n}: tokens -> {state} channels, T {n}: loss" for n in settings.lengths
            },
        )
        for state in settings.states
    )


SMALL = ForgettingStudy(training=Training(steps=400, batch_size=64, n_test=1024))
PAPER = ForgettingStudy(
    training=larger(Training()), lengths=(256, 512, 1024, 2048, 4096, 8192), states=(16, 32, 64, 128)
)

STUDY = study(
    Experiment(
        name="survey-forgetting",
        what="from which training length on does a state learn to forget, and does it grow with the state?",
        source="Chen et al. 2025, Stuffed Mamba (arXiv 2410.07145)",
        claims=claims_of(SMALL),
        sizes={"small": SMALL, "paper": PAPER},
        measure_in=forgetting,
        minutes={"small": 2.1},
        trainings=trainings,
        plots=plots_of(SMALL),
        shown={"paper": Shown(claims=claims_of(PAPER), plots=plots_of(PAPER))},
    ),
    Finding(
        slug="training-length-teaches-forgetting",
        claim="Below a training length that grows with the state, a recurrent memory never learns to forget",
        source="Chen et al. 2025, Stuffed Mamba (arXiv 2410.07145); the survey names other authors",
        decided_by={
            "short_forgets": "the largest state does not forget at the shortest length",
            "long_forgets": "it does at the longest",
            "slope": "the length from which it forgets grows with the state",
        },
        requires=("below_bigram",),
        if_holds="Train on sequences longer than the state can hold, or carry states over (`carried`).",
        if_not="At sizes like this a short training length does not break longer reading by itself: look at the loss "
        "by position of your own model before paying for longer sequences.",
        elsewhere="The source sees it at states of thousands of numbers and lengths of thousands of tokens.",
    ),
)

"""The control: a fresh path-star in every sequence, where next-token training learns to cheat.

Each graph is written out before the question, so that nothing can be stored in weights. With the right answers as
inputs, every node after v1 is the only child of the one before it; a network learns that, gets no signal of looking
ahead, and guesses v1 with accuracy 1 / d. Asked from the goal to the root it has no such choice and learns.
Teacherless, all answers are predicted from dummies at once: shown as an option, without a bar.

    full: later       nodes after v1, teacher-forced             full: v1            beside 1 / d
    full: path        greedy: all nodes right                    full: loss          beside ln(d) / l of the cheat
    reverse: forced   all answers, teacher-forced                reverse: path       greedy
    teacherless: all  all answers, at once                       teacherless: v1

Source: Bachmann and Nagarajan (2024), arXiv 2403.06963; the contrast, Noroozizadeh et al. (2025), arXiv 2510.26745,
observation 1b. That training on all answers fails is a matter of too much supervision and not of next-token
prediction as such, see `mnemoscope.tasks.in_context_path_star`. What differs: G(3,4) with 12 labels, three layers of
width 64, and fresh graphs in every batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F

from mnemoscope.experiments.reproducing import Claim, Experiment, Measured
from mnemoscope.memories import AttentionConfig
from mnemoscope.models import Stack, StackConfig, build
from mnemoscope.tasks import task_rng
from mnemoscope.tasks.graphs import exact_path_accuracy, node_accuracies
from mnemoscope.tasks.in_context_path_star import InContextPathStar, InContextPathStarConfig, clever_hans
from mnemoscope.tasks.streams import Split
from mnemoscope.training.config import TrainConfig
from mnemoscope.training.optimiser import build_optimiser, learning_rate, set_learning_rate

LATER, GUESSED_WITHIN, REVERSED = 0.95, 0.05, 0.95
"""Bars: nodes after v1; the distance of v1 from 1 / d; reverse answers."""


@dataclass(frozen=True, kw_only=True)
class InContext:
    """The task, the network, and its training.

    Args:
        task: of the arm "full"; the others change `target` and `teacherless`.
        layers: blocks of attention and feed-forward part.
        width: of the residual stream.
        heads: of attention.
        batch_size: sequences of a step.
        steps: of each arm but "reverse", and of the schedule of all.
        learning_rate: the largest, after `warmup_steps`.
        warmup_steps: of the linear rise; a cosine to a tenth follows.
        every: steps between measurements; the last step has one.
        test_sequences: of a measurement.
        reverse_by: steps of the reverse arm at most; it stops at the first measurement that reaches its bar.
        arms: of "full", "reverse" and "teacherless".
    """

    task: InContextPathStarConfig = field(
        default_factory=lambda: InContextPathStarConfig(n_arms=3, path_length=4, n_nodes=12, n_train=None)
    )
    layers: int = 3
    width: int = 64
    heads: int = 4
    batch_size: int = 128
    steps: int = 2000
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    every: int = 250
    test_sequences: int = 1000
    reverse_by: int = 1500
    arms: tuple[str, ...] = ("full", "reverse", "teacherless")

    def __post_init__(self) -> None:
        if not 0 < self.reverse_by <= self.steps:
            raise ValueError(f"InContext.reverse_by: must be between 1 and steps = {self.steps}, got {self.reverse_by}")
        unknown = set(self.arms) - set(ARMS)
        if unknown:
            raise ValueError(f"InContext.arms: must be of {', '.join(ARMS)}, got {', '.join(sorted(unknown))}")


ARMS = ("full", "reverse", "teacherless")


def in_context(settings: InContext, seed: int) -> Measured:
    """Train every arm and measure it on test sequences."""
    figures, series = dict[str, float](), dict[str, Sequence[float]]()
    for arm in settings.arms:
        rows = trained_in_context(settings, arm, seed)
        figures |= {f"{arm}: {name}": value for name, value in rows[-1].items()}
        series |= {f"{arm}: {name}": [row[name] for row in rows] for name in rows[0]}
        if arm == "full":
            figures["full: v1 beside a guess"] = abs(rows[-1]["v1"] - 1 / settings.task.n_arms)
    return Measured(figures=figures, series=series)


def trained_in_context(settings: InContext, arm: str, seed: int) -> list[dict[str, float]]:
    """One arm: what was measured, in the order of steps."""
    task = InContextPathStar(
        replace(settings.task, target="reverse" if arm == "reverse" else "full", teacherless=arm == "teacherless")
    )
    model, schedule = build_in_context(settings, task, seed), _schedule(settings)
    optimiser, rows = build_optimiser(model, schedule), list[dict[str, float]]()
    last = settings.reverse_by if arm == "reverse" else settings.steps
    for step in range(1, last + 1):
        inputs, targets = drawn_in_context(task, settings.batch_size, "train", seed, step)
        set_learning_rate(optimiser, learning_rate(step, schedule))
        optimiser.zero_grad()
        _loss(model, task, inputs, targets).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % settings.every and step < last:
            continue
        rows.append({"step": float(step), **_measured(model, task, settings, seed)})
        if arm == "reverse" and rows[-1]["forced"] >= REVERSED:
            break
    return rows


def build_in_context(settings: InContext, task: InContextPathStar, seed: int) -> Stack:
    """A stack over the tokens of the task, whose weights `seed` decides."""
    config = StackConfig(
        vocab_size=task.vocab_size,
        d_model=settings.width,
        mixers=(AttentionConfig(n_heads=settings.heads, positions="none"),) * settings.layers,
        mlp_ratio=4.0,
        positions="learned",
        max_tokens=task.length,
    )
    model = build(config, seed)
    assert model.positions is not None
    with torch.no_grad():
        # As long as the rows of the embedding: drawn from a standard normal distribution they would drown the labels.
        model.positions.weight *= settings.width**-0.5
    return model


def _schedule(settings: InContext) -> TrainConfig:
    return TrainConfig(
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup_steps,
        final_lr_fraction=0.1,
        weight_decay=0.01,
    )


def drawn_in_context(
    task: InContextPathStar, size: int, split: Split, seed: int, step: int
) -> tuple[Int[Tensor, "b t"], Int[Tensor, "b a"]]:
    """Sequences of a step, and their answers."""
    batch = task.batch(task_rng(seed, split, step), size, split)
    return torch.from_numpy(batch.inputs), torch.from_numpy(np.ascontiguousarray(batch.targets[:, task.answers]))


def _loss(model: Stack, task: InContextPathStar, inputs: Tensor, targets: Tensor) -> Tensor:
    logits = model.head(model.hidden(inputs)[:, task.answers])
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


@torch.no_grad()
def _measured(model: Stack, task: InContextPathStar, settings: InContext, seed: int) -> dict[str, float]:
    inputs, targets = drawn_in_context(task, settings.test_sequences, "test", seed, 0)
    shown = model.head(model.hidden(inputs)[:, task.answers]).argmax(-1).numpy()
    expected = targets.numpy()
    by_node = node_accuracies(shown, expected, task.config.target)
    figures = {
        "loss": _loss(model, task, inputs, targets).item(),
        "forced": float((shown == expected).mean()),
        "v1": by_node["v1"],
        "path": exact_path_accuracy(decoded_in_context(model, task, inputs), expected),
        **{f"forced {node}": value for node, value in by_node.items()},
    }
    if task.config.target == "full":
        figures["later"] = clever_hans(shown, expected).later
    return figures


def decoded_in_context(model: Stack, task: InContextPathStar, inputs: Int[Tensor, "b t"]) -> Int[np.ndarray, "b a"]:
    """Answers that are read in place of the right ones; teacherless, the dummies are read as they are."""
    tokens, start, said = inputs.clone(), task.answers.start, list[Tensor]()
    for i in range(task.config.path_length):
        answer = model.head(model.hidden(tokens[:, : start + i + 1])[:, -1]).argmax(-1)
        said.append(answer)
        if not task.config.teacherless and start + i + 1 < tokens.shape[1]:
            tokens[:, start + i + 1] = answer
    return torch.stack(said, dim=1).numpy()


IN_CONTEXT = Experiment(
    name="path-star-in-context",
    what="The control: fresh graphs in context, where next-token training guesses v1, and reverse paths are learned",
    source="Bachmann and Nagarajan 2024, arXiv 2403.06963",
    claims=(
        Claim(
            figure="full: later", what="full: nodes after v1, teacher-forced", published="1 (the cheat)", least=LATER
        ),
        Claim(
            figure="full: v1 beside a guess",
            what="full: accuracy of v1, distance from 1 / d",
            published="guessed, 1 / d",
            most=GUESSED_WITHIN,
        ),
        Claim(figure="full: v1", what="full: accuracy of v1", published="1 / d"),
        Claim(figure="full: path", what="full: greedy paths", published="about 1 / d"),
        Claim(figure="full: loss", what="full: loss, nats per answer", published="ln(d) / l"),
        Claim(
            figure="reverse: forced",
            what="reverse: answers by step 1,500, teacher-forced",
            published="near 1",
            least=REVERSED,
        ),
        Claim(figure="reverse: step", what="reverse: steps until then (measured every 250)"),
        Claim(figure="reverse: path", what="reverse: greedy paths", published="near 1"),
        Claim(figure="teacherless: forced", what="teacherless: answers", published="learns where graphs are small"),
        Claim(figure="teacherless: v1", what="teacherless: accuracy of v1"),
    ),
    sizes={"small": InContext()},
    measure=in_context,
)

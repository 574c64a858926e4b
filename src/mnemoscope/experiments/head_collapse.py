"""What StableMax and PerpGrad do to the weights of a small language model without any memory (E5).

    words -> embedding -> two blocks of attention -> norm -> head         2,000 words, width 64, windows of 64

The effective dimension of the head (of the tied matrix, where embedding and head are one) is the share of its
directions that holds 95 % of the variance of its rows. Cross-entropy keeps it near its start; StableMax, which needs
logits of hundreds, collapses the head, tied or not, and leaves an untied input embedding alone; PerpGrad without
rescaling collapses a tied embedding within 150 steps while the accuracy still climbs, and gives back part of it later:
how fast depends on the text, and on the embedded prose it is beyond its bound at step 300 (0.20, seed 0).
All of it is seen early only because embedding and head start small: a large start hides what is learned in what was
drawn.

A word is a run of letters, digits and apostrophes, or of one other visible character; the most frequent words of the
training part are the vocabulary, one token stands for all others. The last twentieth of the text is the validation
part.

Source: StableMax and PerpGrad, Prieto et al. 2025 (arXiv 2501.04697); no rescaling and strengths below 1,
r3d91ll/Todd_Atlas; the figures, a pilot of this project on tinyshakespeare. What differs here: the text is by default
the prose that Python carries, see `mnemoscope.tasks.corpus`; `--text` takes another.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Plot
from mnemoscope.experiments.stability import PRIETO
from mnemoscope.memories import AttentionConfig
from mnemoscope.models import Stack, StackConfig, build
from mnemoscope.tasks.corpus import load_corpus
from mnemoscope.training.config import Loss
from mnemoscope.training.loss import accuracy
from mnemoscope.training.metrics.effective_dimension import effective_dimension
from mnemoscope.training.objective import TOKENS
from mnemoscope.training.projection import project_gradients

WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*|([^\w\s]|_)\1*")
OTHER = 0
"""The token of every word beyond the vocabulary."""

COLLAPSED, WHOLE, COLLAPSED_EMBEDDING = 0.35, 0.6, 0.15
"""Bounds of the effective dimension as a share of the width."""


class Arm(NamedTuple):
    """A way of training: loss, weights tied or not, and the share of the gradient along the weights that is removed."""

    loss: Loss
    tied: bool
    orthogonal_gradient: float = 0.0


ARMS: Mapping[str, Arm] = {
    "CE tied": Arm("cross_entropy", True),
    "CE untied": Arm("cross_entropy", False),
    "StableMax tied": Arm("stablemax", True),
    "StableMax untied": Arm("stablemax", False),
    "PerpGrad 1": Arm("cross_entropy", True, 1.0),
    "PerpGrad 0.5": Arm("cross_entropy", True, 0.5),
}


@dataclass(frozen=True, kw_only=True)
class SmallLm:
    """The text, the model and its training.

    Args:
        corpus: "prose", "code", or the path of a text.
        vocab_size: words, the one for all others included.
        width: of the residual stream.
        initial_std: of embedding and head, which are drawn from a normal distribution.
        n_layers: blocks of attention and feed-forward part.
        length: words of a window.
        batch_size: windows of a step.
        steps: of AdamW without weight decay and without clipping, at a constant learning rate.
        learning_rate: of AdamW.
        betas: of AdamW.
        every: steps between measurements; divides `early`, `middle` and `steps`.
        early: step at which the arms with PerpGrad are judged.
        middle: step at which they are shown once more.
        validation_windows: disjoint windows of the validation part; fewer if it has fewer.
        arms: names of `ARMS`.
    """

    corpus: str = "prose"
    vocab_size: int = 2000
    width: int = 64
    initial_std: float = 0.02
    n_layers: int = 2
    length: int = 64
    batch_size: int = 16
    steps: int = 600
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    every: int = 50
    early: int = 150
    middle: int = 300
    validation_windows: int = 64
    arms: tuple[str, ...] = tuple(ARMS)

    def __post_init__(self) -> None:
        for name in ("early", "middle", "steps"):
            if getattr(self, name) % self.every:
                raise ValueError(f"SmallLm.every: must divide {name} = {getattr(self, name)}, got {self.every}")


class Words(NamedTuple):
    """A text in tokens: what is trained on, and the validation windows, with the word that follows."""

    train: Int[Tensor, "n"]
    validation: Int[Tensor, "m window"]


@dataclass(frozen=True, kw_only=True)
class Trace:
    """One arm: what was measured at every step that is due, step 0 included."""

    head: Sequence[float]
    embedding: Sequence[float]
    validation: Sequence[float]


def head_collapse(settings: SmallLm, seed: int) -> Measured:
    """E5: all arms on one text, with the same initial weights wherever the shapes allow it, and the same windows."""
    words = words_of(settings)
    traces = {name: traced(settings, ARMS[name], words, seed) for name in settings.arms}
    early, middle = settings.early // settings.every, settings.middle // settings.every
    figures, series = dict[str, float](), dict[str, Sequence[float]]()
    series["step"] = range(0, settings.steps + 1, settings.every)
    for name, trace in traces.items():
        figures |= {f"{name} head": trace.head[-1], f"{name} embedding": trace.embedding[-1]}
        figures |= {f"{name} head early": trace.head[early], f"{name} head middle": trace.head[middle]}
        figures |= {f"{name} accuracy": trace.validation[-1]}
        series |= {f"{name}: head": trace.head, f"{name}: embedding": trace.embedding}
        series |= {f"{name}: validation accuracy": trace.validation}
    return Measured(figures=figures, series=series)


def words_of(settings: SmallLm) -> Words:
    """The text in tokens.

    Raises:
        ValueError: a text too short for two windows of validation, or with fewer words than the vocabulary.
    """
    found = [match.group() for match in WORD.finditer(load_corpus(settings.corpus).decode().lower())]
    n_train, window = len(found) - len(found) // 20, settings.length + 1
    common = [word for word, _ in Counter(found[:n_train]).most_common(settings.vocab_size - 1)]
    if len(found) - n_train < 2 * window or len(common) < settings.vocab_size - 1:
        raise ValueError(
            f"SmallLm.corpus: the text must have {40 * window} words, and {settings.vocab_size - 1} different ones, "
            f"got {len(found)} and {len(common)}; use a longer text"
        )
    number = {word: i for i, word in enumerate(common, start=OTHER + 1)}
    tokens = torch.tensor([number.get(word, OTHER) for word in found])
    held_out = tokens[n_train:]
    n_windows = min(len(held_out) // window, settings.validation_windows)
    return Words(train=tokens[:n_train], validation=held_out[: n_windows * window].view(n_windows, window))


def traced(settings: SmallLm, arm: Arm, words: Words, seed: int) -> Trace:
    """Train one arm, and measure it as often as is due."""
    model = _built(settings, arm, seed)
    weights = list(model.parameters())
    optimiser = torch.optim.AdamW(
        weights, lr=settings.learning_rate, betas=settings.betas, weight_decay=0.0, fused=True
    )
    loss, rng = TOKENS[arm.loss].loss, np.random.default_rng(seed)
    rows = [_measured(model, words)]
    for step in range(1, settings.steps + 1):
        inputs, targets = _drawn(words.train, settings, rng)
        optimiser.zero_grad()
        loss(model(inputs), targets).backward()
        if arm.orthogonal_gradient:
            project_gradients(weights, arm.orthogonal_gradient)
        optimiser.step()
        if step % settings.every == 0:
            rows.append(_measured(model, words))
    head, embedding, validation = zip(*rows, strict=True)
    return Trace(head=head, embedding=embedding, validation=validation)


def _built(settings: SmallLm, arm: Arm, seed: int) -> Stack:
    """A stack whose embedding and head start small, so that what is learned soon outweighs them."""
    config = StackConfig(
        vocab_size=settings.vocab_size,
        d_model=settings.width,
        mixers=(AttentionConfig(),) * settings.n_layers,
        mlp_ratio=4.0,
        tie_embeddings=arm.tied,
    )
    model, generator = build(config, seed), torch.Generator().manual_seed(seed)
    for weight in dict.fromkeys((model.embedding.weight, model.head.weight)):
        nn.init.normal_(weight, std=settings.initial_std, generator=generator)
    return model


def _drawn(text: Int[Tensor, "n"], settings: SmallLm, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    starts = torch.from_numpy(rng.integers(len(text) - settings.length, size=settings.batch_size))
    windows = text[starts[:, None] + torch.arange(settings.length + 1)]
    return windows[:, :-1], windows[:, 1:]


@torch.no_grad()
def _measured(model: Stack, words: Words) -> tuple[float, float, float]:
    """Effective dimensions of head and embedding, and the validation accuracy."""
    assert isinstance(model.embedding, nn.Embedding)
    head, embedding = effective_dimension(model.head.weight).share, effective_dimension(model.embedding.weight).share
    inputs, targets = words.validation[:, :-1], words.validation[:, 1:]
    return head, embedding, accuracy(model(inputs), targets).item()


def _bounded(arm: str, where: str, published: str, *, least: float | None = None, most: float | None = None) -> Claim:
    """A claim about a head at step 150, 300 or 600."""
    figure = f"{arm} head" + {"150": " early", "300": " middle", "600": ""}[where]
    what = f"{arm}: effective dimension of the head at step {where}, of the width"
    published = published if published == "-" else f"{published} (pilot)"
    return Claim(figure=figure, what=what, published=published, least=least, most=most)


_SPREAD = ("Directions that hold 95 % of the variance of the rows, as a share of the width.", "share of directions")
_FIVE = tuple(name for name in ARMS if name != "PerpGrad 0.5")

HEAD_COLLAPSE = Experiment(
    name="head-collapse",
    what="E5: StableMax collapses the head of a language model, tied or not, and PerpGrad a tied embedding",
    source=f"{PRIETO} (StableMax, PerpGrad); a pilot of this project on tinyshakespeare (the figures)",
    claims=(
        _bounded("CE tied", "600", "0.72", least=WHOLE),
        _bounded("CE untied", "600", "0.69", least=WHOLE),
        _bounded("StableMax tied", "600", "0.19", most=COLLAPSED),
        _bounded("StableMax untied", "600", "0.11", most=COLLAPSED),
        _bounded("PerpGrad 1", "150", "0.03"),
        _bounded("PerpGrad 1", "300", "-", most=COLLAPSED_EMBEDDING),
        _bounded("PerpGrad 1", "600", "0.06"),
        _bounded("PerpGrad 0.5", "300", "0.14"),
        Claim(
            figure="StableMax untied embedding",
            what="StableMax untied: effective dimension of the embedding at step 600",
            published="0.91 (pilot)",
        ),
        *(
            Claim(
                figure=f"{arm} accuracy",
                what=f"{arm}: validation accuracy at step 600",
                published=f"{published} (pilot)",
            )
            for arm, published in zip(ARMS, ("0.266", "0.274", "0.173", "0.159", "0.252", "0.262"), strict=True)
        ),
    ),
    sizes={"small": SmallLm()},
    measure=head_collapse,
    plots=tuple(
        Plot(title=title, caption=caption, y_label=label, lines={name: f"{name}: {series}" for name in names})
        for title, caption, label, series, names in (
            ("Head", *_SPREAD, "head", tuple(ARMS)[:4]),
            ("Head, with PerpGrad", *_SPREAD, "head", ("CE tied", *tuple(ARMS)[4:])),
            ("Input embedding", *_SPREAD, "embedding", tuple(ARMS)[:4]),
            ("Accuracy", "Of the next word on held-out text.", "accuracy (fraction)", "validation accuracy", _FIVE),
        )
    ),
)

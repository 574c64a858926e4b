"""A middle tier of memory, trained without gradients: pairs of earlier stories that are kept when a new one begins.

A Mosaic has learned stories in one world, and is put into another, where every word means another. Its contextual
memories hold the story that is being read, its persistent ones what gradients have made of the first world. Between
them stands a tier for the second: the pairs that the contextual memories formed on earlier stories of it are kept, and
stand in them before a new story begins. Nothing is learned by gradients there. What that gains is held against what
gradients gain from the same stories, in the persistent pairs.

    stories kept      0     1     4    16
    pairs of a head   0   128   512  2048       of windows of 129 words

Source: Zhang et al. 2024, "Memory Mosaics" (arXiv 2405.06394), section 6: "Can intermediate memory tiers be trained
like contextual memories, that is, without gradients?"; asked there, and not answered. The bars are what a yes would be.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from mnemoscope.examination.subject.losses import input_device
from mnemoscope.experiments.mosaics.open_questions import EQUAL, SOURCE, StoryMosaic
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Plot
from mnemoscope.memories.contextual import ContextualState
from mnemoscope.memories.persistent import Persistent
from mnemoscope.models import Mosaic, MosaicState
from mnemoscope.tasks import StoriesConfig, build_task, task_rng
from mnemoscope.tasks.streams import Split

CHUNK = 16


@dataclass(frozen=True, kw_only=True)
class MiddleTierStudy:
    """A trained Mosaic and what it is given of the second world.

    Args:
        mosaic: what is trained, in the first world.
        kept: stories that the tier holds; the greatest number is what gradients get.
        gradient_steps: of Adam on the persistent pairs, all of those stories in each.
        learning_rates: of them; the one that is best on the test counts, in favour of gradients.
    """

    mosaic: StoryMosaic = field(default_factory=StoryMosaic)
    kept: tuple[int, ...] = (0, 1, 4, 16)
    gradient_steps: int = 60
    learning_rates: tuple[float, ...] = (1e-2, 1e-1)


@dataclass(frozen=True)
class World:
    """Stories to keep and stories of the test, tokens (b, t + 1)."""

    kept: Int[Tensor, "n t1"]
    test: Int[Tensor, "b t1"]


def worlds(settings: MiddleTierStudy) -> dict[str, World]:
    """The world of the training, and that in which every word means another."""
    task = build_task(StoriesConfig(length=settings.mosaic.length))
    parts = list[Tensor]()
    wanted: dict[Split, int] = {"train": max(settings.kept), "test": settings.mosaic.n_test}
    for split, n in wanted.items():
        batch = task.batch(task_rng(0, split, 0), n, split)
        parts.append(torch.from_numpy(np.concatenate([batch.inputs, batch.targets[:, -1:]], axis=1)))
    exchange = torch.from_numpy(task_rng(0, "test", 1).permutation(task.vocab_size))
    return {"first": World(parts[0], parts[1]), "second": World(exchange[parts[0]], exchange[parts[1]])}


def middle_tier(settings: MiddleTierStudy, seed: int, out: Path) -> Measured:
    """Train in the first world; losses in both with more and more stories of the second kept, and by gradients."""
    model = settings.mosaic.trained(out, settings.mosaic.recipe(), seed)
    there, most = worlds(settings), max(settings.kept)
    figures, series = dict[str, float](), dict[str, Sequence[float]]()
    for name, world in there.items():
        found = [float(told(model, world.test, tier(model, there["second"].kept[:n])).mean()) for n in settings.kept]
        figures |= {f"{name}_{n}": nats for n, nats in zip(settings.kept, found, strict=True)}
        series[name] = found
    by_position = {n: told(model, there["second"].test, tier(model, there["second"].kept[:n])) for n in (0, most)}
    series |= {f"{n} kept": nats.mean(0).tolist() for n, nats in by_position.items()}
    series["position"] = [float(i + 1) for i in range(settings.mosaic.length)]
    series["kept"] = [float(n) for n in settings.kept]
    taught = min((_taught(settings, model, there, rate) for rate in settings.learning_rates), key=lambda nats: nats[1])
    figures["first_taught"], figures["second_taught"] = taught
    figures["gain"] = figures["second_0"] - figures[f"second_{most}"]
    figures["harm"] = figures[f"first_{most}"] - figures["first_0"]
    figures["gradient_gain"] = figures["second_0"] - figures["second_taught"]
    figures["gradient_harm"] = figures["first_taught"] - figures["first_0"]
    figures["of_gradients"] = figures["gain"] / figures["gradient_gain"]
    return Measured(figures=figures, series=series)


@torch.no_grad()
def tier(model: Mosaic, stories: Int[Tensor, "n t1"]) -> MosaicState:
    """The state before a new story, one row, with the pairs that stories, each read by itself, left in memory."""
    fresh = model.init_state(1)
    if not len(stories):
        return fresh
    _, read = model.prefill(stories.to(input_device(model)))
    blocks = [
        before._replace(contextual=_kept(before.contextual, after.contextual))
        for before, after in zip(fresh.blocks, read.blocks, strict=True)
    ]
    return fresh._replace(blocks=tuple(blocks))


def _kept(fresh: ContextualState, read: ContextualState) -> ContextualState:
    """The last key of a story has no value, and is not kept."""
    k, v = (pairs.transpose(0, 1).flatten(1, 2).unsqueeze(0) for pairs in (read.k[:, :, :-1], read.v))
    return fresh._replace(k=k, v=v)


def repeated(state: MosaicState, n: int) -> MosaicState:
    """A state of one row for n rows."""
    blocks = [
        block._replace(
            contextual=type(block.contextual)(*(part.expand(n, *part.shape[1:]) for part in block.contextual)),
            persistent=type(block.persistent)(*(part.expand(n, *part.shape[1:]) for part in block.persistent)),
        )
        for block in state.blocks
    ]
    return state._replace(blocks=tuple(blocks))


@torch.no_grad()
def told(model: Mosaic, stories: Int[Tensor, "b t1"], state: MosaicState) -> Float[Tensor, "b t"]:
    """Nats of every word but the first, stories read from a state of one row."""
    parts = list[Tensor]()
    for part in stories.to(input_device(model)).split(CHUNK):
        logits, _ = model.prefill(part[:, :-1], repeated(state, len(part)))
        parts.append(F.cross_entropy(logits.transpose(1, 2), part[:, 1:], reduction="none"))
    return torch.cat(parts).double().cpu()


def _taught(settings: MiddleTierStudy, model: Mosaic, there: dict[str, World], rate: float) -> tuple[float, float]:
    """Losses in both worlds after gradients have taught the persistent pairs the stories of the second."""
    pupil, stories = deepcopy(model), there["second"].kept.to(input_device(model))
    pairs = [
        pair for part in pupil.modules() if isinstance(part, Persistent) for pair in (part.slot_keys, part.slot_values)
    ]
    optimiser = torch.optim.Adam(pairs, lr=rate)
    for _ in range(settings.gradient_steps):
        loss = F.cross_entropy(pupil(stories[:, :-1]).transpose(1, 2), stories[:, 1:])
        gradients = torch.autograd.grad(loss, pairs)
        for pair, gradient in zip(pairs, gradients, strict=True):
            pair.grad = gradient
        optimiser.step()
    fresh = tier(pupil, stories[:0])
    first, second = (float(told(pupil, there[name].test, fresh).mean()) for name in ("first", "second"))
    return first, second


def _claims(settings: MiddleTierStudy) -> tuple[Claim, ...]:
    most = max(settings.kept)
    return (
        Claim(
            figure="gain",
            what=f"second world: what {most} stories kept without gradients gain (nats a word)",
            published="asked",
            least=EQUAL,
        ),
        Claim(figure="harm", what="first world: what the same tier costs (nats a word)", published="asked", most=EQUAL),
        Claim(figure="of_gradients", what="that gain as a part of what gradients gain from the same stories"),
        Claim(figure="gradient_gain", what="second world: what gradients gain (nats a word)"),
        Claim(figure="gradient_harm", what="first world: what they cost (nats a word)"),
        *(Claim(figure=f"second_{n}", what=f"second world: loss with {n} stories kept") for n in settings.kept),
        Claim(figure="second_taught", what="second world: loss after gradients"),
        Claim(figure="first_0", what="first world: loss with none kept"),
    )


def _plots(settings: MiddleTierStudy) -> tuple[Plot, ...]:
    return (
        Plot(
            title="Losses by the stories that are kept",
            caption="Stories of the second world, read once, by no gradient.",
            y_label="loss (nats a word)",
            x="kept",
            x_label="stories kept",
            lines={"second world": "second", "first world": "first"},
        ),
        Plot(
            title="Loss by position in a story of the second world",
            caption="What the story itself tells comes on top of what was kept.",
            y_label="loss (nats a word)",
            x="position",
            x_label="position in the window (words)",
            lines={f"{n} stories kept": f"{n} kept" for n in (0, max(settings.kept))},
        ),
    )


SMALL = MiddleTierStudy()
MOSAIC_MIDDLE_TIER = Experiment(
    name="mosaic-middle-tier",
    what="can a middle tier of memory be trained like a contextual one, without gradients?",
    source=SOURCE,
    claims=_claims(SMALL),
    sizes={"small": SMALL},
    measure_in=middle_tier,
    plots=_plots(SMALL),
)

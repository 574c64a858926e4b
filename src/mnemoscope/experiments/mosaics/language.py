"""Language modelling: a Memory Mosaic beside a transformer of as many parameters, at depths 1, 2 and 4.

Both are trained alike, on windows of the stories of a grammar, whose exact floor is known, or on a text in tokens of a
BPE trained on it. One block of a Mosaic binds a key to what came after it, so that it can repeat what once followed a
word; a transformer needs two blocks for that. So the Mosaic leads at depth 1, and deeper neither does.

Then both read what they were not trained on, and go on with the beginnings of stories.

Source: Zhang et al. 2024, "Memory Mosaics" (arXiv 2405.06394), section 5, figures 9 and 10, Table 1.
Differs: stories of a grammar and a text of the user's in place of BabiStories; 64 channels and windows of 256 tokens
in place of 768 and 512; no dropout. The size "paper" has the published widths, depths and windows; for the memory of
one GPU its batches are of 128 windows in place of 512, with four times the steps and half the learning rate (which
goes with the square root of the batch), and it is trained in bf16-mixed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mnemoscope.contracts import IGNORE
from mnemoscope.contracts.devices import Device
from mnemoscope.examination.subject.losses import input_device
from mnemoscope.experiments.gpu_hours import planned
from mnemoscope.experiments.mosaics.arms import TITLES, Arm, Shape, arm_config, count
from mnemoscope.experiments.mosaics.schedule import schedule
from mnemoscope.experiments.mosaics.trained import run_folder, trained, validation_curve
from mnemoscope.experiments.planning import Target
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Plot, Result, Shown, Size
from mnemoscope.models import Model
from mnemoscope.runs.reproduction import TextTable
from mnemoscope.tasks import Stories, StoriesConfig, Task, TaskConfig, Text, TextConfig, build_task, task_rng
from mnemoscope.tasks.corpus import corpus_bytes
from mnemoscope.tasks.hub import PREFIX
from mnemoscope.tasks.streams import Split
from mnemoscope.training import Recipe
from mnemoscope.training.config import Precision

SOURCE = "Zhang et al. 2024, Memory Mosaics (arXiv 2405.06394), figures 9 and 10, Table 1"
PAIR: tuple[Arm, ...] = ("mosaic", "transformer")
N_PROMPTS = 24
BYTES_A_TOKEN, MOST_BYTES = 4, 2_000_000_000
"""Of a text on the hub: about what a token of a BPE stands for, and the most that is read."""
CHUNK = 16


@dataclass(frozen=True, kw_only=True)
class LanguageStudy:
    """What is read, by networks of which sizes.

    Args:
        corpus: "stories", "prose", "code" or a path; see `StoriesConfig` and `TextConfig`.
        depths: blocks.
        length: tokens of a window.
        d_model: width.
        n_heads: heads.
        steps: of the optimiser.
        batch_size: windows a step.
        learning_rate: largest.
        n_test: windows of the test.
        prompt_tokens: of the beginning of a story that is gone on with.
        new_tokens: that are added.
        bpe_vocab: tokens of a text.
        other: the text that a network of a text was not trained on, read in the tokens of the first.
        precision: of the training.
        device: of everything.
    """

    corpus: str = "stories"
    depths: tuple[int, ...] = (1, 2, 4)
    length: int = 256
    d_model: int = 64
    n_heads: int = 4
    steps: int = 600
    batch_size: int = 16
    learning_rate: float = 3e-3
    n_test: int = 128
    prompt_tokens: int = 20
    new_tokens: int = 24
    bpe_vocab: int = 1024
    other: str = "code"
    precision: Precision = "32-true"
    device: Device = "cpu"

    @property
    def task(self) -> TaskConfig:
        """What is learned."""
        if self.corpus == "stories":
            return StoriesConfig(length=self.length)
        return TextConfig(
            corpus=self.corpus,
            length=self.length,
            max_bytes=self._max_bytes(self.corpus),
            tokeniser="bpe",
            bpe_vocab=self.bpe_vocab,
        )

    def _max_bytes(self, corpus: str) -> int | None:
        """Of a data set on the hub, whose end is not known: as much as the training reads."""
        if not corpus.startswith(PREFIX):
            return None
        return min(BYTES_A_TOKEN * self.steps * self.batch_size * self.length, MOST_BYTES)

    def unknown(self) -> NDArray[np.uint8]:
        """The other text; code, which a network of code knows, is exchanged for prose."""
        other = "prose" if self.other == self.corpus == "code" else self.other
        return corpus_bytes(other, self._max_bytes(other))

    def on(self, corpora: Sequence[str]) -> "LanguageStudy":
        """The same of another text, and of another that it is not trained on where two are given.

        Raises:
            ValueError: more than two.
        """
        if len(corpora) > 2:
            raise ValueError(
                "reproduce: a language study reads the text it is trained on and one it is not, got "
                f"{len(corpora)}; leave out all but two --text"
            )
        other = corpora[1] if len(corpora) == 2 else self.other
        return replace(self, corpus=corpora[0], other=other)

    def recipe(self, arm: Arm, depth: int) -> Recipe:
        """One training."""
        shape = Shape(
            vocab_size=build_task(self.task).vocab_size,
            d_model=self.d_model,
            n_layers=depth,
            n_heads=self.n_heads,
            max_tokens=self.length,
        )
        train = schedule(self, evaluations=12, precision=self.precision)
        name = f"{Path(self.corpus).stem}-{depth}-{arm}"
        return Recipe(name=name, model=arm_config(arm, shape), task=self.task, train=train)


def language(settings: LanguageStudy, seed: int, out: Path) -> Measured:
    """Train both at every depth; test losses, losses by position on what they know and what they do not, prompts."""
    figures, series, texts = dict[str, float](), dict[str, Sequence[float]](), dict[str, Sequence[str]]()
    task = build_task(settings.task)
    tests, prompts = _tests(settings, task), _prompts(task, settings)
    for depth in settings.depths:
        for arm in PAIR:
            recipe, name = settings.recipe(arm, depth), f"{arm}_{depth}"
            model = trained(out, recipe, seed, settings.device).model.eval()
            figures[f"{name}_parameters"] = float(count(model))
            by_position = {which: losses(model, x, y) for which, (x, y) in tests.items()}
            figures[f"{name}_loss"] = float(by_position["known"].mean())
            series |= {f"{name}: {which}": found.mean(0).tolist() for which, found in by_position.items()}
            series |= validation_curve(run_folder(out, recipe.name, seed), name)
            texts[name] = [_written(task, row) for row in _continued(model, prompts, settings.new_tokens)]
        figures[f"gain_{depth}"] = figures[f"transformer_{depth}_loss"] - figures[f"mosaic_{depth}_loss"]
    series["position"] = [float(i + 1) for i in range(settings.length)]
    figures |= _out_of_distribution(series, settings)
    texts["prompts"] = [_written(task, prompt) for prompt in prompts]
    return Measured(figures=figures, series=series, texts=texts)


def trainings(settings: LanguageStudy) -> list[Target]:
    """Of one seed, for the planner."""
    return [planned(settings.recipe(arm, depth)) for depth in settings.depths for arm in PAIR]


@torch.no_grad()
def losses(model: Model, inputs: Int[Tensor, "b t"], targets: Int[Tensor, "b t"]) -> Float[np.ndarray, "b t"]:
    """Nats of every target, computed where the model is."""
    device = input_device(model)
    found = [
        F.cross_entropy(model(x.to(device)).transpose(1, 2), y.to(device), reduction="none", ignore_index=IGNORE)
        for x, y in zip(inputs.split(CHUNK), targets.split(CHUNK), strict=True)
    ]
    return torch.cat(found).double().cpu().numpy()


Windows = tuple[Int[Tensor, "b t"], Int[Tensor, "b t"]]


def _tests(settings: LanguageStudy, task: Task) -> Mapping[str, Windows]:
    """Windows of the test split, and windows of something else: see `_unknown`."""
    batch = task.batch(task_rng(0, "test", 0), _as_many(task, "test", settings.n_test), "test")
    known = torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets)
    return {"known": known, "unknown": _unknown(settings, task, known)}


def _unknown(settings: LanguageStudy, task: Task, known: Windows) -> Windows:
    """Stories in which every word means another, one exchange for all; or another text in the same tokens."""
    if isinstance(task, Text):
        return _windows(task.tokeniser.encode(settings.unknown()).tokens, settings)
    exchange = torch.from_numpy(task_rng(0, "test", 1).permutation(task.vocab_size))
    return exchange[known[0]], exchange[known[1]]


def _windows(tokens: NDArray[Any], settings: LanguageStudy) -> Windows:
    """Evenly spread over the text."""
    text, n = torch.from_numpy(tokens.astype(np.int64)), settings.length + 1
    starts = torch.linspace(0, len(text) - n, settings.n_test).long()
    cut = torch.stack([text[start : start + n] for start in starts.tolist()])
    return cut[:, :-1], cut[:, 1:]


def _as_many(task: Task, split: Split, wanted: int) -> int:
    """Sequences of a split; all that there are, where they are fewer."""
    return min(wanted, task.n_sequences(split) or wanted)


def _prompts(task: Task, settings: LanguageStudy) -> Int[Tensor, "p t"]:
    """The beginnings of 24 windows of the validation split; of a text, which may have fewer, 24 short windows."""
    if isinstance(task, Text):
        task = build_task(replace(task.config, length=settings.prompt_tokens))
    batch = task.batch(task_rng(0, "validation", 0), _as_many(task, "validation", N_PROMPTS), "validation")
    return torch.from_numpy(batch.inputs[:, : settings.prompt_tokens])


@torch.no_grad()
def _continued(model: Model, prompts: Int[Tensor, "p t"], new_tokens: int) -> Int[Tensor, "p n"]:
    """What a model adds to each prompt, greedily."""
    # Either model takes back what it gave.
    going: Any = model
    logits, state = going.prefill(prompts.to(input_device(model)))
    token, added = logits[:, -1].argmax(-1), list[Tensor]()
    for _ in range(new_tokens):
        added.append(token)
        logits, state = going.step(token, state)
        token = logits.argmax(-1)
    return torch.stack(added, dim=1)


def _written(task: Task, tokens: Int[Tensor, "t"]) -> str:
    words = task.words(tokens.tolist())
    return (" " if isinstance(task, Stories) else "").join(words)


def _out_of_distribution(series: Mapping[str, Sequence[float]], settings: LanguageStudy) -> dict[str, float]:
    """Of both at the greatest depth: loss on the unknown in the last quarter, and how much it fell since the third."""
    depth, quarter = max(settings.depths), settings.length // 4
    figures = dict[str, float]()
    for arm in PAIR:
        found = np.array(series[f"{arm}_{depth}: unknown"])
        figures[f"{arm}_unknown_late"] = float(found[-quarter:].mean())
        figures[f"{arm}_unknown_fall"] = float(found[-2 * quarter : -quarter].mean() - found[-quarter:].mean())
    figures["unknown_gain"] = figures["transformer_unknown_late"] - figures["mosaic_unknown_late"]
    figures["unknown_fall_gain"] = figures["mosaic_unknown_fall"] - figures["transformer_unknown_fall"]
    return figures


def _claims(corpus: str, depths: Sequence[int]) -> tuple[Claim, ...]:
    """Equal is within 0.03 nats a token."""
    deepest = max(depths)
    gains = [
        Claim(
            figure=f"gain_{depth}",
            what=f"{corpus}: loss of the transformer over the Mosaic's, {depth} deep (nats a token)",
            published="clearly above 0" if depth == 1 else "about 0",
            least=0.03 if depth == 1 else -0.03,
            most=None if depth == 1 else 0.03,
        )
        for depth in depths
    ]
    beyond = [
        Claim(
            figure="unknown_fall_gain",
            what=f"fall of the loss on the unknown between quarters 3 and 4, Mosaic over transformer, {deepest} deep",
            published="Mosaic falls on, transformer does not",
            least=0.0,
        ),
        Claim(
            figure="unknown_gain",
            what=f"the same loss in the last quarter, transformer over Mosaic, {deepest} deep (nats a token)",
            published="well above 0",
            least=0.0,
        ),
    ]
    shown = [
        Claim(figure=f"{arm}_{depth}_{what}", what=f"{TITLES[arm]}, {depth} deep: {what}")
        for depth in depths
        for arm in PAIR
        for what in ("loss", "parameters")
    ]
    return (*gains, *beyond, *shown)


def _plots(depths: Sequence[int]) -> tuple[Plot, ...]:
    """Of the shallowest and the deepest networks."""
    shown = sorted({min(depths), max(depths)})
    named = {f"{TITLES[arm]}, {depth} deep": f"{arm}_{depth}" for depth in shown for arm in PAIR}
    training = Plot(
        title="Validation loss through training (figure 9)",
        caption="Alike in everything but the architecture.",
        y_label="loss (nats a token)",
        lines={title: f"{name}: step -> {name}: validation" for title, name in named.items()},
    )
    by_position = {
        "known": ("Loss by position on what was trained", "Windows of the test split."),
        "unknown": (
            "Loss by position on something else (figure 10)",
            "Stories in which every word means another, or another text: what learns in context gets better.",
        ),
    }
    positions = [
        Plot(
            title=title,
            caption=caption,
            y_label="loss (nats a token)",
            x="position",
            x_label="position in the window (tokens)",
            lines={line: f"{name}: {which}" for line, name in named.items()},
        )
        for which, (title, caption) in by_position.items()
    ]
    return (training, *positions)


def side_by_side(settings: LanguageStudy, found: Sequence[Result]) -> list[TextTable]:
    """Table 1: the beginnings of 24 windows, and how the deepest networks of the first seed go on."""
    deepest, texts = max(settings.depths), found[0].texts
    columns = [texts["prompts"], *(texts[f"{arm}_{deepest}"] for arm in PAIR)]
    return [
        TextTable(
            title="How they go on (Table 1)",
            caption=f"{N_PROMPTS} beginnings from the validation split, and what networks {deepest} deep of seed "
            f"{found[0].seed} add, the likeliest token at a time.",
            columns=["Beginning", *(TITLES[arm] for arm in PAIR)],
            rows=[list(row) for row in zip(*columns, strict=True)],
        )
    ]


def _experiment(corpus: str, minutes: Mapping[Size, float]) -> Experiment[LanguageStudy]:
    small = LanguageStudy(corpus=corpus)
    paper = replace(
        small,
        depths=(1, 8, 12, 18),
        length=512,
        d_model=768,
        n_heads=12,
        steps=320_000,
        batch_size=128,
        learning_rate=2.5e-3,
        precision="bf16-mixed",
        device="auto",
    )
    return Experiment(
        name=f"mosaic-{corpus}",
        what=f"is a Memory Mosaic the better language model at depth 1, and as good deeper? ({corpus})",
        source=SOURCE,
        claims=_claims(corpus, small.depths),
        sizes={"small": small, "paper": paper},
        measure_in=language,
        minutes=minutes,
        trainings=trainings,
        plots=_plots(small.depths),
        shown={"paper": Shown(claims=_claims(corpus, paper.depths), plots=_plots(paper.depths))},
        tables=side_by_side,
    )


MOSAIC_STORIES = _experiment("stories", {"small": 13.0})
MOSAIC_PROSE = _experiment("prose", {"small": 14.0})

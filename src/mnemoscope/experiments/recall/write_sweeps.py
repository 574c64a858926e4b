"""How a memory writes, one setting at a time: step size, retention, momentum, window and chunk, on cued recall.

    arm                 sizes of the guide         here, around a default that is in every row
    step size           init_eta .1, .2, .3        the rule's step times 1/4, 1/2, 1, 2, 3, 4
    retention           init_alpha .99, .95        .9, .95, .99, .999, and none, which forgets nothing
    momentum            init_theta .9              none, .5, .9, .95
    window              -                          objectives of 1, 4, 16 tokens
    chunk               context_window 16          gradients at the memory of 1, 2, 4, 8, 16, 32 tokens before
    again               -                          the default from other weights and batches: what chance changes

32 pairs in a memory of 16 channels, which is too small for them, so that a better write shows. All gates start at what
an arm says and learn from there; step, retention and momentum act with every token, where the guide's act once a chunk.
The default's step is the guide's: init_eta .1 acts as .05 there, divided by the chunk, and the rule of
`OmegaConfig.default_step_size` gives the same .00625 for chunks of 8 and momentum .9. Momentum, window and chunk change
the step with them by that rule (chunks of 1 begin at .05, windows of 16 at .0004); windows and chunks are also swept
"at the default's step", where they alone change. Gains are judged over seeds.

Source: r3d91ll/Todd_Atlas, docs/MEMORY_TUNING_GUIDE.md, section 2; window, momentum and retention, the ablations of
Behrouz et al. 2025, "ATLAS" (arXiv 2505.23735) and "Titans" (arXiv 2501.00663).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from mnemoscope.experiments.kept_arms import kept_arm
from mnemoscope.experiments.recall.capacity import FOLDER
from mnemoscope.experiments.recall.recaller import TAPS, Recalling, curve_steps, held_out, recalled, trained
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Plot, Result
from mnemoscope.memories.omega import OmegaConfig
from mnemoscope.runs.reproduction import TextTable
from mnemoscope.tasks.cued_recall import CuedRecallConfig

DEFAULT, AGAIN = "default", "again"
OTHER_DRAW = 1_000_000
"""Added to the seed of the weights and batches of "again"; its test is the default's."""
WITH_STEP = "at the default's step"
"""Of windows and chunks at the default's step."""
QUARTER = 4
"""The first and the last quarter of the pairs are what was stored long ago and last."""

GUIDE: Mapping[str, str] = {
    "step size": "init_eta higher: learns faster from each storage step",
    "retention": "init_alpha near 1 retains more, .9 is more responsive",
    "momentum": "init_theta .9; nothing is said (Titans: worse without)",
    "window": "nothing is said (ATLAS: windows beat single tokens)",
    "chunk": "context_window 16; nothing is said",
}


@dataclass(frozen=True, kw_only=True)
class WriteSweeps:
    """The default, what is changed, and the training.

    Args:
        task: pairs to recall.
        width: channels of the memory.
        chunk_tokens: of the default.
        step_factors: step sizes, as multiples of the default's.
        retentions: where the retention starts; None for no forgetting.
        momenta: where the momentum starts; None for no momentum.
        windows: tokens in each objective.
        chunks: tokens whose gradients are taken at the same memory.
        steps: of training.
        batch_size: sequences of a step.
        learning_rate: of Adam, constant.
        test_sequences: held-out sequences.
        every: steps between the entries of the training curves.
    """

    task: CuedRecallConfig = field(default_factory=lambda: CuedRecallConfig(n_pairs=32))
    width: int = 16
    chunk_tokens: int = 8
    step_factors: tuple[float, ...] = (0.25, 0.5, 2.0, 3.0, 4.0)
    retentions: tuple[float | None, ...] = (0.9, 0.95, 0.999, None)
    momenta: tuple[float | None, ...] = (None, 0.5, 0.95)
    windows: tuple[int, ...] = (4, 16)
    chunks: tuple[int, ...] = (1, 2, 4, 16, 32)
    steps: int = 400
    batch_size: int = 32
    learning_rate: float = 3e-3
    test_sequences: int = 256
    every: int = 20

    @property
    def default(self) -> OmegaConfig:
        """The memory that one setting at a time is changed of."""
        return OmegaConfig(n_heads=1, chunk_tokens=self.chunk_tokens, window=1, convolution=TAPS)

    def sweeps(self) -> dict[str, dict[str, OmegaConfig]]:
        """By setting, and what it is set to, in ascending order without the default."""
        default = self.default
        step = default.default_step_size
        windows = {str(n): replace(default, window=n) for n in self.windows}
        chunks = {str(n): replace(default, chunk_tokens=n) for n in self.chunks}
        return {
            "step size": {f"{n:g}": replace(default, initial_step_size=n * step) for n in self.step_factors},
            "retention": {_label(start): _retaining(default, start) for start in self.retentions},
            "momentum": {_label(start): _carrying(default, start) for start in self.momenta},
            "window": windows | _with_step(windows, step),
            "chunk": chunks | _with_step(chunks, step),
        }

    def arms(self) -> dict[str, OmegaConfig]:
        """All memories by name, the default first."""
        swept = {f"{knob} {value}": memory for knob, of in self.sweeps().items() for value, memory in of.items()}
        return {DEFAULT: self.default, AGAIN: self.default} | swept

    def recalling(self, memory: OmegaConfig) -> Recalling:
        """A memory and its training."""
        return Recalling(
            memory=memory,
            tasks=(self.task,),
            width=self.width,
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            every=self.every,
        )


@dataclass(frozen=True, kw_only=True)
class SweptArm:
    """Everything that one arm is measured with."""

    recalling: Recalling
    test_sequences: int


def write_sweeps(settings: WriteSweeps, seed: int, out: Path) -> Measured:
    """Recall of all pairs, of the first and of the last, for every arm."""
    figures, series = dict[str, float](), dict[str, Sequence[float]]()
    for name, memory in settings.arms().items():
        arm = SweptArm(recalling=settings.recalling(memory), test_sequences=settings.test_sequences)
        folder = f"write-{name.replace(' ', '-')}"
        drawn = seed + OTHER_DRAW if name == AGAIN else seed
        kept = kept_arm(out / FOLDER, folder, arm, seed, lambda arm=arm, drawn=drawn: _measured(arm, drawn, seed))
        figures |= {f"{name} {key}": value for key, value in kept.figures.items()}
        series |= {f"{name}: step": kept.series["step"], f"{name}: train": kept.series["train"]}
    gains = {f"{name} gain": figures[f"{name} recalled"] - figures[f"{DEFAULT} recalled"] for name in settings.arms()}
    return Measured(figures=figures | gains | _forgotten(figures), series=series)


def _forgotten(figures: Mapping[str, float]) -> dict[str, float]:
    """What low retention does to old pairs and to fresh ones, where it is swept."""
    low = "retention 0.9"
    if f"{low} first" not in figures:
        return {}
    return {
        "retained": figures[f"{DEFAULT} first"] - figures[f"{low} first"],
        "responsive": figures[f"{low} last"] - figures[f"{DEFAULT} last"],
    }


def _measured(arm: SweptArm, drawn: int, seed: int) -> Measured:
    """Trained with weights and batches of one seed, tested on the sequences of another."""
    model, curve = trained(arm.recalling, drawn)
    episode = held_out(arm.recalling.tasks[0], arm.test_sequences, seed)
    right, item = recalled(model, episode), episode.retrieval.about["item"]
    n = arm.recalling.tasks[0].n_pairs
    figures = {
        "recalled": float(right.mean()),
        "first": float(right[item < n // QUARTER].mean()),
        "last": float(right[item >= n - n // QUARTER].mean()),
    }
    return Measured(figures=figures, series={"step": curve_steps(arm.recalling), "train": curve})


def _with_step(swept: Mapping[str, OmegaConfig], step: float) -> dict[str, OmegaConfig]:
    """The same at the default's step."""
    return {f"{value} {WITH_STEP}": replace(memory, initial_step_size=step) for value, memory in swept.items()}


def _retaining(default: OmegaConfig, start: float | None) -> OmegaConfig:
    return replace(default, retains=False) if start is None else replace(default, initial_retention=start)


def _carrying(default: OmegaConfig, start: float | None) -> OmegaConfig:
    return replace(default, momentum=False) if start is None else replace(default, initial_momentum=start)


def _label(start: float | None) -> str:
    return "none" if start is None else f"{start:g}"


def found_of(settings: WriteSweeps, found: Sequence[Result]) -> list[TextTable]:
    """Every arm beside what the guide says, means over the seeds."""

    def mean(figure: str) -> str:
        return f"{np.mean([result.figures[figure] for result in found]):.3f}"

    rows = [
        [name, *(mean(f"{name} {key}") for key in ("recalled", "gain", "first", "last")), "-"]
        for name in (DEFAULT, AGAIN)
    ]
    for knob, of in settings.sweeps().items():
        for value in of:
            measured = [mean(f"{knob} {value} {key}") for key in ("recalled", "gain", "first", "last")]
            rows.append([f"{knob} {value}", *measured, GUIDE[knob]])
    caption = (
        f"Share of the pairs that are recalled, its difference to the default, and the share of the first and of the "
        f"last quarter that were stored; means over {len(found)} seeds. Step sizes are multiples of the default's."
    )
    columns = ["Changed", "Recalled", "Difference", "First quarter", "Last quarter", "The guide"]
    return [TextTable(title="One setting at a time", caption=caption, columns=columns, rows=rows)]


def _claims() -> tuple[Claim, ...]:
    def better(arm: str, published: str) -> Claim:
        what = f"{arm}, less the default (accuracy)"
        return Claim(figure=f"{arm} gain", what=what, published=published, least=0.0, by_interval=True)

    def worse(arm: str, published: str) -> Claim:
        what = f"{arm}, less the default (accuracy)"
        return Claim(figure=f"{arm} gain", what=what, published=published, most=0.0, by_interval=True)

    return (
        Claim(
            figure=f"{DEFAULT} recalled", what="default: recall of 32 pairs by 16 channels", published="0.61 (pilot)"
        ),
        better("step size 2", "guide: init_eta .2 learns faster"),
        better("step size 3", "guide: init_eta .3 learns faster"),
        better("retention 0.95", "guide: init_alpha .95, more aggressive updates"),
        Claim(
            figure="retained",
            what="pairs stored first: retention .99 less .9 (accuracy)",
            published="guide: near 1 retains more",
            least=0.0,
            by_interval=True,
        ),
        Claim(
            figure="responsive",
            what="pairs stored last: retention .9 less .99 (accuracy)",
            published="guide: .9 is more responsive",
            least=0.0,
            by_interval=True,
        ),
        worse("retention none", "Titans: perplexity 29.0 for 27.0 without"),
        worse("momentum none", "Titans: perplexity 29.0 for 27.0 without"),
        better("window 4", "ATLAS: 52.8 for 49.3 % with windows"),
        better("window 16", "ATLAS: 52.8 for 49.3 % with windows"),
        better(f"window 4 {WITH_STEP}", "ATLAS: 52.8 for 49.3 % with windows"),
        better(f"window 16 {WITH_STEP}", "ATLAS: 52.8 for 49.3 % with windows"),
        Claim(figure=f"{AGAIN} gain", what="the default again, from other weights, less the default (accuracy)"),
        Claim(
            figure="chunk 1 gain",
            what="chunk 1, gradients of every token at the present memory, less the default (accuracy)",
            published="+0.015 (pilot)",
        ),
        Claim(figure="chunk 16 gain", what="chunk 16, the guide's, less the default (accuracy)"),
        *(
            Claim(
                figure=f"chunk {n} {WITH_STEP} gain",
                what=f"chunk {n} {WITH_STEP}, less the default (accuracy)",
            )
            for n in (1, 16)
        ),
    )


def _plot(settings: WriteSweeps, knob: str) -> Plot:
    names = [f"{knob} {value}" for value in settings.sweeps()[knob] if not value.endswith(WITH_STEP)][-4:]
    follows = " and, by its rule, the step" if knob in ("momentum", "window", "chunk") else ""
    return Plot(
        title=f"Recall over training: {knob}",
        caption=f"Accuracy on training batches; the {knob}{follows} alone differs from the default.",
        y_label="accuracy (fraction)",
        lines={name: f"{name}: step -> {name}: train" for name in (DEFAULT, *names)},
        x=f"{DEFAULT}: step",
    )


SMALL = WriteSweeps()
WRITE_SWEEPS = Experiment(
    name="write-sweeps",
    what="how should a memory write: step size, retention, momentum, window and chunk, one at a time",
    source="r3d91ll/Todd_Atlas, docs/MEMORY_TUNING_GUIDE.md; ablations of arXiv 2505.23735 and arXiv 2501.00663",
    claims=_claims(),
    sizes={"small": SMALL},
    minutes={"small": 3.5},
    measure_in=write_sweeps,
    tables=found_of,
    plots=tuple(_plot(SMALL, knob) for knob in GUIDE),
)

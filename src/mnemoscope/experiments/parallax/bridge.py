"""From the bank to the inner loop: what comes in the bank's place, on recall and on text, at equal parameters.

    bank, one slot       as in `parallax-collapse`: no memory of the sequence
    accumulator          "M29c": what attention has read, summed, fading, compressed by a logarithm when it is read
    accumulator, loop    the same compressed in the loop, a contraction
    workspace, K         "v3": experts push a loop of K steps, K - 1 of them frozen

The cortex is short-sighted here: two blocks whose attention sees the last four tokens, so that recall from farther away
is left to what stands beside it. Feed-forward parts are as wide as brings an arm nearest to the bank's parameters.

Then the longest workspace, trained on recall, is looked at with tensors of float64: by how much each step of the loop
shrinks against the certificate q, its largest Lyapunov exponent, how far apart random starts end, how far each step
moves, and after how many steps every token has settled to a thousandth.

Source: the Parallax notes, which say that the loop of v3 is a contraction perturbed by raw attention, and that K was
used gradually on synthetic recall; equations and sizes are not public. Bounds: a ratio above q, an exponent above
log q, or two ends would break the certificate; that recall must rise with K is the notes' "gradually". Directions are
judged by the interval of the mean over seeds. That the longest loop recalls 0.1 more than what has no memory of the
sequence, and that the shortest leaves 0.02 to gain, is presupposed, and the sizes of both are ours.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor

from mnemoscope.contracts import IGNORE
from mnemoscope.experiments import shared_runs
from mnemoscope.experiments.gpu_hours import planned
from mnemoscope.experiments.parallax.arms import FOLDER
from mnemoscope.experiments.parallax.changed import CHUNK
from mnemoscope.experiments.parallax.watched import cortex_states
from mnemoscope.experiments.planning import Target
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Plot
from mnemoscope.memories import EnergyBankConfig, LogAccumulatorConfig
from mnemoscope.models import BankedCortexConfig, ExpertWorkspace, ExpertWorkspaceConfig, MixerConfig, Stack, build
from mnemoscope.ops.contraction import (
    contraction_ratios,
    iterations_to,
    largest_lyapunov,
    residual_curve,
    spread_of_fixed_points,
)
from mnemoscope.tasks import MqarConfig, TaskConfig, TextConfig, build_task, task_rng
from mnemoscope.training import Recipe, TrainConfig

Which: TypeAlias = Literal["recall", "text"]
TASKS: tuple[Which, ...] = ("recall", "text")
TOLERANCE = 1e-3
N_LOOKED = 4
BANK, SLOT = "bank", "slot"
LEARNED, CEILING = 0.1, 0.98
RECALL = MqarConfig(vocab_size=32, length=32, n_pairs=4, power_a=1.0)


@dataclass(frozen=True, kw_only=True)
class BridgeStudy:
    """Arms and tasks.

    Args:
        corpus: of the text.
        length: tokens of a window of the text.
        recall: what is recalled.
        d_model: width.
        n_layers: blocks of the cortex.
        window: tokens that the cortex sees.
        mlp_ratio: of the arm with the bank.
        n_slots: of the bank.
        iterations: K of the workspaces.
        recall_steps: of the optimiser.
        text_steps: of the optimiser.
        tokens_a_step: of a batch.
        learning_rate: largest.
        n_test: sequences of the test, at most.
        n_settling: most steps of the loop that is looked at.
    """

    corpus: str = "prose"
    length: int = 64
    recall: MqarConfig = RECALL
    d_model: int = 64
    n_layers: int = 2
    window: int = 4
    mlp_ratio: float = 4.0
    n_slots: int = 128
    iterations: tuple[int, ...] = (2, 4, 16)
    recall_steps: int = 500
    text_steps: int = 200
    tokens_a_step: int = 2048
    learning_rate: float = 3e-3
    n_test: int = 256
    n_settling: int = 66

    @property
    def arms(self) -> Mapping[str, MixerConfig]:
        """What stands beside the cortex, by name."""
        workspaces = {f"workspace_{k}": ExpertWorkspaceConfig(n_iterations=k) for k in self.iterations}
        return {
            BANK: EnergyBankConfig(n_slots=self.n_slots),
            SLOT: EnergyBankConfig(n_slots=1),
            "accumulator": LogAccumulatorConfig(),
            "accumulator_loop": LogAccumulatorConfig(compress="loop"),
            **workspaces,
        }

    @property
    def shortest(self) -> str:
        """The arm whose loop has fewest steps."""
        return f"workspace_{min(self.iterations)}"

    @property
    def longest(self) -> str:
        """The arm whose loop is looked at."""
        return f"workspace_{max(self.iterations)}"

    def task(self, which: Which) -> TaskConfig:
        """What is learned."""
        return self.recall if which == "recall" else TextConfig(corpus=self.corpus, length=self.length)

    def cortex(self, which: Which, arm: str) -> BankedCortexConfig:
        """A model with as many parameters as that of the bank."""
        vocab_size = self.recall.vocab_size if which == "recall" else 256
        cortex = BankedCortexConfig(
            vocab_size=vocab_size,
            d_model=self.d_model,
            n_layers=self.n_layers,
            window=self.window,
            mlp_ratio=self.mlp_ratio,
            beside=self.arms[BANK],
        )
        wanted, other = count(cortex), replace(cortex, beside=self.arms[arm])
        # A channel of a feed-forward part has a row, a column and a bias.
        channels = round((wanted - count(other)) / (self.n_layers * (2 * self.d_model + 1)))
        return replace(other, mlp_ratio=max(1, round(self.mlp_ratio * self.d_model) + channels) / self.d_model)

    def recipe(self, which: Which, arm: str) -> Recipe:
        """One training."""
        steps = self.recall_steps if which == "recall" else self.text_steps
        train = TrainConfig(
            steps=steps,
            batch_size=max(1, self.tokens_a_step // (self.recall.length if which == "recall" else self.length)),
            learning_rate=self.learning_rate,
            warmup_steps=steps // 10,
            final_lr_fraction=0.02,
            eval_every=max(1, steps // 6),
            eval_sequences=64,
            checkpoint_every=max(1, steps // 2),
            threads=1,
        )
        name = f"bridge-{'recall' if which == 'recall' else Path(self.corpus).stem}-{arm}"
        return Recipe(name=name, model=self.cortex(which, arm).stack, task=self.task(which), train=train)


def count(cortex: BankedCortexConfig) -> int:
    """Parameters; shared ones once."""
    return sum(parameter.numel() for parameter in build(cortex.stack, 0).parameters())


def bridge(settings: BridgeStudy, seed: int, out: Path) -> Measured:
    """Train every arm on both tasks; accuracy of recall, loss of text, and the loop of the longest workspace."""
    figures, series = dict[str, float](), dict[str, Sequence[float]]()
    for which in TASKS:
        inputs, targets = _test(settings, which)
        for arm in settings.arms:
            recipe = settings.recipe(which, arm)
            model = shared_runs.trained(out, FOLDER, recipe, seed).model.eval()
            assert isinstance(model, Stack)
            accuracy, loss = scores(model, inputs, targets)
            figures |= {f"{arm}_{which}": accuracy if which == "recall" else loss}
            figures[f"{arm}_parameters"] = float(sum(parameter.numel() for parameter in model.parameters()))
            run = shared_runs.run_folder(out, FOLDER, recipe.name, seed)
            series |= shared_runs.validation_curve(run, f"{arm} {which}")
            if which == "recall" and arm == settings.longest:
                looked, drawn = settling(model, inputs[:N_LOOKED], settings.n_settling, seed)
                figures, series = figures | looked, series | drawn
    return Measured(figures=figures | _compared(settings, figures), series=series)


def trainings(settings: BridgeStudy) -> list[Target]:
    """Of one seed, for the planner."""
    return [planned(settings.recipe(which, arm)) for which in TASKS for arm in settings.arms]


def _test(settings: BridgeStudy, which: Which) -> tuple[Int[Tensor, "b t"], Int[Tensor, "b t"]]:
    task = build_task(settings.task(which))
    most = task.n_sequences("test")
    batch = task.batch(task_rng(0, "test", 0), min(settings.n_test, most or settings.n_test), "test")
    return torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets)


@torch.no_grad()
def scores(model: Stack, inputs: Int[Tensor, "b t"], targets: Int[Tensor, "b t"]) -> tuple[float, float]:
    """Accuracy and mean loss (nats) over the scored tokens."""
    logits = torch.cat([model(part) for part in inputs.split(CHUNK)])
    scored = targets != IGNORE
    right = (logits.argmax(-1) == targets)[scored].double().mean()
    loss = torch.nn.functional.cross_entropy(logits[scored], targets[scored])
    return float(right), float(loss)


def settling(
    model: Stack, inputs: Int[Tensor, "b t"], n_iterations: int, seed: int
) -> tuple[dict[str, float], dict[str, Sequence[float]]]:
    """The loop of a trained workspace at every token, in float64: figures, and the curves that are drawn."""
    model = model.double()
    workspace = model.blocks[-1].mixer
    assert isinstance(workspace, ExpertWorkspace)
    with torch.no_grad():
        given = list(model.blocks)[-1].mixer_norm(cortex_states(model, inputs))
        step, start = workspace.inner_map(given), torch.zeros_like(given)
        moves = residual_curve(step, start, n_iterations)
        needed = iterations_to(step, start, TOLERANCE, n_iterations)
        apart = spread_of_fixed_points(step, start, 4 * n_iterations, torch.Generator().manual_seed(seed))
    few = given[:1, ::4]
    exponent = largest_lyapunov(
        workspace.inner_map(few), torch.zeros_like(few), n_iterations, torch.Generator().manual_seed(seed)
    )
    q = workspace.certificate()
    figures = {
        "certificate": q,
        # The first step, from zero, does not use the matrix.
        "ratio_over_q": float(contraction_ratios(moves[1:]).max()) - q,
        "lyapunov_over_log_q": float(exponent.max()) - math.log(q),
        "lyapunov": float(exponent.max()),
        "apart": float(apart.max()),
        "needed_mean": float(needed.double().mean()),
        "needed_most": float(needed.max()),
    }
    steps = [float(k) for k in range(1, n_iterations + 1)]
    histogram = torch.bincount(needed.flatten(), minlength=n_iterations + 1)[1:].double() / needed.numel()
    flat = moves.flatten(1).clamp_min(torch.finfo(moves.dtype).tiny)
    return figures, {
        "iteration": steps,
        "tokens that need them": histogram.tolist(),
        **{f"move {share:.0%}": flat.quantile(share, dim=1).tolist() for share in (0.1, 0.5, 0.9)},
    }


def _compared(settings: BridgeStudy, figures: Mapping[str, float]) -> dict[str, float]:
    """Gains over the bank; what more steps of the loop bring; how equal the parameters are."""
    arms, wanted = settings.arms, figures[f"{BANK}_parameters"]
    fewest, most = settings.shortest, settings.longest
    constant = min(figures[f"{arm}_text"] for arm in (BANK, SLOT))
    rest = [arm for arm in arms if arm not in (BANK, SLOT)]
    best = max(rest, key=lambda arm: figures[f"{arm}_recall"])
    return {
        "unequal": max(abs(figures[f"{arm}_parameters"] / wanted - 1) for arm in arms),
        "recall_by_K": figures[f"{most}_recall"] - figures[f"{fewest}_recall"],
        "text_by_K": figures[f"{fewest}_text"] - figures[f"{most}_text"],
        "recall_gain": figures[f"{best}_recall"] - figures[f"{BANK}_recall"],
        "slot_recall_gain": figures["slot_recall"] - figures[f"{BANK}_recall"],
        "loop_recall_gain": figures[f"{most}_recall"] - max(figures[f"{arm}_recall"] for arm in (BANK, SLOT)),
        "accumulator_text_gain": constant - figures["accumulator_text"],
        "workspace_text_gain": constant - figures[f"{most}_text"],
    }


def _claims(settings: BridgeStudy) -> tuple[Claim, ...]:
    tested = (
        Claim(figure="unequal", what="largest difference of parameters from the bank's arm (share)", most=0.02),
        Claim(figure="ratio_over_q", what="largest ratio of two moves of the loop, less the certificate q", most=1e-9),
        Claim(figure="lyapunov_over_log_q", what="largest Lyapunov exponent, less log q", most=1e-9),
        Claim(figure="apart", what="largest distance between the ends of random starts", published="one", most=1e-6),
        Claim(
            figure="recall_by_K",
            what="recall of the longest loop over that of the shortest",
            published="K is used gradually: above 0",
            least=0.0,
            by_interval=True,
        ),
        Claim(
            figure="loop_recall_gain",
            what="recall of the longest loop over that of the better of bank and one slot",
            published="recall is learned; ours: 0.1",
            least=LEARNED,
        ),
        Claim(
            figure=f"{settings.shortest}_recall",
            what="accuracy of recall of the shortest loop",
            published="room for more; ours: 0.98",
            most=CEILING,
        ),
        Claim(
            figure="workspace_text_gain",
            what="loss of text: the better of bank and one slot over the longest loop (nats a byte)",
            published="the bank's place is better filled: above 0",
            least=0.0,
            by_interval=True,
        ),
        Claim(
            figure="accumulator_text_gain",
            what="loss of text: the better of bank and one slot over the accumulator (nats a byte)",
            published="the bank's place is better filled: above 0",
            least=0.0,
            by_interval=True,
        ),
    )
    shown = {
        "recall_gain": "recall of the best of the others over the bank's",
        "slot_recall_gain": "recall of one slot over the bank's",
        "text_by_K": "loss of text: shortest loop over the longest (nats a byte)",
        "certificate": "certificate q of the loop",
        "lyapunov": "largest Lyapunov exponent of the loop",
        "needed_mean": f"steps until a token moves by less than {TOLERANCE:g} of its length, mean",
        "needed_most": "steps until every token does",
    }
    titles = {"recall": "accuracy of recall", "text": "loss of text (nats a byte)", "parameters": "parameters"}
    of_arms = {
        f"{arm}_{what}": f"{arm.replace('_', ' ')}: {title}" for what, title in titles.items() for arm in settings.arms
    }
    judged = {claim.figure for claim in tested}
    rest = {figure: what for figure, what in (shown | of_arms).items() if figure not in judged}
    return (*tested, *(Claim(figure=figure, what=what) for figure, what in rest.items()))


def _plots(settings: BridgeStudy) -> tuple[Plot, ...]:
    curves = tuple(
        part
        for which in TASKS
        for part in Plot(
            title=f"Validation loss through training: {which}",
            caption="At equal parameters; the cortex sees four tokens.",
            y_label="loss (nats)",
            lines={arm.replace("_", " "): f"{arm} {which}: step -> {arm} {which}: validation" for arm in settings.arms},
        ).split()
    )
    moves = Plot(
        title="How far each step of the loop moves",
        caption="The longest workspace, trained on recall; a tenth, half and nine tenths of the tokens move by less.",
        y_label="distance",
        x="iteration",
        x_label="step of the loop",
        log_y=True,
        lines={f"{share} of the tokens": f"move {share}" for share in ("10%", "50%", "90%")},
    )
    needed = Plot(
        title="How many steps tokens need",
        caption=f"Until a step moves the state by less than {TOLERANCE:g} of its length.",
        y_label="share of the tokens",
        x="iteration",
        x_label="steps of the loop",
        lines={"tokens": "tokens that need them"},
    )
    return (*curves, moves, needed)


SMALL = BridgeStudy()

PARALLAX_BRIDGE = Experiment(
    name="parallax-bridge",
    what="does what came in the bank's place do more than the bank at equal parameters, and does its loop settle?",
    source="Parallax notes, note 004 and the pages of version 3",
    claims=_claims(SMALL),
    sizes={"small": SMALL},
    measure_in=bridge,
    minutes={"small": 7},
    trainings=trainings,
    plots=_plots(SMALL),
)

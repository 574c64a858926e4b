"""Cued recall with a memory that learns what to write, and with one that writes under no gradient (E6).

Storage is written in chunks of 8; how pairs are stored and asked for, see `mnemoscope.experiments.recall.recaller`.

Keys, values and gates of the memory either learn from the answers (the differentiable write), or are cut off from them,
as in code that writes under `no_grad`: then only what reads learns, and keys and values stay at the projections that
they were drawn with. Two controls on the same questions: the memory reset before retrieval, and the memory of another
sequence.

Source: the memory and its detached write, r3d91ll/Todd_Atlas, `src/model/omega_memory.py`; the figures, a pilot of this
project on a memory of its own. What differs here: the memory is `mnemoscope.memories.omega` with one head, whose
convolution is fixed at the shift of one token for keys and at the present token for queries and values, and whose
SiLU, L2 norms, read norm and output gate that pilot need not have had.
"""

from dataclasses import dataclass, field

from mnemoscope.experiments.recall.recaller import TAPS, Recalling, curve_steps, held_out, memory_use_of, trained
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Plot
from mnemoscope.memories.omega import OmegaConfig
from mnemoscope.tasks.cued_recall import CuedRecallConfig

LEARNED, DETACHED, CONTROL = 0.97, 0.90, 0.03
"""Bounds of the accuracy, of which chance is 1 / 64."""


@dataclass(frozen=True, kw_only=True)
class Recall:
    """Cued recall, its memory and its training.

    Args:
        task: how many keys, values and pairs.
        width: of embeddings and memory, which is one matrix of width x width.
        chunk_tokens: tokens whose gradients are taken at the same memory.
        steps: of training.
        batch_size: sequences of a step.
        learning_rate: of Adam, constant.
        test_sequences: held-out sequences of each accuracy.
        every: steps between the entries of the training curves.
    """

    task: CuedRecallConfig = field(default_factory=CuedRecallConfig)
    width: int = 32
    chunk_tokens: int = 8
    steps: int = 400
    batch_size: int = 32
    learning_rate: float = 3e-3
    test_sequences: int = 256
    every: int = 20

    def recalling(self, *, detach_write: bool) -> Recalling:
        """The memory of one arm and its training."""
        memory = OmegaConfig(
            n_heads=1, chunk_tokens=self.chunk_tokens, window=1, convolution=TAPS, detach_write=detach_write
        )
        return Recalling(
            memory=memory,
            tasks=(self.task,),
            width=self.width,
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            every=self.every,
        )


def detached_writes(settings: Recall, seed: int) -> Measured:
    """E6: both writes, with the controls of the differentiable one."""
    learned, learning = trained(settings.recalling(detach_write=False), seed)
    cut, cutting = trained(settings.recalling(detach_write=True), seed)
    test = held_out(settings.task, settings.test_sequences, seed)
    use, without = memory_use_of(learned, test), memory_use_of(cut, test)
    figures = {
        "differentiable": use.memory.mean,
        "detached": without.memory.mean,
        "reset": use.reset.mean,
        "wrong": use.wrong.mean,
    }
    steps = curve_steps(settings.recalling(detach_write=False))
    series = {"step": steps, "differentiable: train accuracy": learning, "detached: train accuracy": cutting}
    return Measured(figures=figures, series=series)


DETACHED_WRITES = Experiment(
    name="detached-writes",
    what="E6: a memory that is written under no gradient recalls less than one that learns what to write",
    source="r3d91ll/Todd_Atlas, src/model/omega_memory.py (the detached write); a pilot of this project (the figures)",
    claims=(
        Claim(
            figure="differentiable",
            what="differentiable write: test accuracy after 400 steps",
            published="0.997 (pilot)",
            least=LEARNED,
        ),
        Claim(
            figure="detached",
            what="detached write: test accuracy after 400 steps",
            published="0.778 (pilot)",
            most=DETACHED,
        ),
        Claim(
            figure="reset",
            what="differentiable write, memory reset: test accuracy",
            published="0.014 (pilot)",
            most=CONTROL,
        ),
        Claim(
            figure="wrong",
            what="differentiable write, memory of another sequence: test accuracy",
            published="0.018 (pilot)",
            most=CONTROL,
        ),
    ),
    sizes={"small": Recall()},
    measure=detached_writes,
    plots=(
        Plot(
            title="Recall over training",
            caption="Accuracy on training batches: with a differentiable write, keys and values are learned too.",
            y_label="accuracy (fraction)",
            lines={f"{name} write": f"{name}: train accuracy" for name in ("differentiable", "detached")},
        ),
    ),
)

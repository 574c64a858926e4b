"""What an examination of a stack costs, counted on a narrow twin of the same layout.

The twin has every block of the stack, so the dry run (`mnemoscope.examination.planning`) finds the same sites,
interventions and fits; what they cost is counted in FLOPs and given in forward passes of a batch, a figure that a wider
model shares. As in the dry run, fits are charged all their steps and the test pass all its batches.
"""

import math
from dataclasses import dataclass, replace

import torch

from mnemoscope.contracts import Batch
from mnemoscope.examination import Budget
from mnemoscope.examination.planning import plan
from mnemoscope.experiments.planning.tracing import Traced, trace
from mnemoscope.experiments.planning.work import counted_flops
from mnemoscope.models import StackConfig, build
from mnemoscope.training import TrainConfig

WIDTHS = (16, 32, 48, 64, 96, 128, 192, 256)
"""Of twins; the first that the layout can have."""

TWIN_BATCH, TWIN_TOKENS, TWIN_VOCAB = 2, 64, 64


@dataclass(frozen=True, kw_only=True)
class Counted:
    """An examination, counted.

    Args:
        n_sites: memories, routes and groups.
        n_fits: fitted constants.
        n_conditions: interventions of the test pass.
        fit_passes, test_passes: forward passes of a batch that they cost.
        calibration_batches, test_batches: of so many sequences each.
        model_bytes, copy_bytes: weights, and those of the untrained copy.
        cache_bytes: recorded activations that are kept.
        pass_bytes: what one pass keeps for its backward pass.
    """

    n_sites: int
    n_fits: int
    n_conditions: int
    fit_passes: float
    test_passes: float
    calibration_batches: int
    test_batches: int
    model_bytes: int
    copy_bytes: int
    cache_bytes: int
    pass_bytes: int

    @property
    def passes(self) -> float:
        """Of fits and test pass."""
        return self.fit_passes + self.test_passes

    @property
    def peak_bytes(self) -> int:
        """Held at most, beside what the process holds anyway."""
        return self.model_bytes + self.copy_bytes + self.cache_bytes + self.pass_bytes


def count_examination(stack: StackConfig, tokens: int, batch: int, budget: Budget, traced: Traced) -> Counted:
    """Count the examination of a stack.

    Args:
        stack: of tokens.
        tokens: of a sequence.
        batch: sequences that are evaluated at once.
        budget: of the examination.
        traced: of the stack at this batch and context; its activations scale those of the twin.

    Raises:
        ValueError: a stack of vectors, or of no width among `WIDTHS`.
    """
    if stack.vectors is not None:
        raise ValueError("plan: examinations are counted for stacks of tokens, got one of vectors; leave out --examine")
    calibration, test = (max(2, n // batch) for n in (budget.n_calibration, budget.n_test))
    small = twin(stack, min(tokens, TWIN_TOKENS))
    length = min(tokens, TWIN_TOKENS)
    twin_budget = replace(budget, n_calibration=max(8, calibration * TWIN_BATCH), n_test=max(8, test * TWIN_BATCH))
    model = build(small, seed=0)
    batches = _batches(small.vocab_size, length, (twin_budget.n_calibration + twin_budget.n_test) // TWIN_BATCH)
    found = plan(model, batches, budget=twin_budget, meter=counted_flops)
    forward = counted_flops(lambda: model(batches[0].inputs))
    of_twin = trace(lambda: build(small, seed=0), TWIN_BATCH, length, TrainConfig())
    larger = traced.activation_bytes / of_twin.activation_bytes
    return Counted(
        n_sites=len(found.rows) - 1,
        n_fits=found.n_fits,
        n_conditions=found.n_conditions,
        fit_passes=found.fit_cost / forward,
        test_passes=found.test_cost / forward,
        calibration_batches=calibration,
        test_batches=test,
        model_bytes=traced.weight_bytes,
        copy_bytes=traced.weight_bytes if budget.untrained_copy else 0,
        cache_bytes=min(budget.tape_bytes, math.ceil(found.cache_bytes * larger)),
        pass_bytes=math.ceil(found.pass_bytes * larger),
    )


def twin(stack: StackConfig, tokens: int) -> StackConfig:
    """The same blocks, narrow, with few tokens in the vocabulary."""
    for width in (*WIDTHS, stack.d_model):
        small = replace(
            stack,
            d_model=min(width, stack.d_model),
            vocab_size=min(stack.vocab_size, TWIN_VOCAB),
            max_tokens=None if stack.max_tokens is None else tokens,
        )
        try:
            build(small, seed=0)
        except ValueError:
            continue
        return small
    raise ValueError(f"plan: no narrow twin of this layout; widths {', '.join(map(str, WIDTHS))} do not fit its heads")


def random_batches(vocab: int, batch: int, tokens: int, n: int) -> list[Batch]:
    """Batches of random tokens, as examined to measure time alone."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(vocab, (n, batch, tokens + 1), generator=generator)
    return [Batch(inputs=rows[:, :-1], targets=rows[:, 1:]) for rows in drawn]


def _batches(vocab: int, tokens: int, n: int) -> list[Batch]:
    return random_batches(vocab, TWIN_BATCH, tokens, n)

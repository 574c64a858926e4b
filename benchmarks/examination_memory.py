"""Peak memory of a process: `python -m benchmarks.examination_memory nothing|step|examination`, in bytes."""

import resource
import subprocess
import sys

import torch
from torch.nn import functional as F

from benchmarks.examination_effects import Size, batch
from mnemoscope.examination import Budget, examine
from mnemoscope.models import StackConfig, build

SIZE = Size(batch=8)
"""The micro-batch of both."""

BUDGET = Budget(
    n_calibration=32,
    n_test=32,
    fit_steps=2,
    joint_fit_steps=1,
    windows=(4,),
    n_resamples=200,
    tape_bytes=2**27,
)
"""Few steps: how many there are does not change how much is held at once. What is recorded is bounded by tape_bytes."""


def work(what: str) -> None:
    """What the process does after everything is imported and the model is built."""
    torch.set_num_threads(1)
    stack = build(StackConfig.of(SIZE.layout, vocab_size=SIZE.vocab_size, d_model=SIZE.d_model), seed=0)
    batches = [batch(SIZE, seed) for seed in range((BUDGET.n_calibration + BUDGET.n_test) // SIZE.batch)]
    if what == "step":
        optimiser = torch.optim.AdamW(stack.parameters())
        logits = stack(torch.as_tensor(batches[0].inputs))
        F.cross_entropy(logits.flatten(0, 1), torch.as_tensor(batches[0].targets).flatten()).backward()
        optimiser.step()
    elif what == "examination":
        examine(stack, batches, budget=BUDGET)


def peak_bytes() -> int:
    """The most memory this process has had resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measured(what: str) -> int:
    """Peak of a process of its own."""
    command = [sys.executable, "-m", "benchmarks.examination_memory", what]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


if __name__ == "__main__":
    work(sys.argv[1])
    print(peak_bytes())

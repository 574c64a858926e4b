"""The gated delta rule against the reference that transformers ships; `benchmarks.gated_delta` repeats it oftener."""

from collections.abc import Iterator

from transformers.utils import logging

from benchmarks.gated_delta import SIZES, forward_and_backward, ours, problem, theirs
from benchmarks.rivals.rivalry import Rivalry


def rivalries() -> Iterator[Rivalry]:
    """One row per size."""
    # The peer warns that it is its own reference implementation; that is what is wanted here.
    logging.set_verbosity_error()
    for b, t, h, k in SIZES:
        inputs = problem(b, t, h, k)
        yield Rivalry(
            work=f"gated delta rule B{b} T{t} H{h} D{k}",
            rival="transformers, chunked",
            bar=1.5,
            ours=lambda inputs=inputs: forward_and_backward(ours, inputs),
            theirs=lambda inputs=inputs: forward_and_backward(theirs, inputs),
        )

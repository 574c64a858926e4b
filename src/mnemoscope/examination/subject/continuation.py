"""The continuation self-test: does a model that goes on from its state compute what it computes in one piece?

Definition: logits of a suffix, continued from the state after a prefix, against the full pass without state. `multi`
takes the suffix in one call, `step` takes one token a call. A way is usable if the largest difference is at most 1e-3
of the standard deviation of the logits.

What it says: whether the states of a model can be taken out and exchanged. How to read it: where neither way is
usable, no effect of a state exchange means anything, since the model is wrong without any exchange. Trap: a suffix
that does not depend on the prefix passes with any state; that is refused. Cost: two to six forwards.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from mnemoscope.contracts.precision import in_float64
from mnemoscope.examination.subject.intact import intact
from mnemoscope.examination.subject.states import LayerState, Part, copied, put_states, states_in
from mnemoscope.examination.subject.streams import Stream, stream_of

TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Way:
    """How going on went.

    Args:
        usable: whether it computes what the full pass does.
        error: largest difference in standard deviations of the logits; None where it did not run.
        positions: whether explicit position_ids were needed.
        reason: why it is refused; empty where usable.
    """

    usable: bool
    error: float | None
    positions: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """Which ways of going on from a state are right."""

    multi: Way
    step: Way

    @property
    def way(self) -> Literal["multi", "step"] | None:
        """The cheaper way that is usable; None where states must not be touched."""
        return "multi" if self.multi.usable else "step" if self.step.usable else None

    @property
    def reason(self) -> str:
        """Why states must not be touched; empty where they may."""
        if self.way is not None:
            return ""
        together = f"in one call: {self.multi.reason}; token by token: {self.step.reason}"
        return self.multi.reason if self.multi.reason == self.step.reason else together


def self_test(model: nn.Module, tokens: Shaped[Tensor, "b t *d"], split: int | None = None) -> Continuation:
    """Measure both ways of going on after `split` tokens (three fifths, if None).

    Args:
        model: a Hugging Face model, one with `prefill` and `step`, or any module with `forward(x, state)`.
        tokens: what the model reads: token numbers, or vectors where it has no tokens.
        split: length of the prefix.

    Raises:
        ValueError: for sequences too short to split.
    """
    n_tokens = tokens.shape[1]
    split = n_tokens * 3 // 5 if split is None else split
    if not 1 <= split <= n_tokens - 2:
        raise ValueError(
            f"self_test: split must leave a prefix and at least 2 tokens of {n_tokens}, got {split}; give longer "
            "sequences"
        )
    stream = stream_of(model)
    with intact(model), torch.no_grad():
        try:
            full, alone = stream.full(tokens)[:, split:], stream.full(tokens[:, split:])
        except Exception as error:  # whatever a foreign model objects to
            refused = Way(usable=False, error=None, positions=False, reason=f"the full pass raises {_named(error)}")
            return Continuation(multi=refused, step=refused)
        scale = float(in_float64(full).std())
        if _error(alone, full, scale) <= TOLERANCE:
            reason = "these outputs do not depend on the prefix, so nothing can be tested; give longer or other data"
            powerless = Way(usable=False, error=None, positions=False, reason=reason)
            return Continuation(multi=powerless, step=powerless)
        return Continuation(
            multi=_try(stream, tokens, split, tokens.shape[1] - split, full, scale),
            step=_try(stream, tokens, split, 1, full, scale),
        )


def states_at(
    model: nn.Module, tokens: Shaped[Tensor, "b t *d"], split: int, continuation: Continuation
) -> dict[int, LayerState]:
    """Copies of the states of all layers after the first `split` tokens.

    Raises:
        ValueError: where the self-test refused the model.
    """
    positions = _usable(continuation).positions
    with intact(model), torch.no_grad():
        _, held = stream_of(model).start(tokens[:, :split], positions)
        return copied(states_in(held))


def with_states(
    model: nn.Module,
    tokens: Shaped[Tensor, "b t *d"],
    split: int,
    states: Mapping[int, LayerState],
    continuation: Continuation,
    parts: Sequence[Part] | None = None,
) -> Float[Tensor, "b t vocab"]:
    """Outputs of a run whose states after `split` tokens are exchanged; everything else stays its own.

    Args:
        model: as in `self_test`.
        tokens: what the run reads.
        split: tokens before the exchange.
        states: the states to put in, by layer, as `states_at` gives them; empty for a run without exchange.
        continuation: what `self_test` said of this model.
        parts: which parts of a layer's state are exchanged; None for the recurrent one, so that the tail of its
            convolution stays its own, or for the convolution's in a layer that has no other.

    Raises:
        ValueError: where the self-test refused the model, or the states do not fit.
    """
    way = _usable(continuation)
    n_at_once = tokens.shape[1] - split if continuation.way == "multi" else 1
    stream = stream_of(model)
    with intact(model), torch.no_grad():
        first, held = stream.start(tokens[:, :split], way.positions)
        put_states(held, states, parts)
        return torch.cat([first, *_rest(stream, tokens, held, split, n_at_once, way.positions)], dim=1)


def _usable(continuation: Continuation) -> Way:
    if continuation.way is None:
        raise ValueError(f"states of this model must not be exchanged: {continuation.reason}")
    return continuation.multi if continuation.way == "multi" else continuation.step


def _rest(
    stream: Stream, tokens: Tensor, held: object, split: int, n_at_once: int, positions: bool
) -> Iterator[Tensor]:
    for start in range(split, tokens.shape[1], n_at_once):
        output, held = stream.go_on(tokens[:, start : start + n_at_once], held, start, positions)
        yield output


def _try(stream: Stream, tokens: Tensor, split: int, n_at_once: int, full: Tensor, scale: float) -> Way:
    """Without explicit positions first, then with them."""
    plain = _once(stream, tokens, split, n_at_once, full, scale, positions=False)
    if plain.usable or not stream.takes_positions:
        return plain
    told = _once(stream, tokens, split, n_at_once, full, scale, positions=True)
    if told.usable or told.reason == plain.reason:
        return told if told.usable else plain
    return replace(plain, reason=f"{plain.reason}; with position_ids {told.reason}")


def _once(
    stream: Stream, tokens: Tensor, split: int, n_at_once: int, full: Tensor, scale: float, positions: bool
) -> Way:
    try:
        _, held = stream.start(tokens[:, :split], positions)
        output = torch.cat(list(_rest(stream, tokens, held, split, n_at_once, positions)), dim=1)
        error = _error(output, full, scale)
    except Exception as problem:  # whatever a foreign model objects to
        return Way(usable=False, error=None, positions=positions, reason=_named(problem))
    usable = error <= TOLERANCE
    reason = "" if usable else f"wrong by {error:.2g} standard deviations of the logits, at most {TOLERANCE:g} allowed"
    return Way(usable=usable, error=error, positions=positions, reason=reason)


def _error(output: Tensor, full: Tensor, scale: float) -> float:
    if output.shape != full.shape:
        raise ValueError(f"outputs of shape {tuple(output.shape)} in place of {tuple(full.shape)}")
    difference = float((in_float64(output) - in_float64(full)).abs().max())
    return float("inf") if difference != difference else difference / max(scale, 1e-30)


def _named(error: Exception) -> str:
    first, *_ = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {first[:160]}"

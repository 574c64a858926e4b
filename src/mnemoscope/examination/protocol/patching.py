"""State patching (D5): does the state of one run, put into another, carry the answer with it?

Two runs agree from token `at` on and differ before. The state that a memory holds before token `at` is taken from one
run and put into the other, and what it changes is carried on by everything after. With the logit difference
LD = logit(answer of the clean run) - logit(answer of the corrupt run) at scored positions from `at` on,

    PR_denoise = (LD_patched into corrupt - LD_corrupt) / (LD_clean - LD_corrupt)     the state suffices
    PR_noise   = (LD_clean - LD_patched into clean) / (LD_clean - LD_corrupt)         the state is needed

How to read it: from 0.5 on, with an interval above 0.2, the state suffices (denoise), or is needed (noise).

Traps: a probability or an accuracy saturates where a logit difference does not. The two ratios differ by design: of two
memories of which either is enough (OR), each denoises and neither noises; of two that are needed together (AND), each
noises and neither denoises. Everything but the patched state (other memories, keys and values of attention, short
convolutions of other layers) stays at its own run, so a memory beside which attention sees the same tokens is patched
against that attention.

Cost: four forward passes a batch, two of them with the memory run twice.

Source: Heimersheim & Nanda 2024, "How to use and interpret activation patching" (arXiv 2404.15255); Zhang & Nanda 2023
(arXiv 2309.16042) for the logit difference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mnemoscope.contracts import Batch
from mnemoscope.contracts.precision import in_float64
from mnemoscope.examination.interventions.histories import HistorySwap
from mnemoscope.examination.judgement.statistics import Bootstrap
from mnemoscope.examination.running.editing import Edit, edited
from mnemoscope.examination.subject.calls import Call, sequence_of
from mnemoscope.examination.subject.continuation import Continuation, states_at, with_states
from mnemoscope.examination.subject.intact import intact
from mnemoscope.examination.subject.losses import input_device, logits_and_targets, prepare
from mnemoscope.examination.subject.pieces import pieces_of
from mnemoscope.examination.subject.sites import Point
from mnemoscope.examination.subject.states import LayerState
from mnemoscope.runs.examination import Estimate


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two batches of one shape that agree from token `at` on; the clean one says what is scored, and the answer.

    Where the corrupt batch has another target it is the answer there; where not, the answer is what the model itself
    finds likeliest on the corrupt batch beside the clean answer.
    """

    clean: Any
    corrupt: Any
    at: int


@dataclass(frozen=True)
class Patched:
    """Logit differences of four runs, one mean for every sequence; 0 where the two runs say the same throughout."""

    clean: Float[np.ndarray, "n"]
    corrupt: Float[np.ndarray, "n"]
    denoised: Float[np.ndarray, "n"]
    noised: Float[np.ndarray, "n"]

    def denoise(self, bootstrap: Bootstrap, confidence: float = 0.95) -> Estimate | None:
        """How much of the difference the clean state restores; None where there is no sure difference."""
        return bootstrap.ratio(self.denoised - self.corrupt, self.clean - self.corrupt, confidence)

    def noise(self, bootstrap: Bootstrap, confidence: float = 0.95) -> Estimate | None:
        """How much of the difference the corrupt state destroys; None where there is no sure difference."""
        return bootstrap.ratio(self.clean - self.noised, self.clean - self.corrupt, confidence)


def with_other_history(batch: Any, at: int, shift: int = 1) -> Any:
    """A corrupt batch: the first `at` tokens of the sequence `shift` rows before, the rest its own.

    Raises:
        ValueError: for anything but tokens, and where every sequence would keep its own history.
    """
    match batch:
        case Batch():
            return replace(batch, inputs=_other_prefix(torch.as_tensor(batch.inputs), at, shift))
        case Tensor():
            return _other_prefix(batch, at, shift)
        case Mapping() if "input_ids" in batch:
            ids = torch.as_tensor(batch["input_ids"])
            labels = torch.as_tensor(batch.get("labels", ids))
            changed = {"input_ids": _other_prefix(ids, at, shift), "labels": labels}
            if "attention_mask" in batch:
                changed["attention_mask"] = _other_prefix(torch.as_tensor(batch["attention_mask"]), at, shift)
            return {**batch, **changed}
        case _:
            raise ValueError(
                "with_other_history: batch must be a Batch, a tensor of tokens (b, t) or a dictionary with input_ids, "
                f"got {type(batch).__name__}; make both batches of the Pair yourself"
            )


def _other_prefix(tokens: Tensor, at: int, shift: int) -> Int[Tensor, "b t"]:
    if tokens.ndim != 2 or tokens.is_floating_point():
        raise ValueError(
            f"with_other_history: a batch must hold tokens, integers (b, t), got {tokens.dtype} of shape "
            f"{tuple(tokens.shape)}; make both batches of the Pair yourself"
        )
    if not 0 < at < tokens.shape[1] or shift % len(tokens) == 0:
        raise ValueError(
            f"with_other_history: at must be from 1 to {tokens.shape[1] - 1} and shift no multiple of the "
            f"{len(tokens)} sequences, got {at} and {shift}"
        )
    return torch.cat([tokens.roll(shift, dims=0)[:, :at], tokens[:, at:]], dim=1)


def patch(model: nn.Module, pairs: Sequence[Pair], owners: Sequence[str], local: int = 0) -> Patched:
    """Exchange the states of memories between the runs of every pair, all the named memories at once.

    The model comes back as it was.

    Args:
        model: gives logits (b, t, vocab).
        pairs: clean and corrupt batches.
        owners: paths of causal modules that map (b, t, d) to (b, t, ...).
        local: tokens before `at` that a memory keeps of its own run (see `HistorySwap`).

    Raises:
        ValueError: where batches do not fit each other, or a module is called more than once or not at all.
    """
    with intact(model), torch.no_grad():
        parts = [_patched(model, pair, owners, local) for pair in pairs]
    return Patched(*(torch.cat(column).cpu().double().numpy() for column in zip(*parts, strict=True)))


def _patched(model: nn.Module, pair: Pair, owners: Sequence[str], local: int) -> tuple[Tensor, ...]:
    """Mean logit differences of the clean, corrupt, denoised and noised runs."""
    _require_fit(pair)
    modules, rng = dict(model.named_modules()), torch.get_rng_state()

    def run(batch: Any, edits: Sequence[Edit]) -> tuple[Float[Tensor, "b t vocab"], Int[Tensor, "b t"]]:
        torch.set_rng_state(rng)
        with edited(modules, edits):
            logits, targets = logits_and_targets(model, batch)
        logits = in_float64(logits)
        return logits, targets.to(logits.device)

    def seen(batch: Any) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        inputs = {owner: _Input(owner) for owner in owners}
        logits, targets = run(batch, [Edit(Point(owner), watching) for owner, watching in inputs.items()])
        return logits, targets, {owner: watching.only() for owner, watching in inputs.items()}

    def swaps(donors: dict[str, Tensor]) -> list[Edit]:
        return [Edit(Point(owner), HistorySwap(donor, pair.at, local)) for owner, donor in donors.items()]

    clean, answers, clean_inputs = seen(pair.clean)
    corrupt, others, corrupt_inputs = seen(pair.corrupt)
    denoised, noised = run(pair.corrupt, swaps(clean_inputs))[0], run(pair.clean, swaps(corrupt_inputs))[0]
    return _compared(clean, corrupt, denoised, noised, answers=answers, others=others, at=pair.at)


def patch_states(model: nn.Module, pairs: Sequence[Pair], layers: Sequence[int], continuation: Continuation) -> Patched:
    """The same by surgery: what the model remembers after `at` tokens is overwritten in some layers.

    The tails of their convolutions stay their own, as does everything of other layers. All four runs go on from what
    is remembered, so that they differ by the exchange alone. The model comes back as it was.

    Args:
        model: gives logits (b, t, vocab).
        pairs: clean and corrupt batches of sequences without padding.
        layers: of what the model remembers.
        continuation: what the self-test said of this model.

    Cost: a batch, four runs in two pieces and two of the first piece; where the model goes on rightly token by token
    alone, as many calls for each second piece as it has tokens.

    Raises:
        ValueError: where the self-test refused the model, and as `patch` does.
    """
    with torch.no_grad():
        parts = [_operated(model, pair, layers, continuation) for pair in pairs]
    return Patched(*(torch.cat(column).cpu().double().numpy() for column in zip(*parts, strict=True)))


def _operated(model: nn.Module, pair: Pair, layers: Sequence[int], continuation: Continuation) -> tuple[Tensor, ...]:
    _require_fit(pair)
    device = input_device(model)
    (clean, answers), (corrupt, others) = (
        (pieces_of(batch, device, every_row=True), prepare(batch, device)[1]) for batch in (pair.clean, pair.corrupt)
    )

    def states(tokens: Tensor) -> dict[int, LayerState]:
        found = states_at(model, tokens, pair.at, continuation)
        return {layer: found[layer] for layer in layers}

    def run(tokens: Tensor, donor: dict[int, LayerState]) -> Float[Tensor, "b t vocab"]:
        return in_float64(with_states(model, tokens, pair.at, donor, continuation)[:, : answers.shape[1]])

    return _compared(
        run(clean, {}),
        run(corrupt, {}),
        run(corrupt, states(clean)),
        run(clean, states(corrupt)),
        answers=answers,
        others=others,
        at=pair.at,
    )


def _compared(
    clean: Float[Tensor, "b t vocab"],
    corrupt: Float[Tensor, "b t vocab"],
    denoised: Float[Tensor, "b t vocab"],
    noised: Float[Tensor, "b t vocab"],
    *,
    answers: Int[Tensor, "b t"],
    others: Int[Tensor, "b t"],
    at: int,
) -> tuple[Tensor, ...]:
    """Mean logit differences of the four runs, over scored positions from `at` on where the histories differ."""
    answers, others = answers.to(clean.device), others.to(clean.device)
    scored = (answers >= 0) & (torch.arange(answers.shape[1], device=answers.device) >= at)
    foils = _foils(corrupt, answers, others)
    differences = [_difference(logits, answers, foils) for logits in (clean, corrupt, denoised, noised)]
    counted = scored & _apart(differences[0], differences[1], torch.maximum(clean.abs(), corrupt.abs()).amax())
    return tuple((each * counted).sum(1) / counted.sum(1).clamp_min(1) for each in differences)


def _foils(
    corrupt: Float[Tensor, "b t vocab"], answers: Int[Tensor, "b t"], others: Int[Tensor, "b t"]
) -> Int[Tensor, "b t"]:
    """The answer on the corrupt batch: its target, or else the likeliest token that is not the clean answer."""
    beside = corrupt.scatter(-1, answers.clamp_min(0).unsqueeze(-1), -torch.inf).argmax(-1)
    return torch.where((others >= 0) & (others != answers), others, beside)


def _difference(
    logits: Float[Tensor, "b t vocab"], answers: Int[Tensor, "b t"], foils: Int[Tensor, "b t"]
) -> Float[Tensor, "b t"]:
    both = logits.gather(-1, torch.stack([answers.clamp_min(0), foils], dim=-1))
    return both[..., 0] - both[..., 1]


def _apart(one: Float[Tensor, "b t"], other: Float[Tensor, "b t"], scale: Float[Tensor, ""]) -> Bool[Tensor, "b t"]:
    """Differ by more than rounding: a ratio over positions where the histories say the same would be noise."""
    return (one - other).abs() > 1e-5 * scale


class _Input:
    """Keeps what a module was called with and changes nothing."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.seen: list[Tensor] = []

    def apply(self, call: Call) -> Tensor:
        """Pass the value on."""
        self.seen.append(sequence_of(call))
        return call.value

    def only(self) -> Float[Tensor, "b t d"]:
        """The input of the one call."""
        if len(self.seen) != 1:
            raise ValueError(
                f"patch: {self.owner} must run once in a forward pass, it ran {len(self.seen)} times; choose another"
            )
        return self.seen[0]


def _require_fit(pair: Pair) -> None:
    """One shape, and the same tokens from `at` on."""
    (clean, targets), (corrupt, other_targets) = (
        prepare(batch, torch.device("cpu")) for batch in (pair.clean, pair.corrupt)
    )
    inputs = [part.get("", part.get("input_ids")) for part in (clean, corrupt)]
    assert inputs[0] is not None
    assert inputs[1] is not None
    if inputs[0].shape != inputs[1].shape or targets.shape != other_targets.shape:
        raise ValueError(
            f"patch: both batches of a pair must have one shape, got {tuple(inputs[0].shape)} and "
            f"{tuple(inputs[1].shape)}"
        )
    if not torch.equal(inputs[0][:, pair.at :], inputs[1][:, pair.at :]):
        raise ValueError(
            f"patch: both batches of a pair must agree from token at={pair.at} on; raise at, or use with_other_history"
        )
    if torch.equal(inputs[0][:, : pair.at], inputs[1][:, : pair.at]):
        raise ValueError(f"patch: the batches of a pair must differ before token at={pair.at}")

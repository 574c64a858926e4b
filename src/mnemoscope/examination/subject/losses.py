"""What a model is held to: one loss per sequence, and where the model is one of tokens, one per position."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.contracts import IGNORE, Batch

Loss = Callable[[nn.Module, Any], Tensor]
"""`loss(model, batch)` gives one value per sequence, shape (b,)."""


class Scores(NamedTuple):
    """Losses of a batch, and whether the likeliest token is right, where that was asked for.

    `per_token` is NaN where nothing is scored, `correct` False; None for losses that know no tokens.
    """

    per_sequence: Float[Tensor, "b"]
    per_token: Float[Tensor, "b t"] | None
    correct: Bool[Tensor, "b t"] | None = None


@runtime_checkable
class ScoringLoss(Protocol):
    """A loss that knows positions, and what a constant output would cost."""

    def __call__(self, model: nn.Module, batch: Any) -> Float[Tensor, "b"]:
        """One loss per sequence."""
        ...

    def scores(self, model: nn.Module, batch: Any, accuracy: bool = False) -> Scores:
        """Losses per sequence and per position, with `accuracy` also what is right."""
        ...

    def constant_output(self, calibration: Sequence[Any], test: Sequence[Any]) -> list[Scores] | None:
        """What the best constant output costs on each test batch; None where that cannot be said."""
        ...


class NextTokenLoss:
    """Cross-entropy of logits, in nats per scored token, averaged over each sequence.

    Takes a `Batch`, integer tokens (b, t), or a dictionary with `input_ids` and perhaps `labels` as Hugging Face
    models have it (there, position j is scored on the label at j + 1).

    Args:
        log_scores: of logits (b, t, vocab), for a model whose probabilities are no softmax of its logits but a softmax
            of these; None for the logits.
    """

    def __init__(self, log_scores: Callable[[Tensor], Tensor] | None = None) -> None:
        self.log_scores = log_scores

    def __call__(self, model: nn.Module, batch: Any) -> Float[Tensor, "b"]:
        """One loss per sequence."""
        return self.scores(model, batch).per_sequence

    def scores(self, model: nn.Module, batch: Any, accuracy: bool = False) -> Scores:
        """Losses per sequence and per position, with `accuracy` also whether the likeliest token is right."""
        logits, targets = logits_and_targets(model, batch)
        logits = logits.float() if self.log_scores is None else self.log_scores(logits.float())
        nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="none")
        nats, scored = nats.view_as(targets), targets != IGNORE
        count = scored.sum(1)
        if not bool((count > 0).all()):
            empty = int((count == 0).nonzero()[0])
            raise ValueError(
                f"examine: every sequence must have a scored position, sequence {empty} of a batch has none; "
                f"leave such sequences out, or set targets other than {IGNORE}"
            )
        correct = logits.argmax(-1) == targets if accuracy else None
        return Scores(nats.sum(1) / count, nats.masked_fill(~scored, torch.nan), correct)

    def constant_output(self, calibration: Sequence[Any], test: Sequence[Any]) -> list[Scores] | None:
        """See `constant_output_scores`."""
        return constant_output_scores(list(calibration), list(test))


def logits_and_targets(model: nn.Module, batch: Any) -> tuple[Float[Tensor, "b t vocab"], Int[Tensor, "b t"]]:
    """A forward pass: what the model says at every position, and the target there."""
    keywords, targets = prepare(batch, input_device(model))
    inputs = keywords.pop("", None)
    output = model(inputs, **keywords) if inputs is not None else model(**keywords)
    logits = _logits(output)[:, : targets.shape[1]]
    return logits, targets.to(logits.device)


def input_device(model: nn.Module) -> torch.device:
    """Where a model wants its inputs: what `accelerate` says that it runs on, else where its first parameter is."""
    for module in model.modules():
        wanted: Any = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
        if isinstance(wanted, (str, int, torch.device)):
            return torch.device(wanted)
    found = (parameter.device for parameter in model.parameters() if parameter.device.type != "meta")
    return next(found, torch.device("cpu"))


def prepare(batch: Any, device: torch.device) -> tuple[dict[str, Tensor], Int[Tensor, "b t"]]:
    """Keyword inputs of the model (the positional one under "") and the target of every position."""
    match batch:
        case Batch():
            inputs, targets = torch.as_tensor(batch.inputs), torch.as_tensor(batch.targets)
            return {"": inputs.to(device)}, targets.to(device)
        case Tensor():
            return {"": batch[:, :-1].to(device)}, batch[:, 1:].to(device)
        case Mapping() if "input_ids" in batch:
            inputs = {name: torch.as_tensor(value).to(device) for name, value in batch.items() if name != "labels"}
            labels = torch.as_tensor(batch.get("labels", batch["input_ids"])).to(device)
            if "labels" not in batch and "attention_mask" in inputs:
                labels = labels.masked_fill(inputs["attention_mask"] == 0, IGNORE)
            return inputs, labels[:, 1:]
        case _:
            raise ValueError(
                "examine: without a loss, a batch must be a Batch, a tensor of tokens (b, t) or a dictionary with "
                f"input_ids, got {type(batch).__name__}; give loss=, a function of (model, batch) to one value per "
                "sequence"
            )


def _logits(output: Any) -> Float[Tensor, "b t vocab"]:
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if isinstance(output, Mapping):
        logits = output.get("logits")
    if logits is None and isinstance(output, tuple) and output and isinstance(output[0], Tensor):
        logits = output[0]
    if not isinstance(logits, Tensor) or logits.ndim != 3:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(output).__name__
        raise ValueError(
            f"examine: without a loss, the model must return logits (b, t, vocab), got {got}; "
            "give loss=, a function of (model, batch) to one value per sequence"
        )
    return logits


def real_tokens(batch: Any, value: Tensor) -> Bool[Tensor, "b t"] | None:
    """Which rows of a value (b, t, ...) belong to tokens, for a batch that says which are padding; None for all."""
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    if mask is None or value.ndim < 3 or tuple(mask.shape) != tuple(value.shape[:2]):
        return None
    real = torch.as_tensor(mask).to(value.device) != 0
    return real if bool(real.any()) else None


def score(loss: Loss, model: nn.Module, batch: Any, accuracy: bool = False) -> Scores:
    """Losses of a batch under any loss; checks that there is one value per sequence."""
    knows_positions = isinstance(loss, ScoringLoss)
    scores = loss.scores(model, batch, accuracy) if knows_positions else Scores(loss(model, batch), None)
    values = scores.per_sequence
    if not isinstance(values, Tensor) or values.ndim != 1:
        got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(
            f"examine: loss must return one value per sequence, shape (b,), got {got}; reduce over positions, not over "
            "the batch"
        )
    return scores


def constant_output_scores(calibration: list[Any], test: list[Any]) -> list[Scores] | None:
    """What the best constant output costs on each test batch; None for batches that are not of tokens.

    The best constant output knows the frequencies of all targets here, the test's own included: nothing constant does
    better, however large the vocabulary.
    """
    try:
        fitted = [prepare(batch, torch.device("cpu"))[1].flatten() for batch in calibration]
        held_out = [prepare(batch, torch.device("cpu"))[1] for batch in test]
    except ValueError:
        return None
    targets = torch.cat([*fitted, *(part.flatten() for part in held_out)])
    counts = torch.bincount(targets[targets != IGNORE]).double()
    nats = -(counts / counts.sum()).log()
    return [_at_targets(nats, part) for part in held_out]


def _at_targets(nats: Float[Tensor, "vocab"], targets: Int[Tensor, "b t"]) -> Scores:
    scored = targets != IGNORE
    per_token = nats[targets.clamp_min(0)].masked_fill(~scored, torch.nan)
    return Scores(per_token.nansum(1) / scored.sum(1), per_token)

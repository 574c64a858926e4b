"""What a model of vectors is held to: squared errors, or bits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.contracts import Batch
from mnemoscope.contracts.precision import in_float64
from mnemoscope.examination.subject.losses import Scores


@dataclass(frozen=True, kw_only=True)
class VectorLoss:
    """The mean loss over all scored numbers of a sequence.

    Takes a `Batch` of vectors; targets that are NaN are not scored. As a loss for position j counts the mean over the
    scored numbers there.

    Args:
        kind: "bits" for binary cross-entropy of log-odds, in nats per bit; "numbers" for squared error.
        unit: squared errors are given in this unit: with the variance of the targets, as the part of it that is not
            explained. The examination's smallest margin is 0.01 of it.
    """

    kind: Literal["bits", "numbers"]
    unit: float = 1.0

    def __post_init__(self) -> None:
        if not self.unit > 0 or (self.kind == "bits" and self.unit != 1):
            raise ValueError(f"VectorLoss.unit: must be above 0, and 1 for bits, got {self.unit} for {self.kind}")

    def __call__(self, model: nn.Module, batch: Any) -> Float[Tensor, "b"]:
        """One loss per sequence."""
        return self.scores(model, batch).per_sequence

    def scores(self, model: nn.Module, batch: Any, accuracy: bool = False) -> Scores:
        """Losses per sequence and per position; with `accuracy`, of bits whether all of a position are right."""
        targets = _targets(batch)
        device = next(model.parameters(), torch.empty(0)).device
        output = model(torch.as_tensor(batch.inputs, dtype=torch.float32).to(device))
        if not isinstance(output, Tensor) or output.shape != targets.shape:
            got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(
                f"examine: for targets of shape {tuple(targets.shape)} the model must return one tensor of that shape, "
                f"got {got}; give a loss of your own, a function of (model, batch) to one value per sequence"
            )
        targets = targets.to(device)
        scores = self._scored(output, targets)
        if not accuracy or self.kind != "bits":
            return scores
        right = ((output >= 0) == (targets >= 0.5)) | targets.isnan()
        return scores._replace(correct=right.all(2) & ~targets.isnan().all(2))

    def constant_output(self, calibration: Sequence[Any], test: Sequence[Any]) -> list[Scores] | None:
        """What the best constant vector costs on each test batch; None for batches of other kinds.

        It knows all targets here, the test's own included.
        """
        try:
            held_out = [_targets(batch) for batch in test]
            targets = [_targets(batch) for batch in calibration] + held_out
        except ValueError:
            return None
        # A number counts for as much as it does in its sequence's mean.
        counts = [(~part.isnan()).float().flatten(1).sum(1) for part in targets]
        weights = [(~part.isnan()) / n[:, None, None] for part, n in zip(targets, counts, strict=True)]
        total = torch.stack([in_float64(weight).sum((0, 1)) for weight in weights]).sum(0)
        summed = [in_float64(w * part.nan_to_num()).sum((0, 1)) for w, part in zip(weights, targets, strict=True)]
        mean = (torch.stack(summed).sum(0) / total).nan_to_num()
        best = torch.logit(mean) if self.kind == "bits" else mean
        # Of a bit that never changes the log-odds are infinite, and the loss is 0.
        bounded = best.clamp(-30, 30) if self.kind == "bits" else best
        return [self._scored(bounded.expand(part.shape), part) for part in held_out]

    def _scored(self, output: Float[Tensor, "b t outputs"], targets: Float[Tensor, "b t outputs"]) -> Scores:
        scored = ~targets.isnan()
        _check_scored(scored)
        wanted, output = targets.nan_to_num(), output.to(torch.promote_types(output.dtype, torch.float32))
        elementwise: Callable[..., Tensor] = F.binary_cross_entropy_with_logits if self.kind == "bits" else F.mse_loss
        losses = elementwise(output, wanted.to(output.dtype), reduction="none") / self.unit * scored
        per_token = losses.sum(2) / scored.sum(2)
        return Scores(losses.sum((1, 2)) / scored.sum((1, 2)), per_token)


def variance(batches: Sequence[Any]) -> float:
    """The mean variance of the scored numbers of each output; 1 where they do not vary."""
    targets = in_float64(torch.cat([_targets(batch).flatten(0, 1) for batch in batches]))
    mean = targets.nanmean(0)
    found = float((targets - mean).square().nanmean())
    return found if found > 0 else 1.0


def _targets(batch: Any) -> Float[Tensor, "b t outputs"]:
    targets = torch.as_tensor(batch.targets) if isinstance(batch, Batch) else None
    if targets is None or targets.ndim != 3:
        raise ValueError(
            f"examine: a loss of vectors takes a Batch of vectors (b, t, outputs), got {type(batch).__name__}; give "
            "a loss of your own, a function of (model, batch) to one value per sequence"
        )
    return targets.float()


def _check_scored(scored: Bool[Tensor, "b t outputs"]) -> None:
    none = ~scored.flatten(1).any(1)
    if bool(none.any()):
        raise ValueError(
            f"examine: every sequence must have a scored number, sequence {int(none.nonzero()[0])} of a batch has "
            "none; leave such sequences out, or set targets other than NaN"
        )

"""StableMax: a softmax whose exponential is replaced by a score that grows linearly, so that it never collapses.

    s(x) = x + 1         where x >= 0          p_i = s(z_i) / sum_j s(z_j)
           1 / (1 - x)   where x < 0

so log s(x) = sign(x) log(1 + |x|), which is how it is computed here. Softmax in float32 gives the right class exactly
one, and every gradient exactly zero, as soon as its logit leads by 17 nats; here logits must lead by a factor of
millions.

StableMax is not shift-invariant: adding a constant to all logits changes the probabilities. And it asks for large
logits: a probability of 0.9 with logits +a and -a among V classes needs (a + 1)^2 = 9 (V - 1), that is a = 31 for 113
classes and a = 536 for 32,000, where softmax needs 3.5 and 6.3. What produces logits of that size may collapse onto few
directions.

Source: Prieto et al., "Grokking at the Edge of Numerical Stability" (2025). What differs: their loss is
taken in float64; here in the precision of the logits, at least float32, from the logarithm of the others' scores (see
`stablemax_negative_log_likelihood`), which loses nothing where the right class has nearly all of the probability.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def stablemax_scores(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """s(x), positive; of half precision in float32.

    Both branches are clamped to where they hold: the other one is infinite at x = 1, and the gradient of what is not
    chosen would be NaN.
    """
    x = _at_least_single(x)
    return torch.where(x >= 0, x.clamp(min=0) + 1, 1 / (1 - x.clamp(max=0)))


def log_stablemax_scores(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """log s(x) = sign(x) log(1 + |x|); of half precision in float32. Its derivative 1 / (1 + |x|) is 1 at 0."""
    x = _at_least_single(x)
    return torch.where(x >= 0, x.clamp(min=0).log1p(), -(-x.clamp(max=0)).log1p())


def stablemax(logits: Float[Tensor, "*b classes"]) -> Float[Tensor, "*b classes"]:
    """Probabilities of the classes; of half precision in float32."""
    scores = stablemax_scores(logits)
    return scores / scores.sum(-1, keepdim=True)


def stablemax_negative_log_likelihood(
    logits: Float[Tensor, "n classes"], targets: Int[Tensor, "n"]
) -> Float[Tensor, "n"]:
    """-log p of the target of each row, in nats; of half precision in float32.

    With r the log-score of all other classes together less that of the target, it is log(1 + e^r): where p is near one,
    e^r is what is left of it, and neither it nor its gradient is rounded to zero.

    Args:
        logits: at least two classes.
        targets: classes in [0, classes); every one counts.

    Raises:
        ValueError: fewer than two classes, or a target that is no class.
    """
    n_classes = logits.shape[-1]
    if n_classes < 2:
        raise ValueError(f"stablemax: logits must have at least 2 classes, got {n_classes}; add a class")
    wrong = targets[(targets < 0) | (targets >= n_classes)]
    if wrong.numel():
        raise ValueError(
            f"stablemax: targets must be in [0, {n_classes}), got {int(wrong[0])}; what is not to be scored must be "
            "left out before (contracts.IGNORE is the only mark of it)"
        )
    scores, chosen = log_stablemax_scores(logits), targets.unsqueeze(-1)
    others = scores.scatter(-1, chosen, -torch.inf).logsumexp(-1)
    return F.softplus(others - scores.gather(-1, chosen).squeeze(-1))


def _at_least_single(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x

"""The metrics of the Atlas guide's project as its code computes them, to be seen beside those that replace them.

    gate_mean, gate_std     of the last call's gate after its floor: never below a floor of 0.3     raw_gate.mean
    gate_dead_ratio         share below 0.01, gate_saturated_ratio above 0.99, of the same
    gate_collapse_risk      share of at most 0.10, of the same: 0 under any floor above             raw_gate.dead
    sc_fraction             positions, scored or not, with logsumexp(z) - max z < log(1 + 1e-7), in the dtype of the
                            logits and under any loss: StableMax drives it to 1                     softmax_collapse
    grad_weight_cosine      0: taken after gradients are cleared                    gradient_weight_cosine.before
    memory_magnitude        norm of all rows' memories together, which grows with the batch         state_magnitude
    memory_rank             of the first row's memory, exp of the entropy of its singular values    memory_rank

The last column names the figure that says what is read from these. What they say: nothing that can be relied upon; they
are here so that a run of the compat mode shows what the guide's reader saw. Not among the metrics by default. Memories
are looked at where `state_magnitude` or `memory_rank` has their states formed.

The last call of an episode is its retrieval, as it is there; what a floor of storage lifts to 0.8 is not in it.

Source: the atlas specification, 1.5, on r3d91ll/Todd_Atlas. Differs: norms are of the sequences that are sampled.
"""

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.training.metrics.memory_rank import memory_rank
from mnemoscope.training.metrics.observing import Observation, Seen

LEAST_GAP = math.log1p(1e-7)
SHUT, DEAD, SATURATED = 0.10, 0.01, 0.99


@torch.no_grad()
def as_published(
    observation: Observation, gates: Iterable[Seen], logits: Float[Tensor, "*b vocab"]
) -> dict[str, float]:
    """The figures by name; those of gates and states only where a model announces them.

    Args:
        observation: of a forward pass.
        gates: of its memories, of each the last call.
        logits: what the model gave, in its dtype.
    """
    found = {"sc_fraction": _collapsed(logits), "grad_weight_cosine": 0.0}
    used = [(seen.raw if seen.used is None else seen.used).flatten() for seen in gates]
    if used:
        found |= _of_gates(torch.cat(used).float())
    states = [seen.raw[:, -1] for calls in observation.points["state"].values() for seen in calls]
    if states:
        found["memory_magnitude"] = sum(state.float().norm().item() for state in states) / len(states)
        ranks = [rank for state in states if (rank := memory_rank(state[:1])) is not None]
        found |= {"memory_rank": sum(ranks) / len(ranks)} if ranks else {}
    return found


def _of_gates(gate: Float[Tensor, "n"]) -> dict[str, float]:
    return {
        "gate_mean": gate.mean().item(),
        "gate_std": gate.std(correction=0).item(),
        "gate_collapse_risk": (gate <= SHUT).float().mean().item(),
        "gate_dead_ratio": (gate < DEAD).float().mean().item(),
        "gate_saturated_ratio": (gate > SATURATED).float().mean().item(),
    }


def _collapsed(logits: Float[Tensor, "*b vocab"]) -> float:
    return ((logits.logsumexp(-1) - logits.amax(-1)) < LEAST_GAP).float().mean().item()

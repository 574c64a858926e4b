"""Multi-hop targets: an edge is learned together with what lies a few edges on, which favours a map over a table.

What it does: wherever an edge of the task's graph is asked for (a source u whose neighbour is the target), the loss
gains `strength` times the cross-entropy, in nats, to where a random walk of up to T = `hops` steps gets from u:

    W_T = (W + W^2 + ... + W^T) / T,      W[u, v] = 1 / k for each of the k trained targets v of u

Rows are divided by their sums where walks end early, as on forward edges. With T = 1 it is the exact expectation of the
edge loss: the law of the neighbours in place of one sampled neighbour. Paths and other sequences are left alone.

Why: in the eigenbasis of the normalised adjacency, W_T keeps (1 / T) sum of s^r: smooth directions are taught, and the
"zigzag" ones (s < 0), which serve to store edges one by one, are damped. Self-edges, which `path_star` and
`tiny_graphs` have as the option `self_edges=True`, work the same way: they turn W into (A + I) / (deg + 1).

Published effect: none as a remedy; NetMF has this as what DeepWalk factorises (Qiu et al.). Self-edges: on the released
tiny models of Noroozizadeh et al. they raise the smooth share, as measured for the specification.

Known problems: neighbours at two hops, and the source itself, get probability, so the task's own edge loss rises and
edges are read off less sharply; anneal with `final_strength=0.0`. Whether it speeds up path-finding is open.

Example: `MultiHopTargets(graph=PathStarConfig(n_arms=50, path_length=4), hops=3, final_strength=0.0)`.

Source: geometric-memory specification, 4.4 and 7.2; Qiu et al. 2018, arXiv 1710.02971, for the sum of powers.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.contracts.batch import IGNORE
from mnemoscope.tasks import PathStarConfig
from mnemoscope.training.remedies.graph_tasks import GraphTask, build_graph_task, edge_tag, walk_weights
from mnemoscope.training.remedies.treatment import Computed, RemedyConfig, Treatment


@dataclass(frozen=True, kw_only=True)
class MultiHopTargets(RemedyConfig):
    """Settings; `strength` is the weight of the cross-entropy to the walk, beside the task's loss.

    Args:
        graph: the config of the task that is trained.
        hops: steps of the walk, T, at least 1.
    """

    kind: Literal["multi_hop_targets"] = "multi_hop_targets"
    graph: GraphTask = field(default_factory=PathStarConfig)
    hops: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hops < 1:
            raise ValueError(f"MultiHopTargets.hops: must be at least 1 step, got {self.hops}; use 3")
        if self.sites:
            raise ValueError(
                f"MultiHopTargets.sites: must be empty, since it acts on the loss, got {self.sites}; leave them out"
            )

    def attach(self, model: nn.Module) -> "MultiHopTargetsTreatment":
        """On the loss; the model is not touched."""
        return MultiHopTargetsTreatment(self)


class MultiHopTargetsTreatment(Treatment):
    """Where walks get, at the positions that ask for edges."""

    sources: Tensor
    targets: Tensor
    weights: Tensor

    def __init__(self, remedy: MultiHopTargets) -> None:
        super().__init__(remedy)
        task = build_graph_task(remedy.graph)
        self.hops, self.vocab_size, self.n_nodes = remedy.hops, task.vocab_size, task.graph.n_nodes
        self.tag = edge_tag(task)
        self.nats: float = 0.0
        """The last step's cross-entropy, unweighted."""
        of_graph = {
            "sources": torch.from_numpy(task.pairs[:, 0].copy()),
            "targets": torch.from_numpy(task.pairs[:, 1].copy()),
            "weights": torch.from_numpy(walk_weights(task.pairs, task.graph.n_nodes)).float(),
        }
        for name, value in of_graph.items():
            self.register_buffer(name, value, persistent=False)

    def extra_loss(self, computed: Computed) -> Float[Tensor, ""] | None:
        """Cross-entropy to where walks get, mean over the edges asked for; None where there are none."""
        at = 0 if self.tag is None else 1
        asked = self._asked(computed)
        if self.strength == 0 or not bool(asked.any()):
            return None
        if computed.logits.shape[-1] < self.vocab_size:
            raise ValueError(
                f"MultiHopTargets.graph: has {self.vocab_size} tokens, and the model {computed.logits.shape[-1]}; give "
                "the config of the task that is trained"
            )
        source = computed.inputs[asked, at]
        self._check(source, computed.targets[asked, at])
        said = F.log_softmax(computed.logits[asked, at].float(), dim=-1)[:, : self.n_nodes]
        loss = -(self.walk(source) * said).sum(-1).mean()
        self.nats = loss.item()
        return self.strength * loss

    def walk(self, source: Int[Tensor, "b"]) -> Float[Tensor, "b nodes"]:
        """Rows of W_T: where a walk of 1 to T steps from these nodes gets."""
        now = F.one_hot(source, self.n_nodes).to(self.weights.dtype)
        reached = torch.zeros_like(now)
        for _ in range(self.hops):
            now = torch.zeros_like(now).index_add_(1, self.targets, now[:, self.sources] * self.weights)
            reached = reached + now
        return reached / reached.sum(-1, keepdim=True)

    def figures(self) -> dict[str, float]:
        """The strength, and nats to where walks get."""
        return super().figures() | {"nats": self.nats}

    def _asked(self, computed: Computed) -> Bool[Tensor, "b"]:
        """The sequences that ask for an edge."""
        inputs, at = computed.inputs, 0 if self.tag is None else 1
        asked = (computed.targets[:, at] != IGNORE) & (inputs[:, at] < self.n_nodes)
        return asked if self.tag is None else asked & (inputs[:, 0] == self.tag)

    def _check(self, source: Int[Tensor, "b"], target: Int[Tensor, "b"]) -> None:
        known = torch.isin(source * self.vocab_size + target, self.sources * self.vocab_size + self.targets)
        if not bool(known.all()):
            i = int((~known).nonzero()[0])
            raise ValueError(
                f"MultiHopTargets.graph: the batch asks for the edge {int(source[i])} - {int(target[i])}, which the "
                "graph does not have; give the config of the task that is trained, its graph_seed included"
            )

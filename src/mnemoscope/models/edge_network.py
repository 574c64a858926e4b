"""A graph as one bilinear form: the smallest model that can store edges as geometry or as associations.

    Z = E W E^T + 1 b^T      Z[u, v] is the logit of node v as a neighbour of node u; row u of E is Phi(u)

There is nothing between E and W: no activation, norm, residual or position. What is stored where depends on what may
move:

    associative    E stays as it was drawn       W = sum_(u, v) Phi(u) Phi(v)^T holds the edges
    geometric      E moves as well               Phi(u) . Phi(v) may come to hold them

With q_u the share of the training pairs that ask source u, and law[u, v] the share that ask u for v, the loss and its
gradient are, P being the softmax of each row of Z,

    loss = -sum_uv law[u, v] log P[u, v]        G = dloss/dZ = diag(q) P - law
    dW = E^T G E                                dE = G E W^T + G^T E W              db = 1^T G

so that with W = 0 one step of gradient descent gives W proportional to sum_u Phi(u) sum_v (law[u, v] - q_u / n)
Phi(v)^T: where all Phi are nearly orthonormal, every edge is known after this one step.

Source: Noroozizadeh et al., "Deep sequence models tend to memorize geometrically; it is unclear why" (2025, arXiv
2510.26745), sections on associative and geometric memory; Shahriarnz14/Geometric_Memory calls it a two-layer network.
The one-step statement is derived here. What differs: rows are sources, so W is the transpose of the paper's.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mnemoscope.memories.parts import require

MatrixStart = Literal["normal", "identity", "zero"]


@dataclass(frozen=True, kw_only=True)
class EdgeNetworkConfig:
    """A bilinear edge network.

    Args:
        n_nodes: n, at least 2.
        width: m, numbers of an embedding.
        bias: add a number for each target, b.
        frozen: keep E as it was drawn, so that only W (and b) can learn: an associative memory.
        initial_std: of the entries of E, above 0.
        matrix: how W starts: "normal", "identity" or "zero".
        matrix_std: of the entries of W with matrix="normal", above 0.
    """

    n_nodes: int
    width: int
    bias: bool = False
    frozen: bool = False
    initial_std: float = 0.02
    matrix: MatrixStart = "normal"
    matrix_std: float = 0.02

    def __post_init__(self) -> None:
        require(self.n_nodes >= 2, "edge_network.n_nodes", "at least 2", self.n_nodes, "count the nodes of the graph")
        require(self.width >= 1, "edge_network.width", "at least 1", self.width, "use 32")
        starts = ("normal", "identity", "zero")
        require(self.matrix in starts, "edge_network.matrix", f"one of {starts}", repr(self.matrix), "use 'normal'")
        for name in ("initial_std", "matrix_std"):
            std = getattr(self, name)
            require(std > 0, f"edge_network.{name}", "above 0", std, "use 0.02")


class EdgeNetwork(nn.Module):
    """Nodes in, logits of all nodes as their neighbours out; the table is `embedding.weight`."""

    def __init__(self, config: EdgeNetworkConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        n, m = config.n_nodes, config.width
        self.config = config
        self.embedding = nn.Embedding(n, m)
        nn.init.normal_(self.embedding.weight, std=config.initial_std, generator=generator)
        self.embedding.weight.requires_grad_(not config.frozen)
        self.matrix = nn.Parameter(torch.eye(m) if config.matrix == "identity" else torch.zeros(m, m))
        if config.matrix == "normal":
            nn.init.normal_(self.matrix, std=config.matrix_std, generator=generator)
        self.bias = nn.Parameter(torch.zeros(n)) if config.bias else None

    def forward(self, sources: Int[Tensor, "*b"]) -> Float[Tensor, "*b n"]:
        """Logits of every node as a neighbour of each source."""
        logits = self.embedding(sources) @ self.matrix @ self.embedding.weight.T
        return logits if self.bias is None else logits + self.bias

    def scores(self) -> Float[Tensor, "n n"]:
        """Logits of every source."""
        logits = self.embedding.weight @ self.matrix @ self.embedding.weight.T
        return logits if self.bias is None else logits + self.bias

    def learn_from(self, law: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
        """Set the gradients of everything that learns, without autograd.

        Args:
            law: see `edge_gradients`.

        Returns:
            the loss, in nats for each training pair.
        """
        found = edge_gradients(self.embedding.weight, self.matrix, self.bias, law)
        self.matrix.grad = found.matrix
        if self.bias is not None:
            self.bias.grad = found.bias
        if not self.config.frozen:
            self.embedding.weight.grad = found.table
        return found.loss


class EdgeGradients(NamedTuple):
    """The loss of a bilinear edge network and its gradient along E, W and b."""

    loss: Float[Tensor, ""]
    table: Float[Tensor, "n m"]
    matrix: Float[Tensor, "m m"]
    bias: Float[Tensor, "n"]


@torch.no_grad()
def edge_gradients(
    table: Float[Tensor, "n m"],
    matrix: Float[Tensor, "m m"],
    bias: Float[Tensor, "n"] | None,
    law: Float[Tensor, "n n"],
) -> EdgeGradients:
    """Loss and gradients in closed form; see the equations at the top.

    Args:
        table: E.
        matrix: W.
        bias: b; None for none.
        law: share of the training pairs that ask the source of the row for the target of the column; adds up to 1.

    Cost: 5 products of n m m and n n m multiplications, against about twice as many calls with autograd.
    """
    forth = table @ matrix
    logits = forth @ table.T
    if bias is not None:
        logits = logits + bias
    log_p = logits.log_softmax(dim=1)
    error = law.sum(dim=1, keepdim=True) * log_p.exp() - law
    back = error @ table
    return EdgeGradients(
        loss=-(law * log_p).sum(),
        table=back @ matrix.T + error.T @ forth,
        matrix=table.T @ back,
        bias=error.sum(dim=0),
    )


def associative_matrix(table: Float[Tensor, "n m"], edges: Int[Tensor, "e 2"]) -> Float[Tensor, "m m"]:
    """W = sum_(u, v) Phi(u) Phi(v)^T, the associative memory of the pairs (u, v).

    With orthonormal Phi the logits E W E^T are 1 at every pair and 0 elsewhere, and ||W|| is the square root of the
    number of pairs.

    Args:
        table: Phi, one row for each node.
        edges: pairs (source, target); an edge in both directions is two.

    Source: Noroozizadeh et al. 2025 (arXiv 2510.26745), the associative view; transposed.
    """
    return table[edges[:, 0]].T @ table[edges[:, 1]]


def edge_law(pairs: Int[Tensor, "e 2"], n_nodes: int) -> Float[Tensor, "n n"]:
    """The share of the pairs that ask for v (column) from u (row), float32; a pair that is there twice counts twice."""
    law = torch.zeros(n_nodes, n_nodes)
    return law.index_put_((pairs[:, 0], pairs[:, 1]), torch.tensor(1 / len(pairs)), accumulate=True)


def build_edge_network(config: EdgeNetworkConfig, seed: int) -> EdgeNetwork:
    """A network on the CPU with weights drawn from `seed`, whatever the global generator."""
    return EdgeNetwork(config, torch.Generator().manual_seed(seed))

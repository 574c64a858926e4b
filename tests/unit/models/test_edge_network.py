import math

import pytest
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mnemoscope.models.edge_network import (
    EdgeNetworkConfig,
    associative_matrix,
    build_edge_network,
    edge_gradients,
    edge_law,
)

CYCLE = torch.tensor([(u, (u + turn) % 9) for u in range(9) for turn in (1, 8)])
STAR = torch.tensor([pair for v in range(1, 9) for pair in ((0, v), (v, 0))])
FORWARD = torch.tensor([(0, v) for v in range(1, 9)])
N = 9


def orthonormal(seed: int, n: int = N, width: int = 12) -> Float[Tensor, "n m"]:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(width, n, generator=generator, dtype=torch.float64)).Q.T


def nearly_orthonormal(seed: int, n: int = N, width: int = 4000) -> Float[Tensor, "n m"]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, width, generator=generator, dtype=torch.float64) / width**0.5


def adjacency(edges: Int[Tensor, "e 2"]) -> Float[Tensor, "n n"]:
    matrix = torch.zeros(N, N, dtype=torch.float64)
    matrix[edges[:, 0], edges[:, 1]] = 1
    return matrix


def test_logits_by_hand():
    """Rows of E are 1, 2 and 3, W is 2 and b is (0, 0.5, 1): the logit of v as a neighbour of u is 2 u v + b_v."""
    network = build_edge_network(EdgeNetworkConfig(n_nodes=3, width=1, bias=True), seed=0)
    assert network.bias is not None
    with torch.no_grad():
        network.embedding.weight.copy_(torch.tensor([[1.0], [2.0], [3.0]]))
        network.matrix.fill_(2.0)
        network.bias.copy_(torch.tensor([0.0, 0.5, 1.0]))
    assert network.scores().tolist() == [[2, 4.5, 7], [4, 8.5, 13], [6, 12.5, 19]]
    assert torch.equal(network(torch.tensor([2, 0])), network.scores()[[2, 0]])


def test_rows_are_sources():
    """With orthonormal Phi the sum of outer products reads as the adjacency, transposed for nobody."""
    table = orthonormal(0)
    for edges in (CYCLE, STAR, FORWARD):
        matrix = associative_matrix(table, edges)
        torch.testing.assert_close(table @ matrix @ table.T, adjacency(edges))
        assert matrix.norm().item() == pytest.approx(math.sqrt(len(edges)))


@pytest.mark.parametrize("edges", [CYCLE, STAR])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_sum_of_outer_products_recalls_every_edge(edges: Int[Tensor, "e 2"], seed: int):
    table = nearly_orthonormal(seed)
    scores = table @ associative_matrix(table, edges) @ table.T
    wanted = adjacency(edges).bool()
    assert scores[wanted].min() > scores[~wanted].max() + 0.5


@pytest.mark.parametrize("edges", [CYCLE, STAR])
@pytest.mark.parametrize("seed", [0, 1])
def test_one_step_of_gradient_descent_recalls_every_edge(edges: Int[Tensor, "e 2"], seed: int):
    """From W = 0: the logits are then law[u, v] - q_u / n times the step size, which ranks edges of each u first."""
    table, law = nearly_orthonormal(seed), edge_law(edges, N).double()
    zero = torch.zeros(table.shape[1], table.shape[1], dtype=torch.float64)
    scores = table @ -edge_gradients(table, zero, None, law).matrix @ table.T
    exact = law - law.sum(dim=1, keepdim=True) / N
    assert (scores - exact).abs().max() < 0.4 * law.max()
    ranked = scores.argsort(dim=1, descending=True)
    for u in range(N):
        neighbours = set(edges[edges[:, 0] == u, 1].tolist())
        assert set(ranked[u, : len(neighbours)].tolist()) == neighbours


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("edges", [CYCLE, STAR, FORWARD])
def test_gradients_are_those_of_autograd(edges: Int[Tensor, "e 2"], bias: bool):
    """Against a loop over the pairs, one cross-entropy each."""
    generator = torch.Generator().manual_seed(3)
    shapes = [(N, 5), (5, 5), (N,)]
    weights = [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]
    table, matrix, b = weights
    total = torch.zeros((), dtype=torch.float64)
    for u, v in edges.tolist():
        logits = torch.stack([table[u] @ matrix @ table[w] for w in range(N)]) + (b if bias else 0)
        total = total + torch.nn.functional.cross_entropy(logits[None], torch.tensor([v]))
    loss = total / len(edges)
    expected = torch.autograd.grad(loss, weights, allow_unused=not bias)
    found = edge_gradients(table.detach(), matrix.detach(), b.detach() if bias else None, edge_law(edges, N).double())
    torch.testing.assert_close(found.loss, loss.detach())
    torch.testing.assert_close(found.table, expected[0])
    torch.testing.assert_close(found.matrix, expected[1])
    if bias:
        torch.testing.assert_close(found.bias, expected[2])


def test_what_learns():
    law = edge_law(CYCLE, N)
    frozen = build_edge_network(EdgeNetworkConfig(n_nodes=N, width=4, frozen=True), seed=0)
    frozen.learn_from(law)
    assert frozen.embedding.weight.grad is None
    assert frozen.matrix.grad is not None
    whole = build_edge_network(EdgeNetworkConfig(n_nodes=N, width=4, bias=True), seed=0)
    loss = whole.learn_from(law)
    assert all(weight.grad is not None for weight in whole.parameters())
    expected = torch.nn.functional.cross_entropy(whole(CYCLE[:, 0]), CYCLE[:, 1])
    torch.testing.assert_close(loss, expected.detach())


def test_the_law_of_pairs():
    law = edge_law(torch.tensor([(0, 1), (0, 2), (0, 2), (1, 1)]), 3)
    assert law.tolist() == [[0, 0.25, 0.5], [0, 0.25, 0], [0, 0, 0]]


def test_how_weights_start():
    small = build_edge_network(EdgeNetworkConfig(n_nodes=400, width=50, initial_std=0.3), seed=1)
    assert small.embedding.weight.std().item() == pytest.approx(0.3, rel=0.05)
    assert small.matrix.std().item() == pytest.approx(0.02, rel=0.05)
    again = build_edge_network(EdgeNetworkConfig(n_nodes=400, width=50, initial_std=0.3), seed=1)
    assert torch.equal(small.embedding.weight, again.embedding.weight)
    starts = {
        start: build_edge_network(EdgeNetworkConfig(n_nodes=3, width=2, matrix=start), 0).matrix.tolist()
        for start in ("identity", "zero")
    }
    assert starts == {"identity": [[1, 0], [0, 1]], "zero": [[0, 0], [0, 0]]}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"n_nodes": 1}, "n_nodes"),
        ({"width": 0}, "width"),
        ({"initial_std": 0.0}, "initial_std"),
        ({"matrix_std": -1.0}, "matrix_std"),
    ],
)
def test_what_is_refused(wrong: dict[str, float], said: str):
    with pytest.raises(ValueError, match=f"edge_network.{said}"):
        EdgeNetworkConfig(**({"n_nodes": 4, "width": 2} | wrong))  # pyright: ignore[reportArgumentType]

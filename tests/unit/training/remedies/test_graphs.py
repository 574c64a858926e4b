"""Steering towards geometry: walks, spectra and planted rows, by hand and against dense linear algebra."""

from collections.abc import Callable
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import save_file
from torch import Tensor, nn

from mnemoscope.models import StackConfig, build
from mnemoscope.tasks import PathStarConfig, TinyGraphsConfig, build_task, task_rng
from mnemoscope.tasks.graphs import Graph, cycle_edges, named_graph
from mnemoscope.training.loss import cross_entropy
from mnemoscope.training.remedies import Computed, MultiHopTargets, Remedy, TransplantedEmbeddings, treated
from mnemoscope.training.remedies.graph_tasks import edge_tag, spectral_table
from mnemoscope.training.remedies.multi_hop_targets import MultiHopTargetsTreatment

CYCLE = TinyGraphsConfig(graph="cycle")
STAR = PathStarConfig(n_arms=4, path_length=4, held_out=0.5)


def _model(vocab_size: int, d_model: int = 8) -> nn.Module:
    return build(StackConfig.of("attention(n_heads=1)", vocab_size=vocab_size, d_model=d_model), 0).train()


def _computed(inputs: Tensor, targets: Tensor, logits: Tensor) -> Computed:
    return Computed(
        inputs=inputs, targets=targets, logits=logits, loss=cross_entropy(logits, targets), again=lambda: logits.sum()
    )


def _treatment(remedy: MultiHopTargets) -> MultiHopTargetsTreatment:
    treatment = remedy.attach(nn.Identity())
    treatment.on_step(1, 1)
    return treatment


def test_walks_on_the_cycle_by_hand() -> None:
    walk = _treatment(MultiHopTargets(graph=CYCLE, hops=2)).walk(torch.tensor([0]))[0]
    # One step: 1/2 either way. Two steps: 1/4 two away either way, 1/2 back. Halved and added.
    expected = torch.zeros(15)
    expected[[1, 14]], expected[[2, 13]], expected[0] = 1 / 4, 1 / 8, 1 / 4
    torch.testing.assert_close(walk, expected)


@pytest.mark.parametrize("hops", [1, 3])
@pytest.mark.parametrize(
    "config",
    [
        TinyGraphsConfig(graph="irregular", self_edges=True),
        STAR,
        PathStarConfig(n_arms=3, path_length=4, held_out=0.67, directions="forward"),
    ],
)
def test_walks_are_the_mean_of_matrix_powers(config: PathStarConfig | TinyGraphsConfig, hops: int) -> None:
    task = build_task(config)
    n = task.graph.n_nodes
    w = np.zeros((n, n))
    w[task.pairs[:, 0], task.pairs[:, 1]] = 1
    w /= np.maximum(w.sum(1, keepdims=True), 1)
    oracle = sum(np.linalg.matrix_power(w, r) for r in range(1, hops + 1))
    sources = np.unique(task.pairs[:, 0])
    oracle = oracle[sources] / oracle[sources].sum(1, keepdims=True)
    got = _treatment(MultiHopTargets(graph=config, hops=hops)).walk(torch.from_numpy(sources))
    torch.testing.assert_close(got, torch.from_numpy(oracle).float())


def test_the_loss_is_the_cross_entropy_to_the_walk_of_edges_alone() -> None:
    task = build_task(STAR)
    batch = task.batch(task_rng(0, "train", 1), 40, "train")
    inputs, targets = torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets)
    logits = torch.randn(*inputs.shape, task.vocab_size, generator=torch.Generator().manual_seed(0), requires_grad=True)
    treatment = MultiHopTargets(graph=STAR, hops=2, strength=0.5, final_strength=1.5).attach(nn.Identity())
    is_edge = inputs[:, 0] == edge_tag(task)
    assert 0 < int(is_edge.sum()) < 40
    law = treatment.walk(inputs[is_edge, 1])
    by_hand = -(law * logits[is_edge, 1].log_softmax(-1)[:, : task.graph.n_nodes]).sum(-1).mean()
    for step, weight in ((1, 0.5), (3, 1.5)):
        treatment.on_step(step, 3)
        extra = treatment.extra_loss(_computed(inputs, targets, logits))
        assert extra is not None
        torch.testing.assert_close(extra, weight * by_hand)
        assert abs(treatment.figures()["nats"] - by_hand.item()) < 1e-6
    extra.backward()
    assert logits.grad is not None
    touched = logits.grad.abs().amax(-1) > 0
    expected = torch.zeros_like(touched)
    expected[is_edge, 1] = True
    assert torch.equal(touched, expected)


def test_edges_without_tags_are_asked_first() -> None:
    config = PathStarConfig(n_arms=4, path_length=4, held_out=0.5, tags=False)
    task = build_task(config)
    batch = task.batch(task_rng(0, "train", 1), 40, "train")
    inputs, targets = torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets)
    logits = torch.zeros(*inputs.shape, task.vocab_size, requires_grad=True)
    extra = _treatment(MultiHopTargets(graph=config)).extra_loss(_computed(inputs, targets, logits))
    assert extra is not None
    extra.backward()
    assert logits.grad is not None
    is_edge = targets[:, 0] >= 0
    assert 0 < int(is_edge.sum()) < 40
    assert torch.equal((logits.grad.abs().amax((-1)) > 0).any(1), is_edge)


def test_without_edges_or_strength_there_is_no_loss() -> None:
    task = build_task(STAR)
    batch = task.path_batch("train")
    inputs, targets = torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets)
    logits = torch.zeros(*inputs.shape, task.vocab_size)
    assert _treatment(MultiHopTargets(graph=STAR)).extra_loss(_computed(inputs, targets, logits)) is None
    batch = task.edge_batch()
    inputs, targets = torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets)
    logits = torch.zeros(*inputs.shape, task.vocab_size)
    computed = _computed(inputs, targets, logits)
    assert _treatment(MultiHopTargets(graph=STAR, strength=0.0)).extra_loss(computed) is None
    assert _treatment(MultiHopTargets(graph=STAR)).extra_loss(computed) is not None


def test_a_graph_that_is_not_the_task_s_is_refused() -> None:
    task = build_task(STAR)
    batch = task.edge_batch()
    inputs, targets = torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets)
    other = PathStarConfig(n_arms=4, path_length=4, held_out=0.5, graph_seed=1)
    computed = _computed(inputs, targets, torch.zeros(*inputs.shape, task.vocab_size))
    with pytest.raises(ValueError, match="which the graph does not have"):
        _treatment(MultiHopTargets(graph=other)).extra_loss(computed)
    computed = _computed(inputs, targets, torch.zeros(*inputs.shape, task.vocab_size - 1)[..., :16])
    with pytest.raises(ValueError, match=r"MultiHopTargets\.graph: has 17 tokens, and the model 16"):
        _treatment(MultiHopTargets(graph=STAR)).extra_loss(computed)


def test_a_graph_is_kept_in_a_recipe() -> None:
    loader = TypeAdapter(Remedy)
    for remedy in (MultiHopTargets(graph=CYCLE), TransplantedEmbeddings(graph=STAR, freeze=True)):
        assert loader.validate_json(loader.dump_json(remedy), strict=True) == remedy


def test_spectral_rows_have_the_products_of_a_lazy_walk() -> None:
    """On the cycle, a regular graph: ((I + W) / 2)^h minus its constant part, over the diagonal."""
    n, hops = 15, 3
    graph = Graph(n_nodes=n, edges=cycle_edges(n))
    table = spectral_table(graph, n + 2, hops)
    lazy = (np.eye(n) + graph.adjacency() / 2) / 2
    walk = np.linalg.matrix_power(lazy, hops) - 1 / n
    np.testing.assert_allclose(table @ table.T, walk / walk[0, 0], atol=1e-9)
    assert not table[:, n - 1 :].any()


def test_spectral_columns_are_the_smoothest_of_networkx() -> None:
    graph = named_graph("grid")
    width = 3
    table = spectral_table(graph, width, 0)
    other = nx.Graph(graph.edges.tolist())
    laplacian = nx.normalized_laplacian_matrix(other, nodelist=range(16)).toarray()
    vectors = np.linalg.eigh(laplacian)[1][:, 1 : width + 1]
    rows = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    # The grid's second and third eigenvalue are one pair, which turns freely: products of rows do not.
    np.testing.assert_allclose(table @ table.T, rows @ rows.T, atol=1e-9)


def test_each_component_loses_its_own_trivial_vector() -> None:
    table = spectral_table(named_graph("irregular"), 16, 4)
    assert np.linalg.matrix_rank(table, tol=1e-6) == 14
    np.testing.assert_allclose(table[:12] @ table[12:].T, 0, atol=1e-9)


def test_planted_rows_have_the_spread_of_the_embedding_and_the_rest_stays() -> None:
    model = _model(16)
    before = model.embedding.weight.detach().clone()
    with treated(model, (TransplantedEmbeddings(graph=CYCLE),)) as (treatment,):
        assert torch.equal(model.embedding.weight, before), "nothing is planted before the first step"
        treatment.on_step(1, 10)
        after = model.embedding.weight.detach().clone()
        torch.testing.assert_close(after[:15].square().mean(), before[:15].square().mean())
        table = torch.from_numpy(spectral_table(named_graph("cycle"), 8, 4)).float()
        ratio = after[:15] / table
        torch.testing.assert_close(ratio[table.abs() > 1e-3], ratio[0, 0].expand(int((table.abs() > 1e-3).sum())))
        assert torch.equal(after[15:], before[15:])
        with torch.no_grad():
            model.embedding.weight.mul_(2)
        treatment.on_step(2, 10)
        assert torch.equal(model.embedding.weight.detach(), 2 * after), "rows are planted once"
        assert abs(treatment.figures()["moved"] - 1) < 1e-6


def test_part_of_the_rows_may_come_from_the_table() -> None:
    whole, part = _model(16), _model(16)
    before = part.embedding.weight.detach().clone()
    for model, strength in ((whole, 1.0), (part, 0.25)):
        with treated(model, (TransplantedEmbeddings(graph=CYCLE, strength=strength),)) as (treatment,):
            treatment.on_step(1, 10)
    torch.testing.assert_close(part.embedding.weight, 0.75 * before + 0.25 * whole.embedding.weight)


@pytest.mark.parametrize("freeze", [True, False])
def test_frozen_rows_are_held_until_the_end_given(freeze: bool) -> None:
    model = _model(16)
    inputs = torch.arange(16)[None]
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1)
    moved: list[bool] = []
    with treated(model, (TransplantedEmbeddings(graph=CYCLE, freeze=freeze, end=0.5),)) as (treatment,):
        for step in range(1, 6):
            treatment.on_step(step, 5)
            start = model.embedding.weight.detach().clone()
            optimiser.zero_grad()
            model(inputs).square().sum().backward()
            optimiser.step()
            treatment.after_step(_computed(inputs, inputs, model(inputs)))
            now = model.embedding.weight.detach()
            moved.append(not torch.equal(now[:15], start[:15]))
            assert not torch.equal(now[15:], start[15:])
    assert moved == ([False, False, False, True, True] if freeze else [True] * 5)


def test_a_resumed_run_is_not_planted_again() -> None:
    model, remedy = _model(16), TransplantedEmbeddings(graph=CYCLE)
    with treated(model, (remedy,)) as (treatment,):
        treatment.on_step(1, 10)
        state = {name: value.clone() for name, value in treatment.state_dict().items()}
    with torch.no_grad():
        model.embedding.weight.add_(1)
    trained = model.embedding.weight.detach().clone()
    with treated(model, (remedy,)) as (treatment,):
        treatment.load_state_dict(state)
        treatment.on_step(5, 10)
    assert torch.equal(model.embedding.weight, trained)


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_tables_are_read_from_files(suffix: str, tmp_path: Path) -> None:
    table, path = torch.randn(16, 8, generator=torch.Generator().manual_seed(0)), tmp_path / f"table{suffix}"
    if suffix == ".npy":
        np.save(path, table.double().numpy())
    else:
        save_file({"rows": table}, path)
    model = _model(16)
    before = model.embedding.weight.detach().square().mean()
    with treated(model, (TransplantedEmbeddings(table=str(path)),)) as (treatment,):
        treatment.on_step(1, 10)
    expected = table * (before / table.square().mean()).sqrt()
    torch.testing.assert_close(model.embedding.weight.detach(), expected)


def _saved(folder: Path, name: str, table: np.ndarray) -> str:
    np.save(folder / name, table)
    return str(folder / name)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: TransplantedEmbeddings(), "needs a graph, a table, or both"),
        (lambda folder: TransplantedEmbeddings(graph=CYCLE, final_strength=0.0), "final_strength: must be None"),
        (lambda folder: TransplantedEmbeddings(graph=CYCLE, strength=2.0), r"strength: must be in \[0, 1\]"),
        (lambda folder: TransplantedEmbeddings(graph=CYCLE, hops=-1), "hops: must be at least 0"),
        (lambda folder: TransplantedEmbeddings(graph=STAR).attach(_model(12)), "at most the 12 nodes"),
        (lambda folder: TransplantedEmbeddings(table="none.npy").attach(_model(16)), "none.npy must be a file"),
        (
            lambda folder: TransplantedEmbeddings(table=_saved(folder, "a.npy", np.ones((15, 8)))).attach(_model(16)),
            r"a row for each of the vocabulary's 16 rows and 8 columns, got \(15, 8\)",
        ),
        (
            lambda folder: TransplantedEmbeddings(graph=CYCLE, table=_saved(folder, "a.npy", np.ones((15, 7)))).attach(
                _model(16)
            ),
            r"a row for each of the graph's 15 nodes and 8 columns, got \(15, 7\)",
        ),
        (
            lambda folder: TransplantedEmbeddings(table=_saved(folder, "a.npy", np.full((16, 8), np.nan))).attach(
                _model(16)
            ),
            "must be finite and not all 0",
        ),
        (
            lambda folder: TransplantedEmbeddings(graph=CYCLE, sites=("head",)).attach(_model(16)),
            "must be one embedding, got head; name one of: embedding",
        ),
        (lambda folder: MultiHopTargets(hops=0), "MultiHopTargets.hops: must be at least 1"),
        (lambda folder: MultiHopTargets(sites=("head",)), "MultiHopTargets.sites: must be empty"),
        (lambda folder: spectral_table(Graph(n_nodes=5001, edges=cycle_edges(5001)), 8, 1), "at most 5000 nodes"),
    ],
)
def test_bad_settings_are_refused(make: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        make(tmp_path)

"""Node2Vec over all nodes in closed form, against a loop over nodes with autograd and against walks by gensim."""

import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.examination_memory import peak_bytes
from benchmarks.timing import Spread, bootstrap_ratio, max_difference, print_table, time_interleaved
from mnemoscope.examination.geometry.graph import SparseGraph, as_graph
from mnemoscope.examination.geometry.node2vec import BlockedResidual, DenseResidual, Node2VecConfig, Walk, node2vec
from mnemoscope.examination.geometry.scores import edge_recall_of
from mnemoscope.tasks.graphs import cycle_edges, star_paths, tree_edges

CYCLE, WIDE = 15, 100
ARMS, LENGTH, WIDTH = 200, 5, 64
STEP_SIZE, INITIAL_STD = 0.025, 0.4
"""On the path-star; edges stay known afterwards."""

STEPS_AT_ONCE = 200
REPEATS = 9
LARGE = 50_000
WALKS, WALK_LENGTH = 10, 80
EPOCHS, RUNS = 10, 3
"""Of gensim, each measured: its best is what is reported."""


def neighbours_of(graph: SparseGraph) -> list[Tensor]:
    """The neighbours of each node, as the loop over nodes reads them."""
    rows = np.split(graph.adjacency.indices.astype(np.int64), graph.adjacency.indptr[1:-1])
    return [torch.from_numpy(row) for row in rows]


def per_node_step(table: Tensor, neighbours: list[Tensor], step_size: float) -> None:
    """One step as public code takes it: the loss of one node after the other, then autograd; `table` is a leaf."""
    loss = torch.zeros((), dtype=table.dtype)
    for node, its in enumerate(neighbours):
        if len(its):
            loss = loss - torch.log_softmax(table @ table[node], dim=0)[its].mean()
    (gradient,) = torch.autograd.grad(loss, table)
    with torch.no_grad():
        table -= step_size * gradient


@torch.inference_mode()
def steps(table: Tensor, residual: DenseResidual | BlockedResidual, step_size: float, n: int) -> None:
    """As `node2vec` takes them, without drawing tables and without a loss."""
    for _ in range(n):
        table.add_(residual.tied(table), alpha=step_size)


def on_cycle() -> None:
    """A step on the cycle of 15 nodes, in float64 as published."""
    graph = as_graph(cycle_edges(CYCLE))
    start = torch.randn(CYCLE, WIDE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ours, theirs = start.clone(), start.clone().requires_grad_()
    residual, neighbours = DenseResidual(Walk(graph, 1, 0.0, torch.float64)), neighbours_of(graph)
    steps(ours, residual, 0.01, 10)
    for _ in range(10):
        per_node_step(theirs, neighbours, 0.01)
    print(f"15-cycle, width {WIDE}: largest difference after 10 steps {max_difference([ours], [theirs]):.1e}")
    seconds = time_interleaved(
        {
            "closed form": lambda: steps(ours, residual, 0.01, STEPS_AT_ONCE),
            "per node": lambda: [per_node_step(theirs, neighbours, 0.01) for _ in range(STEPS_AT_ONCE)],
        },
        REPEATS,
        clock=time.process_time,
    )
    low, high = bootstrap_ratio(seconds["per node"], seconds["closed form"])
    rows = [(name, f"{1e3 * Spread.of(took / STEPS_AT_ONCE).median:.4f}") for name, took in seconds.items()]
    print_table(("step", "ms"), rows)
    print(f"{Spread.of(seconds['per node'] / seconds['closed form'])} times as fast (median {low:.1f} to {high:.1f})\n")


def random_walks(graph: SparseGraph, rng: np.random.Generator) -> list[list[str]]:
    """Walks as DeepWalk takes them, so many from each node, all of one length."""
    rows, at = graph.adjacency, np.tile(np.arange(graph.n_nodes), WALKS)
    taken = [at]
    for _ in range(WALK_LENGTH - 1):
        at = rows.indices[rows.indptr[at] + rng.integers(graph.degrees[at])]
        taken.append(at)
    return [[str(node) for node in walk] for walk in rng.permutation(np.stack(taken, axis=1))]


def recall(graph: SparseGraph, source: NDArray[np.floating], target: NDArray[np.floating]) -> float:
    return edge_recall_of(source @ target.T, graph).value


def until_recalled(graph: SparseGraph, step_size: float, every: int = 5, most: int = 500) -> tuple[int, float, float]:
    """Steps, seconds of processor time and recall where closed-form steps first recall every edge; checks are free."""
    start = time.process_time()
    residual = DenseResidual(Walk(graph, 1, 0.0, torch.float32))
    generator = torch.Generator().manual_seed(0)
    table = INITIAL_STD * torch.randn(graph.n_nodes, WIDTH, dtype=torch.float64, generator=generator).float()
    seconds, found, taken = time.process_time() - start, 0.0, 0
    while found < 1 and taken < most:
        start = time.process_time()
        steps(table, residual, step_size, every)
        seconds, taken = seconds + time.process_time() - start, taken + every
        found = recall(graph, table.numpy(), table.numpy())
    return taken, seconds, found


def word2vec(graph: SparseGraph, window: int) -> list[tuple[int, float, float, float]]:
    """Epochs, seconds of processor time, and recall by input with input and by input with output table, each epoch."""
    from gensim.models import Word2Vec
    from gensim.models.callbacks import CallbackAny2Vec

    class Watch(CallbackAny2Vec):
        def __init__(self) -> None:
            self.seconds, self.start, self.seen = 0.0, time.process_time(), []

        def on_epoch_end(self, model: Word2Vec) -> None:
            self.seconds += time.process_time() - self.start
            order = [model.wv.key_to_index[str(node)] for node in range(graph.n_nodes)]
            source, target = model.wv.vectors[order], model.syn1neg[order]
            both = recall(graph, source, source), recall(graph, source, target)
            self.seen.append((len(self.seen) + 1, self.seconds, *both))
            self.start = time.process_time()

    start = time.process_time()
    walks = random_walks(graph, np.random.default_rng(0))
    watch = Watch()
    watch.seconds, watch.start = time.process_time() - start, time.process_time()
    Word2Vec(
        walks,
        vector_size=WIDTH,
        window=window,
        sg=1,
        negative=5,
        min_count=0,
        workers=1,
        seed=0,
        epochs=EPOCHS,
        callbacks=[watch],
    )
    return watch.seen


def on_path_star() -> None:
    """Until every edge of a path-star is recalled."""
    graph = as_graph(tree_edges(star_paths(ARMS, LENGTH)))
    print(
        f"Path-star of {ARMS} arms, {graph.n_nodes} nodes, width {WIDTH}; recall of edges, processor seconds.\n"
        f"Of gensim, {WALKS} walks of {WALK_LENGTH} nodes from each, drawing them included; its input table is scored "
        "with itself,\nand with its output table.\n"
    )
    runs = [until_recalled(graph, STEP_SIZE) for _ in range(REPEATS)]
    taken, _, found = runs[0]
    ours = Spread.of(np.array([seconds for _, seconds, _ in runs])).median
    rows = [("closed form, float32", f"{taken} steps", f"{ours:.2f}", f"{found:.4f}", "", "")]
    if find_spec("gensim") is None:
        print("gensim is not installed, and is left out; pip install gensim")
    else:
        for window in (5, 1):
            rows.append(_gensim_row(window, [word2vec(graph, window) for _ in range(RUNS)], ours))
    print_table(("", "taken", "s", "recall", "by output table", "s / closed form"), rows)
    print()


def _gensim_row(window: int, runs: list[list[tuple[int, float, float, float]]], ours: float) -> tuple[str, ...]:
    """Where the better of its two recalls is highest first, at the median of the times of several runs."""
    best = [max(seen, key=lambda one: (max(one[2:]), -one[1])) for seen in runs]
    epochs, seconds, by_input, by_output = sorted(best, key=lambda one: one[1])[len(best) // 2]
    name = f"gensim word2vec, window {window}, best of {EPOCHS} epochs"
    ratio = f"{seconds / ours:.1f}"
    return name, f"{epochs} epochs", f"{seconds:.2f}", f"{by_input:.4f}", f"{by_output:.4f}", ratio


def blocked_equals_dense(n_arms: int = 1000, n_steps: int = 3) -> None:
    """Row blocks against the dense form, in both precisions."""
    edges = tree_edges(star_paths(n_arms, LENGTH))
    for dtype in ("float64", "float32"):
        made = []
        for block_rows in (None, 512):
            config = Node2VecConfig(width=WIDTH, steps=n_steps, dtype=dtype, block_rows=block_rows)
            start = time.process_time()
            made.append((node2vec(edges, config).source, time.process_time() - start))
        (dense, dense_s), (blocked, blocked_s) = made
        print(
            f"{len(dense)} nodes, {n_steps} steps, {dtype}: largest difference of blocks of 512 rows and dense "
            f"{np.abs(dense - blocked).max():.1e} (largest value {np.abs(dense).max():.1f}); {blocked_s:.1f} s and "
            f"{dense_s:.1f} s"
        )


def large(n_steps: int = 3) -> None:
    """Three steps on a graph of 50,000 nodes; run in a process of its own, whose peak is printed."""
    n_arms = (LARGE - 1) // (LENGTH - 1)
    config = Node2VecConfig(width=WIDTH, steps=n_steps, dtype="float32", block_rows=256, step_size=1e-3)
    start = time.process_time()
    made = node2vec(tree_edges(star_paths(n_arms, LENGTH)), config, LARGE)
    peak = peak_bytes() / 2**30
    print(
        f"{len(made.source)} nodes, width {WIDTH}, {n_steps} steps and a loss, float32, blocks of 256 rows: "
        f"{time.process_time() - start:.0f} s, peak of the process {peak:.2f} GiB"
    )


def _in_process(work: Callable[[], None]) -> None:
    command = f"import torch; torch.set_num_threads(1); from benchmarks.node2vec import {work.__name__} as w; w()"
    print(subprocess.run([sys.executable, "-c", command], check=True, capture_output=True, text=True).stdout, end="")


def run() -> None:
    """Print all four."""
    on_cycle()
    on_path_star()
    blocked_equals_dense()
    _in_process(large)

"""Editing a memorised graph: what else moves when one part of it is taught anew, by a few steps on that part alone?

A network that learned edges and paths is taught in full batches of the sources whose targets changed, nothing else:

    rewire    two arms change tails: v1 of one leads to v2 of the other, and back. Four sources have new targets
    remove    an arm goes: the root's other first hops stay in equal shares, and from each node of the arm every node
              is as likely as any other

until the change is there (the new edges are recalled; or the old ones have no more than twice the chance of any node),
at most `most_steps`, by plain gradient descent: it moves what has a gradient as far as that says, and AdamW would move
everything alike. Then, of a geometric memory (learned embeddings) and of an associative one (frozen ones):

    KIND CHANGE: steps              until the change is there
    KIND CHANGE: edges elsewhere    edge recall of all sources that were not taught
    KIND CHANGE: paths elsewhere    trained paths of other arms, greedy
    KIND CHANGE: v1 follows         (rewire) leaves of both arms whose path begins as the new edges say
    KIND CHANGE: v1 stays           likewise, as it was before
    KIND CHANGE: moved              how far embeddings of the taught nodes moved, mean, over the mean length of a row
    KIND CHANGE: moved elsewhere    likewise, of nodes of other arms

Source: a question of this project.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int

from mnemoscope.experiments.geometry.in_weights import InWeights, InWeightsRun, train_in_weights
from mnemoscope.experiments.geometry.path_star import SMALL, bar, figures_of, seeded
from mnemoscope.experiments.geometry.path_star_lessons import (
    EdgeBatch,
    PathBatch,
    Targets,
    edge_loss,
    edge_prefix,
    path_sequences,
    spread,
    targets_of,
)
from mnemoscope.experiments.geometry.path_star_measures import decoded, edge_scores, pair_recall
from mnemoscope.experiments.geometry.path_star_models import node_table
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured
from mnemoscope.models import Stack
from mnemoscope.tasks.graphs import Nodes
from mnemoscope.tasks.path_star import PathStar

KINDS, CHANGES = ("geometric", "associative"), ("rewire", "remove")
KNOWN = 0.99
"""Edge recall and trained paths that a network must have before it is edited."""


@dataclass(frozen=True, kw_only=True)
class Editing:
    """A network of each kind, and how it is edited.

    Args:
        geometric: its training; never stopped early.
        associative: its training, on a frozen embedding.
        step_size: of gradient descent on the mean loss of the sources.
        most_steps: of the edit.
        n_edits: pairs of arms that are rewired, and arms that are removed; each from the trained network.
    """

    geometric: InWeights
    associative: InWeights
    step_size: float = 0.01
    most_steps: int = 500
    n_edits: int = 5


class Change(NamedTuple):
    """What is taught: the sources whose targets change, all pairs of the new graph, and the targets in full.

    `old` are the pairs that are no more; `before` and `after` the paths that are touched.
    """

    sources: Nodes
    pairs: Nodes
    targets: Targets
    old: Nodes
    before: Nodes
    after: Nodes


def edited(settings: Editing, seed: int) -> Measured:
    """Train both networks, and edit copies of them; figures are means over edits."""
    figures, series = dict[str, float](), dict[str, list[float]]()
    for kind, config in (("geometric", settings.geometric), ("associative", settings.associative)):
        run = train_in_weights(seeded(config, seed), seed)
        figures |= {f"{kind}: {name}": value for name, value in figures_of(run).items()}
        rng = np.random.default_rng(seed)
        for change in CHANGES:
            found = [_edit(run, settings, change, rng) for _ in range(settings.n_edits)]
            for name in found[0]:
                values = [one[name] for one in found]
                figures[f"{kind} {change}: {name}"] = float(np.mean(values))
                series[f"{kind} {change}: {name}"] = values
    return Measured(figures=figures, series=series)


def rewired(task: PathStar, one: Int[np.ndarray, "l"], other: Int[np.ndarray, "l"]) -> Change:
    """Two arms, given as their paths, whose tails change places after v1."""
    before = np.stack([one, other])
    after = np.stack([np.concatenate([one[:2], other[2:]]), np.concatenate([other[:2], one[2:]])])
    changed = before[:, 1:3].ravel()
    kept = task.pairs[~_between(task.pairs, before[:, 1], before[:, 2])]
    new = after[:, 1:3]
    pairs = np.concatenate([kept, new, new[:, ::-1]])
    old = task.pairs[_between(task.pairs, before[:, 1], before[:, 2])]
    return Change(changed, pairs, targets_of(pairs, task.config.n_nodes), old, before, after)


def removed(task: PathStar, arm: Int[np.ndarray, "l"]) -> Change:
    """An arm, given as its path, that is no more."""
    n, gone = task.config.n_nodes, arm[1:]
    touches = np.isin(task.pairs, gone).any(axis=1)
    pairs = task.pairs[~touches]
    anything = np.stack(np.meshgrid(gone, np.arange(n), indexing="ij"), axis=-1).reshape(-1, 2)
    targets = targets_of(np.concatenate([pairs, anything]), n)
    before = arm[None]
    return Change(arm, pairs, targets, task.pairs[touches], before, before)


def taught(model: Stack, task: PathStar, change: Change, settings: Editing) -> int:
    """Teach the changed sources in place; the steps that it took."""
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(parameters, lr=settings.step_size)
    batch = _batch(task, change)
    for step in range(settings.most_steps):
        if _is_there(model, task, change):
            return step
        optimiser.zero_grad()
        (edge_loss(model, batch) / len(batch.inputs)).backward()
        optimiser.step()
    return settings.most_steps


def _edit(run: InWeightsRun, settings: Editing, kind: str, rng: np.random.Generator) -> Mapping[str, float]:
    task, trained = run.task, run.task.paths["train"]
    one, other = trained[rng.choice(len(trained), 2, replace=False)]
    change = rewired(task, one, other) if kind == "rewire" else removed(task, one)
    model = copy.deepcopy(run.model)
    figures = {"steps": float(taught(model, task, change, settings))}
    model.eval()
    n, scores = task.config.n_nodes, edge_scores(model, task)
    others = np.setdiff1d(np.arange(n), change.sources)
    figures["edges elsewhere"] = pair_recall(scores, task.pairs, others)
    figures["paths elsewhere"] = _paths_right(model, task, change)
    if kind == "rewire":
        figures["edges taught"] = pair_recall(scores, change.pairs, change.sources)
        begun = _first_hops(model, task, change.before)
        figures["v1 stays"] = float((begun == change.before[:, 1]).mean())
        figures["v1 follows"] = float((begun == change.after[::-1, 1]).mean())
    moved = np.linalg.norm(node_table(model, n) - run.table, axis=1) / np.linalg.norm(run.table, axis=1).mean()
    elsewhere = np.setdiff1d(np.arange(n), change.before)
    return figures | {"moved": moved[change.sources].mean(), "moved elsewhere": moved[elsewhere].mean()}


def _batch(task: PathStar, change: Change) -> EdgeBatch:
    sources = torch.from_numpy(change.sources.astype(np.int64))
    inputs = torch.cat([edge_prefix(task).expand(len(sources), -1), sources[:, None]], dim=1)
    row, entry = spread(change.targets, sources)
    ones = torch.ones(len(sources), dtype=torch.float64)
    return EdgeBatch(inputs, ones, row, change.targets.target[entry], change.targets.share[entry], len(sources))


@torch.no_grad()
def _is_there(model: Stack, task: PathStar, change: Change) -> bool:
    """New edges are recalled, where there are new ones; and of a removed arm nothing is likelier than twice chance."""
    if len(change.after) == 2:
        return pair_recall(edge_scores(model, task), change.pairs, change.sources) == 1
    shares = edge_scores(model, task)(torch.from_numpy(change.sources)).softmax(dim=1)
    row = {int(source): i for i, source in enumerate(change.sources)}
    of_old = shares[[row[int(u)] for u in change.old[:, 0]], change.old[:, 1].tolist()]
    return bool((of_old <= 2 / task.config.n_nodes).all())


def _paths_right(model: Stack, task: PathStar, change: Change) -> float:
    """Trained paths of the arms that were left alone."""
    every = path_sequences(task, "train")
    left = torch.from_numpy(~np.isin(task.paths["train"][:, -1], change.before[:, -1]))
    alone = PathBatch(every.inputs[left], every.targets[left])
    return float((decoded(model, task, alone) == alone.targets).all(dim=1).float().mean())


def _first_hops(model: Stack, task: PathStar, paths: Int[np.ndarray, "p l"]) -> Int[np.ndarray, "p"]:
    """The second answer for the leaves of some trained paths."""
    every = path_sequences(task, "train")
    place = {int(leaf): i for i, leaf in enumerate(task.paths["train"][:, -1])}
    rows = torch.tensor([place[int(leaf)] for leaf in paths[:, -1]])
    return decoded(model, task, PathBatch(every.inputs[rows], every.targets[rows]))[:, 1].numpy()


def _between(pairs: Nodes, ones: Nodes, others: Nodes) -> Int[np.ndarray, "p"]:
    """Which pairs join ones[i] and others[i], in either direction."""
    joined = {frozenset(pair) for pair in np.stack([ones, others], axis=1).tolist()}
    return np.array([frozenset(pair) in joined for pair in pairs.tolist()])


def _rows(kind: str, change: str) -> list[Claim]:
    names = {
        "steps": "steps until the change is there",
        "edges elsewhere": "edge recall of sources that were not taught",
        "paths elsewhere": "trained paths of other arms",
        "v1 follows": "paths of both arms that begin as the new edges say",
        "v1 stays": "paths of both arms that begin as before",
        "moved": "how far embeddings of taught nodes moved, over the mean length",
        "moved elsewhere": "how far embeddings of other arms moved, over the mean length",
    }
    return [
        Claim(figure=f"{kind} {change}: {name}", what=f"{kind}, {change}: {what}")
        for name, what in names.items()
        if change == "rewire" or not name.startswith("v1")
    ]


def _small() -> Editing:
    base = replace(SMALL, task=replace(SMALL.task, n_arms=100))
    return Editing(geometric=base, associative=replace(base, network=replace(base.network, freeze=True)))


EDITING = Experiment(
    name="path-star-edit",
    what="One arm rewired or removed by a few steps: what else moves in a geometric and in an associative memory?",
    source="a question of this project",
    claims=(
        *(bar(kind, "edges", least=KNOWN) for kind in KINDS),
        *(bar(kind, "train path", least=KNOWN) for kind in KINDS),
        *(row for change in CHANGES for kind in KINDS for row in _rows(kind, change)),
    ),
    sizes={"small": _small()},
    measure=edited,
)

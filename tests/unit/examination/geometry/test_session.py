import numpy as np
import pytest

import mnemoscope as ms
from mnemoscope.examination.geometry import Behaviour, Node2VecConfig, node2vec
from mnemoscope.runs.geometry import GeometryExamination
from mnemoscope.tasks.graphs import named_graph, star_paths, tree_edges

STAR = named_graph("path_star")
PATHS = star_paths(4, 5)


@pytest.fixture(scope="module")
def map_of_star() -> np.ndarray:
    """A table that Node2Vec made: neighbours are close."""
    return node2vec(STAR.edges, Node2VecConfig(width=32, steps=400, step_size=0.05)).source


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(STAR.n_nodes, 32))


def test_a_map_is_geometric_and_smooth(map_of_star: np.ndarray):
    found = ms.examine_geometry(map_of_star, STAR.edges, scores=map_of_star @ map_of_star.T, paths=PATHS)
    assert (found.verdict.kind, found.verdict.form) == ("geometric", "smooth")
    assert found.metric("edge_recall").value == 1.0
    assert found.metric("first_hop_top1").value == 1.0
    assert (found.n_nodes, found.n_edges, found.n_components, found.width, found.n_shuffles) == (17, 16, 1, 32, 500)
    assert [heat_map.title for heat_map in found.heat_maps] != []
    assert sum(found.spectrum.shares) == pytest.approx(1.0)


def test_noise_that_stores_its_edges_elsewhere_is_associative():
    """The scores are those of a matrix that was built on the table: every edge is known, and no row knows of it."""
    adjacency = STAR.adjacency()
    for seed in range(4):
        found = ms.examine_geometry(noise(seed), STAR.edges, scores=adjacency, thorough=False)
        assert found.verdict.kind == "associative"


def test_scores_that_know_no_edges_leave_nothing_to_classify(map_of_star: np.ndarray):
    found = ms.examine_geometry(map_of_star, STAR.edges, scores=-map_of_star @ map_of_star.T, thorough=False)
    assert found.verdict.kind == "not memorised"


def test_the_matrix_between_embeddings_gives_scores_and_margins(map_of_star: np.ndarray):
    found = ms.examine_geometry(map_of_star, STAR.edges, matrix=np.eye(32), thorough=False)
    assert found.metric("edge_recall").value == 1.0
    assert found.metric("margin").value > 0
    assert found.metric("skewed_margin").value == pytest.approx(found.metric("margin").value)
    told = ms.examine_geometry(
        map_of_star, STAR.edges, matrix=np.eye(32), scores=-map_of_star @ map_of_star.T, thorough=False
    )
    assert told.verdict.kind == "not memorised"


def test_snapshots_follow_the_training_and_pictures_are_of_every_step(map_of_star: np.ndarray):
    found = ms.examine_geometry(
        map_of_star, STAR.edges, snapshots=[(0, noise()), (10, map_of_star + noise(1))], step=400, thorough=False
    )
    assert [snapshot.step for snapshot in found.snapshots] == [0, 10]
    assert found.snapshots[0].kind == "associative"
    assert found.snapshots[0].metrics["smoothness"] < found.snapshots[1].metrics["smoothness"]
    assert found.snapshots[1].metrics["smoothness"] < found.metric("smoothness").value
    followed = {"smoothness", "participation_ratio", "smooth_share"}
    assert all(followed <= snapshot.metrics.keys() for snapshot in found.snapshots)
    assert [(picture.method, picture.step) for picture in found.pictures] == [
        ("pca", 0),
        ("pca", 10),
        ("pca", 400),
        ("laplacian", None),
    ]


def test_the_same_seed_gives_the_same_record_and_the_record_survives_the_disk(map_of_star: np.ndarray):
    first, again = (ms.examine_geometry(map_of_star, STAR.edges, paths=PATHS, seed=3) for _ in range(2))
    assert first == again
    assert GeometryExamination.model_validate_json(first.model_dump_json()) == first


def test_behaviour_enters_the_verdict(map_of_star: np.ndarray):
    told = {"paths": PATHS, "thorough": False}
    unused = ms.examine_geometry(map_of_star, STAR.edges, behaviour=Behaviour(n_arms=4, first_hop=0.25), **told)
    assert unused.verdict.kind == "mixed"
    used = ms.examine_geometry(map_of_star, STAR.edges, behaviour=Behaviour(n_arms=4, first_hop=1.0), **told)
    assert used.verdict.kind == "geometric"


def test_held_out_paths_have_measures_of_their_own(map_of_star: np.ndarray):
    held_out = np.array([False, True, False, True])
    found = ms.examine_geometry(map_of_star, STAR.edges, paths=PATHS, held_out=held_out, thorough=False)
    assert found.metric("first_hop_top1_held_out").n == 2
    with pytest.raises(KeyError, match="no metric is called 'first_hop_top2'"):
        found.metric("first_hop_top2")


def test_a_table_that_diverged_is_refused(map_of_star: np.ndarray):
    broken = map_of_star.copy()
    broken[3, 1] = np.nan
    with pytest.raises(ValueError, match="got nan in row 3"):
        ms.examine_geometry(broken, STAR.edges)
    with pytest.raises(ValueError, match="got nan in row 3"):
        ms.examine_geometry(map_of_star, STAR.edges, snapshots=[(1, broken)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"held_out": np.ones(4, dtype=bool)}, "give paths too"),
        ({"paths": PATHS, "held_out": np.ones(3, dtype=bool)}, "True or False for each of 4 paths"),
        ({"paths": PATHS + 1}, r"nodes must be 0 \.\.\. 16, got 1 \.\.\. 17"),
        ({"paths": PATHS[:, :2]}, "l at least 3"),
        ({"groups": np.zeros(4, dtype=int)}, "a number for each of 17 nodes"),
        ({"names": ["a"]}, "one for each of 17 nodes, or none, got 1"),
        ({"matrix": np.eye(31)}, r"\(32, 32\) for embeddings of width 32, got \(31, 31\)"),
        ({"snapshots": [(2, noise()), (1, noise())]}, r"steps must rise, got \[2, 1\]"),
        ({"snapshots": [(2, noise()[:, :3])]}, r"the table of step 2 must have shape \(17, 32\)"),
    ],
)
def test_parts_that_do_not_fit_are_refused(options: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        ms.examine_geometry(noise(), STAR.edges, **options)


def test_edges_of_a_tree_of_more_nodes_than_rows_are_refused():
    with pytest.raises(ValueError, match="a row of the table each, got 20"):
        ms.examine_geometry(noise(), tree_edges(star_paths(5, 5)))

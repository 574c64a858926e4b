"""Edges, scores, paths and groups from files: every form says the same, and mistakes name the file and the row."""

import json
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy import sparse

from mnemoscope.experiments.geometry.graph_files import (
    read_edges,
    read_groups,
    read_head,
    read_held_out,
    read_paths,
    read_scores,
)
from mnemoscope.experiments.geometry.reading import read_table

EDGES = [[0, 1], [1, 2], [2, 3]]


def written(path: Path) -> Path:
    """`EDGES` in the form that the name asks for."""
    pairs = np.array(EDGES)
    if path.suffix == ".npy":
        np.save(path, pairs)
    elif path.stem == "pairs":
        np.savez(path, edges=pairs)
    elif path.suffix == ".npz":
        sparse.save_npz(path, sparse.csr_array((np.ones(3), (pairs[:, 0], pairs[:, 1])), shape=(4, 4)))
    elif path.suffix == ".json":
        path.write_text(json.dumps({"edges": EDGES} if path.stem == "dict" else EDGES))
    elif path.suffix == ".graphml":
        nx.write_graphml(nx.Graph(EDGES), path)
    elif path.suffix == ".gml":
        nx.write_gml(nx.Graph(EDGES), path)
    else:
        mark = {".csv": ",", ".tsv": "\t"}.get(path.suffix, " ")
        lines = [f"{a}{mark}{b}  # a remark" for a, b in EDGES]
        path.write_text("\n".join(["# a comment", f"source{mark}target", "", *lines]))
    return path


@pytest.mark.parametrize(
    "name",
    ["a.npy", "a.npz", "pairs.npz", "a.txt", "a.csv", "a.tsv", "a.edges", "a.json", "dict.json", "a.graphml", "a.gml"],
)
def test_every_form_gives_the_same_edges(tmp_path: Path, name: str):
    found = read_edges(written(tmp_path / name), 4)
    assert found.dtype == np.int64
    assert sorted(sorted(edge) for edge in found.tolist()) == EDGES


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "0 1\n1 4", r"a.txt: edges must name nodes 0 \.\.\. 3, the rows of the table, got 4"),
        ("a.txt", "0 1\n-1 2", "got -1"),
        ("a.txt", "a b\n0 1\n1 b", r"row 2: 2 whole numbers of nodes were required, got '1 b'"),
        ("a.txt", "0 1 2\n1 2 3", r"must hold pairs of nodes, at least one, got shape \(2, 3\)"),
        ("a.txt", "0 1\n1", "row 2: 2 whole numbers"),
        ("a.txt", "", "at least one row of node numbers"),
        ("a.json", "{", "not JSON"),
        ("a.json", '{"nodes": []}', "hold one under 'edges'"),
        ("a.graphml", "<graph", "cannot be read as graphml"),
        ("a.gml", "graph [", "cannot be read as gml"),
        ("a.pkl", "", r"is read from .npy, .*got '.pkl'"),
    ],
)
def test_edges_that_cannot_be_read(tmp_path: Path, name: str, text: str, message: str):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_edges(path, 4)


def test_a_missing_file_and_halves(tmp_path: Path):
    with pytest.raises(ValueError, match="there is no such file"):
        read_edges(tmp_path / "a.npz", 4)
    np.save(tmp_path / "halves.npy", np.array([[0, 0.5]]))
    with pytest.raises(ValueError, match="must hold whole numbers"):
        read_edges(tmp_path / "halves.npy", 4)
    np.save(tmp_path / "floats.npy", np.array([[0.0, 2.0]]))
    assert read_edges(tmp_path / "floats.npy", 4).tolist() == [[0, 2]]


def test_scores_have_a_row_and_a_column_for_each_node(tmp_path: Path):
    np.save(tmp_path / "scores.npy", np.eye(4))
    assert read_scores(tmp_path / "scores.npy", 4).tolist() == np.eye(4).tolist()
    with pytest.raises(ValueError, match=r"scores must be 5 x 5, .* got shape \(4, 4\)"):
        read_scores(tmp_path / "scores.npy", 5)


def test_a_head_on_top_of_the_table_or_between_embeddings(tmp_path: Path):
    rng = np.random.default_rng(0)
    table, head, between = rng.normal(size=(6, 3)), rng.normal(size=(6, 3)), rng.normal(size=(3, 3))
    path = tmp_path / "model.safetensors"
    save_file({"embedding.weight": table, "head": head, "between": between}, path)
    found = read_table(path, "embedding.weight", "1:6")
    asked = np.array([0, 4])
    embedded = table[1:]
    on_top, bilinear = read_head("head", found, "1:6"), read_head("between", found, "1:6")
    assert np.allclose(on_top.scores(asked), embedded[asked] @ head[1:].T)
    assert on_top.matrix is None
    assert np.allclose(bilinear.scores(asked), embedded[asked] @ between @ embedded.T)
    assert np.array_equal(bilinear.matrix, between)
    np.save(tmp_path / "h.npy", head[1:])
    assert np.allclose(read_head(str(tmp_path / "h.npy"), found, "1:6").scores(asked), embedded[asked] @ head[1:].T)
    np.save(tmp_path / "wrong.npy", np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"must be 5 x 3, .* or 3 x 3, between embeddings, got \(2, 3\)"):
        read_head(str(tmp_path / "wrong.npy"), found, "1:6")
    with pytest.raises(ValueError, match="did you mean 'head'"):
        read_head("hed", found, None)
    square = read_table(path, "embedding.weight", "0:3")
    with pytest.raises(ValueError, match="both fit 3 nodes of width 3"):
        read_head("between", square, "0:3")


def test_paths_and_which_were_held_out(tmp_path: Path):
    (tmp_path / "paths.txt").write_text("root,first,leaf\n0,1,2\n0,3,1\n")
    assert read_paths(tmp_path / "paths.txt", 4).tolist() == [[0, 1, 2], [0, 3, 1]]
    (tmp_path / "short.json").write_text("[[0, 1]]")
    with pytest.raises(ValueError, match="a path needs its root, its first hop, and its leaf"):
        read_paths(tmp_path / "short.json", 4)
    with pytest.raises(ValueError, match=r"paths must name nodes 0 \.\.\. 2"):
        read_paths(tmp_path / "paths.txt", 3)
    np.save(tmp_path / "flags.npy", np.array([True, False]))
    (tmp_path / "flags.txt").write_text("1\nfalse\n")
    for name in ("flags.npy", "flags.txt"):
        assert read_held_out(tmp_path / name, 2).tolist() == [True, False]
    with pytest.raises(ValueError, match="0 or 1 for each of 3 paths, got 2 of them"):
        read_held_out(tmp_path / "flags.txt", 3)
    (tmp_path / "flags.txt").write_text("1\nmaybe\n")
    with pytest.raises(ValueError, match="got 'maybe'"):
        read_held_out(tmp_path / "flags.txt", 2)


def test_groups_are_numbers_or_words(tmp_path: Path):
    (tmp_path / "words.txt").write_text("north\nsouth\nnorth\n# nobody\neast\n")
    assert read_groups(tmp_path / "words.txt", 4).tolist() == [0, 1, 0, 2]
    (tmp_path / "numbers.json").write_text("[7, -1, 7, 3]")
    assert read_groups(tmp_path / "numbers.json", 4).tolist() == [7, -1, 7, 3]
    np.save(tmp_path / "numbers.npy", np.array([1, 1, 0, -1]))
    assert read_groups(tmp_path / "numbers.npy", 4).tolist() == [1, 1, 0, -1]
    with pytest.raises(ValueError, match="a group for each of 5 nodes, got 4"):
        read_groups(tmp_path / "words.txt", 5)
    (tmp_path / "words.txt").write_text("a b\n")
    with pytest.raises(ValueError, match="one word in each row"):
        read_groups(tmp_path / "words.txt", 1)

"""What stands beside a table of embeddings, from files: edges, scores of edges, paths, groups of nodes.

Nothing is unpickled, and torch is not needed. Nodes are the rows of the table, from 0.
"""

import csv
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from scipy import sparse

from mnemoscope.experiments.geometry.reading import ReadTable, load_array, read_table, row_slice

TEXTS = (".txt", ".csv", ".tsv", ".edges", ".edgelist")
EDGE_FILES = (".npy", ".npz", *TEXTS, ".json", ".graphml", ".gml")
_ARRAYS = (".npy", ".npz")


def read_edges(path: Path, n_nodes: int) -> Int[np.ndarray, "e 2"]:
    """The edges of a graph, as pairs of rows of the table.

    Read are: an array (edges, 2) (.npy, .npz); a SciPy sparse adjacency (.npz); text of two columns with an optional
    head and comments behind "#"; JSON, a list of pairs or one under "edges"; .graphml and .gml, whose nodes must be
    numbers.

    Args:
        path: the file.
        n_nodes: rows of the table.

    Raises:
        ValueError: a file that cannot be read so, or a node beyond the table.
    """
    pairs = _pairs_in(path)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or len(pairs) == 0:
        raise ValueError(f"{path}: must hold pairs of nodes, at least one, got shape {pairs.shape}")
    return _numbered(path, pairs, n_nodes, "edges")


def read_scores(path: Path, n_nodes: int) -> Float[np.ndarray, "n n"]:
    """A model's scores: row u holds what it says of every node as a neighbour of u.

    Raises:
        ValueError: another shape, or a file that is no array.
    """
    scores = load_array(path)
    if scores.shape != (n_nodes, n_nodes):
        raise ValueError(
            f"{path}: scores must be {n_nodes} x {n_nodes}, a row and a column for each node, got shape {scores.shape}"
        )
    return scores


class Head(NamedTuple):
    """Scores as a function of row numbers (r,), which gives (r, n); and W where they are E W E^T."""

    scores: Callable[[NDArray[np.int64]], NDArray[np.float64]]
    matrix: NDArray[np.float64] | None


def read_head(head: str, table: ReadTable, rows: str | None) -> Head:
    """Scores from a matrix on top of the table E: E H^T for H of the table's shape, E W E^T for W of (width, width).

    Args:
        head: a file, or the name of a tensor in the table's own file.
        table: E.
        rows: "a:b" that chose the table's rows, which chooses those of H too.

    Raises:
        ValueError: neither a file nor a tensor, or of another shape.
    """
    embedded = table.table.astype(np.float64)
    n, width = embedded.shape
    source = Path(head)
    found = read_table(source) if source.exists() else read_table(table.source, head)
    matrix = found.table.astype(np.float64)
    if len(matrix) == table.n_rows and matrix.shape != (width, width):
        matrix = matrix[row_slice(rows, table.n_rows)]
    if n == width and matrix.shape == (n, n):
        raise ValueError(f"--head: E H^T or E W E^T? both fit {n} nodes of width {width}; give --scores instead")
    if matrix.shape == (width, width):
        between = matrix @ embedded.T
    elif matrix.shape == (n, width):
        between = matrix.T
    else:
        raise ValueError(
            f"--head: must be {n} x {width}, a row for each node, or {width} x {width}, between embeddings, got "
            f"{matrix.shape} in {head}"
        )
    return Head(lambda asked: embedded[asked] @ between, matrix if matrix.shape == (width, width) else None)


def read_paths(path: Path, n_nodes: int) -> Int[np.ndarray, "p l"]:
    """Paths from the root to a leaf, one in each row, all of one length: an array, text, or JSON.

    Raises:
        ValueError: rows of different lengths, or fewer than three nodes, or a node beyond the table.
    """
    rows = _array(path) if path.suffix in _ARRAYS else _rectangle(path, _rows_in(path))
    if rows.ndim != 2 or rows.shape[1] < 3:
        raise ValueError(
            f"{path}: a path needs its root, its first hop, and its leaf, in this order, got shape {rows.shape}"
        )
    return _numbered(path, rows, n_nodes, "paths")


def read_held_out(path: Path, n_paths: int) -> Bool[np.ndarray, "p"]:
    """Which paths were not trained: 0 or 1 for each.

    Raises:
        ValueError: not as many as paths, or other numbers.
    """
    flags = _column(path)
    known = {"0": False, "1": True, "false": False, "true": True}
    wrong = next((flag for flag in flags if flag.lower() not in known), None)
    if wrong is not None or len(flags) != n_paths:
        got = f"{len(flags)} of them" if wrong is None else repr(wrong)
        raise ValueError(f"{path}: must hold 0 or 1 for each of {n_paths} paths, got {got}")
    return np.array([known[flag.lower()] for flag in flags])


def read_groups(path: Path, n_nodes: int) -> Int[np.ndarray, "n"]:
    """The group of each node, a number or a word; negative numbers are no group.

    Words are numbered in the order in which they come up.

    Raises:
        ValueError: not as many as nodes.
    """
    words = _column(path)
    if len(words) != n_nodes:
        raise ValueError(f"{path}: must hold a group for each of {n_nodes} nodes, got {len(words)}")
    if all(re.fullmatch(r"-?\d+", word) for word in words):
        return np.array([int(word) for word in words], dtype=np.int64)
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(word, len(numbers)) for word in words], dtype=np.int64)


def _pairs_in(path: Path) -> NDArray[Any]:
    if path.suffix == ".npz" and (adjacency := _sparse(path)) is not None:
        return np.stack(adjacency.nonzero(), axis=1)
    if path.suffix in _ARRAYS:
        return _array(path)
    if path.suffix in (".graphml", ".gml"):
        return _of_graph(path)
    return _rectangle(path, _rows_in(path))


def _sparse(path: Path) -> Any:
    """A SciPy sparse matrix, or None where the file holds something else."""
    _check_file(path)
    try:
        return sparse.load_npz(path)
    except (ValueError, KeyError, OSError):
        return None


def _of_graph(path: Path) -> NDArray[Any]:
    _check_file(path)
    try:
        graph = nx.read_graphml(path) if path.suffix == ".graphml" else nx.read_gml(path, label="id")
    except (nx.NetworkXError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as {path.suffix[1:]}: {error}") from None
    return _rectangle(path, [[str(end) for end in edge[:2]] for edge in graph.edges])


def _rows_in(path: Path) -> list[list[str]]:
    """Rows of words, of text or JSON."""
    _check_file(path)
    if path.suffix == ".json":
        return _json_rows(path)
    if path.suffix not in TEXTS:
        raise ValueError(f"{path}: is read from {', '.join(EDGE_FILES)}, got {path.suffix!r}")
    try:
        lines = [line.split("#", 1)[0].strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise ValueError(f"{path}: must be text in UTF-8; save it as that") from None
    rows = [[word.strip() for word in row] for row in map(_words, lines) if row]
    if rows and not all(map(_is_number, rows[0])):
        return rows[1:]
    return rows


def _words(line: str) -> list[str]:
    """Separated by commas, semicolons, tabs or spaces."""
    if not line:
        return []
    separator = next((mark for mark in ",;\t" if mark in line), None)
    return next(csv.reader([line], delimiter=separator)) if separator else line.split()


def _json_rows(path: Path) -> list[list[str]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    if isinstance(found, dict):
        found = next((found[key] for key in ("edges", "paths", "groups") if key in found), None)
    if not isinstance(found, list):
        raise ValueError(f"{path}: must be a list, or hold one under 'edges', 'paths' or 'groups'")
    return [[str(each) for each in row] if isinstance(row, list) else [str(row)] for row in found]


def _rectangle(path: Path, rows: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """Rows of node numbers, all as long as the first."""
    if not rows:
        raise ValueError(f"{path}: must hold at least one row of node numbers, got none")
    for i, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]) or not all(map(_is_number, row)):
            raise ValueError(
                f"{path}: row {i}: {len(rows[0])} whole numbers of nodes were required, got {' '.join(row)!r}; number "
                "nodes as the rows of the table, from 0"
            )
    return np.array([[int(word) for word in row] for row in rows], dtype=np.int64).reshape(len(rows), -1)


def _column(path: Path) -> list[str]:
    """One word for each row."""
    if path.suffix in _ARRAYS:
        return [str(int(value)) for value in _array(path).ravel()]
    rows = _json_rows(path) if path.suffix == ".json" else _lines(path)
    wide = next((row for row in rows if len(row) != 1), None)
    if wide is not None:
        raise ValueError(f"{path}: must hold one word in each row, got {' '.join(wide)!r}")
    return [row[0] for row in rows]


def _lines(path: Path) -> list[list[str]]:
    _check_file(path)
    if path.suffix not in TEXTS:
        raise ValueError(f"{path}: is read from {', '.join((*_ARRAYS, *TEXTS, '.json'))}, got {path.suffix!r}")
    lines = (line.split("#", 1)[0].strip() for line in path.read_text(encoding="utf-8-sig").splitlines())
    return [_words(line) for line in lines if line]


def _array(path: Path) -> NDArray[Any]:
    _check_file(path)
    found = load_array(path)
    whole = found.dtype.kind in "iub" or (found.dtype.kind == "f" and bool((found == np.round(found)).all()))
    if not whole:
        raise ValueError(f"{path}: must hold whole numbers, got {found.dtype}")
    return found.astype(np.int64)


def _numbered(path: Path, nodes: NDArray[Any], n_nodes: int, what: str) -> NDArray[np.int64]:
    low, high = int(nodes.min()), int(nodes.max())
    if low < 0 or high >= n_nodes:
        raise ValueError(
            f"{path}: {what} must name nodes 0 ... {n_nodes - 1}, the rows of the table, got "
            f"{low if low < 0 else high}; number nodes from 0, or choose other rows with --rows"
        )
    return nodes.astype(np.int64)


def _is_number(word: str) -> bool:
    return re.fullmatch(r"-?\d+", word) is not None


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file; name one of {', '.join(EDGE_FILES)}")

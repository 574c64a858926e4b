"""`mnemoscope geometry EMBEDDINGS --edges FILE`: is a table of embeddings a map of a graph?"""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from mnemoscope.experiments.geometry.reading import ReadTable
    from mnemoscope.runs.geometry import GeometryExamination


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Say of a table of embeddings and a graph: geometric, associative, or neither; writes geometry.json, report.html.

    Every measure stands beside what it is where nodes are shuffled. Several tables are steps of one training: the last
    is examined, the others show how it came about.
    """

    embeddings: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """.npy, .npz or .safetensors files, or folders of runs, checkpoints or models; one row for each node."""

    edges: Path
    """Pairs of nodes: .npy, .npz (pairs or a sparse adjacency), .txt, .csv, .tsv, .json, .graphml or .gml."""

    tensor: str | None = None
    """Name of the table where a file holds several."""

    rows: str | None = None
    """a:b, the rows of the nodes; all unless said."""

    scores: Path | None = None
    """The model's scores of edges, nodes x nodes; they tell whether the edges are memorised."""

    head: str | None = None
    """In place of --scores, a file or tensor: E H^T for a matrix of the table's shape, E W E^T for width x width."""

    paths: Path | None = None
    """Rows of nodes from the root to a leaf."""

    held_out: Path | None = None
    """0 or 1 for each path: whether it was left out of training."""

    groups: Path | None = None
    """The group of each node, a number or a word, negative for none."""

    steps: bool = False
    """Every checkpoint of a run's folder, not the newest alone."""

    umap: bool = False
    """A picture by UMAP as well; needs umap-learn."""

    out: Path | None = None
    """Folder for the results; runs/geometry-NAME unless said."""

    seed: int = 0
    """Of the shuffles and samples."""

    shuffles: int | None = None
    """Orders of the nodes that make the null; by default fewer for larger graphs."""

    def run(self) -> int:
        """Examine, print and write."""
        from mnemoscope.cli.geometry_tables import geometry_lines
        from mnemoscope.cli.printing import say
        from mnemoscope.cli.terminal import columns
        from mnemoscope.experiments.geometry.reading import read_tables
        from mnemoscope.reporting.geometry import write_geometry
        from mnemoscope.runs import write_record

        self._check()
        tables = read_tables(self.embeddings, self.tensor, self.rows, self.steps)
        last = tables[-1]
        folder = self.out or Path(f"runs/geometry-{_stem(last.source if len(tables) > 1 else self.embeddings[0])}")
        command = shlex.join(["mnemoscope", *sys.argv[1:]])
        say(f"{_subject(last)}: {'x'.join(map(str, last.table.shape))}")
        examination = self._examined(tables).model_copy(update={"command": command})
        folder.mkdir(parents=True, exist_ok=True)
        write_record(folder / "geometry.json", examination)
        for line in geometry_lines(examination, columns()):
            say(line)
        say(str(write_geometry(examination, folder / "report.html")))
        return 0

    def _check(self) -> None:
        """What can be refused before anything is read."""
        if self.scores is not None and self.head is not None:
            raise ValueError("geometry: --scores and --head both say what the model scores; give one of them")
        if self.held_out is not None and self.paths is None:
            raise ValueError("geometry: --held-out says which --paths were left out; give both")
        if self.shuffles is not None and self.shuffles < 2:
            raise ValueError(f"geometry: --shuffles must be at least 2, for a mean and its spread, got {self.shuffles}")

    def _examined(self, tables: "list[ReadTable]") -> "GeometryExamination":
        from mnemoscope.examination.geometry.pictures import require_umap
        from mnemoscope.examination.geometry.session import examine_geometry
        from mnemoscope.experiments.geometry import graph_files

        if self.umap:
            require_umap()
        last = tables[-1]
        n = len(last.table)
        edges = graph_files.read_edges(self.edges, n)
        scores, matrix = None if self.scores is None else graph_files.read_scores(self.scores, n), None
        if self.head is not None:
            scores, matrix = graph_files.read_head(self.head, last, self.rows)
        paths = None if self.paths is None else graph_files.read_paths(self.paths, n)
        held_out = None
        if paths is not None and self.held_out is not None:
            held_out = graph_files.read_held_out(self.held_out, len(paths))
        return examine_geometry(
            last.table,
            edges,
            scores=scores,
            matrix=matrix,
            paths=paths,
            held_out=held_out,
            groups=None if self.groups is None else graph_files.read_groups(self.groups, n),
            snapshots=[(table.step or 0, table.table) for table in tables[:-1]],
            step=last.step,
            seed=self.seed,
            n_shuffles=self.shuffles,
            subject=_subject(last),
            umap=self.umap,
        )


def _subject(table: "ReadTable") -> str:
    """The file, and the tensor's name where it has one."""
    return f"{table.source}, {table.tensor}" if table.tensor else str(table.source)


def _stem(path: Path) -> str:
    """Of a file without its ending; of a file or folder of a checkpoint that of what it lies in."""
    name = path.resolve().name if path.is_dir() else path.stem
    return path.resolve().parent.name if name == "model" else name

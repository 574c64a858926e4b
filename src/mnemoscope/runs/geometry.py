"""What an examination of embeddings found: does a table hold a graph as a map, or as a list of its edges?"""

from typing import Literal

from pydantic import Field

from mnemoscope.runs.record import SCHEMA_VERSION, Record

GeometryKind = Literal["geometric", "associative", "mixed", "not memorised"]
"""What a table of embeddings is to its graph, the first that fits:

not memorised   the model's own scores do not know the edges, so there is nothing to classify
geometric       positions follow the graph, beyond the nodes that share an edge
associative     positions know nothing of the graph: the edges are stored elsewhere
mixed           neither is shown
"""

GeometryForm = Literal["smooth", "smooth with zigzag", "zigzag", "directed", ""]
"""smooth: neighbours are close; zigzag: neighbours of neighbours are closer; directed: smooth, but not beyond an edge,
as where edges were learned one way. Empty where the kind is "associative" or "not memorised"."""


class GeometryMetric(Record):
    """A measure beside what it is where nodes are shuffled.

    `z` is (value - null_mean) / null_sd; `p` the share of shuffles that are as far from their mean, two-sided, itself
    counted; `n` what it is over (nodes, pairs or paths), as `over` says. A measure without a shuffled null has none of
    the four. One that could not be taken is NaN, with the reason in `missing`.
    """

    name: str
    value: float
    null_mean: float | None = None
    null_sd: float | None = None
    z: float | None = None
    p: float | None = None
    n: int = 0
    over: str = ""
    missing: str = ""


class GraphSpectrum(Record):
    """How a table's variance lies over the eigenvectors of S = D^-1/2 A D^-1/2.

    `eigenvalues` fall; the trivial one of each component is left out. `shares` add up to 1 where all are there;
    eigenvalues that are equal share evenly what their space has. `is_whole` is False where only
    both ends were computed.
    """

    eigenvalues: list[float]
    shares: list[float]
    is_whole: bool = True


class HopProfile(Record):
    """Mean cosine of pairs of nodes by the number of edges between them; hop 0 is left out."""

    hops: list[int]
    cosines: list[float]
    n_pairs: list[int]


class NodePicture(Record):
    """Nodes in three dimensions at one step.

    `method` is "pca", "umap" or "laplacian"; `nodes` says which are drawn, since large graphs are sampled;
    `explained` is the share of the variance on each axis, empty where the method has none.
    """

    step: int | None
    method: str
    nodes: list[int]
    coordinates: list[list[float]]
    explained: list[float] = Field(default_factory=list)


class HeatMap(Record):
    """A matrix with a heading for each row and column."""

    title: str
    rows: list[str]
    columns: list[str]
    values: list[list[float]]
    unit: str = ""


class GeometrySnapshot(Record):
    """The measures at one step of a training."""

    step: int
    metrics: dict[str, float]
    z_scores: dict[str, float]
    kind: GeometryKind
    form: GeometryForm = ""


class GeometryVerdict(Record):
    """The kind, its form, what it rests on, and what would make it sharper."""

    kind: GeometryKind
    form: GeometryForm = ""
    reasons: list[str]
    caveats: list[str] = Field(default_factory=list)


class GeometryExamination(Record):
    """A table of embeddings examined against a graph."""

    schema_version: int = SCHEMA_VERSION
    subject: str
    command: str = ""
    n_nodes: int
    n_edges: int
    n_components: int
    width: int
    step: int | None = None
    seed: int
    n_shuffles: int
    verdict: GeometryVerdict
    metrics: list[GeometryMetric]
    spectrum: GraphSpectrum
    hop_profile: HopProfile
    edges: list[list[int]]
    """Between the nodes that are drawn."""
    node_names: list[str] = Field(default_factory=list)
    """By number of the node; empty where nodes have none but their numbers."""
    node_groups: list[int] = Field(default_factory=list)
    """By number of the node, for instance its arm, -1 for none; empty where nobody said."""
    pictures: list[NodePicture]
    heat_maps: list[HeatMap] = Field(default_factory=list)
    snapshots: list[GeometrySnapshot] = Field(default_factory=list)
    versions: dict[str, str]

    def metric(self, name: str) -> GeometryMetric:
        """By its name.

        Raises:
            KeyError: none of that name.
        """
        found = next((metric for metric in self.metrics if metric.name == name), None)
        if found is None:
            raise KeyError(f"no metric is called {name!r}; there are {', '.join(m.name for m in self.metrics)}")
        return found

"""What the words and measures of a geometry examination mean, one line each."""

from mnemoscope.reporting.glossary import Meaning
from mnemoscope.runs.geometry import GeometryForm, GeometryKind

GEOMETRY_KINDS: dict[GeometryKind, Meaning] = {
    "geometric": Meaning(
        "◆", "works", "Positions follow the graph, also between nodes that share no edge: the table is a map."
    ),
    "associative": Meaning(
        "≡",
        "partly",
        "Positions know nothing of the graph; if its edges are known, they are stored elsewhere, one by one.",
    ),
    "mixed": Meaning("◐", "open", "Neither is shown: some measures speak for a map, others do not."),
    "not memorised": Meaning(
        "○", "idle", "The model's own scores do not know the edges, so there is no memory to classify."
    ),
}

GEOMETRY_FORMS: dict[GeometryForm, str] = {
    "smooth": "Neighbours are close.",
    "smooth with zigzag": "Neighbours are close, and neighbours of neighbours are closer still.",
    "zigzag": "Neighbours of neighbours are close, neighbours themselves are not.",
    "directed": "Smooth, but not beyond an edge: what edges learned in one direction only leave behind.",
}

GEOMETRY_METRICS: dict[str, tuple[str, str]] = {
    "smoothness": (
        "Smoothness R",
        "Weighted mean of the eigenvalues mu of S over the table's variance: 1 all smooth, 0 no structure, -1 all "
        "zigzag.",
    ),
    "two_sided_smoothness": ("Two-sided smoothness R2", "The same with mu squared: high for smooth and for zigzag."),
    "smooth_share": ("Smooth share", "Share of the variance on eigenvectors with mu above 0."),
    "top_share": ("Top share", "Share of the variance on the smoothest eigenvectors."),
    "bottom_share": ("Bottom share", "Share of the variance on the eigenvectors that alternate most."),
    "fiedler_alignment": (
        "Fiedler alignment",
        "How much of the table's main directions lies in the space of the smoothest eigenvectors, ties included.",
    ),
    "effective_dimension": (
        "Effective dimension",
        "exp of the entropy of the variance's shares over directions: how many are in use.",
    ),
    "participation_ratio": ("Participation ratio", "The same from squared shares; it counts large directions more."),
    "distance_correlation": (
        "Distance correlation",
        "Rank correlation of the cosine distance of two nodes with the number of edges between them.",
    ),
    "far_distance_correlation": (
        "Far distance correlation",
        "The same over pairs at two edges or more, which storing edges one by one cannot produce.",
    ),
    "zigzag": ("Zigzag index", "Mean cosine at two edges less that at one; above 0, every second node is closer."),
    "geometric_level": ("Geometric level", "Mean cosine over edges: what the paper calls by that name."),
    "first_hop_top1": (
        "First hop, top 1",
        "Share of leaves whose nearest first hop is that of their own path.",
    ),
    "first_hop_auc": (
        "First hop, AUC",
        "Chance that a leaf is closer to its own first hop than to another one; 0.5 is guessing.",
    ),
    "first_hop_gap": ("First hop, gap", "Mean cosine of a leaf with its own first hop less that with the others."),
    "arm_gap": ("Arm gap", "Mean cosine distance between arms less that within an arm."),
    "hop_probe_selectivity": (
        "Hop probe, selectivity",
        "How much better a probe tells hops between nodes from this table than from random embeddings.",
    ),
    "group_probe_selectivity": (
        "Group probe, selectivity",
        "How much better a probe tells groups of nodes from this table than from random embeddings.",
    ),
    "edge_recall": (
        "Edge recall",
        "Mean share of a node's neighbours among as many best scores as it has neighbours; below 0.99, not memorised.",
    ),
    "gram_share": (
        "Gram share",
        "Share of the variance of the model's edge scores that the table's inner products explain.",
    ),
    "residual_edge_correlation": (
        "Residual edge correlation",
        "Correlation with the edges of what inner products leave of the scores: edges that are stored one by one.",
    ),
    "skewed_margin": (
        "Skewed margin",
        "The margin once the matrix between the embeddings may only scale their own main axes: is the graph in them?",
    ),
    "margin": ("Margin", "Mean best score of a neighbour less the best of the other nodes; above 0, edges win."),
    "skewed_accuracy": ("Skewed accuracy", "Share of nodes whose best score is a neighbour under that restriction."),
    "cka_node2vec": ("CKA with Node2Vec", "Linear similarity to the full-batch Node2Vec of the graph; 1 is the same."),
    "cka_eigenmap": ("CKA with the eigenmap", "Linear similarity to the graph's own eigenvectors; 1 is the same."),
    "procrustes_node2vec": (
        "Procrustes, Node2Vec",
        "What is left of the distance to Node2Vec after the best rotation and scaling; 0 is the same.",
    ),
    "procrustes_eigenmap": (
        "Procrustes, eigenmap",
        "What is left of the distance to the graph's eigenvectors after the best rotation and scaling; 0 is the same.",
    ),
}
"""Of each measure by its name: a heading, and what it says."""

GEOMETRY_TERMS: dict[str, str] = {
    "Null": "The same measure where the nodes of the table are shuffled, mean ± standard deviation over shuffles: what "
    "the table's shape alone would give. For first hops, paths exchange theirs; for probes, the table is random. A "
    "value says nothing without it.",
    "z": "How many standard deviations of the null the value is away from the null's mean.",
    "p": "Share of shuffles as far from their mean as the value, two-sided and itself counted; with n shuffles it "
    "cannot be smaller than 1 / (n + 1).",
    "S, mu": "S = D^-1/2 A D^-1/2 for adjacency A and degrees D; mu, its eigenvalues from -1 to 1. 1 - mu are those of "
    "the normalised Laplacian. The trivial vector of each component is taken out first.",
    "Smooth, zigzag": "Along an eigenvector with mu near 1 neighbours have nearly the same value; with mu near -1, "
    "opposite ones.",
    "Hops": "Edges on the shortest path between two nodes.",
    "Picture": "Three axes of a table that has many: it can show a map that is not there, and hide one that is. The "
    "measures decide.",
}

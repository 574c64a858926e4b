"""What the pages of geometry experiments draw."""

from collections.abc import Sequence

from mnemoscope.experiments.reproducing import Plot


def of_arms(title: str, caption: str, y_label: str, figure: str, arms: Sequence[str]) -> Plot:
    """One figure of some trainings over their steps; each arm has its own, since it may stop early."""
    return Plot(
        title=title,
        caption=caption,
        y_label=y_label,
        lines={arm: f"{arm}: step -> {arm}: {figure}" for arm in arms},
    )


def paths_and_geometry(arms: Sequence[str], with_paths: Sequence[str] | None = None) -> tuple[Plot, ...]:
    """Held-out paths, first hops, edges and smoothness, a line for each arm.

    Args:
        arms: all of them, five at most.
        with_paths: those that train paths; None for all.
    """
    asked = arms if with_paths is None else with_paths
    paths = (
        of_arms("Held-out paths", "Every node right, in free-running decoding.", "accuracy (fraction)", "path", asked),
        of_arms(
            "The hardest node",
            "The first node after the root of held-out paths, which only a look along the whole arm can tell.",
            "accuracy (fraction)",
            "v1",
            asked,
        ),
    )
    tables = (
        of_arms(
            "Edge recall", "How many of a node's neighbours are among its best scores.", "recall", "edge recall", arms
        ),
        of_arms(
            "Smoothness of the embeddings",
            "R, the mean eigenvalue of the normalised adjacency: 0 for random tables, 1 for the smoothest.",
            "R",
            "smoothness",
            arms,
        ),
    )
    return (*(paths if asked else ()), *tables)

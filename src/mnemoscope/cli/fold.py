"""`mnemoscope fold RUN --site NAME`: a memory that is worth one vector becomes that vector."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from mnemoscope.experiments.fold import Folding

WAYS = {
    "read": "its read is one vector; what stands behind it stays",
    "positions": "its read is one vector for each position; what stands behind it stays",
    "zero": "deleted: nothing in its place",
    "output": "deleted: one vector in its place",
}


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Replace a memory whose content is not used by the vector that it is worth, or delete it.

    The run must have been examined, and the folded model must be as good on held-out sequences; what is left is a run
    of its own.
    """

    run_folder: Annotated[Path, tyro.conf.Positional]
    """Folder of the run."""

    site: str
    """The memory, by its name in the examination ("blocks.1.mixer")."""

    out: Path
    """New folder for the run that is left."""

    delete: bool = False
    """Replace the whole output of the memory, its gate included: by nothing, or where that costs too much, a vector."""

    force: bool = False
    """Keep the folded model even if it is not as good."""

    test: int | None = None
    """Held-out sequences of the comparison; by default as many as were examined."""

    fit_steps: int = 300
    """Optimisation steps of the vector; 300 are an examination's."""

    def run(self) -> int:
        """Fold and print; 1 if the folded model is not as good, and so not kept."""
        from mnemoscope.experiments.fold import FoldConfig, fold_run

        config = FoldConfig(
            site=self.site, delete=self.delete, force=self.force, n_test=self.test, fit_steps=self.fit_steps
        )
        folding = fold_run(self.run_folder, self.out, config)
        _print(folding)
        if not (folding.accepted or folding.forced):
            print("refused: not as good within the margin, so nothing was written; --force keeps it all the same")
            return 1
        print(f"{self.out}: next: mnemoscope examine {self.out}")
        return 0


def _print(folding: "Folding") -> None:
    """Aligned; plain when piped."""
    accepted = "as good" if folding.accepted else "not as good, kept by --force" if folding.forced else "not as good"
    rows = [
        ("verdict", folding.verdict),
        ("folded", WAYS[folding.way]),
        ("loss increase", f"{folding.difference} nats on {folding.n_test} sequences; {accepted}"),
        ("margin", f"{folding.margin:.3f} nats"),
        ("parameters", _change(*folding.parameters)),
        ("bytes", _change(*folding.parameter_bytes)),
        ("state bytes", _change(*folding.state_bytes)),
        ("flops", _change(*folding.flops)),
        ("tokens/s", "{:,.0f} -> {:,.0f}".format(*folding.tokens_per_second)),
    ]
    print(f"{folding.run}, {folding.site}")
    for name, text in rows:
        print(f"  {name:<14} {text}")


def _change(before: int, after: int) -> str:
    saved = f"{before - after:,} saved" if after <= before else f"{after - before:,} more"
    return f"{before:,} -> {after:,} ({saved})"

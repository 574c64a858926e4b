"""`mnemoscope import-config FILE`: a YAML file of the Atlas tuning guide as a recipe, and what each key does."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """Turn a YAML file of the Atlas tuning guide into a recipe, and say what each of its keys does here.

    Every parameter of the guide and of its project's files is known; a key that is not is refused, with the nearest
    one. The recipe has an ATLAS memory beside attention that learns masked words in episodes; train it with
    `mnemoscope train RECIPE.json`.
    """

    file: Annotated[Path, tyro.conf.Positional]
    """YAML with the guide's sections (model, training, episodic, monitoring, data), or some of them."""

    out: Path | None = None
    """Write the recipe there, as JSON; without, only print what the keys do."""

    compat: bool = False
    """As the guide's public code computes: no gradient into what is written, reads of later tokens, half the step,
    floors that never act."""

    corpus: str | None = None
    """Another text than the file's data.dataset_path: a UTF-8 file or a folder of them, or the embedded "prose" or
    "code". A file that names none is trained on "code"."""

    def run(self) -> int:
        """Import and print."""
        from mnemoscope.experiments.atlas.importing import import_guide, write_recipe
        from mnemoscope.models import only_stack
        from mnemoscope.models.written import write_layout

        if self.out is not None and not self.out.parent.is_dir():
            raise ValueError(
                f"import-config: --out must be in a folder that is there, got {self.out}; make {self.out.parent}, or "
                "name another file"
            )
        imported = import_guide(self.file, compat=self.compat, corpus=self.corpus)
        print(f"{self.file}: {len(imported.notes)} keys{', as the public code computes' * self.compat}")
        _print((*imported.notes, *imported.defaults))
        for warning in imported.warnings:
            print(f"warning: {warning}")
        print(f"text: {imported.text}")
        print(f"layout: {write_layout(only_stack(imported.recipe.model, 'import-config').mixers)}")
        if self.out is None:
            print("nothing was written; give --out RECIPE.json to train it")
            return 0
        write_recipe(imported.recipe, self.out)
        print(f"next: mnemoscope train {self.out} --out runs/{self.out.stem}")
        return 0


def _print(rows: Sequence[tuple[str, str, str]]) -> None:
    from mnemoscope.cli.list import WHOLE_LINES
    from mnemoscope.cli.terminal import columns, filled

    if not rows:
        return
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for key, value, does in rows:
        line = f"  {key:<{widths[0]}}  {value:<{widths[1]}}  {does}"
        print(filled(line, columns(piped=WHOLE_LINES), hanging=sum(widths) + 6))

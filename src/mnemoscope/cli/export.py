"""`mnemoscope export RUN --to FOLDER`: a run as a Hugging Face model, as it is or without what it does not need."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from mnemoscope.experiments.changing import ChangeConfig, ChangesRecord
    from mnemoscope.experiments.lm_eval import LmEvalConfig


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write the model of a run as a folder that Hugging Face transformers loads, with a tokeniser where it reads text.

    What is loaded from the folder is compared with the run's own model before the folder appears. On the way, memories
    of an examined run that do no work can be taken out, and attention can be given a shorter window: the model must
    then equal the run's under the same interventions, and be as good on held-out sequences.
    """

    run_folder: Annotated[Path, tyro.conf.Positional]
    """Folder of the run."""

    to: Path
    """New folder for the model."""

    force: bool = False
    """Replace an earlier export in that folder."""

    fold: tuple[str, ...] = ()
    """Memories to take out, by their names in the examination: blocks.1.mixer (or blocks.1.mixer=constant) puts the
    vector that it is worth in place of its read, blocks.1.mixer=delete takes its whole output away, gate included."""

    window: tuple[str, ...] = ()
    """Attention to be given a shorter window, in tokens: blocks.0.mixer=16."""

    as_prescribed: bool = False
    """Fold and delete what the examination prescribes, as far as the model stays as good."""

    even_if_worse: bool = False
    """Keep the changed model even if it is not as good within the examination's margin."""

    test: int | None = None
    """Held-out sequences on which changes are tested; by default as many as were examined."""

    fit_steps: int = 300
    """Optimisation steps of a vector; 300 are an examination's."""

    lm_eval: tuple[str, ...] = ()
    """Tasks of lm-eval, by name or as YAML files; a changed model is compared with the unchanged one."""

    lm_eval_limit: int | None = None
    """Documents of each task, at most."""

    def run(self) -> int:
        """Export and print."""
        from mnemoscope.experiments.exporting import evaluate_export, export_run
        from mnemoscope.experiments.lm_eval import table

        change, asked = self._change(), self._asked()
        exported = export_run(self.run_folder, self.to, force=self.force, change=change)
        rows = [
            ("step", f"{exported.step}"),
            ("parameters", f"{exported.parameters:,}"),
            ("tokeniser", exported.tokeniser or "none: the tokens of this task are not those of a text"),
            ("logits", f"equal to {exported.largest_difference:.1e} over {exported.n_compared} tokens"),
        ]
        print(f"{exported.run} -> {self.to}")
        for name, text in rows + ([] if exported.changes is None else _changes(exported.changes)):
            print(f"  {name:<14} {text}")
        if asked is not None:
            for line in table(evaluate_export(self.run_folder, self.to, exported, asked).lm_eval):
                print(f"  {line}")
        print(f"{self.to}: next: mnemoscope examine {self.to} --data ..., or load it as {self.to / 'README.md'} says")
        return 0

    def _change(self) -> "ChangeConfig | None":
        from mnemoscope.experiments.changing import ChangeConfig, changes_of

        changes = changes_of(self.fold, self.window)
        if self.as_prescribed and (changes or self.even_if_worse):
            raise ValueError(
                "export: --as-prescribed chooses the changes and leaves out those that cost too much; leave out "
                "--fold, --window and --even-if-worse, or --as-prescribed"
            )
        if not (changes or self.as_prescribed):
            if self.even_if_worse or self.test is not None:
                raise ValueError("export: --even-if-worse and --test are of changes; name some with --fold or --window")
            return None
        return ChangeConfig(
            changes=changes, even_if_worse=self.even_if_worse, n_test=self.test, fit_steps=self.fit_steps
        )

    def _asked(self) -> "LmEvalConfig | None":
        from mnemoscope.experiments.lm_eval import LmEvalConfig

        return LmEvalConfig(tasks=self.lm_eval, limit=self.lm_eval_limit) if self.lm_eval else None


def _changes(changes: "ChangesRecord") -> list[tuple[str, str]]:
    """What was changed, what it costs and what it saves."""
    rows: list[tuple[str, str]] = []
    for made in changes.changes:
        what = f"a window of {made.window} tokens" if made.window is not None else made.replaced_by
        said = f" ({made.verdict})" if made.verdict else ""
        rows.append(("changed", f"{made.site}{said}: {what}; increase {made.difference}"))
    rows += [("left", f"{site}: would cost more than the margin") for site in changes.left]
    as_good = "as good" if changes.accepted else "not as good, kept by --even-if-worse"
    decoded = "{:,.0f} -> {:,.0f}".format(*changes.decoded_per_second)
    return [
        *rows,
        ("loss", f"{changes.loss_before} -> {changes.loss_after} nats on {changes.n_test} sequences"),
        ("increase", f"{changes.difference} nats, margin {changes.margin:.3f}; {as_good}"),
        ("saved", f"{_saved(changes.parameters)} parameters, {_saved(changes.parameter_bytes)} bytes"),
        ("state bytes", "{:,} -> {:,}".format(*changes.state_bytes) + f" after {changes.state_tokens} tokens"),
        ("decoded/s", f"{decoded} tokens"),
    ]


def _saved(pair: tuple[int, int]) -> str:
    before, after = pair
    return f"{before - after:,} of {before:,}"

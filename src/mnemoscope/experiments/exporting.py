"""Export: a run as a folder that Hugging Face transformers loads.

    TO/config.json, model.safetensors, generation_config.json    the stack
    TO/tokenizer.json, tokenizer_config.json                     of tasks whose tokens are those of a text
    TO/README.md                                                 what it is, and how to load it
    TO/export.json                                               what was exported, and how well it came back

The folder appears whole or not at all, and only after the model that was loaded from it gave the run's own logits;
where memories were folded or windows shortened on the way (`mnemoscope.experiments.changing`), those of the run's model
under the same interventions.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field

import mnemoscope
from mnemoscope.experiments.changing import ChangeConfig, Changed, ChangesRecord, changed_run, intervened_logits
from mnemoscope.experiments.lm_eval import LINE_FEED, LmEvalConfig, TaskFigure, compared
from mnemoscope.experiments.model_card import model_card
from mnemoscope.models import Stack, only_stack
from mnemoscope.runs import Record, RunDirectory, sync_file, sync_folder, write_record, write_text
from mnemoscope.runs.record import SCHEMA_VERSION
from mnemoscope.tasks import Needle, Passkey, Task, Text, task_rng
from mnemoscope.tasks.tokenisers import ByteTokeniser, CharacterTokeniser, SubwordTokeniser
from mnemoscope.training import Recipe, TrainedRun, load_run
from mnemoscope.training.threads import cpu_threads

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

EXPORT = "export.json"
EXACT = 1e-5
"""Largest difference of the logits, of the larger of 1 and their largest value."""

MISSING = "export: the package transformers is missing; install it with pip install 'mnemoscope[hf]'"


class Exported(Record):
    """What was exported.

    `tokeniser` says what was written: "bytes", "characters", "bpe", the name of a file, or None for none.
    `largest_difference` is that of the logits of the run's model and of the model loaded from the folder, over
    `n_compared` tokens of the validation split. `changes` say what was changed on the way, and what it costs; None for
    nothing. `lm_eval` are the figures of lm-eval, where it was asked.
    """

    schema_version: int = SCHEMA_VERSION
    run: str
    step: int
    parameters: int
    tokeniser: str | None
    largest_difference: float
    n_compared: int
    versions: dict[str, str]
    changes: ChangesRecord | None = None
    lm_eval: list[TaskFigure] = Field(default_factory=list)


def export_run(run: str | Path, to: str | Path, *, force: bool = False, change: ChangeConfig | None = None) -> Exported:
    """Write the model of a run's last checkpoint as a Hugging Face model; the run stays as it is.

    Args:
        run: folder of the run.
        to: a new or empty folder.
        force: replace an earlier export there.
        change: what is folded, deleted or shortened on the way; None for nothing.

    Raises:
        ValueError: no run, a model of vectors, a folder that holds anything else, no package transformers, a model
            that does not come back from the disk as it was, or changes that cannot be made or cost too much.
    """
    to = Path(to)
    try:
        import mnemoscope.models.huggingface  # noqa: F401  # said before anything is read
    except ImportError as error:
        raise ValueError(MISSING) from error
    _require_free(to, force)
    trained = load_run(run)
    if only_stack(trained.recipe.model, "export").vectors is not None:
        raise ValueError(
            f"export: the model of {run} reads vectors, and Hugging Face's causal language models read tokens; "
            "keep it as a run (load_run), or save it with mnemoscope.models.save_model"
        )
    partial = to.with_name(f".{to.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with cpu_threads(trained.recipe.train.threads), _without_progress_bars():
            changed = None if change is None else changed_run(run, change)
            exported = _written(RunDirectory(run), trained, changed, partial)
        _take_name(partial, to)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return exported


def evaluate_export(run: str | Path, to: str | Path, exported: Exported, config: LmEvalConfig) -> Exported:
    """Run lm-eval on an exported folder, and where it was changed on the way also on the run as it was.

    The figures are written into the folder's `export.json`. Models of bytes read a line feed before a text, unless
    `config` says otherwise.

    Args:
        run: the run that was exported.
        to: the folder.
        exported: what `export_run` returned.
        config: what is asked.

    Raises:
        ValueError: no lm-eval, no such task, or a run without a tokeniser.
    """
    if exported.tokeniser is None:
        raise ValueError(
            f"export: lm-eval asks in words, and the tokens of {run} are numbers of its task, not of a text"
        )
    if config.prefix_token is None and exported.tokeniser == "bytes":
        config = replace(config, prefix_token=LINE_FEED)
    with _without_progress_bars(), TemporaryDirectory() as temporary:
        before = None
        if exported.changes is not None:
            before = Path(temporary) / "before"
            export_run(run, before)
        figures = compared(to, before, config)
    exported = exported.model_copy(update={"lm_eval": figures})
    write_record(Path(to) / EXPORT, exported)
    return exported


def tokeniser_of(task: Task) -> "tuple[str, PreTrainedTokenizerFast] | None":
    """The tokeniser of a task whose tokens are those of a text, and what to call it; None for any other task."""
    from mnemoscope.models.huggingface.tokenisers import byte_tokeniser, character_tokeniser, stored_tokeniser

    match task:
        case Text(tokeniser=CharacterTokeniser(characters=characters)):
            return "characters", character_tokeniser(characters)
        case Text(tokeniser=SubwordTokeniser(stored=stored), config=config):
            is_bpe = config.tokeniser == "bpe"
            return Path(config.tokeniser).name, stored_tokeniser(stored, byte_level=is_bpe)
        case Text(tokeniser=ByteTokeniser()) | Needle() | Passkey():
            return "bytes", byte_tokeniser()
        case _:
            return None


def _written(run: RunDirectory, trained: TrainedRun, changed: Changed | None, folder: Path) -> Exported:
    from transformers import GenerationConfig

    from mnemoscope.models.huggingface import MnemoscopeConfig, MnemoscopeForCausalLM

    stack = _stack(trained) if changed is None else changed.model
    model = MnemoscopeForCausalLM(MnemoscopeConfig.of(stack.config))
    model.stack.load_state_dict(stack.state_dict())
    found = tokeniser_of(trained.task)
    if found is not None:
        found[1].save_pretrained(folder)
        model.generation_config = GenerationConfig(pad_token_id=found[1].pad_token_id)
    model.save_pretrained(folder)
    largest_difference, n_compared = _compared(trained, changed, folder)
    exported = Exported(
        run=run.path.resolve().name,
        step=trained.step,
        parameters=sum(parameter.numel() for parameter in stack.parameters()),
        tokeniser=None if found is None else found[0],
        largest_difference=largest_difference,
        n_compared=n_compared,
        versions=_versions(),
        changes=None if changed is None else changed.record,
    )
    write_record(folder / EXPORT, exported)
    examination = run.read_examination() if run.verdicts_path.is_file() else None
    left = trained if changed is None else replace(trained, model=stack, recipe=_recipe_of(trained.recipe, stack))
    card = model_card(exported.run, left, exported.tokeniser, examination, exported.changes)
    write_text(folder / "README.md", card)
    for file in folder.iterdir():
        sync_file(file)
    sync_folder(folder)
    return exported


def _stack(trained: TrainedRun) -> Stack:
    """The run's model, which was seen to be a stack."""
    assert isinstance(trained.model, Stack)
    return trained.model


def _recipe_of(recipe: Recipe, stack: Stack) -> Recipe:
    # Remedies name sites that may be gone, and have done their work.
    return replace(recipe, name=f"{recipe.name}, changed", model=stack.config, remedies=())


@torch.no_grad()
def _compared(trained: TrainedRun, changed: Changed | None, folder: Path) -> tuple[float, int]:
    """Largest difference of the logits, and over how many tokens, of the run's model and what the folder holds.

    A changed model is held against the run's under the same interventions.
    """
    from transformers import AutoModelForCausalLM

    batch = trained.task.batch(task_rng(trained.recipe.train.seed, "validation", 0), 2, "validation")
    tokens, loaded = torch.as_tensor(batch.inputs), AutoModelForCausalLM.from_pretrained(folder)
    model = _stack(trained).eval()
    wanted = model(tokens) if changed is None else intervened_logits(model, changed.edits, tokens)
    got = loaded(tokens, use_cache=False).logits
    difference, largest = float((got - wanted).abs().max()), EXACT * max(1.0, float(wanted.abs().max()))
    if not difference <= largest:
        raise ValueError(
            f"export: the model loaded from the folder must have the run's logits to {largest:.1g}, got a difference "
            f"of {difference:.3g}; nothing was written"
        )
    return difference, tokens.numel()


def _require_free(to: Path, force: bool) -> None:
    if not to.exists():
        return
    if not to.is_dir():
        raise ValueError(f"export: {to} is a file; name a folder")
    if not any(to.iterdir()) or (force and _is_export(to)):
        return
    way_out = "replace it with --force, or name another" if _is_export(to) else "name another; it is no export"
    raise ValueError(f"export: {to} must be a new or empty folder, got one that holds files; {way_out}")


def _is_export(folder: Path) -> bool:
    if not (folder / EXPORT).is_file():
        return False
    try:
        config: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("model_type") == "mnemoscope"


def _take_name(partial: Path, to: Path) -> None:
    """An earlier export goes only when the new one is whole."""
    earlier = to.with_name(f".{to.name}.earlier")
    shutil.rmtree(earlier, ignore_errors=True)
    if to.exists():
        to.rename(earlier)
    partial.rename(to)
    sync_folder(to.parent)
    shutil.rmtree(earlier, ignore_errors=True)


def _versions() -> dict[str, str]:
    import transformers

    return {
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
        "mnemoscope": mnemoscope.__version__,
    }


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """transformers draws one for every file."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()

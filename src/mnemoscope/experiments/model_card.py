"""The README of an exported folder: what the model is, how to load it, its recipe, its verdicts."""

import json

import mnemoscope
from mnemoscope.experiments.changing import ChangesRecord
from mnemoscope.models import only_stack
from mnemoscope.models.written import write_layout
from mnemoscope.runs import Examination, SiteRecord
from mnemoscope.training import Recipe, TrainedRun

HEAD = """---
library_name: transformers
tags:
- mnemoscope
- memory
{pipeline}---

# {name}

A stack of Mnemoscope with {parameters:,} parameters: the run `{run}` at step
{step}, exported by Mnemoscope {version}.
"""

LOAD = """
## How to load it

```
pip install "mnemoscope[hf]"
```

```python
{imports}

import mnemoscope.models.huggingface  # registers the classes

folder = "."  # this one
model = AutoModelForCausalLM.from_pretrained(folder)
{use}
```

No code of this folder is run, so it needs no `trust_remote_code`. `generate` keeps the memories' states as its cache;
batches are padded on the left.
"""

WITH_TOKENISER = """tokeniser = AutoTokenizer.from_pretrained(folder)
prompt = tokeniser("The ", return_tensors="pt")
print(tokeniser.decode(model.generate(**prompt, max_new_tokens=32, do_sample=False)[0]))"""

WITHOUT_TOKENISER = """tokens = torch.zeros(1, 8, dtype=torch.int64)
print(model(tokens).logits.shape)"""

ABOUT_TOKENS = {
    "bytes": "A token is a byte of UTF-8.",
    "characters": "A token is a character of the training text; all others are one unknown token.",
    "bpe": "Tokens are those of byte-level BPE, learnt from the training text.",
    None: "There is no tokeniser: tokens are numbers of the task `{task}`, not of a text.",
}


def model_card(
    run: str,
    trained: TrainedRun,
    tokeniser: str | None,
    examination: Examination | None,
    changes: ChangesRecord | None = None,
) -> str:
    """A model card in Markdown.

    Args:
        run: what the run is called.
        trained: the run; where it was changed on the way, what is left.
        tokeniser: what was written beside the model, see `Exported`; None for none.
        examination: of the run; None where it was not examined.
        changes: what was folded, deleted or shortened; None for nothing.
    """
    recipe = trained.recipe
    head = HEAD.format(
        pipeline="" if tokeniser is None else "pipeline_tag: text-generation\n",
        name=recipe.name,
        parameters=sum(parameter.numel() for parameter in trained.model.parameters()),
        run=run,
        step=trained.step,
        version=mnemoscope.__version__,
    )
    loading = LOAD.format(
        imports="import torch\nfrom transformers import AutoModelForCausalLM"
        if tokeniser is None
        else "from transformers import AutoModelForCausalLM, AutoTokenizer",
        use=WITHOUT_TOKENISER if tokeniser is None else WITH_TOKENISER,
    )
    tokens = ABOUT_TOKENS.get(tokeniser, f"Tokens are those of `{tokeniser}`, without special tokens.")
    tokens = tokens.format(task=recipe.task.kind)
    return f"{head}{loading}\n{tokens}\n{_recipe(recipe)}{_verdicts(examination)}{_changes(changes)}"


def _recipe(recipe: Recipe) -> str:
    layout = write_layout(only_stack(recipe.model, "export").mixers)
    train = recipe.train
    rows = [
        ("layout", f"`{layout}`"),
        ("width", f"{recipe.model.d_model}"),
        ("vocabulary", f"{recipe.model.vocab_size}"),
        ("task", f"`{recipe.task.kind}`"),
        ("steps", f"{train.steps} of {train.batch_size} sequences"),
        ("loss", train.loss),
        ("remedies", ", ".join(remedy.kind for remedy in recipe.remedies) or "none"),
        ("lesson", recipe.lesson.kind),
    ]
    stablemax = (
        "\nIt was trained with StableMax, and transformers takes the softmax of its logits: losses and samples differ "
        "from those of the run.\n"
    )
    task = json.dumps({field: getattr(recipe.task, field) for field in recipe.task.__dataclass_fields__}, default=str)
    table = "\n".join(f"| {name} | {_cell(text)} |" for name, text in rows)
    return (
        f"\n## Recipe\n\n| | |\n|---|---|\n{table}\n\nThe task's settings:\n\n```json\n{task}\n```\n"
        f"{stablemax if train.loss == 'stablemax' else ''}"
    )


def _verdicts(examination: Examination | None) -> str:
    if examination is None:
        return "\n## Verdicts\n\nIts memories were not examined. `mnemoscope examine FOLDER --data ...` does so.\n"
    table = "\n".join(map(_verdict, examination.sites))
    return (
        "\n## Verdicts\n\nWhat an examination of the run on held-out sequences said of its memories; the effect is the "
        "loss increase in nats per scored token where the read is the best constant. Names are those of the run; here "
        "`stack.` stands before them.\n\n| Memory | Verdict | Effect |\n|---|---|---|\n"
        f"{table}\n"
    )


def _verdict(site: SiteRecord) -> str:
    effect = site.effects.get("read", {}).get("optimal_constant")
    return f"| `{site.name}` | {site.verdict or 'none'} | {'' if effect is None else effect} |"


def _changes(changes: ChangesRecord | None) -> str:
    if changes is None:
        return ""
    rows = [
        f"| `{made.site}` | {made.verdict or ''} | "
        f"{made.replaced_by if made.window is None else f'{made.window} tokens'} | {made.difference} |"
        for made in changes.changes
    ]
    table = "\n".join(rows)
    return (
        "\n## Changes\n\nWhat the run had and this model has not; each increase of the loss, in nats per scored token "
        f"on {changes.n_test} held-out sequences, is on top of those before it.\n\n| Site | Verdict | In its place | "
        f"Increase |\n|---|---|---|---|\n{table}\n\nAll together: {changes.loss_before} before, {changes.loss_after} "
        f"after, increase {changes.difference}.\n"
    )


def _cell(text: str) -> str:
    """A bar ends a cell of a table."""
    return text.replace("|", "\\|")

"""Small runs to export."""

from dataclasses import replace
from pathlib import Path

from mnemoscope.models import StackConfig
from mnemoscope.tasks import TaskConfig, TextConfig, build_task
from mnemoscope.training import Recipe, TrainConfig, train_recipe

TRAINING = TrainConfig(steps=4, batch_size=4, learning_rate=1e-2, warmup_steps=0, eval_every=4, eval_sequences=4)
LAYOUT = "attention(window=4), gated_delta(n_heads=2)"
BYTES = TextConfig(corpus="prose", length=32, max_bytes=20_000)


def trained(folder: Path, task: TaskConfig, layout: str = LAYOUT, steps: int = 4) -> Path:
    """A run of a few steps; its folder."""
    vocab_size = build_task(task).vocab_size
    recipe = Recipe(
        name="small",
        model=StackConfig.of(layout, vocab_size=vocab_size, d_model=16),
        task=task,
        train=replace(TRAINING, steps=steps, eval_every=steps),
    )
    train_recipe(recipe, folder, progress=False)
    return folder

"""What the pages take as given: the models, data and runs that their snippets name."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import mnemoscope as ms
from mnemoscope.tasks import MqarConfig, TextConfig
from mnemoscope.training import Recipe, TrainConfig, train_recipe

TINY = ms.Budget(n_calibration=16, n_test=16, fit_steps=2, joint_fit_steps=2, windows=(1,), n_resamples=200)


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.GRU(8, 8, batch_first=True)
        self.attention = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.memory(x)[0] + self.attention(x)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(11, 8), nn.Linear(8, 11)
        self.layers = nn.ModuleList([Layer(), Layer()])

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.out(ms.tap("top.read", x))


def of_model(folder: Path) -> dict[str, Any]:
    """Any model, sequences, and a loss."""
    from mnemoscope.training.remedies import BranchDropout

    generator = torch.Generator().manual_seed(0)
    return {
        "ms": ms,
        "BranchDropout": BranchDropout,
        "model": Model(),
        "batches": [torch.randint(11, (8, 9), generator=generator) for _ in range(6)],
        "loss": lambda model, batch: model(batch).square().mean((1, 2)),
        "sites": ["layers.*.memory"],
        "steps": 2,
        "torch": torch,
    }


def of_stack(folder: Path) -> dict[str, Any]:
    """A stack of four blocks, and sequences to fit and to test on."""
    stack = ms.build(ms.StackConfig.of("gated_delta * 4", vocab_size=11, d_model=16), seed=0)
    generator = torch.Generator().manual_seed(0)
    tokens = [torch.randint(11, (8, 9), generator=generator) for _ in range(4)]
    return {"model": Layered(stack), "stack": stack, "calibration": tokens[:2], "test": tokens[2:], "torch": torch}


class Layered(nn.Module):
    """A stack whose blocks are called layers."""

    def __init__(self, stack: ms.Stack) -> None:
        super().__init__()
        self.layers, self.stack = stack.blocks, stack

    def forward(self, tokens: Tensor) -> Tensor:
        return self.stack(tokens)


def of_table(folder: Path) -> dict[str, Any]:
    """A circle of nodes, positions on it, and paths along it."""
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    edges = np.stack([np.arange(24), (np.arange(24) + 1) % 24], axis=1)
    table = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return {"table": table, "edges": edges, "paths": [[0, 1, 2, 3], [0, 23, 22, 21]]}


def of_run(folder: Path) -> dict[str, Any]:
    """A trained run under each name that a page has for one."""
    recipe = Recipe(
        name="recall",
        model=ms.StackConfig.of("gated_delta", vocab_size=16, d_model=16),
        task=MqarConfig(vocab_size=16, length=16, n_pairs=2),
        train=TrainConfig(steps=2, warmup_steps=1, batch_size=8, eval_sequences=8),
    )
    train_recipe(recipe, folder / "runs" / "large", progress=False)
    return {}


def of_export(folder: Path) -> dict[str, Any]:
    """An exported model of text."""
    from mnemoscope.experiments.exporting import export_run

    recipe = Recipe(
        name="text",
        model=ms.StackConfig.of("attention(window=4), gated_delta", vocab_size=256, d_model=16),
        task=TextConfig(length=32),
        train=TrainConfig(steps=2, warmup_steps=1, batch_size=4, eval_sequences=4),
    )
    train_recipe(recipe, folder / "runs" / "a", progress=False)
    export_run(folder / "runs" / "a", folder / "exported" / "a")
    return {}


def of_huggingface_trainer(folder: Path) -> dict[str, Any]:
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

    config = GPT2Config(vocab_size=11, n_positions=16, n_embd=16, n_layer=1, n_head=2)
    tokens = torch.randint(11, (8, 9), generator=torch.Generator().manual_seed(0))
    return {
        "Trainer": Trainer,
        "model": GPT2LMHeadModel(config),
        "arguments": TrainingArguments(output_dir=str(folder), use_cpu=True, report_to=[]),
        "tokens": tokens,
        "data": [{"input_ids": row, "labels": row} for row in tokens],
    }


def of_lightning_trainer(folder: Path) -> dict[str, Any]:
    from lightning.pytorch import Trainer

    return {"Trainer": Trainer, "batches": of_model(folder)["batches"]}

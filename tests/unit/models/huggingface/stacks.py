"""Small stacks as Hugging Face models."""

from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from mnemoscope.models import Stack, StackConfig, build
from mnemoscope.models.huggingface import MnemoscopeConfig, MnemoscopeForCausalLM

VOCABULARY = 37
UNLIKE = (
    "attention(window=6), gated_delta",
    "mamba2(d_state=8)",
    "contextual",
    "omega(features='elementwise', degree=2)",
    "lstm",
    "attention",
)


def tokens_of(batch: int, length: int, seed: int = 1) -> Tensor:
    return torch.randint(VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(seed))


def wrapped(layout: str, d_model: int = 16) -> tuple[Stack, MnemoscopeForCausalLM]:
    """A stack, and the model that holds its weights."""
    return of_config(StackConfig.of(layout, vocab_size=VOCABULARY, d_model=d_model))


def of_config(config: StackConfig) -> tuple[Stack, MnemoscopeForCausalLM]:
    stack = build(config, seed=0).eval()
    model = MnemoscopeForCausalLM(MnemoscopeConfig.of(config)).eval()
    model.stack.load_state_dict(stack.state_dict())
    return stack, model


def from_disk(model: MnemoscopeForCausalLM, folder: Path) -> MnemoscopeForCausalLM:
    model.save_pretrained(folder)
    return AutoModelForCausalLM.from_pretrained(folder)

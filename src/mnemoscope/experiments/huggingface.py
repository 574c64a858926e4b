"""Causal language models of the Hugging Face hub, or of a folder in its form."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from mnemoscope.experiments.held_out import Encoder

MISSING = (
    "examine: models of Hugging Face need the package transformers, which is missing; install it with "
    "pip install 'mnemoscope[hf]'"
)


def load_model(source: str, allow_pickle: bool = False) -> nn.Module:
    """A causal language model with its weights, which are read from safetensors alone unless allowed otherwise.

    Code that a repository brings is never run.

    Args:
        source: a folder, or owner/name on the hub.
        allow_pickle: also unpickle weights, which runs whatever the file says.

    Raises:
        ValueError: no package transformers, no such model, no safetensors, or a class that is not supported.
    """
    try:
        from transformers import AutoModelForCausalLM

        import mnemoscope.models.huggingface  # noqa: F401  # registers what `mnemoscope export` writes
    except ImportError as error:
        raise ValueError(MISSING) from error
    try:
        return AutoModelForCausalLM.from_pretrained(
            source, use_safetensors=None if allow_pickle else True, trust_remote_code=False
        )
    except (OSError, ValueError, ImportError, KeyError, RuntimeError) as error:
        raise ValueError(_explained(source, error, allow_pickle)) from error


def encoder_of(source: str, model: nn.Module) -> Encoder:
    """The model's own tokeniser; windows begin as it begins a text.

    Raises:
        ValueError: where there is none.
    """
    from transformers import AutoTokenizer

    try:
        tokeniser: Any = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, ImportError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"examine: {source} has no tokeniser that can be loaded, so it cannot be given a text: {_line(error)}; "
            "give its data as a task (--data task:mqar,vocab_size=...)"
        ) from error

    def encode(text: NDArray[np.uint8]) -> NDArray[np.integer[Any]]:
        tokens = tokeniser(text.tobytes().decode(), add_special_tokens=False, verbose=False)["input_ids"]
        return np.asarray(tokens, np.int64)

    begins = tokeniser("a")["input_ids"][:1] == [tokeniser.bos_token_id]
    return Encoder(f"tokeniser of {source}", encode, tokeniser.bos_token_id if begins else None)


def _explained(source: str, error: Exception, allow_pickle: bool) -> str:
    line = _line(error)
    if not allow_pickle and "safetensors" in line:
        return (
            f"examine: {source} has no weights as safetensors, and others are unpickled, which runs what they say; "
            "convert them, or trust them with --allow-pickle"
        )
    if not Path(source).is_dir() and "connect" in line.lower():
        return f"examine: there is no folder {source}, and the Hugging Face hub cannot be reached; name a folder"
    return f"examine: {source} cannot be loaded as a causal language model: {line}"


def _line(error: Exception) -> str:
    """The first sentence of what transformers says."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 240 else f"{words[:240]}..."

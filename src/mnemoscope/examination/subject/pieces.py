"""What of a batch can be read in pieces."""

from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from mnemoscope.examination.subject.losses import prepare


def pieces_of(batch: Any, device: torch.device, every_row: bool = False) -> Shaped[Tensor, "b t *d"]:
    """What a model reads, where a run in pieces can be told all of it: sequences without padding.

    Args:
        batch: a Batch, a tensor of tokens or a dictionary.
        device: where the model runs.
        every_row: refuse a batch in which some rows are padded, in place of leaving these out.

    Raises:
        ValueError: where the model is told more than its sequences, or rows are padded.
    """
    inputs, _ = prepare(batch, device)
    others = [name for name in inputs if name not in ("", "input_ids", "attention_mask")]
    if others:
        raise ValueError(
            f"the model is told {', '.join(others)} besides its tokens, which a run in pieces is not; give batches "
            "without"
        )
    tokens = inputs.get("", inputs.get("input_ids"))
    if tokens is None or tokens.ndim < 2:
        raise ValueError("a run in pieces needs sequences (b, t) or (b, t, d); give such batches")
    mask = inputs.get("attention_mask")
    whole = torch.ones(len(tokens), dtype=torch.bool) if mask is None else (mask != 0).all(1).cpu()
    if not bool(whole.any()) or (every_row and not bool(whole.all())):
        raise ValueError("sequences are padded, and a run in pieces is not told where; give batches of one length")
    return tokens[whole.to(tokens.device)]

"""Two unlike models, and the settings under which every remedy is put on them.

`stack` announces read points: `gated_delta | attention`, with a convex gate. `hybrid` is a Hugging Face class that
announces nothing, so its sites are given by path.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mnemoscope.models import StackConfig, build
from mnemoscope.training.remedies import RemedyConfig

VOCAB = 12


@dataclass(frozen=True)
class Case:
    """One remedy on both models; None where it has no meaning there, with the reason in the test of the remedy."""

    stack: RemedyConfig | None
    hybrid: RemedyConfig | None
    layout: str = "gated_delta(n_heads=2) | attention(window=16)"


class Hybrid(nn.Module):
    """Qwen3-Next with random weights: gated delta rule in the first layer, attention in the second."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import Qwen3NextConfig, Qwen3NextForCausalLM

        torch.manual_seed(0)
        config = Qwen3NextConfig(
            vocab_size=VOCAB,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            linear_num_value_heads=2,
            linear_num_key_heads=2,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
            num_experts=0,
            layer_types=["linear_attention", "full_attention"],
        )
        self.lm = Qwen3NextForCausalLM(config)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of int64 tokens (b, t)."""
        return self.lm(input_ids=tokens, use_cache=False).logits


MEMORY = "lm.model.layers.0.linear_attn"
"""Path of the hybrid's memory."""

ROUTE = "lm.model.layers.1.self_attn"
"""Path of the hybrid's attention, whose output is a tuple."""


def stack(layout: str) -> nn.Module:
    """A stack of one line."""
    return build(StackConfig.of(layout, vocab_size=VOCAB, d_model=16), 0)

"""Reconstruction: what a memory holds must suffice to say the inputs that came before (R1, r-part).

What it does: at `anchors` random positions of every sequence, a small recurrent decoder starts from what the memory
holds there (its read, or its state, made 512 numbers) and says the up to `span` inputs before that position, each
given those before it. Its mean cross-entropy (tokens) or squared error (vectors), times `strength`, is added to the
loss; the decoder is trained along. The inputs are targets only: no gradient goes through them.

Why: a memory on which the task's loss does not yet depend gets no gradient to store anything; this one does not wait
for the task.

Published effect: recurrent networks with it learn to classify sequences of up to 16,000 inputs that plain
backpropagation does not reach; the paper trains on it first and jointly afterwards, with weight 1 (arXiv 1803.00144).

Known problems: a memory that can be decoded is not thereby used; examine it. Since the decoder is told the inputs
before, regular text can be said in part without the memory. What it makes the memory keep, the task may not need.
The paper decodes pieces of up to 600 inputs by two layers of 256 LSTM cells; here it is one layer of GRU cells.

Example: `Reconstruction(strength=0.5, final_strength=0.0)`, or `sites=("model.layers.*.linear_attn",)`.

Source: Trinh, Dai, Luong, Le 2018, "Learning longer-term dependencies in RNNs with auxiliary losses", section 3.
"""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from mnemoscope.training.remedies.decoding import DecodingConfig, DecodingTreatment


@dataclass(frozen=True, kw_only=True)
class Reconstruction(DecodingConfig):
    """Settings; `strength` is the weight of the loss, usually 0.1 to 1."""

    kind: Literal["reconstruction"] = "reconstruction"

    def attach(self, model: nn.Module) -> DecodingTreatment:
        """On what every memory reads, or on the outputs of the modules named."""
        return DecodingTreatment(self, model, ahead=False)

"""Prediction: what a memory holds must help to say the inputs that come after (R1, p-part).

What it does: at `anchors` random positions of every sequence, a small recurrent decoder starts from what the memory
holds there (its read, or its state, made 512 numbers) and says the up to `span` inputs after that position, each
given those before it. Its mean cross-entropy (tokens) or squared error (vectors), times `strength`, is added to the
loss; the decoder is trained along. The inputs are targets only: no gradient goes through them.

Why: like reconstruction, it gives the memory a gradient before the task does, but for what will be of use instead of
for everything that was.

Published effect: either loss lets recurrent networks learn from sequences of up to 16,000 inputs; the authors did not
combine the two (arXiv 1803.00144).

Known problems: where the following inputs do not depend on those long before, as in random pairs to be recalled, it
teaches next to nothing, and reconstruction is the one to use. A memory that helps the decoder is not thereby used by
the model; examine it.

Example: `Prediction(strength=0.3, span=16)`, or `sites=("model.layers.*.linear_attn",)`.

Source: Trinh, Dai, Luong, Le 2018, "Learning longer-term dependencies in RNNs with auxiliary losses", section 3.
"""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from mnemoscope.training.remedies.decoding import DecodingConfig, DecodingTreatment


@dataclass(frozen=True, kw_only=True)
class Prediction(DecodingConfig):
    """Settings; `strength` is the weight of the loss, usually 0.1 to 1."""

    kind: Literal["prediction"] = "prediction"

    def attach(self, model: nn.Module) -> DecodingTreatment:
        """On what every memory reads, or on the outputs of the modules named."""
        return DecodingTreatment(self, model, ahead=True)

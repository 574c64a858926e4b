"""Passkey retrieval: one line of a long text says the passkey; the last line asks for it.

One sequence of `PasskeyConfig(length=256, n_depths=2)`, in which the passkey stands at depth 1, the deeper one:

    (30 newlines, what is left over of a length that holds two lines of filler)
    One line of this text says a passkey. Keep it in mind.
    The sky is wide. The field is quiet.
    The sky is wide. The field is quiet.
    The passkey is 07316. Remember it. 07316 is the passkey.
    What is the passkey? The passkey is 0731

    inputs      ...  i  s  _  0  7  3  1
    targets          .  .  0  7  3  1  6                        (. = IGNORE)

Tokens are bytes. The passkey is one of 00000 ... 99999, each equally likely, and decides which split owns a sequence:
a passkey of the test split is never trained on. Depth i of n is uniform; `mnemoscope.tasks.retrieval` says at which
line it is, and what else than filler the haystack may be. The five digits are scored, each given those before it;
`exact_match` asks for all five, `match_by_depth` groups by depth.

Why: the same question as published long-context tests ask, with a number to be given back.

Known limits: the phrase around the number always is the same, so it can be found by form.

Source: Chen, Zhang, Hu, Han, Liu, Sun, "Stuffed Mamba: Oversized States Lead to the Inability to Forget" (2024),
arXiv 2410.07145: the sentence that says the passkey, its range, the depths (i + 0.5) / n. What differs: prefix, filler
and question are worded anew; tokens are bytes; text that does not fill a line of filler is padded in front.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from mnemoscope.contracts.batch import Batch
from mnemoscope.tasks.retrieval import Prompt, Retrieval, check_room, part
from mnemoscope.tasks.streams import Split
from mnemoscope.tasks.tokenisers import byte_words

PROMPT = Prompt(
    prefix="One line of this text says a passkey. Keep it in mind.",
    needle="\nThe passkey is {value}. Remember it. {value} is the passkey.",
    question="\nWhat is the passkey? The passkey is ",
    value=(part("0123456789"),) * 5,
)
"""What stands around the haystack."""


@dataclass(frozen=True, kw_only=True)
class PasskeyConfig:
    """How long a text hides the passkey, and of what it is made.

    Args:
        kind: names the task in a stored config.
        length: tokens (bytes) of a sequence, all but the last byte of the answer.
        haystack: "filler", "newlines", or the text of "prose", "code" or the path of a UTF-8 file or folder.
        n_depths: depths at which the passkey may stand, at least 1 and at most the places of the haystack.

    Raises:
        ValueError: a value out of its range. A corpus is read by `Passkey`.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["passkey"] = "passkey"
    length: int = 1024
    haystack: str = "filler"
    n_depths: int = 10

    def __post_init__(self) -> None:
        check_room("PasskeyConfig", PROMPT, self.haystack, self.length, self.n_depths)


@final
class Passkey:
    """Batches of passkey retrieval; the attributes are those of `mnemoscope.tasks.Task`.

    Raises:
        ValueError: a corpus that cannot be read, or is too short for the haystacks.
    """

    unit: str = "accuracy"
    vocab_size: int = 256
    floor_loss: float = 0.0
    """Every answer stands in its sequence."""

    def __init__(self, config: PasskeyConfig) -> None:
        self.config = config
        self.length: int = config.length
        self._retrieval = Retrieval("Passkey", PROMPT, config.haystack, config.length, config.n_depths)
        self.chance_loss: float = self._retrieval.chance_loss
        """ln 10: every digit is equally likely."""
        self.memoryless_loss: float = self._retrieval.memoryless_loss
        """ln 10 too: no digit says anything of the next."""

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        """Draw `size` sequences; the same state of `rng` gives different ones for different splits.

        Raises:
            ValueError: size below 1, or an unknown split.
        """
        return self._retrieval.batch(rng, size, split)

    def depths(self, batch: Batch) -> NDArray[np.float64]:
        """How deep each passkey stands, from 0 (the start of the haystack) to 1, of shape (b,)."""
        return self._retrieval.depths(batch)

    def words(self, tokens: Sequence[int]) -> list[str]:
        """Bytes as ASCII characters where they are visible ones, a space as an underscore, others as two hex digits."""
        return byte_words(tokens)

    def n_sequences(self, split: Split) -> None:
        """No end: sequences are generated."""
        return None

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step: NumPy, and the corpus of the haystacks."""
        return {"name": "passkey", "numpy": np.__version__, **self._retrieval.haystack.manifest()}

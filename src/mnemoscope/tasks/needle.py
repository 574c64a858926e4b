"""A needle in a haystack: one sentence of a long text gives a number, a word or a code; the last line asks for it.

The three kinds of needle, each with the question and the answer that belong to it:

    number   "Under the anchor is the number 0417733."                 "... is the number " 0417733
    word     "Under the anchor is the word frozen-basket."             "... is the word "   frozen-basket
    uuid     "Under the anchor is the code 5b0e31d2-....-9c6e."        "... is the code "   5b0e31d2-....-9c6e

and the end of a sequence:

    What is under the anchor? Under the anchor is the number 041773
    inputs      ...  b  e  r  _  0  4  1  7  7  3
    targets          .  .  .  0  4  1  7  7  3  3               (. = IGNORE)

Tokens are bytes. What hides the needle (one of `KEYS`) and the value are uniform and independent: seven digits; an
adjective, a hyphen and a noun; or 32 hexadecimal digits in groups of 8, 4, 4, 4, 12. Key and value together decide
which split owns a sequence. Haystacks, and depths in them, are those of `mnemoscope.tasks.retrieval`: those of real
text are cut by position, so that a test haystack is never trained on. The value is scored, each byte given those before
it; `exact_match` asks for the whole of it, `match_by_depth` groups by depth.

Why: one fact in a long text, at a depth that is set.

Known limits: a single fact among indifferent text is easier than many among each other.

Source: Hsieh et al., "RULER: What's the Real Context Size of Your Long-Context Language Models?" (2024), arXiv
2404.06654, and NVIDIA/RULER: S-NIAH-1 hides a number in repeated filler, S-NIAH-2 a number and S-NIAH-3 a UUID in
essays (`s_niah`). What differs: every sentence and the lists of words are our own; a text is Python's language
reference or one you name, not essays; the digits of a UUID are all random.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from mnemoscope.contracts.batch import Batch
from mnemoscope.tasks.retrieval import Part, Prompt, Retrieval, check_room, part
from mnemoscope.tasks.streams import Split
from mnemoscope.tasks.tokenisers import byte_words

_KEYS = """
anchor barrel basket bridge candle carpet drawer engine flower fossil guitar hammer island jacket kettle ladder
magnet mirror needle orange pencil pillow quarry rocket saddle shovel statue temple tunnel walnut wheels window
"""
_ADJECTIVES = """
bright clever frozen gentle golden hollow humble lively mellow modern narrow purple quaint rugged silver simple
sleepy steady strong sturdy sudden tender timely tragic unique upbeat useful velvet violet wooden yellow zigzag
"""
KEYS = tuple(_KEYS.split())
"""Where needles lie, and second halves of words to be found; all of six letters, so that sequences have one length."""

ADJECTIVES = tuple(_ADJECTIVES.split())
"""First halves of words to be found, of six letters."""

Kind: TypeAlias = Literal["number", "word", "uuid"]

_DIGIT, _HEX, _HYPHEN = part("0123456789"), part("0123456789abcdef"), part("-")
_VALUES: Mapping[str, tuple[str, tuple[Part, ...]]] = {
    "number": ("number", (_DIGIT,) * 7),
    "word": ("word", (part(ADJECTIVES), _HYPHEN, part(KEYS))),
    "uuid": ("code", (*(_HEX,) * 8, _HYPHEN, *((*(_HEX,) * 4, _HYPHEN) * 3), *(_HEX,) * 12)),
}


@dataclass(frozen=True, kw_only=True)
class NeedleConfig:
    """What is to be found, and in what.

    Args:
        kind: names the task in a stored config.
        needle: "number" (7 digits), "word" (an adjective and a noun) or "uuid" (32 hexadecimal digits).
        length: tokens (bytes) of a sequence, all but the last byte of the answer.
        haystack: "filler", "newlines", or the text of "prose", "code" or the path of a UTF-8 file or folder.
        n_depths: depths at which the needle may stand, at least 1 and at most the places of the haystack.

    Raises:
        ValueError: a value out of its range. A corpus is read by `Needle`.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["needle"] = "needle"
    needle: Kind = "number"
    length: int = 1024
    haystack: str = "filler"
    n_depths: int = 10

    def __post_init__(self) -> None:
        if self.needle not in _VALUES:
            raise ValueError(f"NeedleConfig.needle: must be one of {', '.join(_VALUES)}, got {self.needle!r}")
        check_room("NeedleConfig", prompt_of(self.needle), self.haystack, self.length, self.n_depths)


def s_niah(level: Literal[1, 2, 3], length: int) -> NeedleConfig:
    """RULER's single needle 1 (a number in filler), 2 (a number in text) or 3 (a UUID in text), of `length` bytes."""
    return NeedleConfig(
        needle="uuid" if level == 3 else "number", haystack="filler" if level == 1 else "prose", length=length
    )


def prompt_of(needle: Kind) -> Prompt:
    """What stands around the haystack."""
    noun, value = _VALUES[needle]
    return Prompt(
        prefix="One sentence of this text says what is under something. Keep it in mind.",
        needle=f"\nUnder the {{key}} is the {noun} {{value}}.",
        question=f"\nWhat is under the {{key}}? Under the {{key}} is the {noun} ",
        key=(part(KEYS),),
        value=value,
    )


@final
class Needle:
    """Batches of a needle in a haystack; the attributes are those of `mnemoscope.tasks.Task`.

    Raises:
        ValueError: a corpus that cannot be read, or is too short for the haystacks.
    """

    unit: str = "accuracy"
    vocab_size: int = 256
    floor_loss: float = 0.0
    """Every answer stands in its sequence."""

    def __init__(self, config: NeedleConfig) -> None:
        self.config = config
        self.length: int = config.length
        prompt = prompt_of(config.needle)
        self._retrieval = Retrieval("Needle", prompt, config.haystack, config.length, config.n_depths)
        self.chance_loss: float = self._retrieval.chance_loss
        """Entropy of a byte of an answer, all its bytes taken together; ln 10 for a number."""
        self.memoryless_loss: float = self._retrieval.memoryless_loss
        """Entropy of a byte of an answer given the byte before it; ln 10 for a number."""

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        """Draw `size` sequences; the same state of `rng` gives different ones for different splits.

        Raises:
            ValueError: size below 1, or an unknown split.
        """
        return self._retrieval.batch(rng, size, split)

    def depths(self, batch: Batch) -> NDArray[np.float64]:
        """How deep each needle stands, from 0 (the start of the haystack) to 1, of shape (b,)."""
        return self._retrieval.depths(batch)

    def words(self, tokens: Sequence[int]) -> list[str]:
        """Bytes as ASCII characters where they are visible ones, a space as an underscore, others as two hex digits."""
        return byte_words(tokens)

    def n_sequences(self, split: Split) -> None:
        """No end: sequences are generated."""
        return None

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step: NumPy, and the corpus of the haystacks."""
        return {"name": "needle", "numpy": np.__version__, **self._retrieval.haystack.manifest()}

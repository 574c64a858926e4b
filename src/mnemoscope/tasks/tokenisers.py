"""How text becomes tokens: bytes, characters, byte-pair encoding, or a tokeniser from a file.

"The café" under each, spaces shown as underscores:

    bytes         T h e _ c a f c3 a9       256 tokens
    characters    T h e _ c a f é           those of the training split by code point, and one for all others
    bpe           The _ca f é               256 bytes, and merges of neighbours, most frequent first
    a path        the cafe                  whatever a tokenizer.json of the package `tokenizers` says

What a tokeniser learns, it learns from the training split. BPE is that of bytes: text is cut into words as in GPT-2,
and the most frequent pair of neighbours within words becomes a token until there are as many as wanted, or no pair
occurs twice. It depends on the text and the number of tokens alone, not on threads, and is kept in the folder of
`mnemoscope.tasks.cache`. Of a tokeniser from a file, special tokens are not added, truncation and padding are off.

Text is encoded in pieces of at most `PIECE` bytes, which end with a line where one ends; no token crosses their edges.

Losses under two tokenisers compare in bits per byte if the tokens tell the text. Bytes and BPE do. A character that the
training split lacks costs, beside its token, the uniform code over all that it lacks: ln(1 112 064 - known) nats. A
tokeniser from a file may lose text, capitals for instance; it has no bits per byte.

Source: Sennrich, Haddow, Birch, "Neural Machine Translation of Rare Words with Subword Units" (2016), section 3.2;
Radford et al., "Language Models are Unsupervised Multitask Learners" (2019), section 2.2, for bytes and words. What
differs: no end-of-text token, since no window crosses the end of a corpus.
"""

import difflib
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from mnemoscope.tasks.cache import cache_path, writing

if TYPE_CHECKING:
    pass

Bytes: TypeAlias = NDArray[np.uint8]
Tokens: TypeAlias = NDArray[np.unsignedinteger]

NAMES = ("bytes", "characters", "bpe")
"""The tokenisers that need no file."""

PIECE = 2**16
"""Most bytes that are encoded at once."""

N_CHARACTERS = 0x110000 - 0x800
"""Unicode scalar values: what a character of UTF-8 can be."""

_PIECES_AT_ONCE = 16


class Encoded(NamedTuple):
    """Text as tokens.

    Args:
        tokens: one after the other, in the smallest type that holds the vocabulary.
        nats_beyond: what it costs to tell the text from its tokens, in nats; None where they do not tell it.
    """

    tokens: Tokens
    nats_beyond: float | None


class Tokeniser(Protocol):
    """What `mnemoscope.tasks.text` asks of a tokeniser."""

    @property
    def vocab_size(self) -> int:
        """Tokens lie in [0, vocab_size)."""
        ...

    @property
    def stored(self) -> bytes:
        """All that it has learned: for one of `tokenizers` the content of its tokenizer.json."""
        ...

    def manifest(self) -> dict[str, str | int]:
        """What tells it apart, for the manifest of a run."""
        ...

    def encode(self, text: Bytes) -> Encoded:
        """The tokens of whole characters of UTF-8."""
        ...

    def words(self, tokens: Sequence[int]) -> list[str]:
        """The tokens as people read them; as many words as tokens."""
        ...


def build_tokeniser(tokeniser: str, bpe_vocab: int, text: Bytes) -> Tokeniser:
    """The tokeniser of a name or path.

    Args:
        tokeniser: "bytes", "characters", "bpe", or the path of a tokenizer.json.
        bpe_vocab: most tokens of "bpe".
        text: the training split, whole characters of UTF-8.

    Raises:
        ValueError: a path where there is none, a file that is no tokeniser, or no package `tokenizers`.
    """
    if tokeniser == "bytes":
        return ByteTokeniser()
    if tokeniser == "characters":
        return CharacterTokeniser(text)
    return SubwordTokeniser(_bpe(bpe_vocab, text) if tokeniser == "bpe" else _read(tokeniser), tokeniser)


@final
class ByteTokeniser:
    """A token is a byte."""

    vocab_size: int = 256
    stored: bytes = b""

    def manifest(self) -> dict[str, str | int]:
        """Nothing: there is but one."""
        return {}

    def encode(self, text: Bytes) -> Encoded:
        """The bytes themselves, uncopied."""
        return Encoded(text, 0.0)

    def words(self, tokens: Sequence[int]) -> list[str]:
        """See `byte_words`."""
        return byte_words(tokens)


@final
class CharacterTokeniser:
    """A token is the rank of a character among those of the training split; the last stands for all others."""

    def __init__(self, text: Bytes) -> None:
        seen = np.zeros(0x110000, dtype=np.bool_)
        for piece in pieces(text):
            seen[_code_points(piece)] = True
        known = np.flatnonzero(seen)
        self.characters: str = "".join(map(chr, known.tolist()))
        self.unknown: int = known.size
        self.vocab_size: int = known.size + 1
        self.stored: bytes = self.characters.encode()
        self._ranks = np.full(0x110000, self.unknown, dtype=_smallest(self.vocab_size))
        self._ranks[known] = np.arange(known.size)

    def manifest(self) -> dict[str, str | int]:
        """What tells it apart: the SHA-256 of its characters in UTF-8."""
        return _manifest(self.stored, self.vocab_size)

    def encode(self, text: Bytes) -> Encoded:
        """One token for each character."""
        tokens = _joined((self._ranks[_code_points(piece)] for piece in pieces(text)), self.vocab_size)
        n_unknown = int((tokens == self.unknown).sum())
        return Encoded(tokens, n_unknown * math.log(N_CHARACTERS - len(self.characters)))

    def words(self, tokens: Sequence[int]) -> list[str]:
        """The characters, a space as an underscore, invisible ones as hex digits; <unknown> for the last token."""
        return [visible(self.characters[t]) if t < self.unknown else "<unknown>" for t in tokens]


@final
class SubwordTokeniser:
    """A tokeniser of the package `tokenizers`.

    Args:
        stored: the content of its tokenizer.json.
        name: to call it by in messages.

    Raises:
        ValueError: content that is no tokeniser, or one that draws at random; no package `tokenizers`.
    """

    def __init__(self, stored: bytes, name: str) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise ValueError(_missing(name, error)) from error
        self.stored: bytes = stored
        try:
            drops = json.loads(stored)["model"].get("dropout")
            self._inner: Tokenizer = Tokenizer.from_str(stored.decode())
        # Beside the errors of json, the package raises plain exceptions.
        except Exception as error:
            raise ValueError(
                f"tokeniser {name!r}: must be a tokenizer.json of the package tokenizers, got a file that is not "
                f"({type(error).__name__}: {str(error)[:200]}); write one with its Tokenizer.save"
            ) from error
        if drops:
            raise ValueError(f"tokeniser {name!r}: must not draw at random, got model.dropout {drops}; set it to null")
        self._inner.no_truncation()
        self._inner.no_padding()
        self.vocab_size: int = max(self._inner.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def manifest(self) -> dict[str, str | int]:
        """What tells it apart: the SHA-256 of its tokenizer.json, and the package that reads it."""
        from tokenizers import __version__

        return {**_manifest(self.stored, self.vocab_size), "tokenizers": __version__}

    def encode(self, text: Bytes) -> Encoded:
        """The tokens of all pieces; they tell the text if every piece is decoded as it was."""
        parts, told = list[Tokens](), True
        for group in _groups(pieces(text), _PIECES_AT_ONCE):
            ids = [piece.ids for piece in self._inner.encode_batch_fast(group, add_special_tokens=False)]
            told = told and self._inner.decode_batch(ids, skip_special_tokens=False) == group
            parts.extend(np.array(piece, dtype=_smallest(self.vocab_size)) for piece in ids)
        return Encoded(_joined(parts, self.vocab_size), 0.0 if told else None)

    def words(self, tokens: Sequence[int]) -> list[str]:
        """What each token alone is decoded as, or what the vocabulary calls it where that is not whole characters."""
        alone = self._inner.decode_batch([[token] for token in tokens], skip_special_tokens=False)
        return [self._word(token, text) for token, text in zip(tokens, alone, strict=True)]

    def _word(self, token: int, text: str) -> str:
        whole = text and "\ufffd" not in text
        return visible(text if whole else self._inner.id_to_token(token) or f"<{token}>")


def pieces(text: Bytes) -> Iterator[str]:
    """`text` cut as `encode` cuts it.

    Args:
        text: whole characters of UTF-8.
    """
    start = 0
    while start < text.size:
        end = min(start + PIECE, text.size)
        if end < text.size:
            line_end = text[start:end].tobytes().rfind(b"\n") + 1
            end = start + line_end if line_end else character_start(text, end)
        yield text[start:end].tobytes().decode()
        start = end


def character_start(text: Bytes, position: int) -> int:
    """Where the character that holds the byte at `position` begins; `position` itself at the end of the text."""
    while 0 < position < text.size and text[position] & 0xC0 == 0x80:
        position -= 1
    return position


def whole_size(text: Bytes) -> int:
    """Bytes of `text` without a character that is torn at its end."""
    last = character_start(text, text.size - 1)
    n_bytes = 1 + sum(int(text[last]) >= lead for lead in (0xC0, 0xE0, 0xF0))
    return last if last + n_bytes > text.size else text.size


def byte_words(tokens: Sequence[int]) -> list[str]:
    """Bytes as ASCII characters where they are visible ones, a space as an underscore, others as two hex digits."""
    return ["_" if t == 32 else chr(t) if 32 < t < 127 else f"{t:02x}" for t in tokens]


def visible(text: str) -> str:
    """Characters as they are, but a space as an underscore, and invisible ones as hex digits."""
    return "".join("_" if c == " " else c if c.isprintable() else f"{ord(c):02x}" for c in text)


def _bpe(bpe_vocab: int, text: Bytes) -> bytes:
    path = cache_path("tokenisers", f"bpe-{bpe_vocab}-{hashlib.sha256(text.data).hexdigest()[:32]}.json")
    if not path.exists():
        stored = _trained(bpe_vocab, text)
        with writing(path) as file:
            file.write(stored)
    return path.read_bytes()


def _trained(bpe_vocab: int, text: Bytes) -> bytes:
    try:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    except ImportError as error:
        raise ValueError(_missing("bpe", error)) from error
    tokeniser = Tokenizer(models.BPE())
    tokeniser.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokeniser.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=bpe_vocab, min_frequency=2, initial_alphabet=alphabet, special_tokens=[], show_progress=False
    )
    tokeniser.train_from_iterator(pieces(text), trainer)
    return tokeniser.to_str().encode()


def _read(name: str) -> bytes:
    path = Path(name).expanduser()
    if path.is_file():
        return path.read_bytes()
    beside = {file.name: str(file) for file in path.parent.iterdir()} if path.parent.is_dir() else {}
    known = {**beside, **{known: known for known in NAMES}}
    nearest = difflib.get_close_matches(path.name, [n for n in known if n in NAMES or n.endswith(".json")], n=1)
    raise ValueError(
        f"tokeniser {name!r}: must be 'bytes', 'characters', 'bpe' or the path of a tokenizer.json, got a path where "
        f"there is no file; nearest valid: {known[nearest[0]] if nearest else 'bytes'!r}"
    )


def _missing(name: str, error: ImportError) -> str:
    return f"tokeniser {name!r}: needs the package tokenizers, got {error}; pip install 'mnemoscope[text]'"


def _manifest(stored: bytes, vocab_size: int) -> dict[str, str | int]:
    return {"tokeniser_sha256": hashlib.sha256(stored).hexdigest(), "vocab_size": vocab_size}


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le"), dtype="<u4")


def _smallest(vocab_size: int) -> np.dtype[np.unsignedinteger]:
    return np.min_scalar_type(max(vocab_size - 1, 0))


def _joined(parts: Iterable[Tokens], vocab_size: int) -> Tokens:
    return np.concatenate([np.empty(0, dtype=_smallest(vocab_size)), *parts])


def _groups(parts: Iterator[str], size: int) -> Iterator[list[str]]:
    group = list[str]()
    for part in parts:
        group.append(part)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group

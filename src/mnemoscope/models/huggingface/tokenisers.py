"""Tokenisers in the form that `AutoTokenizer` loads: of bytes, of characters, or from the content of a tokenizer.json.

A special token in a text is text, as it was in training. The models know no end of a text. Where there is a token that
no text holds, it is the tokeniser's end and padding token, since programs ask for both: the byte FF, which UTF-8 has no
use for, or the unknown character. It was never trained.
"""

import json

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

UNKNOWN = "<unknown>"
FF_OF_BYTE_LEVEL = "\u00ff"
"""How byte-level BPE writes the byte FF."""

VISIBLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
"""Bytes that byte-level BPE writes as the character of that number; the others follow from 256 on."""


def byte_tokeniser() -> PreTrainedTokenizerFast:
    """A token is a byte, and its number the byte's; bytes that are no UTF-8 are decoded as U+FFFD, each by itself."""
    hidden = (byte for byte in range(256) if byte not in VISIBLE)
    vocabulary = {chr(byte): byte for byte in VISIBLE} | {chr(256 + n): byte for n, byte in enumerate(hidden)}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return _wrapped(inner, never=FF_OF_BYTE_LEVEL)


def character_tokeniser(characters: str) -> PreTrainedTokenizerFast:
    """A token is a character, its number the place in `characters`; the last token stands for all others."""
    vocabulary = {character: place for place, character in enumerate(characters)} | {UNKNOWN: len(characters)}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=UNKNOWN, fuse_unk=False))
    inner.decoder = decoders.Fuse()
    return _wrapped(inner, never=UNKNOWN, unknown=UNKNOWN)


def stored_tokeniser(stored: bytes, *, byte_level: bool) -> PreTrainedTokenizerFast:
    """What a tokenizer.json says; no special tokens are added to a text, and none is truncated or padded.

    Args:
        stored: the content of the file.
        byte_level: it is byte-level BPE of all 256 bytes without special tokens, so that the byte FF can be one.
    """
    settings = json.loads(stored) | {"post_processor": None, "truncation": None, "padding": None}
    inner = Tokenizer.from_str(json.dumps(settings))
    return _wrapped(inner, never=FF_OF_BYTE_LEVEL if byte_level else None)


def _wrapped(inner: Tokenizer, never: str | None, unknown: str | None = None) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token=never,
        pad_token=never,
        unk_token=unknown,
        padding_side="left",
        split_special_tokens=never is not None,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )

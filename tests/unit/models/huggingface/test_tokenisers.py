"""Exported tokenisers: the tokens of the task, text back from tokens, and special tokens that no text can name."""

from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from mnemoscope.models.huggingface.tokenisers import byte_tokeniser, character_tokeniser, stored_tokeniser
from mnemoscope.tasks.tokenisers import build_tokeniser

TEXT = "The café, twice: the café.\n\tA tab, <0xFF>, <unknown>, ÿ, 漢字 and  two spaces. " * 3
"""With what special tokens are called, which must stay text."""


def as_bytes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


def loaded(tokeniser, folder: Path):
    tokeniser.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def test_a_token_is_a_byte(tmp_path: Path):
    tokeniser = loaded(byte_tokeniser(), tmp_path)
    tokens = tokeniser(TEXT)["input_ids"]
    assert tokens == list(TEXT.encode())
    assert tokeniser.decode(tokens) == TEXT
    assert tokeniser.decode([*tokens, 255], skip_special_tokens=True) == TEXT
    assert (len(tokeniser), tokeniser.eos_token_id, tokeniser.pad_token_id, tokeniser.bos_token_id) == (
        256,
        255,
        255,
        None,
    )
    assert tokeniser.decode([0xFF, 97, 0xC3, 98]) == "\ufffda\ufffdb"
    batch = tokeniser(["abc", "a"], padding=True)
    assert batch["input_ids"] == [[97, 98, 99], [255, 255, 97]]
    assert batch["attention_mask"] == [[1, 1, 1], [0, 0, 1]]
    assert set(batch) == {"input_ids", "attention_mask"}


def test_a_token_is_a_character(tmp_path: Path):
    ours = build_tokeniser("characters", 256, as_bytes("the café, twice: .\n<unkow>0xF"))
    tokeniser = loaded(character_tokeniser(ours.characters), tmp_path)
    tokens = tokeniser(TEXT)["input_ids"]
    assert tokens == ours.encode(as_bytes(TEXT)).tokens.tolist()
    assert len(tokeniser) == ours.vocab_size
    assert tokeniser.eos_token_id == tokeniser.pad_token_id == tokeniser.unk_token_id == ours.unknown
    assert tokeniser.decode(tokeniser("the café")["input_ids"]) == "the café"


def test_byte_pairs_are_those_of_the_task(tmp_path: Path):
    ours = build_tokeniser("bpe", 300, as_bytes(TEXT))
    tokeniser = loaded(stored_tokeniser(ours.stored, byte_level=True), tmp_path)
    tokens = tokeniser(TEXT)["input_ids"]
    assert tokens == ours.encode(as_bytes(TEXT)).tokens.tolist()
    assert tokeniser.decode(tokens) == TEXT
    assert len(tokeniser) == ours.vocab_size
    assert tokeniser.eos_token_id == tokeniser.pad_token_id
    assert tokeniser.eos_token_id not in tokens


def test_a_tokeniser_from_a_file_adds_nothing(tmp_path: Path):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    inner = Tokenizer(models.WordLevel({"[UNK]": 0, "[BOS]": 1, "the": 2, "cat": 3}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.add_special_tokens(["[BOS]"])
    inner.post_processor = processors.TemplateProcessing(single="[BOS] $A", special_tokens=[("[BOS]", 1)])
    inner.enable_truncation(2)
    inner.save(str(tmp_path / "own.json"))
    ours = build_tokeniser(str(tmp_path / "own.json"), 256, as_bytes(""))
    tokeniser = loaded(stored_tokeniser(ours.stored, byte_level=False), tmp_path / "out")
    text = "the cat sat [BOS] the"
    assert tokeniser(text)["input_ids"] == ours.encode(as_bytes(text)).tokens.tolist() == [2, 3, 0, 1, 2]
    assert tokeniser.eos_token_id is None


@pytest.mark.parametrize("text", ["", "a", "é" * 1000, "\x00\x7f\r\n"])
def test_bytes_of_odd_texts(text: str):
    tokeniser = byte_tokeniser()
    assert tokeniser(text)["input_ids"] == list(text.encode())
    assert tokeniser.decode(list(text.encode())) == text

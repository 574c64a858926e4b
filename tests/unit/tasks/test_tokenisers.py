"""Tokenisers: what they learn and from what, what they give back, what is said of files that are none."""

import json
import math
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from mnemoscope.tasks import tokenisers
from mnemoscope.tasks.tokenisers import (
    ByteTokeniser,
    CharacterTokeniser,
    build_tokeniser,
    character_start,
    pieces,
    visible,
    whole_size,
)

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)


def as_bytes(text):
    return np.frombuffer(text.encode(), dtype=np.uint8)


def tokens_of(tokeniser, text):
    return tokeniser.encode(as_bytes(text)).tokens.tolist()


def decoded(tokeniser, tokens):
    return Tokenizer.from_str(tokeniser.stored.decode()).decode(list(tokens), skip_special_tokens=False)


@pytest.fixture(scope="module")
def bpe():
    return build_tokeniser("bpe", 300, as_bytes("the café is open, the cafés are closed\n" * 20))


@given(text=TEXT)
def test_bytes_are_themselves(text):
    tokens, beyond = ByteTokeniser().encode(as_bytes(text))
    assert bytes(tokens.tolist()) == text.encode()
    assert beyond == 0


@given(text=TEXT, other=TEXT)
def test_characters_are_ranks_and_the_last_token_stands_for_others(text, other):
    tokeniser = CharacterTokeniser(as_bytes(text))
    assert list(tokeniser.characters) == sorted(set(text), key=ord)
    assert tokeniser.vocab_size == len(set(text)) + 1
    assert "".join(tokeniser.characters[t] for t in tokens_of(tokeniser, text)) == text
    assert tokeniser.encode(as_bytes(text)).nats_beyond == 0
    tokens, beyond = tokeniser.encode(as_bytes(other))
    assert [t == tokeniser.unknown for t in tokens.tolist()] == [c not in text for c in other]
    n_unknown = sum(c not in text for c in other)
    assert math.isclose(beyond, n_unknown * math.log(1_112_064 - len(set(text))))


def test_characters_by_hand():
    tokeniser = CharacterTokeniser(as_bytes("b é\na"))
    assert tokeniser.characters == "\n abé"
    assert tokens_of(tokeniser, "é b?a") == [4, 1, 3, 5, 2]
    assert tokeniser.words([0, 1, 2, 3, 4, 5]) == ["0a", "_", "a", "b", "é", "<unknown>"]


@given(text=TEXT)
def test_bpe_gives_back_any_text(bpe, text):
    tokens, beyond = bpe.encode(as_bytes(text))
    assert decoded(bpe, tokens.tolist()) == text
    assert beyond == 0
    assert len(bpe.words(tokens.tolist())) == tokens.size


def test_bpe_by_hand():
    """In "abab" the pair a, b stands twice and b, a once; then ab, ab once in each of twice as many words as lines."""
    tokeniser = build_tokeniser("bpe", 258, as_bytes("abab abab\n" * 3))
    assert tokeniser.vocab_size == 258
    tokens = tokens_of(tokeniser, "abab ab")
    assert (tokens[0], tokens[2]) == (257, 256)
    assert tokeniser.words(tokens) == ["abab", "_", "ab"]
    assert tokeniser.words(tokens_of(tokeniser, "é\n")) == ["Ã", "©", "0a"]


def test_bpe_stops_where_no_pair_recurs():
    assert build_tokeniser("bpe", 4096, as_bytes("abc defg hij")).vocab_size == 256


def test_bpe_does_not_depend_on_threads(monkeypatch):
    text = as_bytes("".join(f"{n} times {n * n} is {n**3}\n" for n in range(3000)))
    stored = []
    for parallelism in ("true", "false"):
        monkeypatch.setenv("TOKENIZERS_PARALLELISM", parallelism)
        stored.append(tokenisers._trained(512, text))
    assert stored[0] == stored[1]
    assert build_tokeniser("bpe", 512, text).stored == stored[0]


def test_bpe_is_kept_and_read_again(tmp_path, monkeypatch):
    monkeypatch.setenv("MNEMOSCOPE_CACHE", str(tmp_path))
    text = as_bytes("once upon a time " * 30)
    first = build_tokeniser("bpe", 280, text)
    (kept,) = (tmp_path / "tokenisers").iterdir()
    assert kept.read_bytes() == first.stored
    monkeypatch.setattr(tokenisers, "_trained", lambda *_: pytest.fail("trained again"))
    assert build_tokeniser("bpe", 280, text).manifest() == first.manifest()


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MNEMOSCOPE_CACHE", str(tmp_path / "file"))
    with pytest.raises(ValueError, match=r"file/tokenisers': must be a folder that can be written.*MNEMOSCOPE_CACHE"):
        build_tokeniser("bpe", 280, as_bytes("text of its own " * 30))


def test_a_kept_tokeniser_is_the_same_as_a_path(bpe, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(bpe.stored)
    again = build_tokeniser(str(path), 1024, as_bytes(""))
    assert again.manifest() == bpe.manifest()
    assert tokens_of(again, "the café") == tokens_of(bpe, "the café")


def lower_casing():
    inner = Tokenizer(models.WordPiece({"[UNK]": 0, "the": 1, "caf": 2, "##es": 3, "[CLS]": 4}, unk_token="[UNK]"))
    inner.normalizer, inner.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    inner.decoder = decoders.WordPiece()
    inner.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 4)])
    inner.enable_truncation(2)
    inner.enable_padding(length=10)
    return inner


def test_a_tokeniser_that_loses_text_says_so(tmp_path):
    path = tmp_path / "words.json"
    lower_casing().save(str(path))
    tokeniser = build_tokeniser(str(path), 1024, as_bytes(""))
    assert tokeniser.vocab_size == 5
    kept, lost = (tokeniser.encode(as_bytes(text)) for text in ("the cafes the", "The cafes"))
    assert kept.tokens.tolist() == [1, 2, 3, 1]
    assert kept.nats_beyond == 0
    assert lost.tokens.tolist() == [1, 2, 3]
    assert lost.nats_beyond is None
    assert tokeniser.words([0, 1, 2, 3]) == ["[UNK]", "the", "caf", "##es"]


@given(text=st.text(st.sampled_from("ab \né€😀"), max_size=60), piece=st.integers(4, 20))
def test_pieces_are_all_of_the_text_and_end_with_lines(text, piece):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenisers, "PIECE", piece)
        cut = list(pieces(as_bytes(text)))
    assert "".join(cut) == text
    assert all(0 < len(part.encode()) <= piece for part in cut)
    for part, after in pairwise(cut):
        ends_a_line = part.endswith("\n")
        assert ends_a_line or ("\n" not in part and len((part + after[0]).encode()) > piece)


def test_many_pieces_are_encoded_in_order(bpe, monkeypatch):
    text = "".join(f"the café {n}\n" for n in range(500))
    monkeypatch.setattr(tokenisers, "PIECE", 30)
    assert decoded(bpe, tokens_of(bpe, text)) == text


@given(text=st.text(st.sampled_from("aé€😀"), min_size=1, max_size=20), data=st.data())
def test_a_character_is_never_torn(text, data):
    stored = as_bytes(text)
    starts = np.cumsum([0, *(len(c.encode()) for c in text)]).tolist()
    at = data.draw(st.integers(0, stored.size))
    assert character_start(stored, at) == max(start for start in starts if start <= at)
    if at:
        assert whole_size(stored[:at]) == max(start for start in starts if start <= at)


def test_invisible_characters_are_hex_digits():
    assert visible("a b\té\u200b") == "a_b09é200b"


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("byte", "must be 'bytes', 'characters', 'bpe' or the path of a tokenizer.json, .* nearest valid: 'bytes'"),
        ("charcters", "nearest valid: 'characters'"),
        ("{}/tokeniser.json", r"nearest valid: '.*/tokenizer\.json'"),
        ("{}/list.json", "must be a tokenizer.json of the package tokenizers"),
        ("{}/binary.json", "must be a tokenizer.json of the package tokenizers"),
        ("{}/config.json", "must be a tokenizer.json of the package tokenizers"),
        ("{}/random.json", r"must not draw at random, got model\.dropout 0\.5; set it to null"),
    ],
)
def test_what_is_no_tokeniser_is_refused(tmp_path, bpe, name, complaint):
    (tmp_path / "tokenizer.json").write_bytes(bpe.stored)
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "binary.json").write_bytes(b"\x80\0")
    (tmp_path / "config.json").write_text('{"model": {"type": "BPX"}}')
    random = json.loads(bpe.stored)
    random["model"]["dropout"] = 0.5
    (tmp_path / "random.json").write_text(json.dumps(random))
    with pytest.raises(ValueError, match=complaint):
        build_tokeniser(name.format(tmp_path), 1024, as_bytes("text"))


@pytest.mark.parametrize("name", ["bpe", "tokenizer.json"])
def test_a_missing_package_is_named(tmp_path, monkeypatch, bpe, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(bpe.stored)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ValueError, match=r"needs the package tokenizers.*pip install 'mnemoscope\[text\]'"):
        build_tokeniser(name, 1024, as_bytes("another text, for which nothing is kept"))


def test_sentencepiece_like_files_are_read(tmp_path):
    inner = Tokenizer(models.BPE(byte_fallback=False))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    inner.train_from_iterator(["the cat the cat"], trainers.BpeTrainer(vocab_size=40, show_progress=False))
    inner.save(str(tmp_path / "meta.json"))
    tokeniser = build_tokeniser(str(tmp_path / "meta.json"), 1024, as_bytes(""))
    assert tokeniser.encode(as_bytes("the cat")).nats_beyond == 0
    assert tokeniser.encode(as_bytes("the dog")).nats_beyond is None

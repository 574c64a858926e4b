"""Text: where windows lie, what they hold, and what is said when there are too few."""

import hashlib
import math
import platform
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from mnemoscope.tasks import SPLITS, Text, TextConfig, entropy, task_rng
from mnemoscope.tasks.entropy import bigram_entropy, unigram_entropy
from mnemoscope.tasks.text import split_spans


@pytest.fixture
def numbered(tmp_path):
    """A file of 40 000 bytes in which any 15 bytes tell where they stand."""
    path = tmp_path / "numbered.txt"
    path.write_text("".join(f"{position:07d}\n" for position in range(0, 40_000, 8)))
    return path


def starts_of(task, text, split, size, step=0):
    """Where in the file the windows of a batch begin."""
    batch = task.batch(task_rng(0, split, step), size, split)
    windows = np.concatenate([batch.inputs, batch.targets[:, -1:]], axis=1)
    found = [text.find(bytes(row.tolist())) for row in windows.astype(np.uint8)]
    assert min(found) >= 0
    return np.array(found)


@given(n_bytes=st.integers(40, 10**9))
def test_splits_are_contiguous_and_disjoint(n_bytes):
    spans = split_spans(n_bytes)
    assert tuple(spans) == SPLITS
    edges = [edge for split in SPLITS for edge in spans[split]]
    assert edges[0] == 0
    assert edges[-1] == n_bytes
    assert edges[1:-1:2] == edges[2::2]
    held_out = spans["test"][1] - spans["test"][0]
    assert held_out == spans["validation"][1] - spans["validation"][0] == n_bytes // 20


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("length", [15, 63, 64, 65, 1000])
def test_windows_stay_in_their_split(numbered, split, length):
    task, text = Text(TextConfig(corpus=str(numbered), length=length)), numbered.read_bytes()
    first, end = split_spans(len(text))[split]
    size = 200 if split == "train" else (end - first) // (length + 1)
    starts = starts_of(task, text, split, size)
    assert starts.min() >= first
    assert starts.max() + length + 1 <= end


def test_targets_are_inputs_shifted_by_one(numbered):
    batch = Text(TextConfig(corpus=str(numbered), length=64)).batch(task_rng(0, "train", 0), 32, "train")
    assert np.array_equal(batch.inputs[:, 1:], batch.targets[:, :-1])


@pytest.mark.parametrize("split", ["validation", "test"])
def test_held_out_windows_of_a_batch_are_disjoint(numbered, split):
    task, text = Text(TextConfig(corpus=str(numbered), length=64)), numbered.read_bytes()
    starts = starts_of(task, text, split, size=30)
    assert (np.diff(np.sort(starts)) >= 65).all()
    assert not np.array_equal(starts, starts_of(task, text, split, size=30, step=1))


def test_training_windows_start_anywhere(tmp_path):
    path = tmp_path / "few.txt"
    path.write_bytes(bytes(range(32, 32 + 90)))
    task = Text(TextConfig(corpus=str(path), length=3))
    starts = starts_of(task, path.read_bytes(), "train", size=5000)
    assert sorted(set(starts)) == list(range(90 - 8 - 3))


@settings(deadline=None, max_examples=20)
@given(length=st.integers(1, 1200), split=st.sampled_from(SPLITS), seed=st.integers(0, 2**32))
def test_same_generator_same_windows(length, split, seed):
    task = Text(TextConfig(corpus="prose", length=length))
    first, second = (task.batch(np.random.default_rng(seed), 8, split) for _ in range(2))
    assert np.array_equal(first.inputs, second.inputs)
    assert first.inputs.shape == (8, length)


def test_chance_loss_is_the_entropy_of_the_training_bytes(tmp_path):
    path = tmp_path / "two.txt"
    path.write_text("ab" * 450 + "c" * 100)
    assert math.isclose(Text(TextConfig(corpus=str(path), length=4)).chance_loss, math.log(2))
    assert unigram_entropy(np.full(10, 7, dtype=np.uint8)) == 0
    assert math.isclose(unigram_entropy(np.arange(256, dtype=np.uint8)), math.log(256))


def test_manifest_names_the_bytes_used(numbered):
    whole = Text(TextConfig(corpus=str(numbered), length=15)).manifest()
    part = Text(TextConfig(corpus=str(numbered), length=15, max_bytes=1000)).manifest()
    assert (whole["name"], whole["bytes"], part["bytes"]) == (str(numbered), 40_000, 1000)
    assert whole["sha256"] == hashlib.sha256(numbered.read_bytes()).hexdigest()
    assert part["sha256"] == hashlib.sha256(numbered.read_bytes()[:1000]).hexdigest()
    assert "python" not in whole
    assert Text(TextConfig(corpus="prose")).manifest()["python"] == platform.python_version()


def test_max_bytes_keeps_the_start(numbered):
    task = Text(TextConfig(corpus=str(numbered), length=15, max_bytes=1000))
    first, end = split_spans(1000)["test"]
    starts = starts_of(task, numbered.read_bytes(), "test", size=3)
    assert first <= starts.min()
    assert starts.max() + 16 <= end


def test_a_corpus_too_short_for_a_window_is_refused(tmp_path):
    path = tmp_path / "short.txt"
    path.write_text("x" * 1299)
    with pytest.raises(ValueError, match=r"20 \* \(length \+ 1\) = 1300 bytes.* got 1299; .* or length <= 63$"):
        Text(TextConfig(corpus=str(path), length=64))
    path.write_text("x" * 1300)
    assert Text(TextConfig(corpus=str(path), length=64)).batch(task_rng(0, "test", 0), 1, "test").size == 1
    path.write_text("x" * 39)
    with pytest.raises(ValueError, match=r"= 40 bytes.* got 39; use a longer corpus$"):
        Text(TextConfig(corpus=str(path), length=1))


def test_more_windows_than_there_are_is_refused(numbered):
    task = Text(TextConfig(corpus=str(numbered), length=99))
    assert task.batch(task_rng(0, "test", 0), 20, "test").size == 20
    with pytest.raises(ValueError, match=r"at most 20, .* length 99 in the 2000 bytes .* got 21; .* or length <= 94$"):
        task.batch(task_rng(0, "test", 0), 21, "test")
    longest = Text(TextConfig(corpus=str(numbered), length=94))
    assert longest.batch(task_rng(0, "test", 0), 21, "test").size == 21
    with pytest.raises(ValueError, match=r"or a longer corpus$"):
        task.batch(task_rng(0, "test", 0), 2000, "test")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"corpus": ""}, "corpus: must be 'prose', 'code' or a path"),
        ({"length": 0}, "length: must be at least 1, got 0; nearest valid: 1"),
        ({"max_bytes": 5139}, r"20 \* \(length \+ 1\) = 5140, .* got 5139; nearest valid: 5140"),
        ({"tokeniser": ""}, "tokeniser: must be 'bytes', 'characters', 'bpe' or a path, got an empty string"),
        ({"tokeniser": "bpe", "bpe_vocab": 255}, "at least 256, one for each byte, got 255; nearest valid: 256"),
        ({"bpe_vocab": 512}, "must be None where the tokeniser is not 'bpe', got 512 with 'bytes'"),
    ],
)
def test_config_refuses(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        TextConfig(**options)


def test_bytes_are_those_of_the_first_release(tmp_path):
    """A change here changes the data of every stored run."""
    path = tmp_path / "counted.txt"
    path.write_bytes("".join(f"{number:07d}é\n" for number in range(4000)).encode())
    task, digests = Text(TextConfig(corpus=str(path), length=31)), []
    for split in SPLITS:
        batch = task.batch(task_rng(3, split, 7), 16, split)
        digests.append(hashlib.sha256(batch.inputs.tobytes() + batch.targets.tobytes()).hexdigest()[:16])
    assert digests == ["0096d08f50f7affa", "3daac8f4cdc0b9b6", "525f616c7d1241cb"]
    assert (task.vocab_size, task.unit) == (256, "bits per byte")
    assert (task.chance_loss, task.memoryless_loss) == (2.157215303444293, 1.246278070105249)
    assert task.manifest() == {
        "name": str(path),
        "bytes": 40_000,
        "sha256": "48f071c26d4db5917f4f899dcd75a8b9aa73ebc5f3cca0ac4000569805d5ef96",
        "numpy": np.__version__,
    }
    assert task.bits_per_byte(1.2345, "test") == 1.2345 / math.log(2)


TOKENISERS = ("characters", "bpe")
"""Beside bytes."""


@pytest.fixture
def accented(tmp_path):
    """Some 40 000 bytes of lines, of which the cuts tear characters unless they are moved."""
    path = tmp_path / "accented.txt"
    path.write_text("x" + "".join(f"{'é' * (n % 7 + 20)} {n % 13}€\n" for n in range(800)), encoding="utf-8")
    return path


def spelt(task, tokens):
    """The text of tokens."""
    if task.config.tokeniser == "characters":
        return "".join(task.tokeniser.characters[token] for token in tokens)
    return Tokenizer.from_str(task.tokeniser.stored.decode()).decode(list(tokens))


@pytest.mark.parametrize("tokeniser", TOKENISERS)
def test_splits_are_cut_before_they_are_tokenised(accented, tokeniser):
    task, text = Text(TextConfig(corpus=str(accented), length=16, tokeniser=tokeniser)), accented.read_bytes()
    edges = [start for start, _ in split_spans(len(text)).values()]
    assert any(text[edge] & 0xC0 == 0x80 for edge in edges)
    whole = [edge - next(n for n in range(4) if text[edge - n] & 0xC0 != 0x80) for edge in edges]
    for split, (first, end) in zip(SPLITS, pairwise([*whole, len(text)]), strict=True):
        assert spelt(task, task._splits[split].tolist()) == text[first:end].decode()


@pytest.mark.parametrize("tokeniser", TOKENISERS)
def test_windows_of_tokens_stay_in_their_split(accented, tokeniser):
    task = Text(TextConfig(corpus=str(accented), length=16, tokeniser=tokeniser))
    for split in SPLITS:
        size = 50 if split == "train" else task.n_sequences(split)
        batch = task.batch(task_rng(0, split, 0), size, split)
        assert np.array_equal(batch.inputs[:, 1:], batch.targets[:, :-1])
        assert batch.inputs.dtype == np.int64
        tokens = task._splits[split].tolist()
        windows = np.concatenate([batch.inputs, batch.targets[:, -1:]], axis=1).tolist()
        step = 1 if split == "train" else 17
        there = {tuple(tokens[start : start + 17]) for start in range(0, len(tokens) - 16, step)}
        assert {tuple(window) for window in windows} <= there


@pytest.mark.parametrize("tokeniser", TOKENISERS)
def test_held_out_text_teaches_the_tokeniser_nothing(tmp_path, tokeniser):
    training, tasks = "the same words again and again\n" * 310, []
    for name, ending in (("a", "and again"), ("b", "wholly ДРУГОЕ ends")):
        path = tmp_path / name
        text = (training + ending * 100).encode()[:10_000].decode(errors="ignore")
        path.write_text(text + "-" * (10_000 - len(text.encode())), encoding="utf-8")
        tasks.append(Text(TextConfig(corpus=str(path), length=16, tokeniser=tokeniser)))
    assert tasks[0].tokeniser.stored == tasks[1].tokeniser.stored
    assert tasks[0].manifest()["tokeniser_sha256"] == tasks[1].manifest()["tokeniser_sha256"]
    assert tasks[0].manifest()["sha256"] != tasks[1].manifest()["sha256"]


@pytest.mark.parametrize("tokeniser", ["bytes", *TOKENISERS])
def test_bits_per_byte_are_the_bits_of_all_tokens_over_all_bytes(accented, tokeniser):
    task = Text(TextConfig(corpus=str(accented), length=16, tokeniser=tokeniser))
    for split in SPLITS:
        tokens = task._splits[split].tolist()
        n_bytes = len(tokens) if tokeniser == "bytes" else len(spelt(task, tokens).encode())
        bits = len(tokens) * math.log2(task.vocab_size)
        assert math.isclose(task.bits_per_byte(math.log(task.vocab_size), split), bits / n_bytes)


def test_one_model_has_one_figure_under_tokenisers_that_cut_alike():
    """BPE without merges is bytes under other numbers."""
    options = {"corpus": "prose", "length": 16, "max_bytes": 60_000}
    figures = []
    for tokeniser in ({"tokeniser": "bytes"}, {"tokeniser": "bpe", "bpe_vocab": 256}):
        task = Text(TextConfig(**options, **tokeniser))
        figures += [[task.bits_per_byte(loss, "train") for loss in (task.chance_loss, task.memoryless_loss)]]
    assert np.allclose(*figures, rtol=1e-12)


def test_unknown_characters_are_charged_what_the_tokens_do_not_tell(tmp_path):
    path = tmp_path / "unseen.txt"
    path.write_text("ab" * 450 + "ab" * 20 + "aя" * 2 + "a" * 4 + "ab" * 25, encoding="utf-8")
    task = Text(TextConfig(corpus=str(path), length=8, tokeniser="characters"))
    assert task.vocab_size == 3
    assert task.words([0, 1, 2]) == ["a", "b", "<unknown>"]
    assert math.isclose(task.bits_per_byte(0.0, "validation"), 2 * math.log2(1_112_064 - 2) / 50)
    assert task.bits_per_byte(0.0, "train") == task.bits_per_byte(0.0, "test") == 0


def test_a_tokeniser_that_loses_text_has_no_bits_per_byte(tmp_path):
    inner = Tokenizer(models.WordLevel({"the": 0, "end": 1, "?": 2}, unk_token="?"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.save(str(tmp_path / "words.json"))
    (tmp_path / "text.txt").write_text("the end " * 200)
    task = Text(TextConfig(corpus=str(tmp_path / "text.txt"), length=8, tokeniser=str(tmp_path / "words.json")))
    assert task.unit == "accuracy"
    assert task.words([0, 1, 2]) == ["the", "end", "?"]
    with pytest.raises(ValueError, match=r"the tokens must tell the text, got the tokeniser '.*words\.json'"):
        task.bits_per_byte(1.0, "test")


@pytest.mark.parametrize("tokeniser", TOKENISERS)
def test_a_torn_last_character_is_left_out(accented, tokeniser):
    text = accented.read_bytes()
    end = next(n for n in range(10_000, 11_000) if text[n] & 0xC0 == 0x80)
    task = Text(TextConfig(corpus=str(accented), length=16, max_bytes=end, tokeniser=tokeniser))
    assert task.manifest()["sha256"] == hashlib.sha256(text[: end - 1]).hexdigest()
    assert Text(TextConfig(corpus=str(accented), length=16, max_bytes=end)).manifest()["bytes"] == end


@pytest.mark.parametrize("tokeniser", TOKENISERS)
def test_a_window_longer_than_a_split_of_tokens_is_refused(tmp_path, tokeniser):
    path = tmp_path / "short.txt"
    path.write_text("naïve café\n" * 200, encoding="utf-8")

    def build(length):
        return Text(TextConfig(corpus=str(path), length=length, tokeniser=tokeniser))

    n_tokens = min(build(5)._splits[split].size for split in SPLITS)
    longest = build(n_tokens - 1)
    for split in SPLITS:
        assert longest.batch(task_rng(0, split, 0), 1, split).size == 1
    with pytest.raises(ValueError, match=rf"length \+ 1 = {n_tokens + 1} tokens, .* or length <= {n_tokens - 1}$"):
        build(n_tokens)
    with pytest.raises(ValueError, match=r"size must be at most 1, .* tokens of the test split, got 2"):
        longest.batch(task_rng(0, "test", 0), 2, "test")


@pytest.mark.parametrize("tokeniser", TOKENISERS)
@pytest.mark.parametrize(("content", "complaint"), [(b"", "got 0 bytes"), (b"text\0" * 100, "NUL byte at offset 4")])
def test_empty_and_binary_files_are_refused_under_all_tokenisers(tmp_path, tokeniser, content, complaint):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=complaint):
        Text(TextConfig(corpus=str(tmp_path / "file"), length=4, tokeniser=tokeniser))


def test_the_manifest_tells_tokenisers_apart(accented):
    options = ({"tokeniser": "characters"}, {"tokeniser": "bpe"}, {"tokeniser": "bpe", "bpe_vocab": 260})
    manifests = [Text(TextConfig(corpus=str(accented), length=16, **option)).manifest() for option in options]
    assert len({manifest["tokeniser_sha256"] for manifest in manifests}) == 3
    assert manifests[2]["vocab_size"] == 260
    assert manifests[2]["tokenizers"]


@given(tokens=st.lists(st.integers(0, 4000), min_size=2, max_size=200))
def test_entropies_by_slow_counting(tokens):
    n, array = len(tokens), np.array(tokens, dtype=np.uint16)
    singles, firsts, pairs = Counter(tokens), Counter(tokens[:-1]), Counter(pairwise(tokens))
    assert math.isclose(unigram_entropy(array), -sum(c / n * math.log(c / n) for c in singles.values()), abs_tol=1e-9)
    slow = -sum(count * math.log(count / firsts[first]) for (first, _), count in pairs.items()) / (n - 1)
    assert math.isclose(bigram_entropy(array, 4001), slow, abs_tol=1e-9)


@given(tokens=st.lists(st.integers(0, 9), min_size=2, max_size=200), at_once=st.integers(1, 50))
def test_entropies_do_not_depend_on_how_pairs_are_counted(tokens, at_once):
    array = np.array(tokens, dtype=np.uint8)
    dense, sparse, single = bigram_entropy(array, 10), bigram_entropy(array, 10_000), unigram_entropy(array)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entropy, "_AT_ONCE", at_once)
        assert bigram_entropy(array, 10) == dense
        assert bigram_entropy(array, 10_000) == sparse
        assert unigram_entropy(array) == single
    assert math.isclose(dense, sparse, abs_tol=1e-12)

"""Masked words: gaps hide what was stored, texts stay in their split, and the controls leave nothing to recall."""

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnemoscope.contracts.batch import IGNORE
from mnemoscope.tasks import SPLITS, MaskedWords, MaskedWordsConfig, task_rng
from mnemoscope.tasks.episodes import memory_use
from mnemoscope.tasks.text import split_spans


@pytest.fixture
def numbered(tmp_path):
    """A file of 40 000 bytes in which any 15 bytes tell where they stand."""
    path = tmp_path / "numbered.txt"
    path.write_text("".join(f"{position:07d}\n" for position in range(0, 40_000, 8)))
    return path


@st.composite
def configs(draw):
    n_masks, span_words = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    return MaskedWordsConfig(
        text_unit=draw(st.sampled_from(["word", "byte"])),
        text_length=n_masks * span_words + draw(st.integers(1, 40)),
        n_storage=draw(st.integers(1, 4)),
        n_retrieval=draw(st.integers(1, 9)),
        n_masks=n_masks,
        span_words=span_words,
        order=draw(st.sampled_from(["shuffled", "stored"])),
    )


def word_length(names, text, at):
    """Tokens of the word that begins at a token, for tokens that are words or bytes of the stories."""
    return len(re.match(r"[a-z]+", "".join(names[at:])).group()) if len(names[at]) == 1 and text == "byte" else 1


@settings(deadline=None, max_examples=25)
@given(config=configs(), seed=st.integers(0, 2**32))
@example(config=MaskedWordsConfig(), seed=0)
@example(config=MaskedWordsConfig(n_retrieval=12, n_storage=2, text_length=16, n_masks=8), seed=0)
def test_a_reader_of_storage_fills_every_gap(config, seed):
    """Walks through each copy beside its text, and keeps in mind where every token of a text was seen last."""
    task, length, n = MaskedWords(config), config.text_length, config.n_storage
    batch, mask = task.batch(task_rng(seed, "train", 0), 2, "train"), task.words(range(task.vocab_size)).index("[mask]")
    assert (batch.targets[:, : task.reset_at] == IGNORE).all()
    assert all(((known == -1) == (batch.targets == IGNORE)).all() for known in batch.about.values())
    for row in range(2):
        stored = batch.inputs[row, : task.reset_at].reshape(n, length).tolist()
        seen = {(item, at): item * length + at for item in range(n) for at in range(length)}
        query = 0
        for copy in range(config.n_retrieval):
            begin = task.reset_at + copy * length
            cells = range(begin, begin + length)
            items = {int(batch.about["item"][row, at]) for at in cells} - {-1}
            assert len(items) <= 1
            # A copy in which nothing could be masked is its text.
            item = items.pop() if items else stored.index(batch.inputs[row, begin : begin + length].tolist())
            at, news = 0, {}
            names = task.words(stored[item])
            for place in cells:
                token, target = int(batch.inputs[row, place]), int(batch.targets[row, place])
                if at == length:
                    assert task.words([token]) == ["[pad]"]
                elif token == mask:
                    assert at > 0
                    assert target == stored[item][at]
                    expected = {"distance": place - seen[item, at], "item": item, "load": n, "query": query}
                    assert {name: known[row, place] for name, known in batch.about.items()} == expected
                    at, query = at + word_length(names, config.text_unit, at), query + 1
                else:
                    assert (token, target) == (stored[item][at], IGNORE)
                    news[item, at] = place
                    at += 1
            assert at == length
            seen |= news


@pytest.mark.parametrize("text_unit", ["word", "byte"])
def test_as_many_words_are_masked_as_asked_for(text_unit):
    task = MaskedWords(MaskedWordsConfig(text_unit=text_unit, n_masks=3, span_words=2))
    scored = task.batch(task_rng(0, "train", 0), 20, "train").targets[:, task.reset_at :] != IGNORE
    assert (scored.reshape(20, 5, 64).sum(axis=2) == 6).all()


def test_copies_come_in_rounds():
    orders = {}
    for order in ("stored", "shuffled"):
        task = MaskedWords(MaskedWordsConfig(n_storage=3, n_retrieval=7, order=order))
        item = task.batch(task_rng(0, "train", 0), 400, "train").about["item"][:, task.reset_at :].reshape(400, 7, 64)
        orders[order] = item.max(axis=2)
    assert (orders["stored"] == [0, 1, 2, 0, 1, 2, 0]).all()
    shuffled = orders["shuffled"]
    assert (np.sort(shuffled[:, :3]) == [0, 1, 2]).all()
    assert (np.sort(shuffled[:, 3:6]) == [0, 1, 2]).all()
    counts = Counter(map(tuple, shuffled[:, :3].tolist()))
    assert len(counts) == 6
    assert max(abs(count - 400 / 6) for count in counts.values()) < 5 * np.sqrt(400 * 5 / 36)
    assert (shuffled[:, :3] != shuffled[:, 3:6]).any()


def test_halves_are_the_batch_and_storage_is_scored_by_the_next_token():
    task = MaskedWords(MaskedWordsConfig())
    batch = task.batch(task_rng(0, "validation", 3), 4, "validation")
    episode = task.episode(task_rng(0, "validation", 3), 4, "validation")
    assert np.array_equal(episode.joined().inputs, batch.inputs)
    assert np.array_equal(episode.retrieval.targets, batch.targets[:, task.reset_at :])
    for text in episode.storage_sequences():
        assert np.array_equal(text.targets[:, :-1], text.inputs[:, 1:])
        assert (text.targets[:, -1] == IGNORE).all()
    assert [part.inputs.shape for part in episode.retrieval_sequences()] == [(4, 64)] * 5


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("length", [15, 63, 64, 65])
def test_texts_stay_in_their_split_and_never_overlap(numbered, split, length):
    config = MaskedWordsConfig(corpus=str(numbered), text_unit="byte", text_length=length, n_storage=3, n_masks=1)
    task, text = MaskedWords(config), numbered.read_bytes()
    first, end = split_spans(len(text))[split]
    size, origins = task.n_sequences(split), set()
    assert size == (end - first - (length - 1) * (split == "train")) // length // 3
    for step in range(5):
        texts = task.episode(task_rng(0, split, step), size, split).storage.inputs.reshape(-1, length)
        starts = np.sort([text.find(bytes(row.tolist())) for row in texts])
        assert starts.min() >= first
        assert starts.max() + length <= end
        assert np.diff(starts).min() >= length
        origins |= set((starts - first) % length)
    assert (len(origins) > 1) == (split == "train")


def test_words_of_held_out_text_alone_are_unknown_and_not_asked_for(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("red green blue " * 300 + "red pink " * 50)
    task = MaskedWords(MaskedWordsConfig(corpus=str(path), text_length=8, n_storage=2, n_masks=7))
    batch = task.batch(task_rng(0, "test", 0), 3, "test")
    assert set(task.words(batch.inputs[0, :16].tolist())) == {"red", "[unknown]"}
    assert set(task.words(batch.targets[batch.targets >= 0].tolist())) == {"red"}


def follow(storage, asked, mask):
    """A memory of which word followed which three, or fewer where those never stood together; 0 where none did."""
    guesses = np.zeros(asked.shape, dtype=np.int64)
    for row in range(len(asked)):
        tokens, known = storage[row].tolist(), {}
        for width in (1, 2, 3):
            known |= {tuple(tokens[at - width : at]): tokens[at] for at in range(width, len(tokens))}
        for at in np.flatnonzero(asked[row] == mask):
            cues = [tuple(asked[row, max(at - width, 0) : at].tolist()) for width in (3, 2, 1)]
            guesses[row, at] = next((known[cue] for cue in cues if cue in known), 0)
    return guesses


def test_controls_take_away_what_storage_told():
    task = MaskedWords(MaskedWordsConfig(n_masks=4))
    episode, mask = task.episode(np.random.default_rng(0), 60, "test"), task.vocab_size - 1
    asked, the = episode.retrieval, task.words(range(task.vocab_size)).index("the")
    use = memory_use(
        asked.targets,
        memory=follow(episode.storage.inputs, asked.inputs, mask),
        reset=np.full_like(asked.targets, the),
        wrong=follow(episode.wrong().storage.inputs, asked.inputs, mask),
    )
    assert use.memory.mean > 0.8
    assert use.wrong.mean < 0.5
    assert use.reset.mean == pytest.approx(task.baselines("test").unigram_accuracy, abs=5 * use.reset.se)
    assert use.used
    assert use.specificity.mean > 5 * use.specificity.se


def test_losses_are_those_of_what_is_masked():
    task = MaskedWords(MaskedWordsConfig(n_masks=20))
    targets = task.batch(task_rng(0, "train", 0), 1000, "train").targets
    shares = np.bincount(targets[targets >= 0]) / (targets >= 0).sum()
    entropy = -(shares[shares > 0] * np.log(shares[shares > 0])).sum()
    assert task.chance_loss == task.memoryless_loss == pytest.approx(entropy, abs=0.01)
    assert task.baselines("train").unigram_loss == pytest.approx(task.chance_loss, abs=0.01)
    assert task.floor_loss == 0


def test_held_out_stories_have_two_thousand_masked_words():
    task = MaskedWords(MaskedWordsConfig())
    for split in ("validation", "test"):
        targets = task.batch(task_rng(0, split, 0), task.n_sequences(split), split).targets
        assert (targets != IGNORE).sum() >= 2000


def test_words_and_manifest():
    task = MaskedWords(MaskedWordsConfig(text_unit="byte"))
    assert task.words([104, 32, 256, 257]) == ["h", "_", "[mask]", "[pad]"]
    assert MaskedWords(MaskedWordsConfig(corpus="prose")).manifest()["python"].startswith("3.")
    assert "python" not in task.manifest()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"corpus": ""}, "corpus: must be 'stories', 'prose', 'code' or a path, got ''"),
        ({"text_unit": "char"}, "text_unit: must be 'word' or 'byte' or 'bpe', got 'char'; nearest valid: 'word'"),
        ({"order": "random"}, "order: must be 'shuffled' or 'stored', got 'random'; nearest valid: 'shuffled'"),
        ({"text_length": 1}, "text_length: must be at least 2, got 1; nearest valid: 2"),
        ({"n_storage": 0}, "n_storage: must be at least 1, got 0; nearest valid: 1"),
        ({"n_retrieval": 0}, "n_retrieval: must be at least 1, got 0; nearest valid: 1"),
        ({"n_masks": 0}, "n_masks: must be at least 1, got 0; nearest valid: 1"),
        ({"span_words": 0}, "span_words: must be at least 1, got 0; nearest valid: 1"),
        ({"n_masks": 32, "span_words": 2}, r"must be at most text_length - 1 = 63 .* got 32 \* 2; nearest valid: 31"),
        ({"n_masks": 1, "span_words": 64}, r"got 1 \* 64; use span_words <= 63"),
        ({"vocab_size": 3}, "vocab_size: must be at least 4 .* got 3; nearest valid: 4"),
        ({"vocab_size": 258, "text_unit": "byte"}, "vocab_size: must be None .* got 258; nearest valid: None"),
    ],
)
def test_config_refuses(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        MaskedWordsConfig(**options)


def test_a_short_corpus_is_refused(numbered):
    with pytest.raises(ValueError, match=r"20000 tokens, .* got 5000; use a longer .* text_length <= 50"):
        MaskedWords(MaskedWordsConfig(corpus=str(numbered), text_length=200))


def test_a_corpus_without_words_is_refused(tmp_path):
    path = tmp_path / "dots.txt"
    path.write_text("... " * 4000)
    with pytest.raises(ValueError, match="must have a word to mask, got none among 10800 tokens"):
        MaskedWords(MaskedWordsConfig(corpus=str(path)))


def test_too_many_episodes_are_refused(numbered):
    task = MaskedWords(MaskedWordsConfig(corpus=str(numbered), text_unit="byte", text_length=40))
    with pytest.raises(ValueError, match=r"size must be at most 10, .* in the test split, got 11; nearest valid: 10"):
        task.batch(task_rng(0, "test", 0), 11, "test")

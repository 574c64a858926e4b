"""Masked words of byte-pair encoding: several tokens, asked for whole; splits are cut before they are encoded."""

import math
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from mnemoscope.contracts.batch import IGNORE
from mnemoscope.experiments.recipes import find_recipe
from mnemoscope.experiments.settings import with_settings
from mnemoscope.runs import RunDirectory
from mnemoscope.tasks import SPLITS, MaskedWords, MaskedWordsConfig, task_rng
from mnemoscope.tasks.episodes import memory_use
from mnemoscope.tasks.masked_text import MaskedText, losses_of_counting, mask_words
from mnemoscope.tasks.subword_text import bpe_text
from mnemoscope.training import train_recipe

KNOWN = "the quick brown fox said that the lazy dog doesn't know me_too caf\u00e9 l\u2019eau 99 times\n"
ODD = "unbelievable xylophones, extraordinarily zigzagging\n"


@pytest.fixture(scope="module")
def text():
    """Ordinary sentences, and a rare one in every split."""
    return (KNOWN * 40 + ODD).encode() * 5


@pytest.fixture
def file(tmp_path, text):
    path = tmp_path / "text.txt"
    path.write_bytes(text)
    return path


def spelled(text, at, stop):
    return "".join(text.names[token] for token in text.tokens[at:stop]).replace("_", " ").lstrip()


def test_words_are_whole_and_may_have_several_tokens(text):
    found = bpe_text(text, 300)
    begins = np.flatnonzero(found.word_lengths).tolist()
    words = Counter(spelled(found, at, at + found.word_lengths[at]) for at in begins)
    assert {"quick", "that", "99", "unbelievable", "xylophones", "extraordinarily"} <= set(words)
    assert max(found.word_lengths) >= 3
    # The t of doesn't is the end of a token; nothing else is left out.
    all_words = Counter(re.findall(r"\w+", text.decode().replace("_", " ")))
    assert all_words.keys() - words.keys() <= {"t", "me", "too", "caf\u00e9"}
    assert words["quick"] == all_words["quick"]
    assert len(found.names) == 300
    assert (found.names[found.mask], found.names[found.padding]) == ("[mask]", "[pad]")
    assert found.tokens.max() < 298


def test_a_word_has_one_number(text):
    found = bpe_text(text, 300)
    begins = np.flatnonzero(found.word_lengths)
    by_number = {}
    for at in begins.tolist():
        by_number.setdefault(found.words[at], set()).add(tuple(found.tokens[at : at + found.word_lengths[at]]))
    assert all(len(tokens) == 1 for tokens in by_number.values())
    assert len({tokens for each in by_number.values() for tokens in each}) == len(by_number) == found.n_words
    assert (found.words[found.word_lengths == 0] == -1).all()


def test_splits_are_cut_before_they_are_encoded_and_training_alone_teaches():
    train, others = b"abc def ghi " * 150, (b"jkl mno " * 13)[:100]
    whole = train + others + others
    found = bpe_text(whole, 280)
    names = np.array(found.names)
    parts = {split: "".join(names[found.tokens[slice(*found.spans[split])]]) for split in SPLITS}
    assert "".join(parts.values()) == whole.decode().replace(" ", "_")
    assert [len(parts[split]) for split in SPLITS] == [1800, 100, 100]
    assert not any("j" in name and len(name) > 1 for name in found.names[:278])
    assert any(name == "_def" for name in found.names)


def test_a_word_of_bytes_alone_is_asked_for_token_by_token():
    """Drawn by hand, with three tokens of one word between two gaps."""
    lengths = np.array([0, 3, 0, 0, 1, 0])
    text = MaskedText(
        tokens=np.arange(6),
        word_lengths=lengths,
        names=("",) * 8,
        mask=6,
        padding=7,
        words=np.array([-1, 0, -1, -1, 1, -1]),
    )
    masked = mask_words(text, np.arange(6)[None], np.random.default_rng(0), n_masks=2, span_words=1)
    assert masked.inputs.tolist() == [[0, 6, 1, 2, 6, 5]]
    assert masked.targets.tolist() == [[IGNORE, 1, 2, 3, 4, IGNORE]]
    assert masked.source.tolist() == [[0, 1, 2, 3, 4, 5]]
    # Scored are 1 after the mask, 2 after 1, 3 after 2, 4 after the mask: of the present token, one bit is left twice.
    chance, memoryless = losses_of_counting(text, 0, 6)
    assert chance == pytest.approx(math.log(4))
    assert memoryless == pytest.approx(math.log(2) / 2)


@pytest.mark.parametrize("split", SPLITS)
def test_filling_the_gaps_gives_the_text_and_a_word_is_one_question(file, split):
    config = MaskedWordsConfig(
        corpus=str(file), text_unit="bpe", vocab_size=300, text_length=40, n_storage=2, n_retrieval=3, n_masks=6
    )
    task = MaskedWords(config)
    mask = task.words(range(300)).index("[mask]")
    batch = task.batch(task_rng(0, split, 0), 2, split)
    lengths = set[int]()
    for inputs, targets, query, item in zip(
        batch.inputs, batch.targets, batch.about["query"], batch.about["item"], strict=True
    ):
        stored = inputs[:80].reshape(2, 40)
        for copy in range(3):
            cells = slice(80 + 40 * copy, 120 + 40 * copy)
            scored = targets[cells] != IGNORE
            assert not scored[0]
            filled = np.where(scored, targets[cells], inputs[cells])
            (of,) = set(item[cells][scored].tolist())
            assert filled.tolist() == stored[of].tolist()
            # Behind a mask stands what the last target was.
            goes_on = scored & (inputs[cells] != mask)
            assert (inputs[cells][1:] == targets[cells][:-1])[goes_on[1:]].all()
            sizes = Counter(query[cells][scored].tolist())
            assert len(sizes) == (inputs[cells] == mask).sum() <= 6
            lengths |= set(sizes.values())
        assert sorted({*query.tolist()} - {-1}) == list(range((inputs == mask).sum()))
    assert max(lengths) > 1


def test_an_answer_counts_where_all_its_tokens_are_right(file):
    config = MaskedWordsConfig(corpus=str(file), text_unit="bpe", vocab_size=270, text_length=40, n_storage=2)
    task = MaskedWords(config)
    episode = task.episode(task_rng(0, "test", 0), 3, "test")
    asked, mask = episode.retrieval, 268
    first = asked.inputs == mask
    firsts = np.where(first, asked.targets, 0)
    use = memory_use(asked.targets, memory=asked.targets, reset=firsts, wrong=firsts, query=asked.about["query"])
    assert (use.memory.mean, use.memory.n_scored) == (1.0, first.sum())
    alone = first & (np.roll(asked.targets == IGNORE, -1, axis=1) | np.roll(first, -1, axis=1))
    assert use.reset.mean == pytest.approx(alone.sum() / first.sum())
    assert use.reset.mean < 0.9


def test_baselines_are_of_whole_words(file):
    task = MaskedWords(
        MaskedWordsConfig(corpus=str(file), text_unit="bpe", vocab_size=270, text_length=16, n_storage=2, n_masks=2)
    )
    found = task.baselines("train")
    # At the start of a line, where no space stands before it, "the" is another word.
    words = Counter(re.findall(r" ?\w+", file.read_text()))
    assert found.unigram_accuracy == pytest.approx(words[" the"] / found.n_words / (10 / 9), rel=0.1)
    assert found.bigram_accuracy > found.unigram_accuracy
    assert 0 < task.memoryless_loss < task.chance_loss
    assert task.manifest()["tokeniser_sha256"]


def test_it_trains_from_a_recipe_by_its_setting(file, tmp_path):
    changes = ["text_unit=bpe", "vocab_size=300", "text_length=16", "n_storage=2", "n_masks=2", f"corpus={file}"]
    recipe = with_settings(find_recipe("atlas-tiny"), [f"masked_words.{change}" for change in changes])
    recipe = with_settings(
        recipe, ["model.vocab_size=300", "train.steps=2", "train.warmup_steps=1", "train.eval_every=2"]
    )
    recipe = with_settings(recipe, ["train.batch_size=2", "train.checkpoint_every=2", "lesson.eval_words=20"])
    train_recipe(replace(recipe, name="bpe"), tmp_path / "run", progress=False)
    found = RunDirectory(tmp_path / "run").read_metrics()[-1]
    assert {"validation_utility", "validation_utility_se", "train_accuracy_memory"} <= set(found)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"vocab_size": 257}, "vocab_size: must be at least 258 in units of 'bpe' .* got 257; nearest valid: 258"),
        ({"text_unit": "bpe "}, "text_unit: must be 'word' or 'byte' or 'bpe'"),
    ],
)
def test_config_refuses(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        MaskedWordsConfig(**{"text_unit": "bpe", **options})


def test_a_short_corpus_is_refused(file):
    with pytest.raises(ValueError, match=r"must have at least .* tokens, .* got \d+"):
        MaskedWords(MaskedWordsConfig(corpus=str(file), text_unit="bpe", text_length=2000))

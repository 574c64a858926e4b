"""E5: what the loss and the projection do to the head of a small language model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mnemoscope.experiments.head_collapse import ARMS, HEAD_COLLAPSE, OTHER, SmallLm, traced, words_of
from mnemoscope.experiments.published import on_text
from mnemoscope.experiments.stability import PERPGRAD


@pytest.fixture
def settings(tmp_path: Path) -> SmallLm:
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in rng.zipf(1.5, 1500) % 40]
    file = tmp_path / "text.txt"
    file.write_text(" ".join(words))
    return SmallLm(
        corpus=str(file),
        vocab_size=12,
        width=8,
        n_layers=1,
        length=6,
        batch_size=4,
        steps=4,
        every=2,
        early=2,
        middle=2,
        validation_windows=3,
    )


def test_words(tmp_path: Path, settings: SmallLm):
    file = tmp_path / "words.txt"
    file.write_text("The don't -- a1, the. THE cat _ cat\n" * 40 + "zebra " * 30)
    tiny = replace(settings, corpus=str(file), vocab_size=4, length=2)
    words = words_of(tiny)
    n = 40 * 11 + 30
    assert len(words.train) == n - n // 20
    assert words.validation.shape == (3, 3)
    assert bool((words.validation == OTHER).all())
    # "the" is the most frequent, "cat" next; then the first of those that stand once in a line.
    assert words.train[:11].tolist() == [1, 3, 0, 0, 0, 1, 0, 1, 2, 0, 2]
    with pytest.raises(ValueError, match=r"and 99 different ones, got 470 and"):
        words_of(replace(tiny, vocab_size=100))


def test_arms_begin_alike_and_differ_afterwards(settings: SmallLm):
    words = words_of(settings)
    traces = {name: traced(settings, arm, words, 0) for name, arm in ARMS.items()}
    assert len({trace.embedding[0] for trace in traces.values()}) == 1
    assert traces["CE tied"] == traced(settings, ARMS["CE tied"], words, 0)
    assert traces["CE tied"].head == traces["CE tied"].embedding
    untied = traces["CE untied"]
    assert all(len(values) == 3 for values in (untied.head, untied.embedding, untied.validation))


def test_each_arm_is_trained_in_its_own_way(settings: SmallLm):
    """The first step of Adam has the size of the learning rate whatever the gradient; later ones tell."""
    found = {name: _after_four_steps(settings, name) for name in ARMS}
    for one, other in (("CE tied", "StableMax tied"), ("CE tied", "PerpGrad 1"), ("PerpGrad 0.5", "PerpGrad 1")):
        assert (found[one] - found[other]).abs().max() > 1e-5


def test_every_claim_is_measured(settings: SmallLm):
    measured = HEAD_COLLAPSE.measure(settings, 0)
    assert {claim.figure for claim in HEAD_COLLAPSE.claims} <= measured.figures.keys()
    assert list(measured.series["step"]) == [0, 2, 4]
    assert {len(values) for values in measured.series.values()} == {3}
    assert measured.figures == HEAD_COLLAPSE.measure(settings, 0).figures


def test_another_text_and_settings(settings: SmallLm):
    assert on_text(HEAD_COLLAPSE, "code").sizes["small"].corpus == "code"
    assert HEAD_COLLAPSE.sizes["small"].corpus == "prose"
    with pytest.raises(ValueError, match="perpgrad reads no text; leave out --text code"):
        on_text(PERPGRAD, "code")
    with pytest.raises(ValueError, match=r"SmallLm\.every: must divide early = 2, got 4"):
        replace(settings, every=4)
    ours = HEAD_COLLAPSE.sizes["small"]
    assert (ours.vocab_size, ours.width, ours.n_layers, ours.length, ours.batch_size) == (2000, 64, 2, 64, 16)
    assert (ours.steps, ours.early, ours.middle, ours.learning_rate) == (600, 150, 300, 1e-3)


def _after_four_steps(settings: SmallLm, name: str) -> torch.Tensor:
    from mnemoscope.experiments import head_collapse

    kept = list[torch.Tensor]()
    measured = head_collapse._measured  # pyright: ignore[reportPrivateUsage]

    def watching(model, words):
        kept.append(model.head.weight.detach().clone())
        return measured(model, words)

    head_collapse._measured = watching  # pyright: ignore[reportPrivateUsage]
    try:
        traced(replace(settings, every=4, early=4, middle=4), ARMS[name], words_of(settings), 0)
    finally:
        head_collapse._measured = measured  # pyright: ignore[reportPrivateUsage]
    assert len(kept) == 2
    return kept[1]

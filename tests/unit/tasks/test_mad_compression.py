"""MAD compression: all tokens but noise are asked for, in either layout."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnemoscope.contracts.batch import IGNORE
from mnemoscope.tasks import SPLITS, MadCompression, MadCompressionConfig, task_rng


@st.composite
def configs(draw):
    noise, causal = draw(st.integers(0, 9)), draw(st.booleans())
    return MadCompressionConfig(
        vocab_size=noise + draw(st.integers(6, 40)),
        length=2 * draw(st.integers(6, 30)) + (0 if causal else draw(st.integers(0, 1))),
        layout="causal" if causal else "autoencoder",
        noise_vocab_size=noise,
        frac_noise=draw(st.sampled_from([0.2, 0.9])) if noise else 0.0,
        n_train=draw(st.sampled_from([None, 5])),
    )


@settings(deadline=None, max_examples=80)
@given(config=configs(), seed=st.integers(0, 2**32), split=st.sampled_from(SPLITS))
@example(config=MadCompressionConfig(), seed=0, split="train")
@example(config=MadCompressionConfig(layout="autoencoder", length=32), seed=0, split="test")
def test_a_reader_of_tokens_rebuilds_all_but_noise(config, seed, split):
    causal, last = config.layout == "causal", config.vocab_size - 1
    n, first_noise = config.length // 2 if causal else config.length - 1, last - config.noise_vocab_size
    batch = MadCompression(config).batch(task_rng(seed, split, 0), 4, split)
    assert (batch.inputs[:, n:] == last).all()
    assert (batch.inputs[:, :n] < last).all()
    for inputs, targets in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
        answers = [token if token < first_noise else IGNORE for token in inputs[:n]]
        assert targets == ([IGNORE] * n + answers if causal else [*answers, IGNORE])
        assert set(answers) != {IGNORE}
    scored = batch.targets != IGNORE
    assert all(np.array_equal(values >= 0, scored) for values in batch.about.values())
    for row in range(4):
        places = [place for place in range(n) if batch.inputs[row, place] < first_noise]
        for item, (place, t) in enumerate(zip(places, np.flatnonzero(scored[row]), strict=True)):
            about = {name: values[row, t] for name, values in batch.about.items()}
            read_at = t if causal else n
            assert batch.inputs[row, place] == batch.targets[row, t]
            assert about == {"distance": read_at - place, "item": item, "load": len(places), "query": item}


def test_noise_comes_as_often_as_asked_and_is_never_scored():
    config = MadCompressionConfig(vocab_size=16, noise_vocab_size=4, frac_noise=0.3, n_train=None)
    batch = MadCompression(config).batch(np.random.default_rng(0), 4000, "train")
    share = (batch.inputs[:, :32] >= 11).mean()
    assert abs(share - 0.3 * 31 / 32) < 0.01
    assert batch.targets.max() == 10


def test_the_sequence_of_the_first_release():
    task = MadCompression(MadCompressionConfig(vocab_size=8, length=8))
    batch = task.batch(task_rng(0, "train", 0), 1, "train")
    assert batch.inputs[0].tolist() == [5, 0, 2, 2, 7, 7, 7, 7]
    assert batch.targets[0, 4:].tolist() == [5, 0, 2, 2]
    noisy = MadCompression(MadCompressionConfig(vocab_size=8, length=8, noise_vocab_size=2, frac_noise=0.5))
    assert noisy.words([4, 5, 6, 7]) == ["4", "n0", "n1", "?"]


@pytest.mark.parametrize("noise", [0, 4])
@pytest.mark.parametrize("layout", ["causal", "autoencoder"])
def test_the_present_token_is_the_answer_only_where_an_autoencoder_is_asked(layout, noise):
    config = MadCompressionConfig(
        layout=layout, length=32, noise_vocab_size=noise, frac_noise=0.1 * noise, n_train=None
    )
    task = MadCompression(config)
    batch = task.batch(np.random.default_rng(0), 10_000, "train")
    asked, counts = batch.targets != IGNORE, np.zeros((16, 16))
    np.add.at(counts, (batch.inputs[asked], batch.targets[asked]), 1)
    shares = counts / counts.sum()
    present = shares.sum(1, keepdims=True) + np.zeros_like(shares)
    conditional = -(shares[shares > 0] * np.log(shares[shares > 0] / present[shares > 0])).sum()
    assert math.isclose(conditional, task.memoryless_loss, abs_tol=1e-3)
    assert task.chance_loss == math.log(15 - noise)
    assert task.floor_loss == 0


@pytest.mark.parametrize("n_train", [None, 50])
def test_splits_share_no_sequence(n_train):
    task = MadCompression(MadCompressionConfig(vocab_size=5, length=10, n_train=n_train))
    seen = {
        split: set(map(tuple, task.batch(np.random.default_rng(0), 800, split).inputs.tolist())) for split in SPLITS
    }
    assert all(seen.values())
    assert sum(map(len, seen.values())) == len(set().union(*seen.values()))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"vocab_size": 2}, r"vocab_size: must be at least 3 \+ noise_vocab_size = 3 .* nearest valid: 3"),
        ({"length": 33}, "length: must be at least 2, and even for layout 'causal', got 33; nearest valid: 34"),
        ({"length": 1, "layout": "autoencoder"}, "got 1; nearest valid: 2"),
        ({"frac_noise": 1.0}, "frac_noise: must be at least 0 and below 1, got 1.0"),
        ({"frac_noise": 0.2}, "noise_vocab_size: must be at least 1 with frac_noise = 0.2, got 0; nearest valid: 1"),
        ({"noise_vocab_size": 4}, "noise_vocab_size: must be 0 with frac_noise = 0.0, got 4; nearest valid: 0"),
        ({"n_train": 0}, "n_train: must be at least 1"),
    ],
)
def test_config_refuses(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        MadCompressionConfig(**options)

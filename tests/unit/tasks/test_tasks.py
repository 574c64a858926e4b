"""The common shape of tasks: building, strict loading, and the streams of randomness."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from mnemoscope.tasks import (
    SPLITS,
    TASKS,
    AssociativeRecallConfig,
    BabiConfig,
    BabiFilesConfig,
    BigramsConfig,
    CompositionalConfig,
    CopyingConfig,
    CuedRecallConfig,
    DemandControlConfig,
    ForgettingConfig,
    InContextPathStarConfig,
    InductionHeadsConfig,
    KeyValueConfig,
    MadCompressionConfig,
    MadFuzzyRecallConfig,
    MadMemorisationConfig,
    MadNoisyRecallConfig,
    MadRecallConfig,
    MadSelectiveCopyingConfig,
    MaskedWordsConfig,
    ModularArithmeticConfig,
    Mqar,
    MqarConfig,
    NeedleConfig,
    PasskeyConfig,
    PathStarConfig,
    PlanetaryConfig,
    RegBenchConfig,
    RepeatCopyConfig,
    SelectiveCopyingConfig,
    SequentialDigitsConfig,
    SparseParityConfig,
    StoriesConfig,
    Task,
    TaskConfig,
    Text,
    TextConfig,
    ThreeMoonsConfig,
    TinyGraphsConfig,
    build_task,
    task_rng,
)
from mnemoscope.tasks.options import config_of
from mnemoscope.tasks.streams import draw_owned, owners, split_stream

CONFIGS = (
    MqarConfig(vocab_size=64, length=32, n_pairs=4),
    TextConfig(length=32),
    BigramsConfig(vocab_size=16, length=64),
    CompositionalConfig(vocab_size=48, length=32),
    CuedRecallConfig(n_pairs=4),
    DemandControlConfig(vocab_size=64, length=32, n_pairs=4),
    ForgettingConfig(vocab_size=64, length=32, n_pairs=4, n_updates=2),
    InductionHeadsConfig(length=32),
    MadCompressionConfig(length=32, n_train=64),
    MadFuzzyRecallConfig(length=32, n_train=64),
    MadMemorisationConfig(vocab_size=32, length=16, n_train=64),
    MadNoisyRecallConfig(length=32, n_train=64),
    MadRecallConfig(length=32, n_train=64),
    MadSelectiveCopyingConfig(length=32, n_tokens=8, n_train=64),
    MaskedWordsConfig(text_length=16, n_storage=2, n_retrieval=2, n_masks=3),
    SelectiveCopyingConfig(length=64, n_tokens=8),
    RegBenchConfig(n_environments=40, n_held_out=40),
    BabiConfig(),
    BabiFilesConfig(folder=str(Path(__file__).parent / "babi")),
    NeedleConfig(length=256, haystack="prose"),
    PasskeyConfig(length=256, n_depths=2),
    ModularArithmeticConfig(modulus=17),
    SequentialDigitsConfig(),
    SparseParityConfig(n_bits=20),
    StoriesConfig(length=64),
    TextConfig(length=32, tokeniser="characters"),
    TextConfig(length=32, tokeniser="bpe", bpe_vocab=512),
    InContextPathStarConfig(n_train=64),
    PathStarConfig(n_arms=64),
    TinyGraphsConfig(),
)
BITS = (
    AssociativeRecallConfig(max_items=4),
    CopyingConfig(max_length=8),
    KeyValueConfig(max_pairs=4, two_way=True),
    RepeatCopyConfig(max_length=4, max_repeats=3),
)
VECTORS = (*BITS, PlanetaryConfig(length=32), ThreeMoonsConfig(length=32))
"""Tasks without tokens, for what holds of every task."""
LOADER: TypeAdapter[TaskConfig] = TypeAdapter(TaskConfig)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)
@pytest.mark.parametrize("split", SPLITS)
def test_batches_keep_what_the_protocol_promises(config, split):
    task: Task = build_task(config)
    batch = task.batch(task_rng(0, split, 0), 5, split)
    assert batch.inputs.shape == batch.targets.shape == (5, task.length)
    assert batch.inputs.dtype == batch.targets.dtype == np.int64
    scored = batch.targets[batch.targets >= 0]
    assert scored.size > 0
    assert max(batch.inputs.max(), scored.max()) < task.vocab_size
    assert batch.inputs.min() >= 0
    assert set(batch.targets[batch.targets < 0]) <= {-100}
    assert 0 < task.chance_loss <= np.log(task.vocab_size)
    assert task.unit in ("accuracy", "bits per byte")
    assert task.memoryless_loss is None or (task.floor_loss or 0) <= task.memoryless_loss <= task.chance_loss + 1e-9
    assert len(task.words(batch.inputs[0].tolist())) == task.length
    assert all(isinstance(value, str | int) for value in task.manifest().values())


@pytest.mark.parametrize("config", VECTORS, ids=lambda config: config.kind)
@pytest.mark.parametrize("split", SPLITS)
def test_batches_of_vectors_keep_what_the_protocol_promises(config, split):
    task = build_task(config)
    batch = task.batch(task_rng(0, split, 0), 5, split)
    assert isinstance(task, Task)
    assert batch.inputs.shape == (5, task.length, task.n_channels)
    assert batch.inputs.dtype == batch.targets.dtype == np.float32
    assert not np.isnan(batch.inputs).any()
    scored = batch.targets[~np.isnan(batch.targets)]
    assert scored.size > 0
    assert task.vocab_size == 0
    if config in BITS:
        assert task.unit == "bit errors"
        assert batch.targets.shape == (5, task.length, task.n_outputs)
        assert set(scored.tolist()) == {0, 1}
        assert all(np.isnan(row).any() and not np.isnan(row).all() for row in batch.targets)
        assert task.floor_loss == 0 < task.memoryless_loss <= task.chance_loss == np.log(2)
    else:
        assert task.unit == "mean absolute error"
        assert batch.targets.shape == batch.inputs.shape
        assert task.chance_loss is task.memoryless_loss is task.floor_loss is None
    assert len(task.words(batch.inputs[0].tolist())) == task.length


@pytest.mark.parametrize("config", [*CONFIGS, *VECTORS], ids=lambda config: config.kind)
def test_a_batch_depends_on_seed_split_and_step_alone(config):
    def inputs(seed, split, step):
        return build_task(config).batch(task_rng(seed, split, step), 8, split).inputs

    reference = inputs(3, "train", 7)
    assert np.array_equal(reference, inputs(3, "train", 7))
    for other in ((4, "train", 7), (3, "train", 8), (3, "validation", 7), (3, "test", 7)):
        assert not np.array_equal(reference, inputs(*other))


@pytest.mark.parametrize("config", [*CONFIGS, *VECTORS], ids=lambda config: config.kind)
def test_inputs_and_targets_share_no_memory(config):
    batch = build_task(config).batch(task_rng(0, "train", 0), 2, "train")
    assert not np.shares_memory(batch.inputs, batch.targets)


def test_every_kind_builds_its_class():
    assert isinstance(build_task(CONFIGS[0]), Mqar)
    assert isinstance(build_task(CONFIGS[1]), Text)
    assert set(TASKS) == {config.kind for config in (*CONFIGS, *VECTORS)}


@pytest.mark.parametrize("config", [*CONFIGS, *VECTORS], ids=lambda config: config.kind)
def test_configs_survive_json(config):
    assert LOADER.validate_json(LOADER.dump_json(config)) == config


@pytest.mark.parametrize(
    ("stored", "complaint"),
    [
        ('{"kind": "mqar", "n_pair": 4}', "n_pair"),
        ('{"kind": "text", "lenght": 4}', "lenght"),
        ('{"kind": "mqra"}', "expected tags: .*'mqar'"),
        ('{"kind": "mqar", "length": 7}', "nearest valid: 32"),
    ],
)
def test_stored_configs_are_loaded_strictly(stored, complaint):
    with pytest.raises(ValidationError, match=complaint):
        LOADER.validate_json(stored)


def test_streams_of_different_triples_share_no_number():
    triples = [(seed, split, step) for seed in (0, 1) for split in SPLITS for step in (0, 1, 2**63)]
    numbers = np.concatenate([task_rng(*triple).integers(2**63, size=1000) for triple in triples])
    assert np.unique(numbers).size == numbers.size


def test_numpy_integers_name_the_same_stream():
    expected = task_rng(5, "test", 9).integers(2**63, size=4)
    assert np.array_equal(task_rng(np.int64(5), "test", np.int64(9)).integers(2**63, size=4), expected)


def test_streams_are_those_of_the_first_release():
    """A change here changes the data of every stored run."""
    assert task_rng(1, "validation", 2).integers(1000, size=4).tolist() == [701, 245, 663, 70]


def test_split_stream_tells_splits_apart_and_moves_its_source():
    rng = np.random.default_rng(0)
    drawn = [split_stream(np.random.default_rng(0), split).random() for split in SPLITS]
    assert len(set(drawn)) == len(SPLITS)
    assert split_stream(rng, "train").random() == drawn[0]
    assert split_stream(rng, "train").random() != drawn[0]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((-1, "train", 0), r"seed must be at least 0 and below 2\*\*64, got -1; nearest valid: 0"),
        ((2**64, "train", 0), "seed must be .* nearest valid: 18446744073709551615"),
        ((0, "train", -3), "step must be .* got -3"),
        ((0, "valid", 0), "got 'valid'; nearest valid: 'validation'"),
    ],
)
def test_task_rng_refuses(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        task_rng(*arguments)


@pytest.mark.parametrize("config", [*CONFIGS, *VECTORS], ids=lambda config: config.kind)
def test_batch_refuses_a_bad_size_or_split(config):
    task = build_task(config)
    with pytest.raises(ValueError, match="size must be at least 1, got 0; nearest valid: 1"):
        task.batch(task_rng(0, "train", 0), 0, "train")
    with pytest.raises(ValueError, match="got 'tst'; nearest valid: 'test'"):
        task.batch(task_rng(0, "train", 0), 1, "tst")


def test_owners_are_those_of_the_first_release():
    """A change here moves sequences from training to test."""
    content = np.arange(60).reshape(20, 3)
    assert owners(content).tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]


def test_a_tenth_is_held_out_and_equal_rows_have_one_owner():
    content = np.random.default_rng(0).integers(1000, size=(20_000, 4))
    owned = owners(content)
    assert np.array_equal(owned, owners(content[:, :]))
    shares = np.bincount(owned, minlength=3) / owned.size
    assert np.allclose(shares, [0.9, 0.05, 0.05], atol=0.01)
    assert not np.array_equal(owned, owners(content[:, ::-1]))


@pytest.mark.parametrize("split", SPLITS)
def test_rows_are_drawn_until_the_split_has_its_own(split):
    def draw(rng, rows):
        content = rng.integers(100, size=(rows, 2))
        return content, content.sum(1)

    content, sums = draw_owned(draw, np.random.default_rng(0), 50, split)
    assert content.shape == (50, 2)
    assert np.array_equal(content.sum(1), sums)
    assert set(owners(content)) == {SPLITS.index(split)}


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("mqr", (), "unknown task 'mqr'; did you mean 'mqar'?"),
        ("mqar", ("n_pair=3",), "mqar has no parameter 'n_pair'; did you mean 'n_pairs'?"),
        ("mqar", ("n_pairs",), "must be written name=value, got 'n_pairs'"),
        ("mqar", ("n_pairs=many",), "n_pairs: Input should be a valid integer"),
        ("mqar", ("n_pairs=0",), "nearest valid: 1"),
        ("mqar", ("kind=text",), "mqar has no parameter 'kind'"),
    ],
)
def test_parameters_in_words_are_refused_in_words(kind, options, message):
    with pytest.raises(ValueError, match=message):
        config_of(kind, options)


def test_parameters_in_words():
    assert config_of("mqar", ("n_pairs=2", "random_non_queries=False")) == MqarConfig(
        n_pairs=2, random_non_queries=False
    )
    assert config_of("text", ("corpus=code", "max_bytes=None")) == TextConfig(corpus="code")

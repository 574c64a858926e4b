"""A model as a folder: what was saved is what is loaded, and nothing is recovered silently."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from mnemoscope.models import MosaicConfig, Stack, StackConfig, build, build_mosaic, load_model, save_model
from tests.unit.models.strategies import stacks

ADAPTER = TypeAdapter(StackConfig)


def saved(folder: Path, *, tied: bool = True) -> Stack:
    layout = "attention(window=4, n_heads=2), gated_delta(n_heads=2) | bank(n_slots=3)"
    model = build(StackConfig.of(layout, vocab_size=11, d_model=16, tie_embeddings=tied), seed=5)
    save_model(model, folder)
    return model


def logits(model: Stack) -> Tensor:
    return model(torch.arange(9).view(1, 9))


@pytest.mark.parametrize("tied", [True, False])
def test_round_trip(tmp_path: Path, tied: bool):
    model = saved(tmp_path / "deep" / "folder", tied=tied)
    loaded = load_model(str(tmp_path / "deep" / "folder"))
    assert loaded.config == model.config
    assert (loaded.head.weight is loaded.embedding.weight) == tied
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for ours, theirs in zip(loaded.state_dict().values(), model.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(logits(loaded), logits(model))
    assert sorted(path.name for path in (tmp_path / "deep" / "folder").iterdir()) == ["model.json", "model.safetensors"]


def test_saving_again_replaces(tmp_path: Path):
    saved(tmp_path)
    model = build(StackConfig.of("bank", vocab_size=7, d_model=8), seed=1)
    save_model(model, tmp_path)
    assert load_model(tmp_path).config == model.config


def test_loading_leaves_the_global_generator_alone(tmp_path: Path):
    saved(tmp_path)
    before = torch.get_rng_state()
    load_model(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


@given(config=stacks)
def test_every_configuration_survives_json(config: StackConfig):
    assert ADAPTER.validate_json(ADAPTER.dump_json(config), strict=True) == config


@settings(max_examples=8)
@given(config=stacks)
def test_every_model_survives_a_folder(config: StackConfig):
    try:
        model = build(config, seed=0)
    except ValueError:
        return  # widths that do not fit together are refused, see test_stack.py
    with TemporaryDirectory() as folder:
        save_model(model, folder)
        loaded = load_model(folder)
    assert loaded.config == config
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_missing_file_is_named(tmp_path: Path, name: str):
    saved(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=f"must hold model.json and model.safetensors, {name} is missing"):
        load_model(tmp_path)


def test_garbled_weights_are_refused(tmp_path: Path):
    saved(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(ValueError, match=r"model\.safetensors does not hold the weights of model\.json"):
        load_model(tmp_path)


def test_weights_cut_short_are_refused(tmp_path: Path):
    saved(tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="does not hold the weights"):
        load_model(tmp_path)


def test_weights_of_another_model_are_refused(tmp_path: Path):
    saved(tmp_path / "ours")
    save_model(build(StackConfig.of("bank", vocab_size=11, d_model=16), seed=0), tmp_path / "theirs")
    (tmp_path / "theirs" / "model.safetensors").replace(tmp_path / "ours" / "model.safetensors")
    with pytest.raises(ValueError, match="does not hold the weights"):
        load_model(tmp_path / "ours")


def test_a_garbled_configuration_is_refused(tmp_path: Path):
    saved(tmp_path)
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(ValueError, match=r"model\.json is not a model's configuration"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ((), {"colour": "red"}, "colour"),
        (("mixers", 0), {"colour": "red"}, "colour"),
        (("mixers", 1, "memory"), {"colour": "red"}, "colour"),
        (("mixers", 1), {"colour": "red"}, "colour"),
        ((), {"vocab_size": "11"}, "vocab_size"),
        ((), {"vocab_size": 1}, r"stack\.vocab_size must be at least 2"),
        ((), {"tie_embeddings": "yes"}, "tie_embeddings"),
        ((), {"kind": "heap"}, "kind"),
        (("mixers", 0), {"kind": "quantum"}, "quantum"),
        (("mixers", 0), {"window": 0}, r"attention\.window must be at least 1 token"),
        (("mixers", 0), {"window": 2.5}, "window"),
    ],
)
def test_strict_loading(tmp_path: Path, path: tuple[str | int, ...], value: dict[str, object], message: str):
    saved(tmp_path)
    document = json.loads((tmp_path / "model.json").read_text())
    part = document
    for key in path:
        part = part[key]
    part.update(value)
    (tmp_path / "model.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match=rf"(?s)model\.json is not a model's configuration: .*{message}"):
        load_model(tmp_path)


def test_a_field_left_out_takes_its_default():
    assert ADAPTER.validate_json('{"vocab_size": 9}', strict=True) == StackConfig(vocab_size=9)
    with pytest.raises(ValidationError, match="vocab_size"):
        ADAPTER.validate_json("{}", strict=True)


@torch.no_grad()
def test_a_mosaic_comes_back_as_it_was(tmp_path: Path):
    mosaic, tokens = build_mosaic(MosaicConfig(vocab_size=11, d_model=16), seed=3), torch.arange(11).view(1, 11)
    save_model(mosaic, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.config == mosaic.config
    assert torch.equal(loaded(tokens), mosaic(tokens))


def test_an_unknown_kind_of_model_is_refused_with_those_there_are(tmp_path: Path):
    save_model(build(StackConfig(vocab_size=5, d_model=8), seed=0), tmp_path)
    config = tmp_path / "model.json"
    config.write_text(config.read_text().replace('"stack"', '"stick"'))
    with pytest.raises(ValueError, match=r"'stick' .* expected tags: 'stack', 'mosaic'"):
        load_model(tmp_path)

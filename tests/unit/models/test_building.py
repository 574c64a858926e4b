import pytest
import torch
from pydantic import TypeAdapter

from mnemoscope.models import (
    Mosaic,
    MosaicConfig,
    Stack,
    StackConfig,
    build_model,
    build_mosaic,
    only_stack,
    reads_vectors,
)
from mnemoscope.models.building import ModelConfig

MOSAIC = MosaicConfig(vocab_size=7, d_model=8, n_layers=1)
STACK = StackConfig.of("gla(n_heads=2)", vocab_size=7, d_model=8)
VECTORS = StackConfig.of_vectors("gla(n_heads=2)", n_channels=3, n_outputs=3, d_model=8)


def test_a_model_is_built_as_its_kind():
    assert isinstance(build_model(STACK, 0), Stack)
    built, wanted = build_model(MOSAIC, 3), build_mosaic(MOSAIC, 3)
    assert isinstance(built, Mosaic)
    assert all(torch.equal(a, b) for a, b in zip(built.parameters(), wanted.parameters(), strict=True))


def test_settings_are_told_apart_by_their_kind_and_are_a_stacks_without_one():
    adapter = TypeAdapter(ModelConfig)
    assert adapter.validate_python(adapter.dump_python(MOSAIC, mode="json")) == MOSAIC
    assert adapter.validate_python(adapter.dump_python(STACK, mode="json")) == STACK
    assert adapter.validate_python({"vocab_size": 7}) == StackConfig(vocab_size=7)
    with pytest.raises(ValueError, match="ntm"):
        adapter.validate_python({"kind": "ntm", "vocab_size": 7})


def test_what_takes_stacks_alone_refuses_a_mosaic():
    assert only_stack(STACK, "plan") is STACK
    with pytest.raises(ValueError, match="plan: takes models of kind 'stack', got 'mosaic'"):
        only_stack(MOSAIC, "plan")
    assert [reads_vectors(config) for config in (MOSAIC, STACK, VECTORS)] == [False, False, True]

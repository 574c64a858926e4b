"""A stack as a Hugging Face model: the same logits, losses and gradients, from the disk as well."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from mnemoscope.models import StackConfig
from mnemoscope.models.huggingface import MnemoscopeConfig, MnemoscopeForCausalLM, MnemoscopeModel
from tests.unit.memories.cases import CASES
from tests.unit.models.huggingface.stacks import UNLIKE, VOCABULARY, from_disk, of_config, tokens_of, wrapped

CHUNKED = "omega_mlp(granularity='chunk', window=1, n_heads=2)"
FIRST_OF_A_KIND = {case.config.kind: name for name, case in reversed(CASES.items())}


@torch.no_grad()
@pytest.mark.parametrize("layout", UNLIKE)
def test_logits_come_back_from_the_disk(layout: str, tmp_path: Path):
    stack, model = wrapped(layout)
    generator = torch.get_rng_state()
    loaded, tokens = from_disk(model, tmp_path), tokens_of(2, 30)
    assert torch.equal(torch.get_rng_state(), generator)
    assert isinstance(loaded, MnemoscopeForCausalLM)
    assert not loaded.training
    assert loaded.stack.head.weight is loaded.stack.embedding.weight
    assert "stack.head.weight" not in load_file(tmp_path / "model.safetensors")
    torch.testing.assert_close(loaded(tokens).logits, stack(tokens), rtol=0, atol=1e-6)
    headless = AutoModel.from_pretrained(tmp_path)
    assert isinstance(headless, MnemoscopeModel)
    torch.testing.assert_close(headless(tokens).last_hidden_state, stack.hidden(tokens), rtol=0, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize(
    "case", [pytest.param(name, marks=() if name in FIRST_OF_A_KIND.values() else pytest.mark.long) for name in CASES]
)
def test_every_mixer_comes_back_from_the_disk(case: str, tmp_path: Path):
    config = StackConfig(vocab_size=VOCABULARY, d_model=16, mixers=(CASES[case].config,), tie_embeddings=False)
    stack, model = of_config(config)
    loaded, tokens = from_disk(model, tmp_path), tokens_of(2, 21)
    assert loaded.config.stack_config() == config
    torch.testing.assert_close(loaded(tokens).logits, stack(tokens), rtol=0, atol=1e-6)


def test_learned_positions_and_untied_heads(tmp_path: Path):
    config = StackConfig.of("attention", vocab_size=VOCABULARY, d_model=16, tie_embeddings=False)
    stack, model = of_config(replace(config, positions="learned", max_tokens=12))
    loaded = from_disk(model, tmp_path)
    assert loaded.config.max_position_embeddings == 12
    assert loaded.stack.head.weight is not loaded.stack.embedding.weight
    assert torch.equal(loaded(tokens_of(1, 12)).logits, stack(tokens_of(1, 12)))
    with pytest.raises(ValueError, match="learned positions reach 12 tokens, got 13"):
        loaded.generate(tokens_of(1, 10), max_new_tokens=4, do_sample=False)


def test_bfloat16(tmp_path: Path):
    stack, model = wrapped("attention(window=6), gated_delta, mamba2(d_state=8)")
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    tokens = tokens_of(2, 20)
    got, wanted = loaded(tokens).logits, stack(tokens)
    assert got.dtype == torch.bfloat16
    assert (got.float() - wanted).std() < 0.02 * wanted.std()
    assert loaded.generate(tokens, max_new_tokens=3, do_sample=False).shape == (2, 23)


def test_labels_give_the_loss_of_the_next_token():
    _, model = wrapped("gated_delta")
    tokens, labels = tokens_of(2, 12), tokens_of(2, 12)
    labels[0, :5] = -100
    output = model(tokens, labels=labels)
    wanted = F.cross_entropy(output.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
    torch.testing.assert_close(output.loss, wanted)
    n_scored = int((labels[:, 1:] != -100).sum())
    torch.testing.assert_close(model(tokens, labels=labels, num_items_in_batch=2 * n_scored).loss, wanted / 2)
    with pytest.raises(ValueError, match="labels need the logits of every position, got logits_to_keep=1"):
        model(tokens, labels=labels, logits_to_keep=1)


@torch.no_grad()
def test_some_logits_and_tuples():
    _, model = wrapped("gated_delta")
    tokens = tokens_of(2, 12)
    whole = model(tokens).logits
    assert torch.equal(model(tokens, logits_to_keep=3).logits, whole[:, -3:])
    assert torch.equal(model(tokens, logits_to_keep=torch.tensor([0, 5])).logits, whole[:, [0, 5]])
    logits, cache = model(tokens, return_dict=False)
    assert torch.equal(logits, whole)
    assert cache.get_seq_length() == 12
    assert len(model(tokens, return_dict=False, use_cache=False)) == 1


@pytest.mark.parametrize("layout", ["attention(window=6), gated_delta", "mamba2(d_state=8) * 2", "mlstm", CHUNKED])
def test_checkpointed_gradients_are_the_same(layout: str):
    _, model = wrapped(layout)
    tokens, calls = tokens_of(2, 20), []
    model.train()
    model.stack.blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))
    model(tokens, labels=tokens).loss.backward()
    wanted = [parameter.grad for parameter in model.parameters()]
    model.zero_grad()
    assert len(calls) == 1
    model.activation_checkpointing_enable()
    assert model.is_activation_checkpointing
    model(tokens, labels=tokens).loss.backward()
    assert len(calls) == 3
    for parameter, gradient in zip(model.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    with pytest.raises(ValueError, match="use_cache must be off under gradient checkpointing"):
        model(tokens, use_cache=True)


def test_embeddings_are_resized(tmp_path: Path):
    stack, model = wrapped("gated_delta")
    model.resize_token_embeddings(VOCABULARY + 3, mean_resizing=False)
    assert model.stack.head.weight is model.stack.embedding.weight
    loaded, tokens = from_disk(model, tmp_path), tokens_of(1, 9)
    assert loaded.config.vocab_size == loaded.config.stack_config().vocab_size == VOCABULARY + 3
    torch.testing.assert_close(loaded(tokens).logits[..., :VOCABULARY], stack(tokens))


def test_weights_that_are_missing_are_refused(tmp_path: Path):
    _, model = wrapped("gated_delta")
    model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    del weights["stack.blocks.0.mixer.qkv.weight"]
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(ValueError, match=r"must hold every weight, missing.*: stack\.blocks\.0\.mixer\.qkv\.weight"):
        AutoModelForCausalLM.from_pretrained(tmp_path)


def test_a_model_of_its_configuration_has_the_stacks_own_start():
    config = MnemoscopeConfig.of(StackConfig.of("mamba2", vocab_size=VOCABULARY, d_model=16))
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    assert model.stack.blocks[0].mixer.skip.eq(1).all()
    assert abs(model.stack.embedding.weight.std().item() - 0.25) < 0.03


def test_configurations_that_are_refused(tmp_path: Path):
    vectors = StackConfig.of_vectors("lstm", n_channels=3, n_outputs=2, d_model=8)
    with pytest.raises(ValueError, match="must be a stack of tokens, got one of vectors"):
        MnemoscopeConfig.of(vectors)
    good = MnemoscopeConfig.of(StackConfig.of("lstm", vocab_size=5, d_model=8))
    with pytest.raises(ValueError, match="is not the settings of a stack"):
        MnemoscopeConfig(stack={**good.stack, "width": 8})
    with pytest.raises(ValueError, match="must be the settings of a stack, got None"):
        MnemoscopeForCausalLM(MnemoscopeConfig())
    good.save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).stack_config() == good.stack_config()


WITHOUT_TRANSFORMERS = """
import sys
import mnemoscope.models
assert "transformers" not in sys.modules
sys.modules["transformers"] = None
try:
    import mnemoscope.models.huggingface
except ImportError as error:
    assert "pip install 'mnemoscope[hf]'" in str(error), error
else:
    raise AssertionError
"""


def test_without_transformers_it_says_what_to_install():
    subprocess.run([sys.executable, "-c", WITHOUT_TRANSFORMERS], check=True)

"""Generation: the stack's own stream, rows of a padded batch as if alone, and a cache that can be reordered."""

import copy

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from mnemoscope.contracts.outputs import tensors_in
from mnemoscope.models import Stack
from mnemoscope.models.huggingface import MnemoscopeForCausalLM, StackCache
from tests.unit.models.huggingface.stacks import UNLIKE, tokens_of, wrapped


def streamed(stack: Stack, prompt: Tensor, n_new: int) -> Tensor:
    """Greedy tokens by `prefill` and `step`."""
    logits, state = stack.prefill(prompt)
    found = [logits[:, -1].argmax(-1)]
    for _ in range(n_new - 1):
        logits, state = stack.step(found[-1], state)
        found.append(logits.argmax(-1))
    return torch.stack(found, dim=1)


def new_tokens(model: MnemoscopeForCausalLM, prompt: Tensor, n_new: int, mask: Tensor | None = None, beams: int = 1):
    made = model.generate(prompt, attention_mask=mask, max_new_tokens=n_new, do_sample=False, num_beams=beams)
    return made[:, prompt.shape[1] :]


def bytes_of(cache: StackCache) -> int:
    return sum(tensor.nbytes for stream in cache.streams for tensor in tensors_in(stream.state.blocks))


@torch.no_grad()
@pytest.mark.parametrize("n_new", [64, pytest.param(512, marks=pytest.mark.long)])
@pytest.mark.parametrize("layout", UNLIKE)
def test_greedy_tokens_are_those_of_the_stream(layout: str, n_new: int):
    stack, model = wrapped(layout)
    prompt = tokens_of(1, 10)
    assert torch.equal(new_tokens(model, prompt, n_new), streamed(stack, prompt, n_new))


@torch.no_grad()
def test_a_prompt_of_one_token_and_no_cache():
    stack, model = wrapped("attention(window=6), gated_delta")
    prompt = tokens_of(2, 1)
    wanted = streamed(stack, prompt, 8)
    assert torch.equal(new_tokens(model, prompt, 8), wanted)
    assert torch.equal(model.generate(prompt, max_new_tokens=8, do_sample=False, use_cache=False)[:, 1:], wanted)


@torch.no_grad()
@pytest.mark.parametrize("layout", UNLIKE)
def test_padded_rows_are_generated_as_if_alone(layout: str):
    _, model = wrapped(layout)
    prompt, mask = tokens_of(3, 12), torch.ones(3, 12, dtype=torch.int64)
    mask[0, :5], mask[2, :5] = 0, 0
    prompt = prompt.masked_fill(mask == 0, 10**6)  # no token of the vocabulary: it must not be looked up
    together = new_tokens(model, prompt, 9, mask)
    alone = [new_tokens(model, prompt[i : i + 1, mask[i] == 1], 9) for i in range(3)]
    assert torch.equal(together, torch.cat(alone))
    hidden = model(prompt, attention_mask=mask).logits
    torch.testing.assert_close(hidden[:1, 5:], model(prompt[:1, 5:]).logits)


@torch.no_grad()
@pytest.mark.parametrize("layout", ["attention(window=6), gated_delta", "contextual", "omega"])
def test_beams_are_those_of_a_model_without_a_cache(layout: str):
    _, model = wrapped(layout)
    prompt, mask = tokens_of(2, 10), torch.ones(2, 10, dtype=torch.int64)
    mask[0, :3] = 0
    with_cache = new_tokens(model, prompt, 8, mask, beams=3)
    assert torch.equal(with_cache, model.generate(prompt, attention_mask=mask, max_new_tokens=8, num_beams=3,
                                                  use_cache=False)[:, 10:])  # fmt: skip


@torch.no_grad()
def test_a_cache_goes_on_where_it_is_copied_and_reordered():
    stack, model = wrapped("attention(window=6), gated_delta, lstm")
    tokens, mask = tokens_of(3, 20), torch.ones(3, 12, dtype=torch.int64)
    mask[1, :4] = 0
    cache = model(tokens[:, :12], attention_mask=mask, use_cache=True).past_key_values
    kept = copy.deepcopy(cache)
    order = torch.tensor([2, 1, 1, 0])
    cache.reorder_cache(order)
    assert (cache.batch_size, kept.batch_size, cache.get_seq_length()) == (4, 3, 12)
    got = model(tokens[order, 12:], past_key_values=cache).logits
    for row, source in enumerate(order.tolist()):
        wanted = stack(tokens[source : source + 1, 4 * (source == 1) :])[:, -8:]
        torch.testing.assert_close(got[row : row + 1], wanted)
    kept.batch_repeat_interleave(2)
    twice = model(tokens[:, 12:].repeat_interleave(2, 0), past_key_values=kept).logits
    torch.testing.assert_close(twice[::2], twice[1::2])
    torch.testing.assert_close(twice[::2], got[[3, 1, 0]])


@torch.no_grad()
def test_recurrent_blocks_remember_as_much_for_every_length():
    _, model = wrapped("gated_delta, attention(window=6), mamba2(d_state=8)")
    caches = [model(tokens_of(1, n), use_cache=True).past_key_values for n in (10, 300)]
    assert bytes_of(caches[0]) == bytes_of(caches[1]) == model.stack.state_bytes(1, 300)
    grows = wrapped("attention")[1]
    caches = [grows(tokens_of(1, n), use_cache=True).past_key_values for n in (10, 300)]
    assert bytes_of(caches[0]) < bytes_of(caches[1])


@torch.no_grad()
def test_padding_on_the_right_is_read_but_never_kept():
    stack, model = wrapped("gated_delta")
    tokens, mask = tokens_of(2, 12), torch.ones(2, 12, dtype=torch.int64)
    mask[0, 9:] = 0
    output = model(tokens, attention_mask=mask)
    assert output.past_key_values is None
    torch.testing.assert_close(output.logits[0, :9], stack(tokens[:1, :9])[0])
    with pytest.raises(ValueError, match="must not end with 0 where a cache is kept"):
        model(tokens, attention_mask=mask, use_cache=True)


def test_masks_and_caches_that_are_refused():
    _, model = wrapped("gated_delta")
    tokens, ones = tokens_of(2, 6), torch.ones(2, 6, dtype=torch.int64)
    holes = ones.clone()
    holes[0, 2] = 0
    for mask in (holes, torch.zeros_like(ones)):
        with pytest.raises(ValueError, match="must have one run of ones in every row"):
            model(tokens, attention_mask=mask)
    with pytest.raises(ValueError, match="must have a column for each of 6 tokens, got 5"):
        model(tokens, attention_mask=holes[:, :5])
    with pytest.raises(ValueError, match=r"must be \(b, t\), 1 for tokens and 0 for padding, got 4 axes"):
        model(tokens, attention_mask=ones[:, None, None])
    with pytest.raises(ValueError, match=r"must be a StackCache.*got DynamicCache"):
        model(tokens, past_key_values=DynamicCache())
    cache = model(tokens).past_key_values
    with pytest.raises(ValueError, match="must be 1 for every token behind a cache"):
        model(tokens[:, :1], past_key_values=cache, attention_mask=torch.cat([ones, 0 * ones[:, :1]], dim=1))
    with pytest.raises(ValueError, match="past_key_values holds 2 rows, got 1"):
        model(tokens[:1], past_key_values=cache)
    cache.crop(0)
    with pytest.raises(ValueError, match="cannot forget tokens, got -1 to remove"):
        cache.crop(-1)
    with pytest.raises(ValueError, match="assisted generation is not supported"):
        model.generate(tokens[:1], assistant_model=model, max_new_tokens=2)
    cache.reset()
    assert (cache.batch_size, cache.get_seq_length(), len(cache)) == (-1, 0, 0)


@torch.no_grad()
def test_a_cache_of_ones_own_goes_on_over_calls():
    stack, model = wrapped("attention(window=6), gated_delta")
    tokens, cache = tokens_of(1, 10), StackCache()
    first = model.generate(tokens, past_key_values=cache, max_new_tokens=5, do_sample=False)
    assert cache.get_seq_length() == 14
    second = model.generate(first, past_key_values=cache, max_new_tokens=5, do_sample=False)
    assert torch.equal(second[:, 10:], streamed(stack, tokens, 10))

"""Windows of every Hugging Face class equal the module on each truncated window; refusals name the reason."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mnemoscope.examination.interventions.histories import WriteFreeze
from mnemoscope.examination.interventions.reads import Window, reach, run_again, unfolded, window_input
from mnemoscope.examination.protocol.horizon import horizon_method
from mnemoscope.examination.running.replay import Replayer
from mnemoscope.examination.subject.calls import Call, Seen
from mnemoscope.examination.subject.intact import intact
from mnemoscope.examination.subject.losses import NextTokenLoss
from mnemoscope.examination.subject.sites import Point
from tests.unit.examination.tiny_huggingface import CONFIGS, REACH, build, everything, long, seen, sites_of, tokens

pytestmark = pytest.mark.filterwarnings("ignore")


def cut_by_hand(call: Call, row: int, start: int, stop: int) -> Tensor:
    """The module on one row and the tokens from start to stop; what belongs to tokens is cut by name."""

    def cut(name: str, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(cut(name, item) for item in value)
        if not isinstance(value, Tensor) or value.ndim == 0:
            return value
        value = value[row : row + 1] if len(value) > 1 else value
        if value.ndim == 4:
            return value[:, :, start:stop, start:stop]
        return value[:, start:stop]

    args = [cut("", value) for value in call.args]
    kwargs = {name: cut(name, value) for name, value in call.kwargs.items()}
    assert call.module is not None
    output = call.module.forward(*args, **kwargs)
    return output[0] if isinstance(output, tuple) else output


def brute_force(call: Call, window: int) -> Tensor:
    n_rows, n_tokens = call.value.shape[:2]
    rows = [
        torch.cat([cut_by_hand(call, row, max(0, t - window + 1), t + 1)[:, -1] for t in range(n_tokens)])
        for row in range(n_rows)
    ]
    return torch.stack(rows)


def assert_close(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=0, atol=2e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("name", long(CONFIGS))
@torch.no_grad()
def test_windows_equal_the_module_on_each_truncated_window(name: str):
    model, x = build(name), tokens(n_tokens=11)
    with intact(model):
        for site in everything(sites_of(model)):
            call = seen(model, site.name, input_ids=x)
            for window in (1, 4):
                assert_close(Window(window).apply(call), brute_force(call, window))


@pytest.mark.parametrize("name", REACH)
@torch.no_grad()
def test_reach_is_how_far_outputs_depend_on_inputs(name: str):
    model, x = build(name), tokens(n_rows=1)
    with intact(model):
        for path, expected in REACH[name].items():
            call = seen(model, path, input_ids=x)
            assert reach(model.get_submodule(path)) == expected
            changed = window_input(call).clone()
            changed[:, 5] += 1
            difference = (run_again(call, changed) - call.value).abs().amax((0, 2))
            assert (difference > 1e-6).nonzero().flatten().tolist() == list(range(5, 5 + expected))
            assert_close(Window(expected).apply(call), call.value)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("name", ["Llama", "GPT2", "Qwen3Next", "Gemma3"])
@torch.no_grad()
def test_windows_of_padded_batches(name: str, implementation: str):
    model, x = build(name), tokens(n_tokens=10)
    model.set_attn_implementation(implementation)
    mask = torch.ones_like(x)
    mask[1, :4] = 0
    with intact(model):
        for site in everything(sites_of(model)):
            call = seen(model, site.name, input_ids=x, attention_mask=mask)
            real = mask.bool()
            for window in (2, 5):
                expected = brute_force(call, window)
                assert_close(Window(window).apply(call)[real], expected[real])
                if site.role == "memory":
                    assert_close(unfolded(call, window)[real], expected[real])


@torch.no_grad()
def test_masking_and_unfolding_attention_agree():
    model = build("Llama")
    with intact(model):
        call = seen(model, "model.layers.1.self_attn", input_ids=tokens(n_tokens=12))
        assert_close(Window(3).apply(call), unfolded(call, 3))


@torch.no_grad()
def test_other_orders_of_tokens_take_what_belongs_to_them_along():
    model = build("RecurrentGemma")
    with intact(model):
        call = seen(model, "model.layers.0.temporal_block", input_ids=tokens(n_tokens=9))
        x = window_input(call)
        rows, positions = torch.tensor([1, 0]), torch.tensor([[0, 1, 2], [4, 5, 6]])
        again = run_again(call, x[rows[:, None], positions], Seen(rows, positions))
        assert_close(again[:1], cut_by_hand(call, 1, 0, 3))
        assert_close(again[1:], cut_by_hand(call, 0, 4, 7))
        with pytest.raises(ValueError, match="which tokens it holds, since position_ids"):
            run_again(call, x[rows[:1, None], positions[:1]])


@torch.no_grad()
def test_frozen_writes_keep_the_positions_of_their_tokens():
    model = build("Llama")
    with intact(model):
        call = seen(model, "model.layers.1.self_attn", input_ids=tokens(n_tokens=8))
        frozen = WriteFreeze(at=3, local=2).apply(call)
        assert torch.equal(frozen[:, :5], call.value[:, :5])
        kept, mask = torch.tensor([0, 1, 2, 5, 6]), torch.zeros(1, 1, 8, 8, dtype=torch.bool)
        mask[:, :, torch.arange(8), torch.arange(8)] = True
        mask[:, :, 6, kept] = True
        by_mask, _ = model.get_submodule("model.layers.1.self_attn").forward(**{**call.kwargs, "attention_mask": mask})
        assert_close(frozen[:, 6], by_mask[:, 6])


@torch.no_grad()
def test_history_beside_the_input_is_refused_with_its_name():
    for name, path, given in [
        ("Mamba2", "backbone.layers.0.mixer", "cache_params"),
        ("Llama", "model.layers.0.self_attn", "past_key_values"),
    ]:
        model = build(name)
        call = seen(model, path, input_ids=tokens(), use_cache=torch.tensor(True))
        with pytest.raises(ValueError, match=f"{given}.*use_cache=False"):
            Window(2).apply(call)


@torch.no_grad()
def test_masks_that_cannot_be_edited_are_refused():
    model = build("Llama")
    with intact(model):
        call = seen(model, "model.layers.0.self_attn", input_ids=tokens())
        flat = Call(call.module, call.args, {**call.kwargs, "attention_mask": torch.ones(2, 24)}, call.value)
        with pytest.raises(ValueError, match=r"\(b, h, 24, 24\), got \(2, 24\)"):
            Window(2).apply(flat)
        model.config._attn_implementation = "flash_attention_2"
        with pytest.raises(ValueError, match="got flash_attention_2; load the model with"):
            Window(2).apply(call)


@pytest.mark.parametrize("name", ["Llama", "Qwen3Next", "Qwen4Exp"])
def test_horizon_methods(name: str):
    model, x = build(name), tokens()
    with intact(model), torch.no_grad():
        sites = sites_of(model)
        replayer = Replayer(model, NextTokenLoss(), [Point(site.name) for site in everything(sites)])
        tape, modules = replayer.record(x), dict(model.named_modules())
        methods = {site.name: horizon_method(site, modules, replayer, tape) for site in everything(sites)}
    if name == "Qwen4Exp":
        assert methods["model.layers.1.self_attn"][0] != "windowed"
    else:
        assert methods["model.layers.1.self_attn"] == ("windowed", "")
    if name != "Llama":
        assert methods["model.layers.0.linear_attn"] == ("unfolded", "")

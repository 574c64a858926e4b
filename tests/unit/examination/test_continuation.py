"""Which classes go on from their state as they should, and what an exchange of states does where they do."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mnemoscope.examination.subject.continuation import Continuation, Way, self_test, states_at, with_states
from mnemoscope.examination.subject.states import LayerState, copied, layer_of, put_states, states_in
from mnemoscope.models import StackConfig
from mnemoscope.models import build as build_stack
from tests.unit.examination.tiny_huggingface import CONFIGS, build, tokens

pytestmark = pytest.mark.filterwarnings("ignore")

SPLIT = 15

MEASURED = {
    # The whole-sequence scan of the Mamba-1 family starts at zero, whatever the cache holds.
    "Mamba": ("wrong", "usable"),
    "FalconMamba": ("wrong", "usable"),
    "Jamba": ("wrong", "usable"),
    "Zamba": ("wrong", "usable"),
    # Positions start at 0 again unless they are given.
    "Bamba": ("with positions", "with positions"),
    # Positions and masks are counted from the cache of the first layer, which holds no keys where that is linear.
    "MiniMax": ("wrong", "with positions"),
    # A prefill pads the convolution with zeros.
    "RecurrentGemma": ("wrong", "usable"),
    # The token shift of one token adds (b, d) to (b, 1, d).
    "Rwkv": ("usable", "raises"),
}
"""What differs from usable in both ways: suffix in one call, and token by token."""
SOME = ("Mamba", "Mamba2", "Bamba", "MiniMax", "RecurrentGemma", "Rwkv", "Qwen3Next", "xLSTM", "Lfm2", "FalconH1")
CLAMPED = ("NemotronH", "Zamba2")
"""The scan of a sequence keeps time steps above a least one, that of one token does not."""
STATELESS = ("Llama", "Qwen3", "Mistral", "Gemma2", "Gemma3", "GPT2")


def long(names: Any) -> list[Any]:
    return [name if name in SOME else pytest.param(name, marks=pytest.mark.long) for name in names]


def kind_of(way: Way) -> str:
    if way.usable:
        return "with positions" if way.positions else "usable"
    return "raises" if way.error is None else "wrong"


@pytest.mark.parametrize("name", long(CONFIGS))
def test_verdicts_of_every_class(name: str):
    model = build(name)
    found = self_test(model, tokens(), SPLIT)
    if name in CLAMPED:
        assert 1e-5 < (found.step.error or 0) < 1e-1
        for mixer in model.modules():
            if hasattr(mixer, "time_step_limit"):
                mixer.time_step_limit = (0.0, float("inf"))
        found = self_test(model, tokens(), SPLIT)
    assert (kind_of(found.multi), kind_of(found.step)) == MEASURED.get(name, ("usable", "usable"))
    assert found.way == ("step" if kind_of(found.multi) == "wrong" else "multi")


@pytest.mark.parametrize("name", long(sorted(set(CONFIGS) - set(STATELESS))))
def test_exchanged_states_of_every_class(name: str):
    model, x, donor = build(name), tokens(), tokens(seed=1)
    found = self_test(model, x, SPLIT)
    own, other = states_at(model, x, SPLIT, found), states_at(model, donor, SPLIT, found)
    plain = with_states(model, x, SPLIT, {}, found)
    torch.testing.assert_close(plain, model(input_ids=x, use_cache=False).logits, rtol=0, atol=1e-3)
    layer = next(iter(own))
    assert torch.equal(with_states(model, x, SPLIT, own, found), plain)
    exchanged = with_states(model, x, SPLIT, {layer: other[layer]}, found)
    assert torch.equal(exchanged[:, :SPLIT], plain[:, :SPLIT])
    moved = (exchanged - plain)[:, SPLIT:].abs().amax((0, 2))
    assert float(moved[0]) > 1e-5
    assert torch.equal(with_states(model, x, SPLIT, {}, found), plain)


def test_an_exchange_of_everything_is_the_other_run():
    model, x, donor = build("Mamba2"), tokens(), tokens(seed=1)
    found = self_test(model, x, SPLIT)
    spliced = torch.cat([donor[:, :SPLIT], x[:, SPLIT:]], dim=1)
    states = states_at(model, donor, SPLIT, found)
    exchanged = with_states(model, x, SPLIT, states, found, parts=("recurrent", "conv"))
    whole = with_states(model, spliced, SPLIT, {}, found)
    assert torch.equal(exchanged[:, SPLIT:], whole[:, SPLIT:])
    memory_only = with_states(model, x, SPLIT, states, found)
    assert not torch.allclose(memory_only[:, SPLIT], whole[:, SPLIT], atol=1e-4)


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("MiniMax", {"layer_types": ["full_attention", "linear_attention"]}, ""),
        ("Qwen3Next", {"layer_types": ["linear_attention", "linear_attention"]}, "ValueError: `get_seq_length`"),
        ("KimiLinear", {"layer_types": ["linear_attention", "linear_attention"]}, "ValueError: `get_seq_length`"),
    ],
)
def test_which_layers_there_are_decides_too(name: str, changes: dict[str, Any], reason: str):
    found = self_test(build(name, **changes), tokens(), SPLIT)
    assert found.reason.startswith(reason)
    assert found.way == (None if reason else "multi")


def test_refusals_name_the_reason():
    assert (
        "standard deviations of the logits, at most 0.001 allowed" in self_test(build("Mamba"), tokens()).multi.reason
    )
    assert self_test(build("Rwkv"), tokens()).step.reason.startswith(("RuntimeError", "ValueError"))
    assert self_test(build("Rwkv"), tokens(n_rows=1)).step.usable


def test_the_model_is_as_before():
    model = build("RecurrentGemma").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    self_test(model, tokens())
    assert model.training
    assert model.config.use_cache
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.get_submodule("model.layers.0.temporal_block.rg_lru").recurrent_states is None


def test_our_own_stacks_go_on_in_both_ways():
    model = build_stack(StackConfig.of("gated_delta, attention(window=4)", vocab_size=37, d_model=8), seed=0)
    found = self_test(model, tokens(), SPLIT)
    assert (found.way, found.multi.usable, found.step.usable) == ("multi", True, True)
    own, other = (states_at(model, tokens(seed=seed), SPLIT, found) for seed in (0, 1))
    plain = with_states(model, tokens(), SPLIT, {}, found)
    assert torch.equal(with_states(model, tokens(), SPLIT, own, found), plain)
    exchanged = with_states(model, tokens(), SPLIT, {0: other[0]}, found)
    assert torch.equal(exchanged[:, :SPLIT], plain[:, :SPLIT])
    assert not torch.allclose(exchanged[:, SPLIT:], plain[:, SPLIT:])


class Sums(nn.Module):
    """Running sums; `leak` is what it forgets to carry on."""

    def __init__(self, leak: float = 0.0) -> None:
        super().__init__()
        self.leak = leak

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        before = torch.zeros_like(x[:, 0]) if state is None else (1 - self.leak) * state
        y = x.cumsum(1) + before[:, None]
        return y, y[:, -1]


def vectors(seed: int = 0) -> Tensor:
    return torch.randn(2, 10, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_any_module_with_a_state_by_hand():
    found = self_test(Sums(), vectors(), 6)
    assert (found.multi.error, found.reason) == (pytest.approx(0, abs=1e-12), "")
    swapped = with_states(Sums(), vectors(), 6, states_at(Sums(), vectors(1), 6, found), found)
    expected = vectors()[:, 6:].cumsum(1) + vectors(1)[:, :6].sum(1, keepdim=True)
    torch.testing.assert_close(swapped[:, 6:], expected)


def test_a_leak_is_wrong_by_what_leaks():
    found, x = self_test(Sums(leak=0.5), vectors(), 6), vectors()
    expected = 0.5 * x[:, :6].sum(1).abs().max() / x.cumsum(1)[:, 6:].std()
    assert found.multi.error == pytest.approx(float(expected))
    assert found.way is None
    with pytest.raises(ValueError, match="must not be exchanged: in one call: wrong by"):
        with_states(Sums(leak=0.5), x, 6, {}, found)


class Forgetful(nn.Module):
    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return 2 * x, x[:, -1]


class Plain(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(1)


@pytest.mark.parametrize(("model", "reason"), [(Forgetful(), "do not depend on the prefix"), (Plain(), "no state")])
def test_models_that_cannot_be_tested_are_refused(model: nn.Module, reason: str):
    found = self_test(model, vectors(), 6)
    assert found.way is None
    assert reason in found.reason


@pytest.mark.parametrize("split", [0, 9, 10])
def test_splits_leave_two_pieces(split: int):
    with pytest.raises(ValueError, match=f"at least 2 tokens of 10, got {split}"):
        self_test(Sums(), vectors(), split)


def test_states_that_do_not_fit_are_refused():
    held = vectors()[:, 0]
    with pytest.raises(ValueError, match=r"layer 3 holds no state; layers that do: \[0\]"):
        put_states(held, {3: LayerState((held,), ())})
    with pytest.raises(ValueError, match=r"must have shapes \[\(2, 3\)\], got \[\(1, 3\)\]"):
        put_states(held, {0: LayerState((held[:1],), ())})
    with pytest.raises(ValueError, match="the conv state of layer 0"):
        put_states(held, {0: LayerState((held,), ())}, parts=("conv",))


def test_copies_are_not_written_into():
    held = vectors()[:, 0]
    copies = copied(states_in(held))
    held.zero_()
    assert float(copies[0].recurrent[0].abs().min()) > 0


def test_ways_are_chosen_by_cost():
    good, bad = (Way(usable=usable, error=0.0, positions=False, reason=str(usable)) for usable in (True, False))
    assert Continuation(multi=good, step=good).way == "multi"
    assert Continuation(multi=bad, step=good).way == "step"
    assert Continuation(multi=bad, step=bad).reason == "False"


def test_layers_are_named_by_the_first_number_in_a_path():
    assert layer_of("model.layers.12.mamba_decoder.mamba") == 12
    assert layer_of("model") == 0

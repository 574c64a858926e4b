"""Narrowed attention is attention to the last tokens, for the right sequences, steps and modules."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from mnemoscope.memories import Attention, AttentionConfig, GatedDelta, GatedDeltaConfig
from mnemoscope.training.remedies import StochasticWindow, WindowDropout, treated
from mnemoscope.training.remedies.windows import Narrowing, narrow
from tests.unit.training.remedies.models import MEMORY, ROUTE, VOCAB, Hybrid, stack

ROWS = torch.tensor([True, False, True])


def _narrowed(module: nn.Module, narrowing: Narrowing, *args: object, **kwargs: object) -> Tensor:
    handles = narrow("site", module, lambda batch, device: narrowing)
    try:
        output = module(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    return output[0]


def _attention(implementation: str) -> tuple[nn.Module, Tensor, Tensor]:
    """The hybrid's attention, inputs (3, 6, 16), and rotary angles."""
    hybrid = Hybrid().double().train()
    hybrid.lm.config._attn_implementation = implementation
    module = hybrid.get_submodule(ROUTE)
    x = torch.randn(3, 6, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return module, x, hybrid.lm.model.rotary_emb(x, torch.arange(6)[None])


def _causal(implementation: str, n: int) -> Tensor | None:
    seen = torch.ones(n, n, dtype=torch.bool).tril()[None, None]
    if implementation == "sdpa":
        return seen
    return torch.zeros(1, 1, n, n, dtype=torch.float64).masked_fill(~seen, torch.finfo(torch.float64).min)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("masked", [True, False])
def test_masked_attention_is_attention_to_each_window_alone(implementation: str, masked: bool) -> None:
    module, x, angles = _attention(implementation)
    mask = _causal(implementation, 6) if masked else None
    given = {"hidden_states": x, "position_embeddings": angles, "attention_mask": mask}
    near = _narrowed(module, Narrowing(window=3), **given)
    some = _narrowed(module, Narrowing(window=3, rows=ROWS), **given)
    wide = module(**{**given, "attention_mask": _causal(implementation, 6)})[0]
    for t in range(6):
        start = max(0, t - 2)
        alone = module(
            hidden_states=x[:, start : t + 1],
            position_embeddings=tuple(part[:, start : t + 1] for part in angles),
            attention_mask=_causal(implementation, t + 1 - start),
        )[0][:, -1]
        torch.testing.assert_close(near[:, t], alone, rtol=0, atol=1e-12)
    torch.testing.assert_close(some, torch.where(ROWS[:, None, None], near, wide), rtol=0, atol=1e-12)
    assert (near - wide).abs().max() > 1e-3


def test_a_mask_given_by_position_is_narrowed_too() -> None:
    module, x, angles = _attention("sdpa")
    by_name = _narrowed(module, Narrowing(window=2), hidden_states=x, position_embeddings=angles, attention_mask=None)
    by_position = _narrowed(module, Narrowing(window=2), x, angles, None)
    torch.testing.assert_close(by_position, by_name, rtol=0, atol=0)


def test_padding_stays_hidden_in_a_narrowed_mask() -> None:
    module, x, angles = _attention("sdpa")
    mask = _causal("sdpa", 6).expand(3, 1, 6, 6).clone()
    mask[0, 0, 1:, 1] = False
    given = {"position_embeddings": angles, "attention_mask": mask}
    before = _narrowed(module, Narrowing(window=3), hidden_states=x, **given)
    x = x.clone()
    x[0, 1] += 1
    after = _narrowed(module, Narrowing(window=3), hidden_states=x, **given)
    torch.testing.assert_close(after[0, 2:], before[0, 2:], rtol=0, atol=0)


@pytest.mark.parametrize("memory", ["attention", "gated_delta"])
def test_our_modules_answer_as_their_windowed_form(memory: str) -> None:
    torch.manual_seed(0)
    module = Attention(AttentionConfig(window=5), 16) if memory == "attention" else GatedDelta(GatedDeltaConfig(), 16)
    x = torch.randn(3, 9, 16)
    near, wide = module.windowed(x, 2), module(x)[0]
    torch.testing.assert_close(_narrowed(module, Narrowing(window=2), x), near)
    some = _narrowed(module, Narrowing(window=2, rows=ROWS), x)
    torch.testing.assert_close(some, torch.where(ROWS[:, None, None], near, wide))
    assert _narrowed(module, Narrowing(window=0, rows=ROWS), x)[0].abs().max() == 0
    torch.testing.assert_close(_narrowed(module, Narrowing(window=0, rows=ROWS), x)[1], wide[1])


def test_a_narrow_window_reaches_back_into_a_carried_state() -> None:
    torch.manual_seed(0)
    module, x = Attention(AttentionConfig(window=5), 16).double(), torch.randn(1, 9, 16, dtype=torch.float64)
    whole = module.windowed(x, 3)
    state = module(x[:, :4])[1]
    for narrowing in (Narrowing(window=3), Narrowing(window=3, rows=torch.tensor([True]))):
        rest = _narrowed(module, narrowing, x[:, 4:], state)
        torch.testing.assert_close(rest, whole[:, 4:], rtol=0, atol=1e-12)


def test_a_window_wider_than_the_own_changes_nothing() -> None:
    torch.manual_seed(0)
    module, x = Attention(AttentionConfig(window=3), 16), torch.randn(1, 9, 16)
    torch.testing.assert_close(_narrowed(module, Narrowing(window=7), x), module(x)[0], rtol=0, atol=0)


def test_what_cannot_be_narrowed_is_refused() -> None:
    hybrid = Hybrid()
    with pytest.raises(ValueError, match=r"linear_attn must be attention, or a memory"):
        WindowDropout(sites=(MEMORY,)).attach(hybrid)
    module, x, angles = _attention("sdpa")
    given = {"hidden_states": x, "position_embeddings": angles}
    with pytest.raises(ValueError, match=r"site must get an attention mask \(b, h, 6, 6\), got \(3, 1, 6, 9\)"):
        _narrowed(module, Narrowing(window=2), **given, attention_mask=torch.ones(3, 1, 6, 9, dtype=torch.bool))
    module.config._attn_implementation = "flash_attention_2"
    with pytest.raises(ValueError, match="site must be attention by eager or sdpa, got flash_attention_2"):
        _narrowed(module, Narrowing(window=2), **given, attention_mask=None)
    torch.manual_seed(0)
    delta = GatedDelta(GatedDeltaConfig(), 16)
    with pytest.raises(ValueError, match=r"site .GatedDelta. must start from an empty state"):
        _narrowed(delta, Narrowing(window=2), torch.randn(1, 4, 16), delta.init_state(1))


@pytest.mark.parametrize("changes", [{"strength": 1.5}, {"window": -1}, {"per": "token"}])
def test_bad_dropout_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"WindowDropout.{next(iter(changes))}"):
        replace(WindowDropout(), **changes)


def test_a_window_that_is_narrow_already_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be below the widest window of blocks.0.mixer.beside.inner, 16 tokens"):
        WindowDropout(window=16).attach(stack("gated_delta | attention(window=16)"))


def test_bad_windows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"StochasticWindow.windows"):
        StochasticWindow(windows=())
    with pytest.raises(ValueError, match=r"StochasticWindow.windows"):
        StochasticWindow(windows=(4, 0))


def _logits(model: nn.Module, batch: int = 64) -> Tensor:
    tokens = torch.randint(0, VOCAB, (1, 20), generator=torch.Generator().manual_seed(1)).expand(batch, 20)
    with torch.no_grad():
        return model(tokens)


@pytest.mark.parametrize("per", ["sequence", "batch"])
def test_windows_are_dropped_as_often_as_the_schedule_says(per: str) -> None:
    model = stack("gated_delta, attention(window=16)").train()
    clean = _logits(model)
    remedy = WindowDropout(strength=0.9, final_strength=0.3, window=2, per=per)  # pyright: ignore[reportArgumentType]
    torch.manual_seed(0)
    with treated(model, (remedy,)) as (treatment,):
        for step, expected in ((1, 0.9), (101, 0.3)):
            shares = []
            for _ in range(1 if per == "sequence" else 60):
                treatment.on_step(step, 101)
                logits = _logits(model, 400 if per == "sequence" else 2)
                changed = (logits - clean[: len(logits)] if len(logits) <= 64 else logits - clean[:1]).abs()
                shares.append((changed.amax((1, 2)) > 1e-4).double().mean().item())
            assert abs(sum(shares) / len(shares) - expected) < 0.12
            assert per == "sequence" or set(shares) <= {0.0, 1.0}


def test_shared_draws_narrow_all_routes_of_a_sequence() -> None:
    model = stack("attention(window=16) * 3").train()
    for shared in (True, False):
        torch.manual_seed(0)
        with treated(model, (WindowDropout(window=0, shared=shared),)) as (treatment,):
            treatment.on_step(1, 2)
            mixed = [_contributed(model, block) for block in range(3)]
        dropped = torch.stack([(part.abs().amax((1, 2)) == 0) for part in mixed])
        assert 0.2 < dropped.double().mean() < 0.8
        assert bool((dropped == dropped[0]).all()) == shared


def _contributed(model: nn.Module, block: int) -> Tensor:
    """What a block's attention puts out in a pass, after the hooks that are on it already."""
    got: list[Tensor] = []
    handle = model.blocks[block].mixer.register_forward_hook(lambda module, args, output: got.append(output[0]))
    _logits(model)
    handle.remove()
    return got[0]


def test_a_second_pass_of_a_step_meets_the_same_draws_and_leaves_the_generator_alone() -> None:
    model = stack("attention(window=16) * 2").train()
    with treated(model, (WindowDropout(window=2),)) as (treatment,):
        treatment.on_step(1, 2)
        rng = torch.get_rng_state()
        first, again = _logits(model), _logits(model)
        assert torch.equal(torch.get_rng_state(), rng)
        torch.testing.assert_close(again, first, rtol=0, atol=0)
        treatment.on_step(2, 2)
        assert not torch.equal(_logits(model), first)


def test_without_strength_not_even_the_generator_moves() -> None:
    model = stack("gated_delta | attention(window=16)").train()
    clean, rng = _logits(model), torch.get_rng_state()
    for remedy in (WindowDropout(strength=0.0), StochasticWindow(strength=0.0, windows=(2,))):
        with treated(model, (remedy,)) as (treatment,):
            treatment.on_step(1, 2)
            torch.testing.assert_close(_logits(model), clean, rtol=0, atol=0)
            assert torch.equal(torch.get_rng_state(), rng)


def test_a_batch_draws_its_window_from_those_given() -> None:
    model, windows = stack("attention(window=16)").train(), (2, 4, 32)
    attention = model.blocks[0].mixer
    torch.manual_seed(0)
    drawn: list[float] = []
    with treated(model, (StochasticWindow(windows=windows, strength=0.5),)) as (treatment,):
        for _ in range(300):
            treatment.on_step(1, 2)
            drawn.append(treatment.figures()["window"])
        x = torch.randn(2, 20, 16)
        for window in (2, 4):
            treatment.window = window
            torch.testing.assert_close(attention(x)[0], attention.windowed(x, window), rtol=0, atol=0)
    assert set(drawn) == {0.0, 2.0, 4.0, 32.0}
    assert abs(drawn.count(0.0) / 300 - 0.5) < 0.1
    assert all(abs(drawn.count(float(window)) / 300 - 1 / 6) < 0.08 for window in windows)

"""Memory Mosaics v2: its two levels, the drawn delay, the bandwidth that adapts, and where it starts."""

import re
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from mnemoscope.contracts import announced_role
from mnemoscope.examination.subject.sites import find_sites
from mnemoscope.memories import MosaicV2, MosaicV2Config
from tests.tolerances import FLOAT32, FLOAT64, assert_close
from tests.unit.memories.cases import inputs, run_steps

CONFIG = MosaicV2Config(n_heads=2, short_window=5, long_delay=4, longest_delay=None)


def memory_of(config: MosaicV2Config = CONFIG, d_model: int = 16) -> MosaicV2:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MosaicV2(config, d_model).double()


def with_config(memory: MosaicV2, config: MosaicV2Config) -> MosaicV2:
    other = memory_of(config)
    other.load_state_dict(memory.state_dict())
    return other


@torch.no_grad()
def test_the_first_token_reads_exactly_nothing():
    memory, x = memory_of(), inputs(9)
    assert not memory(x)[0][:, 0].any()
    assert not memory.step(x[:, 0], memory.init_state(2))[0].any()
    assert memory(x)[0][:, 1].any()


def addressing_of(memory: MosaicV2, x: Tensor) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}
    for name in ("short", "long"):
        point = getattr(memory, name).addressing
        point.register_forward_hook(lambda _module, _args, output, name=name: seen.update({name: output}))
    memory(x)
    return seen


@torch.no_grad()
def test_the_levels_overlap_where_both_may_read():
    t = 12
    weights = addressing_of(memory_of(), inputs(t))
    age = torch.arange(t).unsqueeze(1) - torch.arange(t)
    readable = {"short": (age >= 1) & (age <= 5), "long": age >= 4}
    for name, visible in readable.items():
        assert torch.equal(weights[name] > 0, visible.expand(2, 2, t, t))
        assert_close(weights[name].sum(-1), visible.any(-1).double().expand(2, 2, t), FLOAT64)
    assert (readable["short"] & readable["long"]).any()


def test_in_training_the_delay_is_drawn_for_each_batch():
    config = replace(CONFIG, longest_delay=9)
    memory, x = memory_of(config), inputs(20)
    fixed = [with_config(memory, replace(CONFIG, long_delay=delay))(x)[0] for delay in range(4, 10)]
    drawn = set()
    for seed in range(40):
        torch.manual_seed(seed)
        y, again = memory(x)[0], memory(x)[0]
        drawn |= {i for i, other in enumerate(fixed) if torch.allclose(y, other, rtol=0, atol=1e-12)}
        torch.manual_seed(seed)
        assert torch.equal(memory(x)[0], y)
        assert any(torch.allclose(again, other, rtol=0, atol=1e-12) for other in fixed)
    assert drawn == set(range(6))


@torch.no_grad()
def test_the_drawn_delay_holds_for_the_weights_as_well():
    memory, x = memory_of(replace(CONFIG, longest_delay=9)), inputs(20)
    torch.manual_seed(3)
    plain = memory(x)[0]
    weights = addressing_of(memory, x)["long"]
    delays = {t - int(weights[0, 0, t].nonzero().max()) for t in range(10, 20)}
    assert len(delays) == 1
    torch.manual_seed(3)
    assert_close(memory(x)[0], plain, FLOAT64)


def test_a_drawn_delay_has_the_gradient_of_a_fixed_one():
    memory, x = memory_of(replace(CONFIG, longest_delay=9)), inputs(20).requires_grad_()
    torch.manual_seed(0)
    y = memory(x)[0]
    others = [with_config(memory, replace(CONFIG, long_delay=delay)) for delay in range(4, 10)]
    [same] = [other for other in others if torch.allclose(other(x)[0], y)]
    wanted = list(zip(memory.parameters(), same.parameters(), strict=True))
    ours = torch.autograd.grad(y.square().sum(), [x, *(pair[0] for pair in wanted)])
    theirs = torch.autograd.grad(same(x)[0].square().sum(), [x, *(pair[1] for pair in wanted)])
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a, b, FLOAT64)


@torch.no_grad()
def test_evaluation_and_streams_draw_nothing():
    memory, x = memory_of(replace(CONFIG, longest_delay=9)), inputs(20)
    before = torch.get_rng_state()
    streamed = run_steps(memory, x, memory.init_state(2))[0]
    y = memory.eval()(x)[0]
    assert torch.equal(torch.get_rng_state(), before)
    assert_close(y, streamed, FLOAT64)
    assert_close(y, with_config(memory, CONFIG)(x)[0], FLOAT64)


@pytest.mark.parametrize(("kept", "removed"), [("short", "long"), ("long", "short")])
@torch.no_grad()
def test_a_level_removed_is_a_level_that_reads_zeros(kept: str, removed: str):
    memory, x = memory_of(), inputs(15)
    alone = memory.only(kept)
    whole = memory(x)[0]
    hook = getattr(memory, removed).read.register_forward_hook(lambda _module, _args, output: torch.zeros_like(output))
    assert_close(alone(x)[0], memory(x)[0], FLOAT64)
    hook.remove()
    assert torch.equal(memory(x)[0], whole)
    assert alone.config.levels == kept
    n_parameters = sum(parameter.numel() for parameter in memory.parameters())
    assert sum(parameter.numel() for parameter in alone.parameters()) == n_parameters // 2
    assert_close(with_config(alone, alone.config)(x)[0], alone(x)[0], FLOAT64)


@torch.no_grad()
def test_the_bandwidth_grows_with_the_pairs_in_memory():
    level = memory_of().short
    assert level is not None
    n = torch.tensor([1, 8, 1000])
    start = 1.5 * torch.ones((), dtype=torch.float64)
    assert_close(level.inverse_temperature(n), (start.exp() * (n ** (1 / 3) + 1)).expand(2, 3), FLOAT32)
    level.log_floor.fill_(50)
    level.log_slope.fill_(50)
    level.exponent.copy_(torch.tensor([-7.0, -0.5]))
    capped = torch.tensor(10.0, dtype=torch.float64).exp()
    expected = torch.stack([capped * (n + 1), capped * (n.sqrt() + 1)])
    assert_close(level.inverse_temperature(n), expected, FLOAT32)


def test_where_it_starts():
    torch.manual_seed(0)
    memory = MosaicV2(MosaicV2Config(n_heads=4, block_index=2), 256)
    deviation = (2 * 256 * 3) ** -0.5
    for level in (memory.short, memory.long):
        assert level is not None
        for linear in (level.key, level.value, level.gates, level.out):
            assert linear.weight.abs().max() <= 3 * deviation
            # Clipping at three deviations takes 1.3 % of the standard deviation.
            assert 0.9 < linear.weight.std() / deviation < 1.05
        assert ((level.present_share >= 0) & (level.present_share <= 1)).all()
        assert not level.log_scale.any()
    assert memory.short is not None
    assert memory.long is not None
    assert not torch.equal(memory.short.key.weight, memory.long.key.weight)


def test_the_scale_of_values_leaves_its_start():
    memory = memory_of()
    memory(inputs(12))[0].square().sum().backward()
    for level in (memory.short, memory.long):
        assert level is not None
        assert level.log_scale.grad is not None
        assert level.log_scale.grad.all()


def test_the_examination_judges_the_levels_apart():
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mixer = memory_of()

    block = Block()
    assert announced_role(block.mixer) is None
    found = find_sites(block, lambda: block.mixer(inputs(6)))
    assert [site.name for site in found.memories] == ["mixer.short", "mixer.long"]
    for site in found.memories:
        assert site.owner == site.name
        assert site.loci["read"].path == f"{site.name}.read"
        assert site.loci["contribution"].path == f"{site.name}.contribution"
        assert site.evidence["addressing"].path == f"{site.name}.addressing"


@torch.no_grad()
def test_zeros_and_large_inputs_stay_finite():
    memory = memory_of().float()
    for x in (torch.zeros(1, 20, 16), torch.full((1, 20, 16), 1e3)):
        assert memory(x)[0].isfinite().all()


def test_an_input_of_zeros_has_a_finite_gradient():
    memory, x = memory_of().float(), torch.zeros(1, 20, 16, requires_grad=True)
    memory(x)[0].sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_heads": 0}, "mosaic_v2.n_heads must be at least 1"),
        ({"short_window": 0}, "mosaic_v2.short_window must be at least 1 pair"),
        ({"long_delay": 0}, "mosaic_v2.long_delay must be at least 1"),
        ({"longest_delay": 63}, "mosaic_v2.longest_delay must be at least long_delay=64, or None to draw nothing"),
        ({"block_index": -1}, "mosaic_v2.block_index must be 0 or more"),
    ],
)
def test_what_cannot_work_is_refused(options: dict, message: str):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        MosaicV2Config(**options)
    with pytest.raises(ValueError, match=r"^mosaic_v2: d_model must be a multiple of n_heads=3"):
        MosaicV2(MosaicV2Config(n_heads=3), 16)

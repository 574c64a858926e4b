"""Heads and ranges of channels as sites of their own: what is seen, what is replaced, and what is refused."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mnemoscope.contracts import ReadPoint, tap
from mnemoscope.examination import examine
from mnemoscope.examination.interventions.histories import WriteFreeze
from mnemoscope.examination.interventions.inner import Inside
from mnemoscope.examination.interventions.reads import Call, Constant, Resample, Window, Zero
from mnemoscope.examination.protocol.calibration import groups_of
from mnemoscope.examination.protocol.conditions import history_edit, together
from mnemoscope.examination.running.editing import Edit, edited
from mnemoscope.examination.subject.heads import fits
from mnemoscope.examination.subject.points import Channels, Point
from mnemoscope.examination.subject.sites import Sites, find_sites
from mnemoscope.models import StackConfig, build
from tests.unit.examination import tiny_huggingface
from tests.unit.examination.any_models import TINY, batches

Turn = Callable[[Tensor], Tensor]


def ones(*shape: int) -> Tensor:
    return torch.arange(1.0, 1.0 + torch.Size(shape).numel(), dtype=torch.float64).view(*shape)


def test_channels_by_hand():
    value = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])
    assert Channels(2, 1, 3).of(value).tolist() == [[[2.0, 3.0]]]
    assert Channels(2, 1, 3).put(value, torch.tensor([[[8.0, 9.0]]])).tolist() == [[[1.0, 8.0, 9.0, 4.0]]]
    assert value.tolist() == [[[1.0, 2.0, 3.0, 4.0]]]


@pytest.mark.parametrize(("axis", "turn"), [(2, lambda x: x), (1, lambda x: x.transpose(1, 2))])
def test_a_head_on_an_axis_of_its_own_by_hand(axis: int, turn: Turn):
    value = torch.tensor([[[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]]])  # one token, three heads of two channels
    second = Channels(axis, 1)
    assert second.of(turn(value)).tolist() == [[[3.0, 4.0]]]
    put = second.put(turn(value), torch.tensor([[[8.0, 9.0]]]))
    assert turn(put).tolist() == [[[[1.0, 2.0], [8.0, 9.0], [5.0, 6.0]]]]


def test_the_gradient_reaches_the_part_and_the_rest():
    value, part = ones(1, 1, 4).requires_grad_(), ones(1, 1, 2).requires_grad_()
    (Channels(2, 1, 3).put(value, part) * torch.tensor([10.0, 20.0, 30.0, 40.0])).sum().backward()
    assert value.grad is not None
    assert part.grad is not None
    assert value.grad.tolist() == [[[10.0, 0.0, 0.0, 40.0]]]
    assert part.grad.tolist() == [[[20.0, 30.0]]]


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        (Channels(2, 0, 4), Channels(2, 3, 5), True),
        (Channels(2, 0, 4), Channels(2, 4, 5), False),
        (Channels(2, 1), Channels(2, 1), True),
        (Channels(2, 1), Channels(2, 2), False),
        (Channels(2, 1), Channels(2, 0, 2), True),
    ],
)
def test_parts_overlap_where_they_share_an_index(one: Channels, other: Channels, overlap: bool):
    assert one.overlaps(other) == other.overlaps(one) == overlap


class Giving(nn.Module):
    """Its input, in some container."""

    def __init__(self, wrap: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.wrap = wrap

    def forward(self, x: Tensor) -> Any:
        return self.wrap(x)


@pytest.mark.parametrize(
    ("wrap", "part", "take"),
    [
        (lambda x: x, None, lambda y: y),
        (lambda x: (x, "state"), None, lambda y: y[0]),
        (lambda x: (None, x), "1", lambda y: y[1]),
        (lambda x: {"mass": 3, "read": x}, "read", lambda y: y["read"]),
    ],
)
def test_a_part_of_an_output_is_replaced_and_the_rest_stays(
    wrap: Callable[[Tensor], Any], part: str | None, take: Callable[[Any], Tensor]
):
    module, x = Giving(wrap), ones(2, 3, 4)
    edits = [
        Edit(Point("", part=part, channels=Channels(2, 0, 2)), Constant(torch.tensor([70.0, 80.0]))),
        Edit(Point("", part=part, channels=Channels(2, 3, 4)), Resample()),
    ]
    with edited({"": module}, edits):
        output = module(x)
    expected = x.clone()
    expected[..., 0], expected[..., 1] = 70.0, 80.0
    expected[..., 3] = x[..., 3].roll(1, 0)
    assert torch.equal(take(output), expected)


def test_a_part_of_an_input_and_of_a_tap_is_replaced():
    flat = nn.Sequential(nn.Flatten(0, 2), nn.Identity())  # (b, t, h, v) as (b*t*h, v)
    x = ones(2, 3, 4, 2)
    with edited({"": flat, "1": flat[1]}, [Edit(Point("1", "input", within="", channels=Channels(2, 3)), Zero())]):
        seen = flat(x).view(2, 3, 4, 2)
    assert torch.equal(seen[:, :, 3], torch.zeros(2, 3, 2))
    assert torch.equal(seen[:, :, :3], x[:, :, :3])
    taps = [Edit(Point("m.read", "tap", channels=Channels(2, i, i + 1)), Zero()) for i in (0, 2)]
    with edited({}, taps):
        assert tap("m.read", ones(1, 1, 4)).tolist() == [[[0.0, 2.0, 0.0, 4.0]]]


class Means(nn.Module):
    """Every head is a running mean of its own channels, times its number; then a projection mixes them."""

    def __init__(self, turn: Turn = lambda x: x) -> None:
        super().__init__()
        self.config = SimpleNamespace(n_heads=2)
        self.turn = turn
        self.read, self.contribution = ReadPoint(), ReadPoint()
        self.out = nn.Linear(8, 8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        ages = torch.arange(1, x.shape[1] + 1)[:, None]
        read = (x.cumsum(1) / ages).unflatten(-1, (2, 4)) * torch.tensor([[1.0], [2.0]])
        return self.contribution(self.out(self.turn(self.read(self.turn(read))).flatten(2)))


class FlatMeans(Means):
    """The same with heads side by side."""

    def forward(self, x: Tensor) -> Tensor:
        read = x.cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None] * ones(8)
        return self.contribution(self.out(self.read(read)))


class Holding(nn.Module):
    def __init__(self, memory: nn.Module) -> None:
        super().__init__()
        self.embed, self.memory, self.head = nn.Embedding(11, 8), memory, nn.Linear(8, 11)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        output = self.memory(x)
        return self.head(x + (output if isinstance(output, Tensor) else output[0]))


MEANS: dict[str, Callable[[], nn.Module]] = {
    "(b, t, h, v)": Means,
    "(b, h, t, v)": lambda: Means(lambda x: x.transpose(1, 2)),
    "(b, t, d)": FlatMeans,
}


def drawn(build: Callable[[], nn.Module]) -> "Holding":
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Holding(build()).double()


def found(model: nn.Module, *sites: str, heads: bool = False, n_tokens: int = 5) -> Sites:
    tokens = torch.zeros(2, n_tokens, dtype=torch.int64)
    return find_sites(model, lambda: model(tokens), list(sites) or None, heads=heads)


@pytest.mark.parametrize("name", MEANS)
@pytest.mark.parametrize("history", [Window(2), WriteFreeze(2)])
def test_another_history_of_a_head_is_the_head_of_another_history(name: str, history: Window | WriteFreeze):
    """Whatever the layout: every head's read by itself, with and without the other history, then the projection."""
    model = drawn(MEANS[name])
    module, x = model.memory, torch.randn(3, 6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    reading = Means().double() if name != "(b, t, d)" else FlatMeans().double()
    reading.out.weight = nn.Parameter(torch.eye(8, dtype=torch.float64))  # what is read is what comes out
    plain = reading(x)
    cut = history.apply(Call(reading, (x,), {}, plain))
    for index, site in enumerate(found(model, heads=True).memories):
        (edit,) = history_edit(site, history)
        mixed = torch.cat([(cut if i == index else plain)[..., 4 * i : 4 * i + 4] for i in range(2)], dim=-1)
        assert isinstance(edit.intervention, Inside)
        with edited(dict(model.named_modules()), [edit]):
            torch.testing.assert_close(module(x), mixed @ module.get_parameter("out.weight").T)
    assert "forward" not in module.__dict__


@pytest.mark.parametrize("layout", ["gated_delta", "attention", "mlstm"])
def test_windows_of_all_heads_are_the_window_of_the_module(layout: str):
    """Our memories answer for windows themselves, through the same read."""
    model = build(StackConfig.of(f"{layout}(n_heads=2)", vocab_size=11, d_model=8), seed=0).eval().double()
    selector = "blocks.0.mixer[heads]"
    tokens = torch.arange(10).view(1, 10)
    sites = found(model, selector).memories
    (edit,) = together([edit for site in sites for edit in history_edit(site, Window(3))])
    alone = [history_edit(site, Window(3)) for site in sites]
    modules: dict[str, nn.Module] = dict(model.named_modules())
    with torch.no_grad():
        with edited(modules, [Edit(Point(sites[0].owner or ""), Window(3))]):
            whole = model(tokens)
        with edited(modules, [edit]):
            torch.testing.assert_close(model(tokens), whole)
        for one in alone:
            with edited(modules, one):
                assert float((model(tokens) - whole).abs().max()) > 1e-6


@pytest.mark.parametrize("name", MEANS)
def test_heads_are_found_by_number_and_shape(name: str):
    sites = found(drawn(MEANS[name]), heads=True)
    assert [site.name for site in sites.memories] == ["memory[head 0]", "memory[head 1]"]
    parts = [site.channels for site in sites.memories]
    axis = {"(b, t, h, v)": 2, "(b, h, t, v)": 1}.get(name)
    assert parts == ([Channels(2, 0, 4), Channels(2, 4, 8)] if axis is None else [Channels(axis, 0), Channels(axis, 1)])
    assert sites.memories[1].portion.startswith("head 1 of 2")
    assert sites.memories[1].of == "memory"
    assert sites.memories[1].left_out["contribution"] == "behind what mixes the parts"
    assert [group.name for group in groups_of(sites, None)] == ["heads of memory"]


def test_a_gate_of_each_head_belongs_to_its_head_and_a_shared_one_to_none():
    model = build(StackConfig.of("attention, bank(n_slots=2)", vocab_size=11, d_model=8), seed=0).eval()
    sites = found(model, "blocks.1.mixer[heads of 2]").memories
    assert sites[0].evidence == {}
    assert sites[0].left_out["gate"] == sites[0].left_out["addressing"] == "shared by the parts"


def test_what_has_no_heads_stays_whole_and_is_said():
    model = build(StackConfig.of("gated_delta(n_heads=2), bank(n_slots=2)", vocab_size=11, d_model=8), seed=0).eval()
    sites = found(model, heads=True)
    assert [site.name for site in sites.memories] == [
        "blocks.0.mixer[head 0]",
        "blocks.0.mixer[head 1]",
        "blocks.1.mixer",
    ]
    assert "blocks.1.mixer does not say how many heads it has" in sites.remarks[0]
    assert [group.name for group in groups_of(sites, None)] == ["heads of blocks.0.mixer", "(memories)"]
    own = groups_of(sites, {"first": ["blocks.*.mixer[head 0]"], "delta": ["blocks.0.mixer"]})
    assert [group.members for group in own[1:]] == [
        ("blocks.0.mixer[head 0]",),
        ("blocks.0.mixer[head 0]", "blocks.0.mixer[head 1]"),
    ]


@pytest.mark.parametrize(
    ("selectors", "message"),
    [
        (["memory[head 2]"], r"heads 0 to 1, got head 2; nearest: memory\[head 1\]"),
        (["memory[heads of 3]"], r"divisible by its heads, got 3; nearest: memory\[heads of 2\]"),
        (["memory[channels 4:12]"], r"channels 0:8, got 4:12; nearest: memory\[channels 4:8\]"),
        (["memory[channels 9:9]"], r"nearest: memory\[channels 7:8\]"),
        (["memory[head two]"], r"is written \[heads\], \[head 2\]"),
        (["memory[heads]", "memory[channels 0:2]"], "must not overlap"),
        (["memory", "memory[head 0]"], "as a whole and in parts"),
        (["memory.contribution[heads of 2]"], "no module matches"),
        (["memoir[heads]"], "nearest: memory"),
        (["head[heads]"], r"has 11 channels: write head\[heads of N\], N one of 11"),
    ],
)
def test_what_is_not_there_is_refused_with_the_nearest(selectors: list[str], message: str):
    with pytest.raises(ValueError, match=message):
        found(drawn(FlatMeans), *selectors)


def test_heads_with_an_axis_are_not_named_by_channels_or_by_another_number():
    model = drawn(Means)
    with pytest.raises(ValueError, match=r"an axis of their own; name a head, memory\[head 0\]"):
        found(model, "memory[channels 0:2]")
    with pytest.raises(ValueError, match=r"there can be 2 heads, got 4; write memory\[heads of 2\]"):
        found(model, "memory[heads of 4]")


def test_routes_are_not_divided():
    model = drawn(Means)
    with pytest.raises(ValueError, match=r"routes are switched off as a whole, got 'head\[heads\]'; write 'head'"):
        find_sites(model, lambda: None, ["memory"], ["head[heads]"])


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.o_proj = 2, nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.o_proj(x.cumsum(1))


def test_the_output_behind_a_projection_has_no_heads_and_its_input_has():
    model = drawn(Attention)
    with pytest.raises(ValueError, match=r"nearest: memory.o_proj.input\[heads of 2\]"):
        found(model, "memory[heads]")
    sites = found(model, "memory.o_proj.input[heads]").memories
    assert [site.channels for site in sites] == [Channels(2, 0, 4), Channels(2, 4, 8)]


class InOneFunction(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x, x, x, need_weights=False)[0]


def test_attention_in_one_function_cannot_be_seen_apart():
    with pytest.raises(ValueError, match="mixes its heads in one function"):
        found(drawn(InOneFunction), "memory.mix[heads]")


@pytest.mark.parametrize(
    ("pattern", "fitting"),
    [
        ("a.*.m", {"a.0.m", "a.0.m[head 1]", "a.1.m[channels 0:4]"}),
        ("a.*.m[heads]", {"a.0.m[head 1]"}),
        ("a.0.m[head 1]", {"a.0.m[head 1]"}),
        ("a.1.m[channels 0:4]", {"a.1.m[channels 0:4]"}),
        ("a.0.m[head 2]", set()),
    ],
)
def test_patterns_of_groups(pattern: str, fitting: set[str]):
    names = ["a.0.m", "a.0.m[head 1]", "a.1.m[channels 0:4]", "b"]
    assert {name for name in names if fits(name, pattern)} == fitting


def test_an_examination_by_heads_agrees_with_one_of_the_whole():
    """The heads together are the module: same zeros, same window, same contribution to the headroom."""
    model = drawn(FlatMeans)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    budget = replace(TINY, fit_steps=1, joint_fit_steps=1, windows=(4,), contribution=False, untrained_copy=False)
    data = batches(n=4, size=4, length=8)
    whole = examine(model, data, sites=["memory"], routes=[], budget=budget)
    parts = examine(model, data, sites=["memory[heads]"], routes=[], budget=budget)
    (group,) = parts.groups
    (site,) = whole.sites
    for name in ("zero", "mean"):
        assert group.effects["read"][name].value == pytest.approx(site.effects["read"][name].value, abs=1e-9)
    assert group.horizon[0].effect.value == pytest.approx(site.horizon[-1].effect.value, abs=1e-9)
    assert [site.part for site in parts.sites] == ["head 0 of 2, channels 0:4", "head 1 of 2, channels 4:8"]
    assert all({"state", "contribution", "patching"} <= site.unmeasured.keys() for site in parts.sites)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("family", "selector", "n_heads", "own_axis"),
    [
        ("Qwen3Next", "model.layers.0.linear_attn[heads]", 2, True),
        ("FalconH1", "model.layers.0.mamba[heads]", 4, False),
        ("Mamba2", "backbone.layers.0.mixer[heads]", 4, False),
        ("KimiLinear", "model.layers.0.self_attn[heads]", 2, True),
        ("Llama", "model.layers.0.self_attn[heads]", 2, False),
    ],
)
def test_heads_of_hugging_face_classes(family: str, selector: str, n_heads: int, own_axis: bool):
    """Every head's window is exact: all heads at once are the window of the module."""
    model = tiny_huggingface.build(family)
    tokens = tiny_huggingface.tokens(2, 12)
    sites = find_sites(model, lambda: model(tokens, use_cache=False), [selector]).memories
    assert len(sites) == n_heads
    assert {site.channels.stop is None for site in sites if site.channels is not None} == {own_axis}
    modules, whole = dict(model.named_modules()), sites[0].whole
    assert whole is not None
    (edit,) = together([edit for site in sites for edit in history_edit(site, Window(3))])
    with torch.no_grad():
        with edited(modules, [Edit(whole, Window(3))]):
            expected = model(tokens, use_cache=False).logits
        with edited(modules, [edit]):
            torch.testing.assert_close(model(tokens, use_cache=False).logits, expected, rtol=1e-4, atol=1e-4)
        with edited(modules, history_edit(sites[0], Window(3))):
            one = model(tokens, use_cache=False).logits
    assert float((one - expected).abs().max()) > 1e-4

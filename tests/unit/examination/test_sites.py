"""Sites are found by announcement, by tap, or by pattern; everything else is refused with the nearest path."""

import pytest
import torch
from torch import Tensor, nn

from mnemoscope.contracts import ReadPoint, tap
from mnemoscope.examination.subject.sites import Point, find_sites
from mnemoscope.models import StackConfig, build


def stack(layout: str) -> nn.Module:
    return build(StackConfig.of(layout, vocab_size=11, d_model=8), seed=0).eval()


def found(model: nn.Module, **patterns: list[str]):
    return find_sites(model, lambda: model(torch.zeros(2, 3, dtype=torch.int64)), **patterns)


def test_memories_and_routes_of_a_sequential_stack():
    sites = found(stack("attention, gated_delta, bank(n_slots=2)"))
    assert [site.name for site in sites.memories] == ["blocks.1.mixer", "blocks.2.mixer"]
    assert [site.name for site in sites.routes] == ["blocks.0.mixer"]
    assert sites.routes_known
    assert sites.memories[0].loci == {
        "read": Point("blocks.1.mixer.read"),
        "contribution": Point("blocks.1.mixer.contribution"),
    }
    assert set(sites.memories[1].evidence) == {"gate", "addressing"}


def test_contribution_and_gate_of_a_parallel_memory_are_those_after_the_fusion():
    sites = found(stack("gated_delta | attention, gated_delta"))
    site = sites.memories[0]
    assert site.name == "blocks.0.mixer.memory"
    assert site.owner == "blocks.0.mixer.memory.inner"
    assert site.loci["read"] == Point("blocks.0.mixer.memory.inner.read")
    assert site.loci["contribution"] == Point("blocks.0.mixer.memory.contribution")
    assert site.evidence["gate"] == Point("blocks.0.mixer.memory.gate")
    assert sites.routes[0].name == "blocks.0.mixer.beside"


def test_a_stack_of_one_block_is_no_exception():
    assert found(stack("gated_delta")).memories[0].loci["contribution"] == Point("blocks.0.mixer.contribution")


def test_patterns_match_segment_by_segment():
    model = stack("(attention, gated_delta) * 2")
    sites = found(model, sites=["blocks.*.mlp"], routes=["blocks.*.mixer"])
    assert [site.name for site in sites.memories] == ["blocks.0.mlp", "blocks.1.mlp", "blocks.2.mlp", "blocks.3.mlp"]
    assert all(site.loci == {"read": Point(site.name)} for site in sites.memories)
    assert [site.name for site in sites.routes] == [f"blocks.{i}.mixer" for i in range(4)]
    assert all(site.role == "route" for site in sites.routes)


def test_a_site_named_as_memory_is_no_route():
    sites = found(stack("attention, gated_delta"), sites=["blocks.0.mixer"])
    assert [site.name for site in sites.memories] == ["blocks.0.mixer"]
    assert sites.routes == ()


class Tapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(11, 8), nn.Linear(8, 11)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        return self.out(tap("layer0.contribution", tap("layer0.gate", x.sigmoid()) * tap("layer0.read", x)))


def test_taps_are_heard_and_leave_routes_unknown():
    sites = found(Tapped())
    assert sites.memories[0].name == "layer0"
    assert sites.memories[0].loci["read"] == Point("layer0.read", "tap")
    assert sites.memories[0].loci["contribution"] == Point("layer0.contribution", "tap")
    assert not sites.routes_known
    assert found(Tapped(), routes=[]).routes_known


class Unprefixed(Tapped):
    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        return self.out(tap("contribution", tap("gate", x.sigmoid()) * tap("read", x)))


def test_taps_without_a_prefix_are_points_of_one_memory():
    (site,) = found(Unprefixed()).memories
    assert site.name == "model"
    assert set(site.loci) == {"read", "contribution"}


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        ({"sites": ["blocks.*.mixr"]}, "no module matches.*nearest: blocks"),
        ({"sites": "blocks.0.mixer"}, r"sequence of strings.*write \['blocks.0.mixer'\]"),
        ({"routes": ["attention"]}, "no module matches the route pattern"),
    ],
)
def test_bad_patterns_are_refused(patterns: dict[str, list[str]], message: str):
    with pytest.raises(ValueError, match=message):
        found(stack("attention, gated_delta"), **patterns)


def test_a_model_without_memory_names_some_paths():
    model = nn.Sequential(nn.Sequential(nn.Embedding(11, 8)), nn.Linear(8, 11))
    with pytest.raises(ValueError, match=r"found no memory site.*sites=.*0"):
        find_sites(model, lambda: None)


def test_read_points_may_be_shared_by_a_holder_of_one():
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = stack("gated_delta")
            self.contribution = ReadPoint()

        def forward(self, tokens: Tensor) -> Tensor:
            return self.contribution(self.inner(tokens))

    assert found(Wrapped()).memories[0].loci["contribution"] == Point("contribution")


def test_a_lone_read_point_has_one_locus():
    class Lone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stack, self.read = nn.Embedding(11, 8), ReadPoint()

        def forward(self, tokens: Tensor) -> Tensor:
            return self.read(self.stack(tokens))

    (site,) = found(nn.Sequential(Lone())).memories
    assert site.loci == {"read": Point("0.read")}

"""Selectors of other libraries mean modules of the model at hand."""

import pytest
import torch
from torch import Tensor, nn

from mnemoscope.examination import Point, find_sites
from mnemoscope.examination.subject.selectors import HOOKS, Selector, blocks, selected

GPT = ["transformer", "transformer.h", "lm_head"] + [
    f"transformer.h.{i}{tail}" for i in range(3) for tail in ("", ".attn", ".attn.c_proj", ".mlp")
]
LLAMA = ["model", "model.layers", "lm_head"] + [
    f"model.layers.{i}{tail}" for i in range(2) for tail in ("", ".self_attn", ".self_attn.o_proj", ".mlp")
]


@pytest.mark.parametrize(
    ("selector", "paths", "meant"),
    [
        ("transformer.h.*.attn", GPT, Selector("transformer.h.*.attn")),
        ("transformer.h.0.attn::1", GPT, Selector("transformer.h.0.attn", part="1")),
        ("model.transformer.h[0].attn.output", GPT, Selector("transformer.h.0.attn")),
        ("transformer.h[2].attn.input", GPT, Selector("transformer.h.2.attn", "input")),
        ("model.transformer.h[0].attn.output[0]", GPT, Selector("transformer.h.0.attn")),
        ("transformer.h[0].attn.output[1]", GPT, Selector("transformer.h.0.attn", part="1")),
        ("transformer.h[*].mlp.output", GPT, Selector("transformer.h.*.mlp")),
        ("model.layers[1].self_attn.output", LLAMA, Selector("model.layers.1.self_attn")),
        ("model.model.layers[1].self_attn.output", LLAMA, Selector("model.layers.1.self_attn")),
        ("blocks.0.attn.hook_z", GPT, Selector("transformer.h.0.attn")),
        ("blocks.1.attn.hook_z", LLAMA, Selector("model.layers.1.self_attn")),
        ("blocks.*.hook_attn_out", LLAMA, Selector("model.layers.*.self_attn")),
        ("blocks.2.hook_mlp_out", GPT, Selector("transformer.h.2.mlp")),
        ("blocks.0.hook_resid_pre", GPT, Selector("transformer.h.0", "input")),
        ("blocks.0.hook_resid_post", LLAMA, Selector("model.layers.0")),
        ("nothing.like.it", GPT, Selector("nothing.like.it")),
    ],
)
def test_what_a_selector_means(selector, paths, meant):
    assert selected(selector, paths) == meant


def test_a_module_that_is_called_like_an_end_is_a_module():
    assert selected("head.output", ["head", "head.output"]) == Selector("head.output")


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_name_of_the_table_is_understood(hook):
    assert selected(f"blocks.0.{hook}", GPT).pattern.startswith("transformer.h.0")


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("blocks.0.attn.hook_pattern", "are understood, got 'blocks.0.attn.hook_pattern'"),
        ("hook_embed", "blocks.N.attn.hook_z"),
        ("blocks.9.attn.hook_z", "in 'transformer.h.9'.*nearest: transformer.h"),
    ],
)
def test_hook_names_without_a_module_are_refused(selector, message):
    with pytest.raises(ValueError, match=message):
        selected(selector, GPT)


def test_blocks_are_the_longest_of_the_outermost_lists():
    assert blocks(["stem.0", "stem.1", "h.0", "h.1", "h.2", "h.0.parts.0"]) == "h"
    assert blocks(["a", "b.c"]) == ""


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn, self.mlp = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.attn(x))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.h = nn.ModuleList([Block(), Block()])

    def forward(self, x: Tensor) -> Tensor:
        for block in self.h:
            x = block(x)
        return x


def test_sites_take_selectors():
    model = Model()
    found = find_sites(
        model,
        lambda: model(torch.zeros(1, 2, 4)),
        sites=["model.h[1].attn.output", "blocks.1.hook_resid_pre"],
        routes=["blocks.0.attn.hook_z"],
    )
    assert [site.name for site in found.memories] == ["h.1.attn", "h.1.input"]
    assert found.memories[1].loci == {"read": Point("h.1", "input")}
    assert [site.name for site in found.routes] == ["h.0.attn"]

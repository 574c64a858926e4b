"""Sites, interventions and windows of every Hugging Face class of the adapter table, on tiny random models."""

import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mnemoscope.examination
from mnemoscope.examination import Budget, examine
from mnemoscope.examination.interventions.reads import Constant, Zero
from mnemoscope.examination.running.editing import Edit, edited
from mnemoscope.examination.running.replay import Replayer
from mnemoscope.examination.subject.adapters import adapted, at_rest
from mnemoscope.examination.subject.intact import intact
from mnemoscope.examination.subject.losses import NextTokenLoss
from mnemoscope.examination.subject.sites import Point, find_sites
from tests.unit.examination.tiny_huggingface import CONFIGS, REACH, Seeing, build, everything, long, sites_of, tokens

pytestmark = pytest.mark.filterwarnings("ignore")

EXPECTED: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "Mamba": ({f"backbone.layers.{i}.mixer": "out_proj<" for i in (0, 1)}, {}),
    "FalconMamba": ({f"backbone.layers.{i}.mixer": "out_proj<" for i in (0, 1)}, {}),
    "Mamba2": ({f"backbone.layers.{i}.mixer": "norm<" for i in (0, 1)}, {}),
    "Jamba": ({"model.layers.0.mamba": "out_proj<"}, {"model.layers.1.self_attn": "o_proj<"}),
    "Bamba": ({"model.layers.0.mamba": "norm<"}, {"model.layers.1.self_attn": "o_proj<"}),
    "FalconH1": (
        {f"model.layers.{i}.mamba": "norm<" for i in (0, 1)},
        {f"model.layers.{i}.self_attn": "o_proj<" for i in (0, 1)},
    ),
    "GraniteMoeHybrid": ({"model.layers.0.mamba": "norm<"}, {"model.layers.1.self_attn": "o_proj<"}),
    "NemotronH": ({"model.layers.0.mixer": "norm<"}, {"model.layers.1.mixer": "o_proj<"}),
    "Zamba": (
        {
            "model.layers.0.mamba": "out_proj<",
            "model.layers.1.mamba_decoder.mamba": "out_proj<",
            "model.layers.2.mamba_decoder.mamba": "out_proj<",
        },
        {f"model.layers.{i}.shared_transf.self_attn": "o_proj<" for i in (1, 2)},
    ),
    "Zamba2": (
        {"model.layers.0.mamba": "norm<", "model.layers.1.mamba_decoder.mamba": "norm<"},
        {"model.layers.1.shared_transformer.self_attn": "o_proj<"},
    ),
    "OlmoHybrid": ({"model.layers.0.linear_attn": "o_norm<4"}, {"model.layers.1.self_attn": "o_proj<"}),
    "KimiLinear": ({"model.layers.0.self_attn": "o_norm<4"}, {"model.layers.1.self_attn": "o_proj<"}),
    "BailingHybrid": ({"model.layers.0.self_attn": "o_norm<4"}, {"model.layers.1.self_attn": "o_proj<"}),
    "RecurrentGemma": ({"model.layers.0.temporal_block": "rg_lru>"}, {"model.layers.1.temporal_block": "o_proj<"}),
    "xLSTM": ({f"backbone.blocks.{i}.mlstm_layer": "multihead_norm<4" for i in (0, 1)}, {}),
    "Rwkv": ({f"rwkv.blocks.{i}.attention": "output<" for i in (0, 1)}, {}),
    "Lfm2": ({"model.layers.0.conv": "out_proj<"}, {"model.layers.1.self_attn": "out_proj<"}),
    "MiniMax": ({"model.layers.0.self_attn": "norm<"}, {"model.layers.1.self_attn": "o_proj<"}),
    "GPT2": ({}, {f"transformer.h.{i}.attn": "c_proj<" for i in (0, 1)}),
}
"""Memories and routes by path; where the read is seen, as input (<) or output (>), 4 where it has a head axis."""
for name in ("Qwen3Next", "Qwen3_5", "Qwen3_5Moe", "Qwen4Exp"):
    EXPECTED[name] = ({"model.layers.0.linear_attn": "norm<4"}, {"model.layers.1.self_attn": "o_proj<"})
for name in ("Llama", "Qwen3", "Mistral", "Gemma2", "Gemma3"):
    EXPECTED[name] = ({}, {f"model.layers.{i}.self_attn": "o_proj<" for i in (0, 1)})


def logits_under(model: nn.Module, edits: list[Edit], x: Tensor) -> Tensor:
    with edited(dict(model.named_modules()), edits):
        return model(x).logits


@pytest.mark.parametrize("name", CONFIGS)
def test_sites_and_routes_of_every_class(name: str):
    model = build(name)
    found = sites_of(model)
    assert found.routes_known
    memories, routes = EXPECTED[name]
    first = {} if memories else dict([next(iter(routes.items()))])
    assert [site.name for site in found.memories] == list(memories or first)
    assert {site.name for site in found.routes} == set(routes) - set(first)
    for site in everything(found):
        child, direction = (memories | routes)[site.name].rstrip("4"), "module"
        if child.endswith("<"):
            direction = "input"
        assert (site.loci["read"].path, site.loci["read"].kind) == (f"{site.name}.{child[:-1]}", direction)
        assert site.loci["contribution"] == Point(site.name)
        assert site.owner == site.name
        assert site.reach == REACH.get(name, {}).get(site.name)


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_reads_and_contributions_can_be_seen_and_replaced(name: str):
    model, x = build(name), tokens()
    with intact(model):
        plain = model(x).logits
        for site in everything(sites_of(model)):
            for locus, point in site.loci.items():
                seeing = Seeing()
                assert torch.equal(logits_under(model, [Edit(point, seeing)], x), plain)
                value = seeing.call.value
                assert value.shape[:2] == x.shape
                if locus == "read":
                    expected = (EXPECTED[name][0] | EXPECTED[name][1])[site.name]
                    assert value.ndim == (4 if expected.endswith("4") else 3)
                large = 100 * torch.randn(value.shape[2:], generator=torch.Generator().manual_seed(1))
                assert not torch.allclose(logits_under(model, [Edit(point, Constant(large))], x), plain)


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_zeros_equal_zeroing_by_hand(name: str):
    model, x = build(name), tokens()
    with intact(model):
        for site in everything(sites_of(model)):
            for point in site.loci.values():
                module = model.get_submodule(point.path)
                with ExitStack() as stack:
                    if point.kind == "input":
                        handle = module.register_forward_pre_hook(lambda m, args: (0 * args[0], *args[1:]))
                    else:
                        handle = module.register_forward_hook(
                            lambda m, args, y: (0 * y[0], *y[1:]) if isinstance(y, tuple) else 0 * y
                        )
                    stack.callback(handle.remove)
                    by_hand = model(x).logits
                assert torch.equal(logits_under(model, [Edit(point, Zero())], x), by_hand)


@pytest.mark.parametrize("name", long(CONFIGS))
@torch.no_grad()
def test_replay_equals_the_full_forward(name: str):
    model, x = build(name), tokens()
    with intact(model):
        points = [site.loci[locus] for site in everything(sites_of(model)) for locus in ("read", "contribution")]
        replayer = Replayer(model, NextTokenLoss(), points)
        tape = replayer.record(x, keep=points)
        for point in points:
            edits = [Edit(point, Zero())]
            with edited(dict(model.named_modules()), edits):
                full = NextTokenLoss()(model, x)
            assert torch.equal(replayer.run(tape, edits).per_sequence, full)
            assert tape.values[point][0].shape[:2] == (2, 23)
        assert replayer.path.startswith("from a record"), replayer.path


@pytest.mark.parametrize("name", [pytest.param("Mamba2", marks=pytest.mark.long), "Qwen3Next"])
def test_examined_end_to_end(name: str):
    model = build(name).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    batches = [tokens(n_rows=8, n_tokens=13, seed=seed) for seed in range(4)]
    budget = Budget(n_calibration=16, n_test=16, fit_steps=5, joint_fit_steps=2, windows=(1,), n_resamples=200)
    examination = examine(model, batches, budget=budget)
    assert examination.replay.startswith("from a record")
    assert examination.routes_known
    assert {site.name for site in examination.routes} == set(EXPECTED[name][1])
    assert {site.horizon_method for site in examination.sites} == {"unfolded"}
    assert {site.horizon_method for site in examination.routes} <= {"windowed"}
    with intact(model), torch.no_grad():
        for site, found in zip(find_sites(model, lambda: None).memories, examination.sites, strict=True):
            edits = [Edit(site.loci["read"], Zero())]
            differences: list[Tensor] = []
            for batch in batches[2:]:
                with edited(dict(model.named_modules()), edits):
                    zeroed = NextTokenLoss()(model, batch)
                differences.append(zeroed - NextTokenLoss()(model, batch))
            assert found.effects["read"]["zero"].value == pytest.approx(float(torch.cat(differences).mean()), abs=1e-5)
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_patterns_of_the_user_win():
    model = build("Qwen3Next")
    found = find_sites(model, lambda: None, sites=["model.layers.*.mlp"], routes=["model.layers.1.self_attn"])
    assert [site.name for site in found.memories] == ["model.layers.0.mlp", "model.layers.1.mlp"]
    assert found.routes[0].loci["read"] == Point("model.layers.1.self_attn.o_proj", "input")


def test_a_model_of_attention_alone_says_what_can_be_put_on_trial():
    with pytest.raises(ValueError, match=r"for instance from: model.layers.0.self_attn, model.layers.1.self_attn"):
        find_sites(build("Llama"), lambda: None)


def test_gates_between_0_and_1_are_evidence():
    (site, _) = sites_of(build("xLSTM")).memories
    assert site.evidence == {"gate": Point("backbone.blocks.0.mlstm_layer.ogate_act_fn")}


def test_falcon_h1_without_a_norm_is_read_before_its_output_projection():
    (site, _) = sites_of(build("FalconH1", mamba_rms_norm=False)).memories
    assert site.loci["read"] == Point("model.layers.0.mamba.out_proj", "input")


def test_subclasses_count_as_their_class():
    model = build("Mamba2")
    mixer = model.get_submodule("backbone.layers.0.mixer")
    mixer.__class__ = type("Patched", (type(mixer),), {})
    assert sites_of(model).memories[0].name == "backbone.layers.0.mixer"


def test_routes_are_unknown_beside_a_mixer_of_no_row():
    model = build("Mamba2")
    strange = type("HyenaMixer", (nn.Linear,), {"__module__": "transformers.models.hyena"})
    model.get_submodule("backbone.layers.1").add_module("second", strange(16, 16))
    assert adapted(model).strangers == ("HyenaMixer",)
    assert not find_sites(model, lambda: None).routes_known


def test_modules_of_other_libraries_are_no_sites():
    class LlamaAttention(nn.Module):
        is_causal = True

        def __init__(self) -> None:
            super().__init__()
            self.o_proj = nn.Linear(2, 2)

    assert adapted(LlamaAttention()).found == ()


def test_rest_makes_no_caches_and_ends():
    model = build("Mamba2")
    with at_rest(model):
        assert model(tokens()).cache_params is None
    assert model(tokens()).cache_params is not None
    with pytest.raises(KeyError), at_rest(model):
        raise KeyError
    assert model.config.use_cache is True


@torch.no_grad()
def test_weights_that_rwkv_rescales_come_back_to_the_bit():
    model, name = build("Rwkv", num_hidden_layers=3, rescale_every=1).train(), "rwkv.blocks.2.attention.output.weight"
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with intact(model):
        model(tokens())
        assert torch.equal(4 * model.get_parameter(name), before[name])
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert model.get_submodule("rwkv").layers_are_rescaled is False


@torch.no_grad()
def test_states_in_attributes_come_back():
    model = build("RecurrentGemma")
    block: Any = model.get_submodule("model.layers.0.temporal_block")
    model(tokens())
    before = block.rg_lru.recurrent_states, block.conv1d_state
    with intact(model):
        model(tokens(seed=1))
        assert block.conv1d_state is None
    assert block.rg_lru.recurrent_states is before[0]
    assert block.conv1d_state is before[1]


def test_transformers_is_not_imported_by_the_examination():
    sources = Path(str(mnemoscope.examination.__file__)).parent.rglob("*.py")
    assert not [path for path in sources if re.search(r"^\s*(import|from) transformers", path.read_text(), re.M)]

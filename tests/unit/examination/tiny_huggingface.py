"""Tiny random models of Hugging Face classes, with weights large enough that history shows in the logits."""

import os
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mnemoscope.examination.running.editing import Edit, edited
from mnemoscope.examination.subject.adapters import adapted
from mnemoscope.examination.subject.calls import Call
from mnemoscope.examination.subject.sites import Point, Site, Sites, find_sites

os.environ.setdefault("USE_HUB_KERNELS", "NO")

VOCABULARY = 37

SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
HEADS: dict[str, Any] = {**SMALL, "head_dim": 8}
LINEAR_FIRST: dict[str, Any] = {"layer_types": ["linear_attention", "full_attention"]}
SLIDING_FIRST: dict[str, Any] = {**HEADS, "sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]}
EXPERTS: dict[str, Any] = {
    "moe_intermediate_size": 8,
    "shared_expert_intermediate_size": 8,
    "num_experts": 2,
    "num_experts_per_tok": 1,
}
DELTA: dict[str, Any] = {
    **HEADS,
    **LINEAR_FIRST,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 4,
    "linear_value_head_dim": 4,
}
MAMBA: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "state_size": 4,
    "expand": 2,
}
MAMBA2_IN_HYBRID: dict[str, Any] = {
    **SMALL,
    "mamba_n_heads": 4,
    "mamba_d_head": 8,
    "mamba_n_groups": 1,
    "mamba_d_state": 4,
    "mamba_expand": 2,
    "mamba_chunk_size": 8,
}
KIMI: dict[str, Any] = {
    **SMALL,
    **LINEAR_FIRST,
    "num_key_value_heads": 2,
    "moe_intermediate_size": 8,
    "kv_lora_rank": 8,
    "q_lora_rank": None,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 8,
    "n_routed_experts": 2,
    "num_experts_per_tok": 1,
    "n_group": 1,
    "topk_group": 1,
    "linear_num_heads": 2,
    "linear_head_dim": 8,
}
INDEXED: dict[str, Any] = {
    "hc_lowrank": 4,
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 8,
    "indexer_budget": 16,
    "indexer_compress_ratio": 4,
}

CONFIGS: dict[str, dict[str, Any]] = {
    "Mamba": {**MAMBA, "time_step_rank": 2},
    "FalconMamba": {**MAMBA, "time_step_rank": 2},
    "Mamba2": {**MAMBA, "num_heads": 4, "head_dim": 8, "n_groups": 2, "chunk_size": 8},
    "Jamba": {
        **SMALL,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "num_experts": 1,
        "mamba_d_state": 4,
        "mamba_dt_rank": 2,
    },
    "Bamba": {**MAMBA2_IN_HYBRID, "attn_layer_indices": [1]},
    "FalconH1": {**MAMBA2_IN_HYBRID, "head_dim": 8, "mamba_d_ssm": 32, "mamba_rms_norm": True},
    "GraniteMoeHybrid": {
        **MAMBA2_IN_HYBRID,
        **LINEAR_FIRST,
        "num_local_experts": 0,
        "shared_intermediate_size": 16,
    },
    "NemotronH": {
        **HEADS,
        "num_hidden_layers": 3,
        "layers_block_type": ["mamba", "attention", "mlp"],
        "mamba_num_heads": 4,
        "mamba_head_dim": 8,
        "ssm_state_size": 4,
        "n_groups": 1,
        "chunk_size": 8,
    },
    "Zamba": {
        **SMALL,
        "num_key_value_heads": 2,
        "num_hidden_layers": 3,
        "layers_block_type": ["linear_attention", "hybrid", "hybrid"],
        "n_mamba_heads": 2,
        "mamba_d_state": 4,
        "mamba_dt_rank": 2,
    },
    "Zamba2": {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "layers_block_type": ["linear_attention", "hybrid"],
        "mamba_d_state": 4,
        "n_mamba_heads": 4,
        "chunk_size": 8,
        "adapter_rank": 4,
        "use_mem_rope": True,
    },
    "Qwen3Next": {**DELTA, **EXPERTS},
    "Qwen3_5": DELTA,
    "Qwen3_5Moe": {**DELTA, **EXPERTS},
    "Qwen4Exp": {**DELTA, **EXPERTS, **INDEXED},
    "OlmoHybrid": {name: value for name, value in DELTA.items() if name != "head_dim"},
    "KimiLinear": KIMI,
    "BailingHybrid": {**KIMI, "head_dim": 8, "num_experts": 2},
    "RecurrentGemma": {
        **SMALL,
        "intermediate_size": 32,
        "lru_width": 16,
        "attention_window_size": 8,
        "block_types": ("recurrent", "attention"),
    },
    "xLSTM": {"hidden_size": 64, "num_hidden_layers": 2, "num_heads": 4, "qk_dim_factor": 1.0, "chunk_size": 8},
    "Rwkv": {"hidden_size": 16, "num_hidden_layers": 2, "context_length": 64, "intermediate_size": 32},
    "Lfm2": {**SMALL, "layer_types": ["conv", "full_attention"], "conv_L_cache": 3},
    "MiniMax": {**HEADS, **LINEAR_FIRST, "num_local_experts": 2, "num_experts_per_tok": 1, "block_size": 8},
    "Llama": HEADS,
    "Qwen3": HEADS,
    "Mistral": {**HEADS, "sliding_window": 6},
    "Gemma2": SLIDING_FIRST,
    "Gemma3": SLIDING_FIRST,
    "GPT2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64},
}
"""Keyword arguments of the config, by the name of the causal language model."""

REACH = {
    "RecurrentGemma": {"model.layers.1.temporal_block": 8},
    "Lfm2": {"model.layers.0.conv": 3},
    "Mistral": {"model.layers.0.self_attn": 6, "model.layers.1.self_attn": 6},
    "Gemma2": {"model.layers.0.self_attn": 6},
    "Gemma3": {"model.layers.0.self_attn": 6},
}
SOME = ("Mamba2", "Qwen3Next", "RecurrentGemma", "FalconH1", "Lfm2", "xLSTM")
"""Classes whose slower tests run by default; the others are marked `long`."""


def long(names: Any) -> list[Any]:
    return [name if name in SOME else pytest.param(name, marks=pytest.mark.long) for name in names]


def build(name: str, **changes: Any) -> Any:
    """A model in evaluation mode; slow decays, so that what was written stays a while."""
    import transformers

    named: dict[str, str] = {"GPT2": "GPT2LMHeadModel"}
    cls: Any = getattr(transformers, named.get(name, f"{name}ForCausalLM"))
    config_class: Any = transformers.Gemma3TextConfig if name == "Gemma3" else cls.config_class
    settings = {"initializer_range": 0.3, **CONFIGS[name], **changes}
    config = config_class(vocab_size=VOCABULARY, pad_token_id=0, bos_token_id=1, eos_token_id=2, **settings)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = cls(config).eval()
        for parameter_name, parameter in model.named_parameters():
            if parameter_name.endswith("A_log"):
                parameter.clamp_(max=-1.0) if "linear" in parameter_name else parameter.clamp_(max=1.0)
    return model


def tokens(n_rows: int = 2, n_tokens: int = 24, seed: int = 0) -> Tensor:
    """Random tokens, none of them special."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, VOCABULARY, (n_rows, n_tokens), generator=generator)


class Seeing:
    """Keeps the call and changes nothing."""

    call: Call

    def apply(self, call: Call) -> Tensor:
        self.call = call
        return call.value


def sites_of(model: nn.Module) -> Sites:
    """Attention models have routes only, so a route is put on trial."""
    if adapted(model).found[0].mixer.role == "route":
        return find_sites(model, lambda: None, sites=[adapted(model).found[0].path])
    return find_sites(model, lambda: None)


def everything(sites: Sites) -> tuple[Site, ...]:
    return (*sites.memories, *sites.routes)


def seen(model: nn.Module, path: str, **batch: Tensor) -> Call:
    seeing = Seeing()
    with edited(dict(model.named_modules()), [Edit(Point(path), seeing)]):
        model(**batch)
    return seeing.call

"""A token decoded behind a long context, by an exported stack and by the transformers class of the same mechanism.

Ours is timed as it is, and with `compile_step`; the class runs as transformers runs it on a CPU: nothing is compiled.
"""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.timing import Spread, bootstrap_ratio, max_difference, print_table, time_interleaved
from mnemoscope.memories import GatedDelta, GatedDeltaConfig, Mamba2, Mamba2Config
from mnemoscope.models import Stack, StackConfig
from mnemoscope.models.huggingface import MnemoscopeConfig, MnemoscopeForCausalLM

CONTEXT, WIDTH, BLOCKS, VOCABULARY = 4096, 256, 4, 256
BAR = 2.0
TOKENS = 16
"""Of one timing."""

REPEATS = 15
TOLERANCE = 1e-3
"""Largest difference of the logits that counts as the same work; both sum 4,096 tokens in another order."""

CACHES = ("past_key_values", "cache_params")


@dataclass(frozen=True)
class Rival:
    """A transformers model with the weights of a stack, and what it is called."""

    name: str
    stack: StackConfig
    build: Callable[[Stack], nn.Module]


def mamba2(stack: Stack) -> nn.Module:
    from transformers import Mamba2Config as Config
    from transformers import Mamba2ForCausalLM

    ours = Mamba2Config()
    config = Config(
        hidden_size=WIDTH,
        vocab_size=VOCABULARY,
        num_hidden_layers=BLOCKS,
        expand=ours.expand,
        num_heads=ours.n_heads,
        head_dim=ours.expand * WIDTH // ours.n_heads,
        state_size=ours.d_state,
        n_groups=ours.n_groups,
        layer_norm_epsilon=1e-6,
    )
    model = Mamba2ForCausalLM(config).eval()
    load(model, {"backbone.embeddings.weight": stack.embedding.weight, "backbone.norm_f.weight": stack.norm.weight})
    load(model, {"lm_head.weight": stack.head.weight})
    for theirs, block in zip(model.backbone.layers, stack.blocks, strict=True):
        mixer = block.mixer
        assert isinstance(mixer, Mamba2)
        load(theirs, {"norm.weight": block.mixer_norm.weight})
        weights = {
            "in_proj.weight": mixer.inputs.weight,
            "conv1d.weight": mixer.convolution.weight,
            "conv1d.bias": mixer.convolution_bias,
            "dt_bias": mixer.step_bias,
            "A_log": mixer.log_rate,
            "D": mixer.skip,
            "norm.weight": mixer.norm_scale,
            "out_proj.weight": mixer.out.weight,
        }
        load(theirs.mixer, weights)
    return model


def gated_delta_net(stack: Stack) -> nn.Module:
    """Qwen3-Next with linear layers alone; its gated feed-forward part is exchanged for the stack's, which differs."""
    from transformers import Qwen3NextConfig, Qwen3NextForCausalLM

    ours = GatedDeltaConfig()
    head = WIDTH // ours.n_heads
    config = Qwen3NextConfig(
        hidden_size=WIDTH,
        vocab_size=VOCABULARY,
        num_hidden_layers=BLOCKS,
        intermediate_size=2 * WIDTH,
        layer_types=["linear_attention"] * BLOCKS,
        num_experts=0,
        linear_num_key_heads=ours.n_heads,
        linear_num_value_heads=ours.n_heads,
        linear_key_head_dim=head,
        linear_value_head_dim=head,
    )
    model = Qwen3NextForCausalLM(config).eval()
    load(model, {"model.embed_tokens.weight": stack.embedding.weight, "lm_head.weight": stack.head.weight})
    # Their norms multiply by 1 + weight.
    load(model, {"model.norm.weight": stack.norm.weight - 1})
    for theirs, block in zip(model.model.layers, stack.blocks, strict=True):
        mixer = block.mixer
        assert isinstance(mixer, GatedDelta)
        assert block.mlp_norm is not None
        assert block.mlp is not None
        load(theirs, {"input_layernorm.weight": block.mixer_norm.weight - 1})
        load(theirs, {"post_attention_layernorm.weight": block.mlp_norm.weight - 1})
        theirs.mlp = block.mlp
        by_head = [*mixer.qkv.weight.view(3, ours.n_heads, head, WIDTH), mixer.output_gate.weight.view(-1, head, WIDTH)]
        gates = torch.stack([mixer.write_gate.weight, mixer.retention_gate.weight], dim=1)
        weights = {
            "in_proj_qkvz.weight": torch.stack(by_head, dim=1).flatten(0, 2),
            "in_proj_ba.weight": gates.flatten(0, 1),
            "conv1d.weight": mixer.convolution.weight,
            "dt_bias": mixer.retention_gate.bias,
            "A_log": mixer.log_rate,
            "norm.weight": mixer.norm.weight,
            "out_proj.weight": mixer.out.weight,
        }
        load(theirs.linear_attn, weights)
    return model


RIVALS = (
    Rival(
        "Mamba2ForCausalLM",
        StackConfig(
            vocab_size=VOCABULARY, d_model=WIDTH, mixers=(Mamba2Config(),) * BLOCKS, mlp_ratio=0, tie_embeddings=False
        ),
        mamba2,
    ),
    Rival(
        "Qwen3NextForCausalLM, linear layers",
        StackConfig(vocab_size=VOCABULARY, d_model=WIDTH, mixers=(GatedDeltaConfig(),) * BLOCKS, tie_embeddings=False),
        gated_delta_net,
    ),
)


@torch.no_grad()
def load(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    for name, value in weights.items():
        parameter = module.get_parameter(name)
        parameter.copy_(value.reshape(parameter.shape))


def arguments(model: nn.Module, tokens: Tensor) -> dict[str, Any]:
    """What a model is called with.

    Qwen3-Next without attention asks its cache for a length that it has not; positions, and masks that say nothing,
    spare it the question and the making of both.
    """
    if "Qwen3Next" not in type(model).__name__:
        return {"input_ids": tokens, "use_cache": True}
    masks = {"full_attention": None, "linear_attention": None}
    return {"input_ids": tokens, "use_cache": True, "position_ids": torch.zeros_like(tokens), "attention_mask": masks}


def behind(model: nn.Module, tokens: Tensor) -> tuple[str, Any]:
    """The cache after a prompt, and the name under which the model takes it back."""
    output = model(**arguments(model, tokens))
    name = next(name for name in CACHES if name in output)
    return name, output[name]


def decode(model: nn.Module, name: str, cache: Any, tokens: Tensor) -> Tensor:
    """Logits of one token after the other, each from the cache alone, as `generate` calls the model."""
    calls = (model(**arguments(model, token[:, None]), **{name: cache}) for token in tokens.unbind(1))
    return torch.cat([call.logits for call in calls], dim=1)


def random_tokens(n_tokens: int, seed: int) -> Tensor:
    return torch.randint(VOCABULARY, (1, n_tokens), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def measure(rival: Rival) -> list[tuple[str, ...]]:
    """A row for ours as it is, and one for ours compiled, against one and the same timing of the class."""
    torch.manual_seed(0)
    ours = MnemoscopeForCausalLM(MnemoscopeConfig.of(rival.stack)).eval()
    theirs, compiled = rival.build(ours.stack), copy.deepcopy(ours)
    compiled.compile_step()
    prompt, further = random_tokens(CONTEXT, 1), random_tokens(TOKENS, 2)
    models = {"ours": ours, "ours, compiled": compiled, "theirs": theirs}
    held = {who: (model, *behind(model, prompt)) for who, model in models.items()}
    decoded, first = dict[str, Tensor](), dict[str, float]()
    for who in held:
        began = time.perf_counter()
        decoded[who] = decode(*held[who], further)
        first[who] = time.perf_counter() - began
    whole = ours(torch.cat([prompt, further], dim=1), use_cache=False, logits_to_keep=TOKENS).logits
    seconds = time_interleaved({who: lambda who=who: decode(*held[who], further) for who in held}, REPEATS)
    return [row(rival, who, decoded, whole, seconds, first) for who in held if who != "theirs"]


def row(
    rival: Rival,
    who: str,
    decoded: Mapping[str, Tensor],
    whole: Tensor,
    seconds: Mapping[str, Any],
    first: Mapping[str, float],
) -> tuple[str, ...]:
    difference = max(max_difference([decoded[who]], [other]) for other in (decoded["theirs"], whole))
    low, high = bootstrap_ratio(seconds["theirs"], seconds[who])
    same = "" if difference <= TOLERANCE else "; NOT THE SAME WORK"
    return (
        rival.name,
        who,
        f"{difference:.1e}{same}",
        f"{first[who]:.1f}",
        f"{TOKENS / Spread.of(seconds[who]).median:.0f}",
        f"{TOKENS / Spread.of(seconds['theirs']).median:.0f}",
        str(Spread.of(seconds["theirs"] / seconds[who])),
        f"[{low:.2f}, {high:.2f}]",
        f"{BAR:g}: {'met' if low >= BAR else 'missed'}",
    )


def run() -> None:
    """Print one row per class."""
    from transformers.utils import logging

    # The peers warn that they are their own reference implementations; that is what is wanted here.
    logging.set_verbosity_error()
    print(
        f"context {CONTEXT}, width {WIDTH}, {BLOCKS} blocks, one sequence, float32, "
        f"{torch.get_num_threads()} thread(s); further tokens keep coming\n"
    )
    header = (
        "transformers class",
        "against",
        "max difference",
        "first tokens, s",
        "ours tokens/s",
        "theirs tokens/s",
        "ratio (10-90 %)",
        "95 %",
        "bar",
    )
    print_table(header, [line for rival in RIVALS for line in measure(rival)])

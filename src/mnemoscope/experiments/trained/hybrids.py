"""What is trained: a model, what it learns and how, and which of its modules are the memories."""

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mnemoscope.models import Stack, StackConfig
from mnemoscope.tasks import MqarConfig
from mnemoscope.training import TrainConfig

Arm = Literal["with", "without"]
ARMS: tuple[Arm, ...] = ("with", "without")

LOCAL_WINDOW = 4
"""Tokens that the module in the place of a memory sees, the present one included."""


@dataclass(frozen=True, kw_only=True)
class Hybrid:
    """A hybrid of memory and attention that is trained on recall.

    Args:
        name: on the command line, in folders and tables.
        what: the model, in words.
        task: what it learns.
        train: how; the seed is replaced.
        build: a model that maps tokens to logits, its weights from the global generator.
        memories: paths of its memories in the model that is trained.
        control: nothing but the memories can do the task, so that verdict and retraining must both miss them.
    """

    name: str
    what: str
    task: MqarConfig
    train: TrainConfig
    build: Callable[[], nn.Module]
    memories: tuple[str, ...]
    control: bool = False

    def training(self, seed: int) -> TrainConfig:
        """The training of a seed; both arms of a seed see the same data in the same order."""
        return replace(self.train, seed=seed)

    def model(self, seed: int, arm: Arm) -> nn.Module:
        """A new model of a seed, on the CPU; the global generator is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            model = self.build()
            if arm == "without":
                for path in self.memories:
                    model.set_submodule(path, LocalMixer.like(model.get_submodule(path), model))
        return model


class Logits(nn.Module):
    """A Hugging Face model as training wants it: from tokens to logits."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t vocab"]:
        """Logits without a cache."""
        return self.model(input_ids=tokens, use_cache=False).logits

    def save(self, folder: Path) -> None:
        """Write config and weights as transformers loads them, the weights as safetensors."""
        self.model.save_pretrained(folder)


class LocalMixer(nn.Module):
    """What stands in a memory's place: its block without a state, which sees the local window and nothing before.

        x_t = W_x h_t     g_t = W_g h_t     c_t = b + sum_j f_j * x_(t-j), j = 0 ... window - 1
        y_t = W_o (silu(c_t) * silu(g_t))

    The form of Mamba's block without its state. D19 depends on this choice: a model may learn a task later, or not
    within its steps, for how the stand-in is built rather than for want of a memory.

    Args:
        d_model: width.
        width: channels of the inner layer.
        stateful: give a state beside the output, as the memories of `mnemoscope.memories` do.
    """

    def __init__(self, d_model: int, width: int, stateful: bool) -> None:
        super().__init__()
        self.stateful = stateful
        self.inner = nn.Linear(d_model, 2 * width, bias=False)
        self.convolution = nn.Conv1d(width, width, LOCAL_WINDOW, padding=LOCAL_WINDOW - 1, groups=width)
        self.out = nn.Linear(width, d_model, bias=False)

    @classmethod
    def like(cls, memory: nn.Module, model: nn.Module) -> "LocalMixer":
        """As many parameters as a memory has, to within half of what a channel takes."""
        d_model = next(part.embedding_dim for part in model.modules() if isinstance(part, nn.Embedding))
        n_parameters = sum(parameter.numel() for parameter in memory.parameters())
        width = round(n_parameters / (3 * d_model + LOCAL_WINDOW + 1))
        return cls(d_model, max(1, width), stateful=isinstance(model, Stack))

    def forward(self, hidden_states: Float[Tensor, "b t d"], state: Any = None, **others: Any) -> Any:
        """The output, or output and state; caches and masks of a Hugging Face model have no meaning here."""
        x, gate = self.inner(hidden_states).chunk(2, dim=-1)
        local = self.convolution(x.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2)
        y = self.out(nn.functional.silu(local) * nn.functional.silu(gate))
        return (y, state) if self.stateful else y


RECALL = MqarConfig(vocab_size=64, length=48, n_pairs=8, power_a=1.0)
SMALL_RECALL = MqarConfig(vocab_size=32, length=24, n_pairs=4, power_a=1.0)
TRAINING = TrainConfig(
    steps=600,
    batch_size=64,
    learning_rate=3e-3,
    warmup_steps=40,
    eval_every=100,
    eval_sequences=256,
    log_every=50,
    checkpoint_every=100,
    threads=1,
)

TINY: Mapping[str, Any] = {
    "vocab_size": SMALL_RECALL.vocab_size,
    "pad_token_id": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "tie_word_embeddings": True,
    "use_cache": False,
}
QWEN3_NEXT: Mapping[str, Any] = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 32,
    "num_experts": 0,
}
FALCON_H1: Mapping[str, Any] = {
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_n_groups": 1,
    "mamba_d_state": 16,
    "mamba_expand": 1,
    "mamba_d_ssm": 64,
    "mamba_chunk_size": 32,
}


def _own(window: int) -> Callable[[], nn.Module]:
    layout = f"gated_delta(n_heads=2, convolution=3), attention(window={window}, convolution=3)"
    return lambda: Stack(StackConfig.of(layout, vocab_size=RECALL.vocab_size, d_model=64))


def _hugging_face(name: str, settings: Mapping[str, Any]) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        os.environ.setdefault("USE_HUB_KERNELS", "NO")
        try:
            import transformers
        except ImportError as error:
            raise ValueError(
                f"trained-truth: the subject needs transformers for {name}; pip install 'mnemoscope[hf]'"
            ) from error
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        cls: Any = getattr(transformers, f"{name}ForCausalLM")
        return Logits(cls(cls.config_class(**TINY, **settings)))

    return build


HYBRIDS: Mapping[str, Hybrid] = {
    hybrid.name: hybrid
    for hybrid in (
        Hybrid(
            name="narrow",
            what="gated delta rule, then attention that sees 4 tokens: memory is the only route",
            task=RECALL,
            train=TRAINING,
            build=_own(4),
            memories=("blocks.0.mixer",),
            control=True,
        ),
        Hybrid(
            name="wide",
            what="gated delta rule, then attention that sees everything",
            task=RECALL,
            train=TRAINING,
            build=_own(RECALL.length),
            memories=("blocks.0.mixer",),
        ),
        Hybrid(
            name="qwen3-next",
            what="Hugging Face Qwen3NextForCausalLM: gated delta rule, then full attention",
            task=SMALL_RECALL,
            train=replace(TRAINING, steps=400),
            build=_hugging_face("Qwen3Next", QWEN3_NEXT),
            memories=("model.model.layers.0.linear_attn",),
        ),
        Hybrid(
            name="falcon-h1",
            what="Hugging Face FalconH1ForCausalLM: Mamba-2 beside full attention, two layers",
            task=SMALL_RECALL,
            train=replace(TRAINING, steps=1000),
            build=_hugging_face("FalconH1", FALCON_H1),
            memories=("model.model.layers.0.mamba", "model.model.layers.1.mamba"),
        ),
    )
}


def find_hybrids(names: Sequence[str]) -> list[Hybrid]:
    """Hybrids by name, in the order of `HYBRIDS`; all without any name.

    Raises:
        ValueError: an unknown name, with the nearest one.
    """
    for name in names:
        if name not in HYBRIDS:
            nearest = difflib.get_close_matches(name, HYBRIDS, n=1, cutoff=0.0)[0]
            raise ValueError(
                f"trained-truth: subjects must be among {', '.join(HYBRIDS)}, got {name!r}; nearest valid: {nearest!r}"
            )
    return [hybrid for name, hybrid in HYBRIDS.items() if name in (names or HYBRIDS)]

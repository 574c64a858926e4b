"""The memory mechanisms of the literature, one readable file each.

May live here: one file per mechanism, in the order docstring with equations and source, Config, State, Module with
`step` (reads like the paper) and `forward` (the fast form), costs. May import: ops, contracts.
"""

from typing import Annotated

from pydantic import Field

from mnemoscope.memories.attention import Attention, AttentionConfig
from mnemoscope.memories.bank import Bank, BankConfig
from mnemoscope.memories.based import Based, BasedConfig
from mnemoscope.memories.bounded import Bounded, BoundedConfig
from mnemoscope.memories.contextual import Contextual, ContextualConfig
from mnemoscope.memories.dnc import DNC, DNCConfig
from mnemoscope.memories.energy_bank import EnergyBank, EnergyBankConfig
from mnemoscope.memories.experts import Experts, ExpertsConfig
from mnemoscope.memories.feed_forward import FeedForward, FeedForwardConfig
from mnemoscope.memories.gated_delta import GatedDelta, GatedDeltaConfig
from mnemoscope.memories.gla import GLA, GLAConfig
from mnemoscope.memories.gru import GRU, GRUConfig
from mnemoscope.memories.h3 import H3, H3Config
from mnemoscope.memories.hyena import Hyena, HyenaConfig
from mnemoscope.memories.linear_attention import LinearAttention, LinearAttentionConfig
from mnemoscope.memories.log_accumulator import LogAccumulator, LogAccumulatorConfig
from mnemoscope.memories.lstm import LSTM, LSTMConfig
from mnemoscope.memories.mamba import Mamba, MambaConfig
from mnemoscope.memories.mamba2 import Mamba2, Mamba2Config
from mnemoscope.memories.mann import MANN, MANNConfig
from mnemoscope.memories.mlstm import MLSTM, MLSTMConfig
from mnemoscope.memories.mosaic_v2 import MosaicV2, MosaicV2Config
from mnemoscope.memories.ntm import NTM, NTMConfig
from mnemoscope.memories.omega import Omega, OmegaConfig
from mnemoscope.memories.omega_mlp import OmegaMlp, OmegaMlpConfig
from mnemoscope.memories.persistent import Persistent, PersistentConfig
from mnemoscope.memories.retention import Retention, RetentionConfig
from mnemoscope.memories.rg_lru import RGLRU, RGLRUConfig
from mnemoscope.memories.rwkv6 import RWKV6, RWKV6Config
from mnemoscope.memories.rwkv7 import RWKV7, RWKV7Config
from mnemoscope.memories.s4d import S4D, S4DConfig
from mnemoscope.memories.slots import SlotMemory, SlotMemoryConfig
from mnemoscope.memories.workspace import ContractiveWorkspace, ContractiveWorkspaceConfig

AnyMemoryConfig = (
    AttentionConfig
    | BankConfig
    | BasedConfig
    | BoundedConfig
    | ContextualConfig
    | ContractiveWorkspaceConfig
    | DNCConfig
    | EnergyBankConfig
    | ExpertsConfig
    | FeedForwardConfig
    | GatedDeltaConfig
    | GLAConfig
    | GRUConfig
    | H3Config
    | HyenaConfig
    | LinearAttentionConfig
    | LogAccumulatorConfig
    | LSTMConfig
    | Mamba2Config
    | MambaConfig
    | MANNConfig
    | MLSTMConfig
    | MosaicV2Config
    | NTMConfig
    | OmegaConfig
    | OmegaMlpConfig
    | PersistentConfig
    | RetentionConfig
    | RGLRUConfig
    | RWKV6Config
    | RWKV7Config
    | S4DConfig
    | SlotMemoryConfig
)
Memory = (
    Attention
    | Bank
    | Based
    | Bounded
    | Contextual
    | ContractiveWorkspace
    | DNC
    | EnergyBank
    | Experts
    | FeedForward
    | GatedDelta
    | GLA
    | GRU
    | H3
    | Hyena
    | LinearAttention
    | LogAccumulator
    | LSTM
    | Mamba
    | Mamba2
    | MANN
    | MLSTM
    | MosaicV2
    | NTM
    | Omega
    | OmegaMlp
    | Persistent
    | Retention
    | RGLRU
    | RWKV6
    | RWKV7
    | S4D
    | SlotMemory
)
MemoryConfig = Annotated[AnyMemoryConfig, Field(discriminator="kind")]

MEMORIES: dict[str, tuple[type[AnyMemoryConfig], type[Memory]]] = {
    "attention": (AttentionConfig, Attention),
    "bank": (BankConfig, Bank),
    "based": (BasedConfig, Based),
    "bounded": (BoundedConfig, Bounded),
    "contextual": (ContextualConfig, Contextual),
    "dnc": (DNCConfig, DNC),
    "energy_bank": (EnergyBankConfig, EnergyBank),
    "experts": (ExpertsConfig, Experts),
    "feed_forward": (FeedForwardConfig, FeedForward),
    "gated_delta": (GatedDeltaConfig, GatedDelta),
    "gla": (GLAConfig, GLA),
    "gru": (GRUConfig, GRU),
    "h3": (H3Config, H3),
    "hyena": (HyenaConfig, Hyena),
    "linear_attention": (LinearAttentionConfig, LinearAttention),
    "log_accumulator": (LogAccumulatorConfig, LogAccumulator),
    "lstm": (LSTMConfig, LSTM),
    "mamba": (MambaConfig, Mamba),
    "mamba2": (Mamba2Config, Mamba2),
    "mann": (MANNConfig, MANN),
    "mlstm": (MLSTMConfig, MLSTM),
    "mosaic_v2": (MosaicV2Config, MosaicV2),
    "ntm": (NTMConfig, NTM),
    "omega": (OmegaConfig, Omega),
    "omega_mlp": (OmegaMlpConfig, OmegaMlp),
    "persistent": (PersistentConfig, Persistent),
    "retention": (RetentionConfig, Retention),
    "rg_lru": (RGLRUConfig, RGLRU),
    "rwkv6": (RWKV6Config, RWKV6),
    "rwkv7": (RWKV7Config, RWKV7),
    "s4d": (S4DConfig, S4D),
    "slots": (SlotMemoryConfig, SlotMemory),
    "workspace": (ContractiveWorkspaceConfig, ContractiveWorkspace),
}
"""Every mechanism by the `kind` of its configuration."""


def build_memory(config: AnyMemoryConfig, d_model: int) -> Memory:
    """The module of a configuration, initialised from torch's global generator."""
    return MEMORIES[config.kind][1](config, d_model)  # pyright: ignore[reportArgumentType]


__all__ = [
    "DNC",
    "GLA",
    "GRU",
    "H3",
    "LSTM",
    "MANN",
    "MEMORIES",
    "MLSTM",
    "NTM",
    "RGLRU",
    "RWKV6",
    "RWKV7",
    "S4D",
    "AnyMemoryConfig",
    "Attention",
    "AttentionConfig",
    "Bank",
    "BankConfig",
    "Based",
    "BasedConfig",
    "Bounded",
    "BoundedConfig",
    "Contextual",
    "ContextualConfig",
    "ContractiveWorkspace",
    "ContractiveWorkspaceConfig",
    "DNCConfig",
    "EnergyBank",
    "EnergyBankConfig",
    "Experts",
    "ExpertsConfig",
    "FeedForward",
    "FeedForwardConfig",
    "GLAConfig",
    "GRUConfig",
    "GatedDelta",
    "GatedDeltaConfig",
    "H3Config",
    "Hyena",
    "HyenaConfig",
    "LSTMConfig",
    "LinearAttention",
    "LinearAttentionConfig",
    "LogAccumulator",
    "LogAccumulatorConfig",
    "MANNConfig",
    "MLSTMConfig",
    "Mamba",
    "Mamba2",
    "Mamba2Config",
    "MambaConfig",
    "Memory",
    "MemoryConfig",
    "MosaicV2",
    "MosaicV2Config",
    "NTMConfig",
    "Omega",
    "OmegaConfig",
    "OmegaMlp",
    "OmegaMlpConfig",
    "Persistent",
    "PersistentConfig",
    "RGLRUConfig",
    "RWKV6Config",
    "RWKV7Config",
    "Retention",
    "RetentionConfig",
    "S4DConfig",
    "SlotMemory",
    "SlotMemoryConfig",
    "build_memory",
]

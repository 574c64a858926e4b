"""Blocks and stacks around memories.

May live here: how memories are put together into whole models, their saving and loading, their streaming. May import:
memories, ops, contracts.
"""

from mnemoscope.models.banked_cortex import BankedCortexConfig, beside_of
from mnemoscope.models.building import Model, ModelConfig, build_model, only_stack, reads_vectors
from mnemoscope.models.context import Context, ContextConfig
from mnemoscope.models.expert_workspace import ExpertWorkspace, ExpertWorkspaceConfig
from mnemoscope.models.files import load_model, save_model
from mnemoscope.models.folded import Folded, FoldedConfig
from mnemoscope.models.layout import parse_layout
from mnemoscope.models.mixers import MixerConfig, Parallel, ParallelConfig, Serial, SerialConfig
from mnemoscope.models.mosaic import Mosaic, MosaicConfig, MosaicState, build_mosaic
from mnemoscope.models.mosaic_import import import_library, import_nano
from mnemoscope.models.stack import Stack, StackConfig, StackState, VectorsConfig, build

__all__ = [
    "BankedCortexConfig",
    "Context",
    "ContextConfig",
    "ExpertWorkspace",
    "ExpertWorkspaceConfig",
    "Folded",
    "FoldedConfig",
    "MixerConfig",
    "Model",
    "ModelConfig",
    "Mosaic",
    "MosaicConfig",
    "MosaicState",
    "Parallel",
    "ParallelConfig",
    "Serial",
    "SerialConfig",
    "Stack",
    "StackConfig",
    "StackState",
    "VectorsConfig",
    "beside_of",
    "build",
    "build_model",
    "build_mosaic",
    "import_library",
    "import_nano",
    "load_model",
    "only_stack",
    "parse_layout",
    "reads_vectors",
    "save_model",
]

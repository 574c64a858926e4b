"""Stacks as models of Hugging Face transformers; importing this registers them with the Auto classes.

    import mnemoscope.models.huggingface
    model = AutoModelForCausalLM.from_pretrained(folder)

May live here: configuration, model classes and cache. May import: transformers (extra `hf`), `mnemoscope.models`.
"""

try:
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM
except ImportError as error:
    raise ImportError(
        f"mnemoscope.models.huggingface needs the package transformers, got {error}; pip install 'mnemoscope[hf]'"
    ) from error

from mnemoscope.models.huggingface.cache import StackCache
from mnemoscope.models.huggingface.config import MODEL_TYPE, MnemoscopeConfig
from mnemoscope.models.huggingface.model import MnemoscopeForCausalLM, MnemoscopeModel

# A second import under test or reload must not fail.
AutoConfig.register(MODEL_TYPE, MnemoscopeConfig, exist_ok=True)
AutoModel.register(MnemoscopeConfig, MnemoscopeModel, exist_ok=True)
AutoModelForCausalLM.register(MnemoscopeConfig, MnemoscopeForCausalLM, exist_ok=True)

__all__ = ["MODEL_TYPE", "MnemoscopeConfig", "MnemoscopeForCausalLM", "MnemoscopeModel", "StackCache"]

"""The configuration of a stack as transformers keeps one: the stack's own settings, as plain JSON, under `stack`."""

import json
from typing import Any

from pydantic import TypeAdapter, ValidationError
from transformers import PreTrainedConfig

from mnemoscope.models.folded import FoldedConfig
from mnemoscope.models.mixers import MixerConfig, ParallelConfig, SerialConfig
from mnemoscope.models.stack import StackConfig

MODEL_TYPE = "mnemoscope"

_STACK = TypeAdapter(StackConfig)


class MnemoscopeConfig(PreTrainedConfig):
    """A stack of tokens.

    `hidden_size`, `num_hidden_layers` and `max_position_embeddings`, which other programs ask for, follow from the
    stack. The last is that of learned positions, or of a memory folded into a vector for each position; None where
    there is no longest sequence.

    Args:
        stack: the settings of a `StackConfig` as plain JSON.
        vocab_size: tokens of the vocabulary, if other than the stack's: transformers changes it when it resizes
            embeddings. None for the stack's.
        tie_word_embeddings: whether the embedding is the head; None for what the stack says.
        use_cache: return a cache where nothing else is said.
        rest: what every configuration of transformers may have.

    Raises:
        ValueError: settings that are not of a stack, or of one without tokens.
    """

    model_type = MODEL_TYPE
    keys_to_ignore_at_inference = ("past_key_values",)

    def __init__(
        self,
        stack: dict[str, Any] | None = None,
        vocab_size: int | None = None,
        tie_word_embeddings: bool | None = None,
        use_cache: bool = True,
        **rest: Any,
    ) -> None:
        super().__init__(**rest)
        self.stack, self.vocab_size, self.tie_word_embeddings = stack, vocab_size, tie_word_embeddings
        self.use_cache = use_cache
        # transformers makes one without settings in order to compare.
        if stack is not None:
            config = self.stack_config()
            self.vocab_size, self.tie_word_embeddings = config.vocab_size, config.tie_embeddings
            self.hidden_size, self.num_hidden_layers = config.d_model, len(config.mixers)
            self.max_position_embeddings = _longest(config)

    @classmethod
    def of(cls, stack: StackConfig) -> "MnemoscopeConfig":
        """The configuration of a stack."""
        return cls(stack=_STACK.dump_python(stack, mode="json"))

    def stack_config(self) -> StackConfig:
        """The stack's own configuration.

        Raises:
            ValueError: see the class.
        """
        if self.stack is None:
            raise ValueError(
                "MnemoscopeConfig.stack must be the settings of a stack, got None; make the configuration with "
                "MnemoscopeConfig.of(stack_config)"
            )
        changed: dict[str, Any] = {}
        if self.vocab_size is not None:
            changed["vocab_size"] = self.vocab_size
        if self.tie_word_embeddings is not None:
            changed["tie_embeddings"] = self.tie_word_embeddings
        try:
            stack = _STACK.validate_json(json.dumps(self.stack | changed), strict=True)
        except ValidationError as error:
            raise ValueError(f"MnemoscopeConfig.stack is not the settings of a stack: {error}") from error
        if stack.vectors is not None:
            raise ValueError(
                "MnemoscopeConfig.stack must be a stack of tokens, got one of vectors, for which transformers has no "
                "model class; keep it as a run, or save it with mnemoscope.models.save_model"
            )
        return stack


def _longest(config: StackConfig) -> int | None:
    """Tokens of the longest sequence; None where there is none."""
    most = [n for mixer in config.mixers for n in _positions(mixer)] + [config.max_tokens]
    return min((n for n in most if n is not None), default=None)


def _positions(mixer: MixerConfig) -> list[int | None]:
    match mixer:
        case FoldedConfig():
            return [mixer.positions]
        case ParallelConfig():
            return _positions(mixer.memory) + _positions(mixer.beside)
        case SerialConfig():
            return _positions(mixer.first) + _positions(mixer.second)
        case _:
            return []

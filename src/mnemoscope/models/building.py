"""Whole models that a recipe can name, told apart by their kind."""

from typing import Annotated, Any, TypeAlias

from pydantic import Discriminator, Tag

from mnemoscope.models.mosaic import Mosaic, MosaicConfig, build_mosaic
from mnemoscope.models.stack import Stack, StackConfig, build

STACK, MOSAIC = "stack", "mosaic"

Model: TypeAlias = Stack | Mosaic
"""Tokens (b, t) -> logits (b, t, vocab), with `init_state`, `prefill` and `step`; a stack may read vectors instead."""


def _kind(given: Any) -> str:
    """A model without a kind is a stack, as in files that were written when there was no other."""
    kind = given.get("kind", STACK) if isinstance(given, dict) else given.kind
    return str(kind)


ModelConfig: TypeAlias = Annotated[
    Annotated[StackConfig, Tag(STACK)] | Annotated[MosaicConfig, Tag(MOSAIC)], Discriminator(_kind)
]


def build_model(config: StackConfig | MosaicConfig, seed: int) -> Model:
    """A model on the CPU with weights drawn from `seed`; the global generator is left as it was."""
    return build_mosaic(config, seed) if isinstance(config, MosaicConfig) else build(config, seed)


def reads_vectors(config: StackConfig | MosaicConfig) -> bool:
    """Whether inputs are vectors, not tokens."""
    return isinstance(config, StackConfig) and config.vectors is not None


def only_stack(config: StackConfig | MosaicConfig, who: str) -> StackConfig:
    """The settings, where they are those of a stack.

    Raises:
        ValueError: in the name of `who`, where they are not.
    """
    if not isinstance(config, StackConfig):
        raise ValueError(
            f"{who}: takes models of kind {STACK!r}, got {config.kind!r}; build it as a layout of memories"
        )
    return config

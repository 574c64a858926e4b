"""Running a model in pieces: by its own `prefill` and `step`, by a Hugging Face cache, or by a state it returns."""

import inspect
import sys
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from mnemoscope.contracts.outputs import first_tensor
from mnemoscope.examination.subject.adapters.rest import HELD_IN_ATTRIBUTES
from mnemoscope.examination.subject.states import AttributeStates, layer_of

CACHES = ("past_key_values", "cache_params", "state")
"""Names under which outputs hold what a model remembers, and under which it takes it back."""


@runtime_checkable
class Stream(Protocol):
    """A way of running a model in pieces."""

    @property
    def takes_positions(self) -> bool:
        """Whether the model can be told the positions of its tokens."""
        ...

    def full(self, tokens: Tensor) -> Tensor:
        """Outputs at every position, in one piece and without state."""
        ...

    def start(self, tokens: Tensor, positions: bool) -> tuple[Tensor, Any]:
        """Outputs of a first piece, and what is remembered."""
        ...

    def go_on(self, tokens: Tensor, held: Any, seen: int, positions: bool) -> tuple[Tensor, Any]:
        """Outputs of the next piece after `seen` tokens."""
        ...


@runtime_checkable
class Streaming(Protocol):
    """A model that can be read in pieces and token by token."""

    def prefill(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """A piece of any length."""
        ...

    def step(self, token: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One token, without time axis."""
        ...


def stream_of(model: nn.Module) -> Stream:
    """How this model is run in pieces."""
    if is_streaming(model):
        return _ByStep(model)
    if is_of_huggingface(model):
        owners = {
            layer_of(path): module
            for path, module in model.named_modules()
            if HELD_IN_ATTRIBUTES.get(type(module).__name__) == "conv1d_state"
        }
        return _ByAttributes(model, owners) if owners else _ByCache(model)
    return _ByState(model)


def is_streaming(model: nn.Module) -> bool:
    """Whether a model has `prefill` and `step`."""
    return isinstance(model, Streaming)


def is_of_huggingface(model: nn.Module) -> bool:
    """Whether a model is, or holds, one of transformers."""
    return any(map(_is_pretrained, model.modules()))


class _ByStep(NamedTuple):
    """Our own models: `prefill` for pieces, `step` for single tokens."""

    model: Any
    takes_positions: bool = False

    def full(self, tokens: Shaped[Tensor, "b t *d"]) -> Float[Tensor, "b t vocab"]:
        """One pass."""
        return first_tensor(self.model(tokens))

    def start(self, tokens: Tensor, positions: bool) -> tuple[Tensor, Any]:
        """From nothing."""
        return self.model.prefill(tokens)

    def go_on(self, tokens: Tensor, held: Any, seen: int, positions: bool) -> tuple[Tensor, Any]:
        """A single token by `step`."""
        if tokens.shape[1] > 1:
            return self.model.prefill(tokens, held)
        output, held = self.model.step(tokens[:, 0], held)
        return output.unsqueeze(1), held


class _ByState(NamedTuple):
    """Modules that return what they remember and take it back: `forward(x, state) -> (y, state)`."""

    model: nn.Module
    takes_positions: bool = False

    def full(self, tokens: Tensor) -> Tensor:
        """One pass."""
        return first_tensor(self.model(tokens))

    def start(self, tokens: Tensor, positions: bool) -> tuple[Tensor, Any]:
        """From nothing."""
        return self._split(self.model(tokens))

    def go_on(self, tokens: Tensor, held: Any, seen: int, positions: bool) -> tuple[Tensor, Any]:
        """From a state."""
        return self._split(self.model(tokens, held))

    def _split(self, output: Any) -> tuple[Tensor, Any]:
        if not isinstance(output, tuple) or len(output) != 2:
            raise ValueError("no state returned: the model must be callable as forward(x, state) -> (y, state)")
        return output


class _ByCache(NamedTuple):
    """Hugging Face models that return a cache."""

    model: nn.Module

    @property
    def takes_positions(self) -> bool:
        return "position_ids" in _parameters(self.model)

    def full(self, tokens: Tensor) -> Tensor:
        """One pass."""
        return self.model(input_ids=tokens, use_cache=False).logits

    def start(self, tokens: Tensor, positions: bool) -> tuple[Tensor, Any]:
        """From nothing; the model makes its cache."""
        output = self.model(input_ids=tokens, use_cache=True, **_positions(tokens, 0, positions))
        return output.logits, _cache_of(output)

    def go_on(self, tokens: Tensor, held: Any, seen: int, positions: bool) -> tuple[Tensor, Any]:
        """From a cache, which is changed in place."""
        name = next((name for name in CACHES if name in _parameters(self.model)), CACHES[0])
        output = self.model(input_ids=tokens, use_cache=True, **{name: held}, **_positions(tokens, seen, positions))
        return output.logits, _cache_of(output)


class _ByAttributes(NamedTuple):
    """RecurrentGemma: the recurrence is kept in attributes, attention in a cache that must be given to it."""

    model: Any
    owners: dict[int, nn.Module]
    takes_positions: bool = True

    def full(self, tokens: Tensor) -> Tensor:
        """One pass."""
        return self.model(input_ids=tokens, use_cache=False).logits

    def start(self, tokens: Tensor, positions: bool) -> tuple[Tensor, Any]:
        """From nothing: attributes are emptied."""
        for owner in self.owners.values():
            _empty(owner)
        cache = sys.modules["transformers"].DynamicCache(config=self.model.config)
        return self.go_on(tokens, AttributeStates(self.owners, cache), 0, positions)

    def go_on(self, tokens: Tensor, held: Any, seen: int, positions: bool) -> tuple[Tensor, Any]:
        """From the attributes as they are."""
        output = self.model(
            input_ids=tokens, use_cache=True, past_key_values=held.cache, **_positions(tokens, seen, positions)
        )
        return output.logits, held


def _empty(owner: Any) -> None:
    owner.conv1d_state, owner.rg_lru.recurrent_states = None, None


def _positions(tokens: Tensor, start: int, wanted: bool) -> dict[str, Tensor]:
    if not wanted:
        return {}
    return {"position_ids": torch.arange(start, start + tokens.shape[1], device=tokens.device).unsqueeze(0)}


def _cache_of(output: Any) -> Any:
    held = next((held for name in CACHES if (held := getattr(output, name, None)) is not None), None)
    if held is None:
        raise ValueError("no cache returned")
    return held


def _parameters(model: nn.Module) -> set[str]:
    """What the outermost Hugging Face model in a model can be given."""
    return set(inspect.signature(next(filter(_is_pretrained, model.modules())).forward).parameters)


def _is_pretrained(module: nn.Module) -> bool:
    return any(cls.__name__ == "PreTrainedModel" for cls in type(module).__mro__)

"""A stack as a causal language model of transformers: `from_pretrained`, `save_pretrained`, `generate`.

Weights have the names they have in the stack, behind "stack.". What is remembered between calls is the stack's own
state (`StackCache`): a prompt is read by the parallel form, every further token by `step`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from transformers import Cache, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from mnemoscope.models.huggingface.cache import StackCache, Stream
from mnemoscope.models.huggingface.config import MnemoscopeConfig
from mnemoscope.models.huggingface.padding import left_padding, require_read
from mnemoscope.models.stack import Block, Stack, StackConfig, StackState

Tokens = Int[Tensor, "b t"]
Mask = Shaped[Tensor, "..."]


class MnemoscopePreTrainedModel(PreTrainedModel):
    """What both models share: the stack, and how it is read."""

    config_class = MnemoscopeConfig
    supports_gradient_checkpointing = True
    # What places parts on devices keeps a block together; and a state cannot go back, as speculative decoding asks.
    _no_split_modules = ["Block"]  # noqa: RUF012  # lists and dictionaries, as it asks for
    _is_stateful = True
    _tied_weights_keys = {"stack.head.weight": "stack.embedding.weight"}  # noqa: RUF012

    def __init__(self, config: MnemoscopeConfig) -> None:
        super().__init__(config)
        self.stack = _built(config.stack_config())
        self.gradient_checkpointing = False
        self._step: Callable[..., Any] = step_blocks
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The embedding of tokens."""
        return self.stack.embedding

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Another embedding, for instance of more tokens."""
        assert isinstance(value, nn.Embedding)
        self.stack.embedding = value

    def get_output_embeddings(self) -> nn.Linear:
        """The head."""
        return self.stack.head

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Another head."""
        self.stack.head = new_embeddings

    def compile_step(self, backend: str = "inductor") -> None:
        """Compile what reads one token behind a cache, where `generate` spends its time; a prompt is read as before.

        Compiling happens at the first token that is decoded, and again for another number of rows, another dtype, or
        with gradients; it takes a C++ compiler and from seconds to minutes, so it pays for many tokens. Figures come
        out with other rounding. A copy of the model, or one loaded anew, is compiled by a call of its own.

        Args:
            backend: of `torch.compile`.

        Raises:
            ValueError: a state that grows with the tokens, which would be compiled anew for each of them.
        """
        growing = [
            f"blocks.{index}"
            for index, block in enumerate(self.stack.blocks)
            if block.mixer.state_bytes(1, 1) != block.mixer.state_bytes(1, 2)
        ]
        if growing:
            raise ValueError(
                f"{type(self).__name__}.compile_step: every block must have a state of one size, got "
                f"{', '.join(growing)} that remember every token; give attention a window, or leave the model as it is"
            )
        self._step = torch.compile(step_blocks, backend=backend)

    def read(
        self, tokens: Tokens, mask: Mask | None, cache: Cache | None, use_cache: bool | None
    ) -> tuple[Float[Tensor, "b t d"], StackCache | None]:
        """What the head reads at every position, zeros at padding, and the cache if there is to be one.

        Args:
            tokens: the next ones; all of them behind nothing.
            mask: 1 for tokens, 0 for padding, of these tokens or of all since the first; None for no padding.
            cache: what was seen before, which is changed in place; None or an empty one for nothing.
            use_cache: keep what was seen; None for the configuration's choice, but not in training or where padding
                behind the tokens forbids it.

        Raises:
            ValueError: a cache of another model, or a mask that cannot be followed.
        """
        if cache is not None and not isinstance(cache, StackCache):
            raise ValueError(
                f"past_key_values must be a StackCache of mnemoscope.models.huggingface, got {type(cache).__name__}; "
                "leave it out, and the model makes one"
            )
        if use_cache and self.gradient_checkpointing and self.training:
            raise ValueError("use_cache must be off under gradient checkpointing, got True; pass use_cache=False")
        if cache is not None and cache.is_initialized:
            return self._go_on(tokens, mask, cache), cache
        return self._begin(tokens, mask, cache, use_cache)

    def _go_on(self, tokens: Tokens, mask: Mask | None, cache: StackCache) -> Float[Tensor, "b t d"]:
        if tokens.shape[0] != cache.batch_size:
            raise ValueError(
                f"past_key_values holds {cache.batch_size} rows, got {tokens.shape[0]} rows of tokens; use the cache "
                "of the same batch"
            )
        if mask is not None:
            require_read(mask, tokens.shape[1])
        hidden, streams = self._along(tokens, [(rows, 0, state) for rows, state in cache.streams], keep=True)
        cache.put(streams, tokens.shape[1])
        return hidden

    def _begin(
        self, tokens: Tokens, mask: Mask | None, cache: StackCache | None, use_cache: bool | None
    ) -> tuple[Float[Tensor, "b t d"], StackCache | None]:
        asked = cache is not None if use_cache is None else use_cache
        keep = asked or (use_cache is None and self.config.use_cache and not self.training)
        rows = torch.arange(tokens.shape[0], device=tokens.device)
        groups: list[tuple[Tensor, int, StackState | None]] = [(rows, 0, None)]
        if mask is not None:
            padding = left_padding(mask, tokens.shape[1], asked)
            groups = [(rows[padding == n], int(n), None) for n in padding.unique()]
            keep = asked or (keep and bool((mask[:, -1] != 0).all()))
            # What stands for padding may be a number that is no token.
            tokens = tokens.masked_fill(mask == 0, 0)
        hidden, streams = self._along(tokens, groups, keep)
        if not keep:
            return hidden, None
        cache = StackCache() if cache is None else cache
        cache.put(streams, tokens.shape[1])
        return hidden, cache

    def _along(
        self, tokens: Tokens, groups: Sequence[tuple[Int[Tensor, "_"], int, StackState | None]], keep: bool
    ) -> tuple[Float[Tensor, "b t d"], tuple[Stream, ...]]:
        """Every group of rows by itself: which they are, where their tokens begin, and what they remember."""
        if len(groups) == 1 and groups[0][1] == 0:
            ((rows, _, state),) = groups
            hidden, state = self._advance(tokens, state, keep)
            return hidden, (Stream(rows, state),)
        parts = [self._advance(tokens[rows, start:], state, keep) for rows, start, state in groups]
        whole = parts[0][0].new_zeros(*tokens.shape, self.config.hidden_size)
        for (rows, start, _), (hidden, _) in zip(groups, parts, strict=True):
            whole[rows, start:] = hidden
        return whole, tuple(Stream(group[0], state) for group, (_, state) in zip(groups, parts, strict=True))

    def _advance(
        self, tokens: Tokens, state: StackState | None, keep: bool
    ) -> tuple[Float[Tensor, "b t d"], StackState]:
        """Rows that have seen equally many tokens; without `keep` the state says nothing."""
        n_seen, n_new = (0 if state is None else state.n_tokens), tokens.shape[1]
        x = self.stack.embed(tokens, n_seen)
        if state is not None and n_new == 1:
            hidden, blocks = self._step(self.stack, x.squeeze(1), state.blocks)
            return hidden.unsqueeze(1), StackState(blocks, n_seen + 1)
        states, before = [], [None] * len(self.stack.blocks) if state is None else state.blocks
        for block, held in zip(self.stack.blocks, before, strict=True):
            x, held = self._through(block, x, held)
            states.append(held if keep else None)
        return self.stack.norm(x), StackState(tuple(states), n_seen + n_new)

    def _through(self, block: Block, x: Float[Tensor, "b t d"], state: Any) -> tuple[Float[Tensor, "b t d"], Any]:
        if not (self.gradient_checkpointing and self.training):
            return block(x, state)
        return self._gradient_checkpointing_func(block.__call__, x, state)

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: the parts of a stack draw their weights when they are made."""

    def _initialize_missing_keys(self, is_quantized: bool) -> None:
        """Refuse weights that are not all there; transformers would go on with whatever the memory held.

        Raises:
            ValueError: with the names of the weights that are missing.
        """
        missing = [name for name, value in self.named_parameters() if not getattr(value, "_is_hf_initialized", False)]
        if missing:
            raise ValueError(
                f"{type(self).__name__}.from_pretrained: the file must hold every weight, missing or of another shape: "
                f"{', '.join(missing[:4])}{' ...' if len(missing) > 4 else ''}; export the run again"
            )
        super()._initialize_missing_keys(is_quantized)


class MnemoscopeModel(MnemoscopePreTrainedModel):
    """A stack without its head: what `AutoModel` gives."""

    def forward(
        self,
        input_ids: Tokens,
        attention_mask: Mask | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        return_dict: bool | None = None,
    ) -> BaseModelOutputWithPast | tuple[Any, ...]:
        """What the head would read at every position, after the last norm; see `MnemoscopeForCausalLM.forward`."""
        hidden, cache = self.read(input_ids, attention_mask, past_key_values, use_cache)
        output = BaseModelOutputWithPast(last_hidden_state=hidden, past_key_values=cache)
        return output if _as_object(return_dict, self.config) else output.to_tuple()


class MnemoscopeForCausalLM(MnemoscopePreTrainedModel, GenerationMixin):
    """A stack with its head: what `AutoModelForCausalLM` gives."""

    accepts_loss_kwargs = True

    def forward(
        self,
        input_ids: Tokens,
        attention_mask: Mask | None = None,
        past_key_values: Cache | None = None,
        labels: Int[Tensor, "b t"] | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Int[Tensor, "kept"] = 0,
        return_dict: bool | None = None,
        num_items_in_batch: Shaped[Tensor, "..."] | int | None = None,
    ) -> CausalLMOutputWithPast | tuple[Any, ...]:
        """Logits of the next token.

        Args:
            input_ids: tokens; behind a cache the new ones alone.
            attention_mask: 1 for tokens, 0 for padding, of these tokens or of all since the first. Padding on the left
                is left out, as if each row stood alone; padding on the right is read, behind all that counts, and
                forbids a cache.
            past_key_values: a `StackCache`, which is changed in place.
            labels: the tokens themselves, -100 where nothing is to be predicted; the loss is the mean cross-entropy of
                each position's logits and the label behind it, in nats.
            use_cache: return a cache; by default what the configuration says, but not in training.
            logits_to_keep: logits of the last so many positions, or of these positions; 0 for all.
            return_dict: False for a tuple.
            num_items_in_batch: what the sum of losses is divided by, where gradients of several batches are summed.

        Raises:
            ValueError: a cache or mask that cannot be followed, or labels with logits at some positions alone.
        """
        if labels is not None and not (isinstance(logits_to_keep, int) and logits_to_keep == 0):
            raise ValueError(
                f"labels need the logits of every position, got logits_to_keep={logits_to_keep}; leave either out"
            )
        hidden, cache = self.read(input_ids, attention_mask, past_key_values, use_cache)
        kept = slice(-logits_to_keep if logits_to_keep else None, None) if isinstance(logits_to_keep, int) else None
        logits = self.stack.head(hidden[:, logits_to_keep if kept is None else kept])
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=logits.shape[-1], num_items_in_batch=num_items_in_batch
            )
        output = CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=cache)
        return output if _as_object(return_dict, self.config) else output.to_tuple()

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        """No: keys and values are not what a stack remembers, so `forward` makes the cache."""
        return False


def step_blocks(
    stack: Stack, x: Float[Tensor, "b d"], states: tuple[Any, ...]
) -> tuple[Float[Tensor, "b d"], tuple[Any, ...]]:
    """One embedded token through all blocks: what the head reads, and what is remembered.

    A function of the stack and not of the model, so that a compiled one holds no weights.
    """
    after: list[Any] = []
    for block, held in zip(stack.blocks, states, strict=True):
        x, held = block.step(x, held)
        after.append(held)
    return stack.norm(x), tuple(after)


def _built(config: StackConfig) -> Stack:
    """A stack; while transformers loads one, on the meta device, but with the tables that no file holds."""
    if torch.get_default_device().type != "meta":
        return Stack(config)
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        return Stack(config).to("meta")


def _as_object(return_dict: bool | None, config: PreTrainedConfig) -> bool:
    return bool(config.return_dict if return_dict is None else return_dict)

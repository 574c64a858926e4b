"""What a stack remembers between calls, as a cache of transformers.

Rows of a batch that begin with padding have seen fewer tokens than the others, and no state of theirs can be kept with
those of the others: chunks and segments are open at other places, windows hold other numbers of keys. Rows of equal
padding are therefore kept, and run, together: a *stream*. Without padding there is one.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import Cache

from mnemoscope.models.stack import StackState


class Stream(NamedTuple):
    """Rows of a batch that have seen equally many tokens, and what they remember."""

    rows: Int[Tensor, "_"]
    state: StackState


class BlockStates(NamedTuple):
    """What a block remembers, under the names that transformers' caches of recurrent layers have."""

    recurrent_states: dict[int, Any]
    conv_states: dict[int, Any]


class StackCache(Cache):
    """States of a stack; grows with the tokens only where a block attends without a window.

    It cannot be cropped: a recurrent state does not tell what it was before the last token.
    """

    def __init__(self) -> None:
        super().__init__(layers=[])
        self.streams: tuple[Stream, ...] = ()
        self.n_tokens = 0

    def put(self, streams: tuple[Stream, ...], n_new: int) -> None:
        """Keep the states after `n_new` further tokens of every row, padding included."""
        self.streams, self.n_tokens = streams, self.n_tokens + n_new
        blocks = zip(*(stream.state.blocks for stream in streams), strict=True)
        self.layers: list[Any] = [BlockStates(dict(enumerate(states)), {}) for states in blocks]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens of a row, padding included."""
        return self.n_tokens

    def get_max_length(self, layer_idx: int | None = None) -> int:
        """-1: there is no largest length."""
        return -1

    def reorder_cache(self, beam_idx: Int[Tensor, "b"]) -> None:
        """Row i goes on from what row `beam_idx[i]` remembers."""
        self.batch_select_indices(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Every row `repeats` times, copies side by side."""
        self.batch_select_indices(torch.arange(self.batch_size).repeat_interleave(repeats))

    def batch_select_indices(self, indices: Int[Tensor, "b"]) -> None:
        """Row i goes on from what row `indices[i]` remembers; there may be more rows or fewer than before."""
        chosen = (_chosen(stream, indices) for stream in self.streams)
        self.put(tuple(stream for stream in chosen if stream.rows.numel()), 0)

    def reset(self) -> None:
        """Nothing seen."""
        self.streams, self.n_tokens, self.layers = (), 0, []

    def crop(self, tokens_to_remove: int) -> None:
        """Refused, unless nothing is to be taken off.

        Raises:
            ValueError: any number of tokens but 0.
        """
        if tokens_to_remove:
            raise ValueError(
                f"StackCache.crop: a recurrent state cannot forget tokens, got {tokens_to_remove} to remove; copy the "
                "cache (copy.deepcopy) before the tokens that may be taken back, and decode without an assistant"
            )

    @property
    def batch_size(self) -> int:
        """Rows; -1 before the first token, as transformers has it."""
        return sum(stream.rows.numel() for stream in self.streams) or -1

    @property
    def is_initialized(self) -> bool:
        """Whether anything was seen."""
        return bool(self.streams)

    @property
    def is_compileable(self) -> bool:
        """No: transformers asks whether shapes are fixed in advance."""
        return False

    @property
    def is_croppable(self) -> bool:
        """No; see the class."""
        return False


def _chosen(stream: Stream, indices: Int[Tensor, "b"]) -> Stream:
    """The rows whose source is in this stream."""
    held = indices.to(stream.rows.device)[:, None] == stream.rows[None]
    rows = held.any(1).nonzero().squeeze(1)
    return Stream(rows, _taken(stream.state, held[rows].int().argmax(1)))


def _taken(state: Any, rows: Int[Tensor, "b"]) -> Any:
    """Rows of every tensor of a state; a tensor without axes (a count of tokens) belongs to all rows."""
    if isinstance(state, Tensor):
        return state.index_select(0, rows.to(state.device)) if state.ndim else state
    if isinstance(state, tuple):
        parts = [_taken(part, rows) for part in state]
        return type(state)(*parts) if type(state) is not tuple else tuple(parts)
    return state

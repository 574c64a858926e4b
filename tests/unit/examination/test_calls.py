"""Calling a module again: what belongs to tokens goes with them, and what is unknown is refused by name."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mnemoscope.examination.interventions.reads import unfolded
from mnemoscope.examination.subject.calls import Call, Seen, called_again, sequence_of


class Weighed(nn.Module):
    """Causal sums of inputs weighed by everything that can be said of tokens."""

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        attention_mask: Tensor | None = None,
        mamba_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
    ) -> tuple[Tensor, None]:
        scale, shift = position_embeddings
        x = hidden_states * scale + shift
        if mamba_mask is not None:
            x = x * mamba_mask.unsqueeze(-1)
        if position_ids is not None:
            x = x + position_ids.unsqueeze(-1)
        pairs = x.new_ones(1, 1, x.shape[1], x.shape[1]) if attention_mask is None else attention_mask
        return pairs.mean(1).tril() @ x, None


def arguments(n_rows: int, n_tokens: int, shared: bool) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(n_rows + 10 * n_tokens)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    rows = 1 if shared else n_rows
    return {
        "position_embeddings": (draw(rows, n_tokens, 2), draw(rows, n_tokens, 2)),
        "attention_mask": draw(rows, 3, n_tokens, n_tokens),
        "mamba_mask": draw(n_rows, n_tokens),
        "position_ids": draw(rows, n_tokens),
    }


def by_hand(x: Tensor, given: dict[str, Any], window: int) -> Tensor:
    """Sums over the window, term by term."""
    out = torch.zeros_like(x)
    for row in range(x.shape[0]):

        def of(value: Tensor, row: int = row) -> Tensor:
            return value[row % len(value)]

        scale, shift = map(of, given["position_embeddings"])
        weighed = (x[row] * scale + shift) * of(given["mamba_mask"])[:, None] + of(given["position_ids"])[:, None]
        for t in range(x.shape[1]):
            for s in range(max(0, t - window + 1), t + 1):
                out[row, t] += of(given["attention_mask"])[:, t, s].mean() * weighed[s]
    return out


@given(st.integers(1, 3), st.integers(1, 7), st.integers(1, 8), st.booleans())
def test_windows_with_everything_that_belongs_to_tokens(n_rows: int, n_tokens: int, window: int, shared: bool):
    x = torch.randn(n_rows, n_tokens, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    kwargs = arguments(n_rows, n_tokens, shared)
    call = Call(Weighed(), (x, kwargs.pop("position_embeddings")), kwargs, x)
    given_ = {**kwargs, "position_embeddings": call.args[1]}
    torch.testing.assert_close(unfolded(call, window), by_hand(x, given_, window), rtol=0, atol=1e-12)


def test_tokens_in_any_order_take_their_own_along():
    x = torch.randn(2, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    kwargs = arguments(2, 4, shared=False)
    rows, positions = torch.tensor([1, 1, 0]), torch.tensor([[3, 0], [1, 1], [2, 3]])
    call = Call(Weighed(), (), {"hidden_states": x, **kwargs}, x)
    got, _ = called_again(call, x[rows[:, None], positions], Seen(rows, positions))
    scale, shift = kwargs["position_embeddings"]
    weighed = (x * scale + shift) * kwargs["mamba_mask"][..., None] + kwargs["position_ids"][..., None]
    mask = kwargs["attention_mask"].mean(1)
    for m in range(3):
        row, (first, second) = int(rows[m]), positions[m].tolist()
        expected = mask[row, second, first] * weighed[row, first] + mask[row, second, second] * weighed[row, second]
        torch.testing.assert_close(got[m, 1], expected)


X = torch.zeros(2, 3, 4)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"past_key_values": object()}, "got object as past_key_values; call the model with use_cache=False"),
        ({"memory": X}, r"one tensor \(b, t, d\), got \[\(2, 3, 4\), \(2, 3, 4\)\]"),
        ({"states": (X,)}, "tuple as states"),
    ],
)
def test_unknown_arguments_are_refused(kwargs: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        sequence_of(Call(Weighed(), (X,), kwargs, X))


@pytest.mark.parametrize("mask", [torch.ones(2, 5), torch.ones(2, 3, 3), torch.ones(5, 3)])
def test_masks_of_unknown_shape_are_refused(mask: Tensor):
    call = Call(Weighed(), (X, (X, X)), {"attention_mask": mask}, X)
    with pytest.raises(ValueError, match="attention_mask of shape"):
        called_again(call, X[:, :2])


def test_other_rows_need_to_be_told_apart():
    call = Call(Weighed(), (X, (X, X)), {}, X)
    with pytest.raises(ValueError, match="position_embeddings belongs to tokens; pass `seen`"):
        called_again(call, X[:1])

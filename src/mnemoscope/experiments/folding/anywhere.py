"""Folding in any model: a module is replaced by one that returns a constant; its parameters and compute are gone."""

import copy
import difflib
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from mnemoscope.examination.subject.inputs import input_tensor


class ConstantOutput(nn.Module):
    """Returns a constant for every sequence and token that it is called with, whatever they are.

    Args:
        constant: output of one token, or with `by_position` of one sequence, tokens first.
        by_position: whether the first axis of the constant is time.
        rest: what is returned behind it, for a module that returned a tuple; None for one that returned a tensor.
    """

    def __init__(self, constant: Shaped[Tensor, "..."], *, by_position: bool, rest: Sequence[Any] | None) -> None:
        super().__init__()
        self.constant = nn.Parameter(constant.detach().clone())
        self.by_position, self.rest = by_position, None if rest is None else tuple(rest)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The constant for (b, t) of the first tensor: vectors (b, t, d), tokens (b, t), or (b, d) without time.

        Raises:
            ValueError: sequences of another length than a constant for each position has.
        """
        x = input_tensor(args, kwargs)
        leading = x.shape[: min(2, x.ndim - x.is_floating_point())]
        own = self.constant.shape[self.by_position :]
        if self.by_position and leading[1:] != self.constant.shape[:1]:
            raise ValueError(
                f"fold: there is a constant for each of {len(self.constant)} positions, got sequences of "
                f"{leading[1] if len(leading) > 1 else 1} tokens; use that length, or fold one constant"
            )
        constant = self.constant.expand(*leading, *own)
        return constant if self.rest is None else (constant, *self.rest)


def fold(
    model: nn.Module,
    site: str,
    constant: Shaped[Tensor, "..."],
    *,
    by_position: bool = False,
    rest: Sequence[Any] | None = None,
    in_place: bool = False,
) -> nn.Module:
    """A model in which a module returns a constant.

    Args:
        model: stays as it is, unless `in_place`.
        site: path of the module.
        constant: what it returns for one token, or with `by_position` for a sequence (t, ...); trainable afterwards.
        by_position: whether the first axis is time.
        rest: what it returns behind that, where it returned a tuple: `(None,)` for a mixer that also returns a state.
        in_place: change the model itself, without a copy.

    Raises:
        ValueError: no such module.
    """
    paths = [path for path, _ in model.named_modules(remove_duplicate=False) if path]
    if site not in paths:
        nearest = difflib.get_close_matches(site, paths, n=1, cutoff=0.0)
        raise ValueError(f"fold: the model must have a module {site!r}; nearest: {', '.join(nearest) or 'none'}")
    folded = model if in_place else copy.deepcopy(model)
    before = folded.get_submodule(site)
    like = next((p for p in (*before.parameters(), *folded.parameters()) if p.is_floating_point()), constant)
    replacement = ConstantOutput(constant.to(like.device, like.dtype), by_position=by_position, rest=rest)
    for path in [path for path, module in folded.named_modules(remove_duplicate=False) if module is before]:
        parent, _, name = path.rpartition(".")
        setattr(folded.get_submodule(parent), name, replacement)
    return folded.train(model.training)


def constant_of(output: Shaped[Tensor, "..."], *, by_position: bool, tolerance: float) -> Tensor | None:
    """The one vector (or one for each position) that an output (b, t, ...) is; None where it depends on its input.

    Args:
        output: of a batch.
        by_position: whether tokens may differ.
        tolerance: largest difference, of the output's largest value.
    """
    axes = 1 if by_position or output.ndim < 3 else 2
    rows = output.detach().flatten(0, axes - 1)
    largest = float(rows.abs().max())
    same = bool(((rows - rows[0]).abs() <= tolerance * max(largest, torch.finfo(rows.dtype).tiny)).all())
    return rows[0].clone() if same else None

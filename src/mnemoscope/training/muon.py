"""Muon for the hidden matrices, AdamW for everything else, as one optimiser.

Muon averages the gradients of a matrix and steps along the nearest matrix with all singular values near one (five steps
of Newton-Schulz, in bfloat16), so that directions which gradients seldom take are learned as fast as the common ones.
torch.optim.Muon does it; each step is scaled by 0.2 sqrt(larger side), which gives it the root mean square of an AdamW
step, so that learning rate and weight decay mean the same for both.

Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024); the scale: Liu et al., "Muon is
Scalable for LLM Training" (2025).
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, final

from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer

MOMENTUM = 0.95
"""Of Muon's mean of gradients."""

OUTER_NAMES = frozenset({"head", "lm_head", "readout"})
"""A matrix with one of these in its dotted path makes the outputs, and is not hidden."""


def is_hidden(name: str, owner: nn.Module) -> bool:
    """Whether Muon may have the weight of a module: that of a linear map between activations.

    A matrix that is not the weight of an `nn.Linear` may be anything (rates, kernels of a convolution, stored vectors),
    and is left to AdamW; so are stacked matrices of three dimensions.

    Args:
        name: dotted path of the module.
        owner: the module.
    """
    return isinstance(owner, nn.Linear) and not OUTER_NAMES.intersection(name.split("."))


def hidden_matrices(model: nn.Module, spared: Iterable[int]) -> set[int]:
    """Identities of the parameters that are Muon's.

    Args:
        model: the model; a matrix that is tied to the head or to an embedding is not hidden.
        spared: identities of the parameters that are not decayed, none of which is a hidden matrix.
    """
    owners = list(model.named_modules(remove_duplicate=False))
    hidden = {id(owner.weight) for name, owner in owners if isinstance(owner, nn.Linear) and is_hidden(name, owner)}
    outer = {id(owner.weight) for name, owner in owners if isinstance(owner, nn.Linear) and not is_hidden(name, owner)}
    return hidden - outer - set(spared)


@final
class MuonAndAdamW(Optimizer):
    """Both optimisers behind one list of groups and one state, which is saved and loaded as that of any optimiser.

    Args:
        muon: groups of named matrices.
        adamw: groups of all other named parameters; may be empty.
        lr: of both.
        betas: of AdamW.

    Raises:
        ValueError: where Muon would have nothing to do.
    """

    def __init__(
        self, muon: list[dict[str, Any]], adamw: list[dict[str, Any]], lr: float, betas: tuple[float, float]
    ) -> None:
        if not muon:
            raise ValueError(
                "TrainConfig.optimiser: 'muon' needs a hidden matrix (the weight of an nn.Linear that is neither "
                "embedding nor head), the model has none; use 'adamw'"
            )
        self._parts: list[Optimizer] = [Muon(muon, lr=lr, momentum=MOMENTUM, adjust_lr_fn="match_rms_adamw")]
        if adamw:
            self._parts.append(AdamW(adamw, lr=lr, betas=betas, fused=True))
        super().__init__([group for part in self._parts for group in part.param_groups], {})
        self._share(self.state, self.param_groups)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._share(self.state, self.param_groups)

    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step of each; there is no closure."""
        assert closure is None
        for part in self._parts:
            part.step()

    def _share(self, state: defaultdict[Tensor, Any], groups: list[dict[str, Any]]) -> None:
        """Let every part have its own groups, and the state of all."""
        for part in self._parts:
            part.state = state
            part.param_groups, groups = groups[: len(part.param_groups)], groups[len(part.param_groups) :]

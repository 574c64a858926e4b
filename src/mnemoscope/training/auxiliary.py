"""What parts of a model minimise beside the task: collected while the model is called."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from mnemoscope.contracts import Auxiliary


@contextmanager
def auxiliary_losses(model: nn.Module) -> Iterator[list[Tensor]]:
    """Collects, of every call of an `Auxiliary` module within the block, the loss that it adds, in order of the calls.

    A module that is shared and called twice adds two losses. A model without such modules is left as it is.
    """
    found: list[Tensor] = []

    def collect(module: nn.Module, arguments: tuple[Tensor, ...], output: object) -> None:
        assert isinstance(module, Auxiliary)
        found.append(module.auxiliary_loss(arguments[0]))

    handles = [module.register_forward_hook(collect) for module in model.modules() if isinstance(module, Auxiliary)]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()

"""Leaving a model exactly as it was found."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from mnemoscope.examination.subject.adapters import at_rest
from mnemoscope.examination.subject.held import Held
from mnemoscope.examination.subject.plain import plainly


@contextmanager
def intact(model: nn.Module) -> Iterator[Held]:
    """Evaluation mode inside, no caches, no compiled code; afterwards all is as before, come what may.

    That is modes, buffers, attributes with plain values, gradients, random states, and what `at_rest` changes in models
    of other libraries. Gives what the modules keep as they are found.
    """
    modes = {module: module.training for module in model.modules()}
    buffers = {module: dict(module._buffers) for module in model.modules()}
    values = {buffer: buffer.detach().clone() for buffer in model.buffers()}
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    torch_state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    mps_state = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    before = Held(model)
    model.eval()
    try:
        with plainly(model), at_rest(model):
            yield before
    finally:
        for module, training in modes.items():
            module.training = training
        for parameter, gradient in gradients:
            parameter.grad = gradient
        torch.set_rng_state(torch_state)
        if cuda_states:
            torch.cuda.set_rng_state_all(cuda_states)
        if mps_state is not None:
            torch.mps.set_rng_state(mps_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)
        _restore_buffers(buffers, values)
        if not before.parameters_changed:
            before.put_back()


@torch.no_grad()
def _restore_buffers(buffers: dict[nn.Module, dict[str, Tensor | None]], values: dict[Tensor, Tensor]) -> None:
    """The same tensors under the same names, with the same values."""
    for module, held in buffers.items():
        module._buffers.clear()
        module._buffers.update(held)
    for buffer, value in values.items():
        if buffer.shape != value.shape:
            buffer.data = value
        elif not torch.equal(buffer, value):
            buffer.copy_(value)

"""What a forward pass, a training step and a decoded token of a model do, and what they hold; nothing is computed."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from mnemoscope.experiments.planning.work import Counting, Work
from mnemoscope.models import Stack
from mnemoscope.models.moons import N_CHANNELS, MoonsNetwork
from mnemoscope.training import TrainConfig
from mnemoscope.training.optimiser import build_optimiser

Builder = Callable[[], nn.Module]


@dataclass(frozen=True, kw_only=True)
class Traced:
    """Counts of one model at one batch and context.

    Args:
        n_parameters: tied ones once.
        forward: of a pass that keeps nothing for a backward pass.
        step: of a training step: forward and backward pass, clipping, optimiser.
        weight_bytes: parameters and buffers.
        gradient_bytes: of the parameters that are trained.
        optimiser_bytes: what the optimiser keeps between steps.
        activation_bytes: held between the forward and the backward pass, beside weights and inputs.
        peak_bytes: at the peak of a step, everything above included.
        forward_peak_bytes: at the peak of a forward pass, weights included.
    """

    n_parameters: int
    forward: Work
    step: Work
    weight_bytes: int
    gradient_bytes: int
    optimiser_bytes: int
    activation_bytes: int
    peak_bytes: int
    forward_peak_bytes: int


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """Counts of one token of a stream, after a context.

    Args:
        work: of the token.
        state_bytes: of one sequence after the context.
        later_state_bytes: of one sequence after twice as many tokens; the same where memory is constant.
    """

    work: Work
    state_bytes: int
    later_state_bytes: int


def trace(build: Builder, batch: int, tokens: int, config: TrainConfig) -> Traced:
    """Count a forward pass and a training step on fake tensors of the CPU.

    Args:
        build: makes the model; called once.
        batch: sequences.
        tokens: of each.
        config: of the training; optimiser, clipping and precision count.
    """
    with FakeTensorMode(), _undrawn(), computing(config), Counting() as counting:
        model = build().train()
        weights = [*model.parameters(), *model.buffers()]
        counting.hold(*weights)
        weight_bytes = counting.held
        inputs, targets = _data(model, batch, tokens)
        forward, forward_peak = _forward(model, inputs, counting)
        optimiser = build_optimiser(model, config)
        gradients = _give_state(model, optimiser, counting)
        before, held = counting.work, counting.held
        counting.forget()
        loss = loss_of(model, inputs, targets)
        activations = counting.held - held
        loss.backward()
        del loss
        _descend(model, optimiser, config)
        return Traced(
            n_parameters=sum(parameter.numel() for parameter in model.parameters()),
            forward=forward,
            step=counting.work - before,
            weight_bytes=weight_bytes,
            gradient_bytes=gradients,
            optimiser_bytes=_state_bytes(optimiser),
            activation_bytes=activations,
            peak_bytes=counting.peak,
            forward_peak_bytes=forward_peak,
        )


def trace_decoding(build: Callable[[], Stack], tokens: int) -> Decoded:
    """Count one step of a stream that has read so many tokens."""
    with FakeTensorMode(), _undrawn(), torch.no_grad():
        stack = build().eval()
        inputs, _ = _data(stack, 1, tokens)
        _, state = stack.prefill(inputs)
        with Counting() as counting:
            stack.step(inputs[:, 0], state)
        return Decoded(
            work=counting.work,
            state_bytes=stack.state_bytes(1, tokens),
            later_state_bytes=stack.state_bytes(1, 2 * tokens),
        )


def step_of(model: nn.Module, batch: int, tokens: int, config: TrainConfig) -> Callable[[], None]:
    """A training step on real tensors, the same as is counted."""
    inputs, targets = _data(model, batch, tokens)
    optimiser = build_optimiser(model, config)

    def step() -> None:
        optimiser.zero_grad()
        with computing(config):
            loss = loss_of(model, inputs, targets)
        loss.backward()
        _descend(model, optimiser, config)

    return step


def forward_of(model: nn.Module, batch: int, tokens: int, config: TrainConfig) -> Callable[[], None]:
    """A forward pass on real tensors, the same as is counted."""
    inputs, _ = _data(model, batch, tokens)

    def forward() -> None:
        with torch.no_grad(), computing(config):
            outputs_of(model, inputs)

    return forward


def computing(config: TrainConfig) -> AbstractContextManager[Any]:
    """The precision of a training."""
    return torch.autocast("cpu", torch.bfloat16) if config.precision == "bf16-mixed" else nullcontext()


def outputs_of(model: nn.Module, inputs: Tensor) -> Tensor:
    """Logits, or numbers, of a stack or of a Hugging Face model."""
    outputs: Any = model(inputs)
    return outputs if isinstance(outputs, Tensor) else outputs.logits


def loss_of(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of tokens, squared error of vectors."""
    outputs = outputs_of(model, inputs)
    if targets.is_floating_point():
        return F.mse_loss(outputs, targets)
    return F.cross_entropy(outputs.flatten(0, 1).float(), targets.flatten())


@contextmanager
def _undrawn() -> Iterator[None]:
    """Draws from a truncated normal are left out: torch looks at what it drew, and fake tensors have no values."""
    draw = nn.init.trunc_normal_
    nn.init.trunc_normal_ = lambda tensor, *_, **__: tensor
    try:
        yield
    finally:
        nn.init.trunc_normal_ = draw


def _data(model: nn.Module, batch: int, tokens: int) -> tuple[Tensor, Tensor]:
    vectors = model.config.vectors if isinstance(model, Stack) else None
    if vectors is not None:
        return torch.zeros(batch, tokens, vectors.n_channels), torch.zeros(batch, tokens, vectors.n_outputs)
    if isinstance(model, MoonsNetwork):
        return torch.zeros(batch, tokens, N_CHANNELS), torch.zeros(batch, tokens, N_CHANNELS)
    return torch.zeros(batch, tokens, dtype=torch.long), torch.zeros(batch, tokens, dtype=torch.long)


def _forward(model: nn.Module, inputs: Tensor, counting: Counting) -> tuple[Work, int]:
    before = counting.work
    counting.forget()
    with torch.no_grad():
        outputs_of(model, inputs)
    return counting.work - before, counting.peak


def _give_state(model: nn.Module, optimiser: torch.optim.Optimizer, counting: Counting) -> int:
    """One step at zero gradients, so that the optimiser keeps what it keeps; returns the bytes of the gradients."""
    held = counting.held
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    gradients = counting.held - held
    optimiser.step()
    optimiser.zero_grad()
    return gradients


def _descend(model: nn.Module, optimiser: torch.optim.Optimizer, config: TrainConfig) -> None:
    norm = get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    if config.grad_clip is not None:
        clip_grads_with_norm_(model.parameters(), config.grad_clip, norm)
    optimiser.step()


def _state_bytes(optimiser: torch.optim.Optimizer) -> int:
    kept = [value for state in optimiser.state.values() for value in state.values() if isinstance(value, Tensor)]
    return sum(value.untyped_storage().nbytes() for value in kept)

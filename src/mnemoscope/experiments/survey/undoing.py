"""What it costs to undo a structure in a trained network: what its modules look at is changed, and nothing else."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mnemoscope.experiments.survey.arms import drawn_from, held_out
from mnemoscope.experiments.trained.truth import held_out_losses
from mnemoscope.memories import MANN, Attention, Experts
from mnemoscope.memories.controllers import Cell
from mnemoscope.memories.external import Token
from mnemoscope.memories.mann import MANNState
from mnemoscope.training import TrainedRun


def undone(run: TrainedRun, kind: type[Attention | Experts], change: Callable[[Tensor], Tensor], n_test: int) -> float:
    """What the loss rises by when the addressing of all modules of a kind is changed (nats a scored token).

    Args:
        run: a trained network.
        kind: of modules.
        change: their addressing -> what stands in its place, of that shape.
        n_test: sequences.
    """
    batches = held_out(run.task, n_test)
    whole = held_out_losses(run.model.eval(), batches)[0].mean()

    def answer(module: nn.Module, given: object, seen: Tensor) -> Tensor:
        return change(seen)

    places = [module.addressing for module in run.model.modules() if isinstance(module, kind)]
    handles = [place.register_forward_hook(answer) for place in places]
    changed = held_out_losses(run.model, batches)[0].mean()
    for handle in handles:
        handle.remove()
    return float(changed - whole)


def without_reads(run: TrainedRun, n_test: int) -> float:
    """What the loss rises by when every read is the mean one, for the controller too (nats a scored token).

    An examination replaces what a memory says at its output; a controller that sees the reads of the token before may
    still hold what they said. The mean is that of sequences of the validation split.

    Args:
        run: a trained network whose memories are `MANN`s.
        n_test: sequences of either split.
    """
    memories = [module for module in run.model.eval().modules() if isinstance(module, MANN)]
    heard: dict[MANN, list[Tensor]] = {memory: [] for memory in memories}

    def listen(memory: MANN, module: nn.Module, given: tuple[Tensor, ...], read: Tensor) -> None:
        heard[memory].append(read.detach())

    handles = [memory.read.register_forward_hook(partial(listen, memory)) for memory in memories]
    held_out_losses(run.model, drawn_from(run.task, "validation", n_test))
    for handle in handles:
        handle.remove()
    batches = held_out(run.task, n_test)
    whole = held_out_losses(run.model, batches)[0].mean()
    with ExitStack() as stack:
        for memory in memories:
            mean = torch.cat([read.flatten(0, 1) for read in heard[memory]]).mean(0)
            said = mean.unflatten(0, (memory.config.n_heads, memory.config.word))
            memory.token = partial(_saying, memory, said)
            stack.callback(delattr, memory, "token")
        changed = held_out_losses(run.model, batches)[0].mean()
    return float(changed - whole)


def _saying(memory: MANN, said: Tensor, projected: Tensor, state: MANNState, cell: Cell) -> tuple[Token, MANNState]:
    """A token of a memory whose reads are the same whatever it holds."""
    token, state = MANN.token(memory, projected, state, cell)
    reads = said.expand_as(token.reads)
    return token._replace(reads=reads), state._replace(reads=reads)


def accuracy_within(run: TrainedRun, window: int, n_test: int) -> float:
    """Accuracy when all attention of a trained network sees only so many tokens, the present one included."""

    def narrowed(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**kwargs, "window": window}

    modules = [module for module in run.model.modules() if isinstance(module, Attention)]
    handles = [module.register_forward_pre_hook(narrowed, with_kwargs=True) for module in modules]
    right = held_out_losses(run.model.eval(), held_out(run.task, n_test))[1].mean()
    for handle in handles:
        handle.remove()
    return float(right)

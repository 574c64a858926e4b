"""Several processes: the same weights in all of them (DDP), or a shard of every weight in each (FSDP).

A step's batch is drawn whole by every process, since it is a function of step and seed, and each computes on its rows.
What a process minimises is its part of the loss over the whole batch, so that gradients are summed and never averaged:
the loss stays the mean over all scored targets however unevenly they lie.

DDP sums gradients after the backward pass, in buckets; the model has no wrapper, may be called any number of times in a
step, and need not use every parameter. FSDP is torch's `fully_shard` (FSDP2), on the blocks and on the rest.
"""

import signal
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast, final

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from mnemoscope.contracts import IGNORE
from mnemoscope.contracts.processes import Processes
from mnemoscope.models import Stack
from mnemoscope.training.randomness import rng_state, set_rng_state
from mnemoscope.training.ranks.ranks import Ranks, Strategy, signal_name

BUCKET_BYTES = 25 * 2**20
"""Gradients of together at most so many bytes are summed by one message, as torch's DDP does; at least one is."""

_STATES = "ranks"


class Several(Ranks):
    """What both strategies have in common.

    Args:
        here: this process; the process group exists.
        strategy: of the two.
        device: what messages are sent from: the model's with NCCL, the CPU with gloo.
    """

    def __init__(self, here: Processes, strategy: Strategy, device: torch.device) -> None:
        super().__init__(here, strategy)
        self.device = device

    def own(
        self, inputs: Shaped[Tensor, "b *i"], targets: Shaped[Tensor, "b *o"]
    ) -> tuple[Shaped[Tensor, "own *i"], Shaped[Tensor, "own *o"]]:
        """The slice of its number, as `torch.tensor_split` cuts; or a row of which nothing is scored."""
        own_inputs, own_targets = (part.tensor_split(self.here.count)[self.here.rank] for part in (inputs, targets))
        if len(own_inputs):
            return own_inputs, own_targets
        unscored = float("nan") if targets.is_floating_point() else IGNORE
        return inputs[:1], torch.full_like(targets[:1], unscored)

    def totals(self, figures: Sequence[float]) -> list[float]:
        """By one message."""
        summed = torch.tensor(figures, dtype=torch.float64, device=self.device)
        dist.all_reduce(summed)
        return summed.tolist()

    def agreed(self, stop: str | None) -> str | None:
        """The largest number of a signal that any was sent; by one message."""
        number = torch.tensor(0 if stop is None else signal.Signals[stop].value, device=self.device)
        dist.all_reduce(number, dist.ReduceOp.MAX)
        return signal_name(int(number))

    def first_says(self, ask: Callable[[], int | None]) -> int:
        """By one message, once the first process knows."""
        said = torch.zeros(2, dtype=torch.int64, device=self.device)
        try:
            if self.is_first:
                said = torch.tensor([ask() or 0, 1], device=self.device)
        finally:
            dist.broadcast(said, 0)
        if not said[1]:
            raise ConnectionError(
                f"process {self.here.rank} of {self.here.count}: process 0 could not go on, and says why"
            )
        return int(said[0])

    def seed(self, seed: int, step: int, device: torch.device) -> None:
        """From the seed, the process's number and the step."""
        if self.is_first:
            return
        (own,) = np.random.SeedSequence([seed, self.here.rank, step]).generate_state(1, np.uint64)
        torch.default_generator.manual_seed(int(own) % 2**63)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(int(own) % 2**63)

    def rng(self, device: torch.device) -> dict[str, Tensor]:
        """Gathered, by `ranks/<process>/<kind of device>`."""
        states: dict[str, Tensor] = {}
        for kind, state in rng_state(device).items():
            gathered = [torch.empty_like(state, device=self.device) for _ in range(self.here.count)]
            dist.all_gather(gathered, state.to(self.device))
            states |= {f"{_STATES}/{rank}/{kind}": each.cpu() for rank, each in enumerate(gathered) if rank}
        return states

    def set_rng(self, kept: Mapping[str, Tensor], device: torch.device) -> None:
        """By the names that `rng` gives."""
        prefix = f"{_STATES}/{self.here.rank}/"
        own = {name.removeprefix(prefix): state for name, state in kept.items() if name.startswith(prefix)}
        if own:
            set_rng_state(device, own)

    def _same_everywhere(self, modules: Sequence[nn.Module]) -> None:
        for tensor in (tensor for module in modules for tensor in _tensors(module)):
            sent = tensor.view(torch.uint8) if tensor.dtype == torch.bool else tensor
            sent = sent.to(self.device).contiguous()
            dist.broadcast(sent, 0)
            tensor.copy_(sent.view(tensor.dtype))

    def _sum(self, objective: Tensor) -> Tensor:
        whole = objective.to(self.device, copy=True)
        dist.all_reduce(whole)
        return whole.to(objective.device)


@final
class Replicated(Several):
    """DDP: gradients are summed when the backward pass is over."""

    def __init__(self, here: Processes, device: torch.device) -> None:
        super().__init__(here, "ddp", device)

    def prepare(self, model: nn.Module, beside: Sequence[nn.Module]) -> None:
        """The first process's weights and buffers everywhere."""
        with torch.no_grad():
            self._same_everywhere([model, *beside])

    def share_gradients(self, parameters: Sequence[nn.Parameter], objective: Tensor) -> Tensor:
        """In buckets; what only some processes used is zero in the others."""
        used = torch.tensor([p.grad is not None for p in parameters], dtype=torch.int32, device=self.device)
        dist.all_reduce(used, dist.ReduceOp.MAX)
        for parameter, is_used in zip(parameters, used.tolist(), strict=True):
            if is_used and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for bucket in _buckets([p.grad for p in parameters if p.grad is not None]):
            flat = torch.cat([gradient.flatten() for gradient in bucket]).to(self.device)
            dist.all_reduce(flat)
            for gradient, summed in zip(bucket, flat.split([each.numel() for each in bucket]), strict=True):
                gradient.copy_(summed.view_as(gradient))
        return self._sum(objective)

    def norm(self, gradients: Sequence[Tensor]) -> Tensor:
        """The same everywhere, since gradients are."""
        return get_total_norm(gradients)


@final
class Sharded(Several):
    """FSDP: gradients are summed and sharded during the backward pass, by torch."""

    def __init__(self, here: Processes, device: torch.device) -> None:
        super().__init__(here, "fsdp", device)

    def prepare(self, model: nn.Module, beside: Sequence[nn.Module]) -> None:
        """The first process's weights, then `fully_shard` on every block and on the whole."""
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import FSDPModule, fully_shard

        own = [type(module).__name__ for module in beside if any(True for _ in module.parameters())]
        assert not own, f"{own} have parameters, and were to be refused"
        with torch.no_grad():
            self._same_everywhere([model, *beside])
        mesh = init_device_mesh(next(model.parameters()).device.type, (self.here.count,))
        if isinstance(model, Stack):  # the states that its blocks return are views, and nothing writes into them
            warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
        for unit in (*_units(model), model):
            fully_shard(unit, mesh=mesh)
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)

    def share_gradients(self, parameters: Sequence[nn.Parameter], objective: Tensor) -> Tensor:
        """Of the objective alone: gradients have been summed."""
        return self._sum(objective)

    def norm(self, gradients: Sequence[Tensor]) -> Tensor:
        """Of all shards."""
        return cast(Any, get_total_norm(gradients)).full_tensor()


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from (parameter.detach() for parameter in module.parameters())
    yield from module.buffers()


def _buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Gradients in their order, cut where the type changes or a bucket is full."""
    bucket: list[Tensor] = []
    n_bytes = 0
    for gradient in gradients:
        if bucket and (bucket[0].dtype != gradient.dtype or n_bytes + gradient.nbytes > BUCKET_BYTES):
            yield bucket
            bucket, n_bytes = [], 0
        bucket.append(gradient)
        n_bytes += gradient.nbytes
    if bucket:
        yield bucket


def _units(model: nn.Module) -> list[nn.Module]:
    """What is gathered and let go on its own: members of the outermost lists that share no parameter with the rest."""
    owners: dict[int, set[str]] = {}
    for path, parameter in model.named_parameters(remove_duplicate=False):
        owners.setdefault(id(parameter), set()).add(path)
    units: dict[str, nn.Module] = {}
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and not any(path.startswith(f"{unit}.") for unit in units):
            units |= {f"{path}.{name}": member for name, member in module.named_children()}
    return [unit for path, unit in units.items() if _keeps_to_itself(path, unit, owners)]


def _keeps_to_itself(path: str, unit: nn.Module, owners: Mapping[int, set[str]]) -> bool:
    parameters = list(unit.parameters())
    return bool(parameters) and all(
        name.startswith(f"{path}.") for parameter in parameters for name in owners[id(parameter)]
    )

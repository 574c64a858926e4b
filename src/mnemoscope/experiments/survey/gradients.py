"""How strongly a loss depends on the past and on the stages of a machine, by one backward pass.

Of networks of one block that copy bits: `reach` at tokens, `stages` within an NTM.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.contracts import Batch
from mnemoscope.examination.subject.losses import input_device
from mnemoscope.memories import NTM
from mnemoscope.models import Stack
from mnemoscope.tasks import Task, task_rng

STAGES = ("contribution", "read", "addressing", "input")


def reach(model: Stack, task: Task, n: int) -> float:
    """Gradient at the tokens that hold answers, over that at the tokens where they are asked.

    The mean over questions of one norm for each, by a backward pass for every place of a question.
    """
    batch = task.batch(task_rng(0, "test", 0), n, "test")
    held, losses, asked = _passed(model, batch, [model.embedding])
    distance = torch.as_tensor(batch.about["distance"]).to(asked.device)
    past, present = list[Tensor](), list[Tensor]()
    for at in range(asked.shape[1]):
        rows = asked[:, at].nonzero()[:, 0]
        if len(rows):
            (gradient,) = torch.autograd.grad(losses[rows, at].sum(), held, retain_graph=True)
            past.append(gradient[rows, at - distance[rows, at].long()].norm(dim=-1))
            present.append(gradient[rows, at].norm(dim=-1))
    return float(torch.cat(past).mean() / torch.cat(present).mean())


def stages(model: Stack, task: Task, n: int) -> dict[str, float]:
    """Gradient times value of each stage of the NTM, over that of the first, of whole sequences."""
    block = model.blocks[0]
    machine = block.get_submodule("mixer")
    assert isinstance(machine, NTM)
    places = [machine.contribution, machine.read, machine.addressing, block.get_submodule("mixer_norm")]
    values, losses, _ = _passed(model, task.batch(task_rng(0, "test", 0), n, "test"), places)
    gradients = torch.autograd.grad(losses.sum(), values)
    found = [
        float((gradient.flatten(1).norm(dim=-1) * value.detach().flatten(1).norm(dim=-1)).mean())
        for gradient, value in zip(gradients, values, strict=True)
    ]
    return {stage: one / max(found[0], 1e-30) for stage, one in zip(STAGES, found, strict=True)}


def _passed(
    model: Stack, batch: Batch, places: list[nn.Module]
) -> tuple[list[Tensor], Float[Tensor, "b t"], Bool[Tensor, "b t"]]:
    """What the places gave, the nats of every position (0 where nothing is asked), and where something is asked."""
    inputs, wanted = (torch.as_tensor(part).to(input_device(model)) for part in (batch.inputs, batch.targets))
    held: list[list[Tensor]] = [[] for _ in places]
    handles = [place.register_forward_hook(_keep(kept)) for place, kept in zip(places, held, strict=True)]
    logits = model.eval()(inputs)
    for handle in handles:
        handle.remove()
    scored = ~wanted.isnan()
    nats = F.binary_cross_entropy_with_logits(logits, wanted.nan_to_num(), reduction="none")
    return [kept[0] for kept in held], (nats * scored).sum(-1), scored.any(-1)


def _keep(held: list[Tensor]) -> Callable[[nn.Module, object, Tensor], None]:
    def hook(module: nn.Module, given: object, output: Tensor) -> None:
        held.append(output)

    return hook

"""Whether all processes examine the same model on the same batches; each does a part of the work on them."""

from typing import Any

from torch import nn

from mnemoscope.examination.running.ranks import Ranks, of_each
from mnemoscope.examination.subject.digest import digest, digest_of_model


def require_same(ranks: Ranks, model: nn.Module, batches: list[Any], arguments: tuple[Any, ...]) -> None:
    """Compare fingerprints; nothing is done for a single process.

    Raises:
        ValueError: where they differ, naming what does; or a model of which each process holds a part.
    """
    if ranks.count > 1:
        _compare(of_each(ranks, lambda: _digests(model, batches, arguments)))


def _digests(model: nn.Module, batches: list[Any], arguments: tuple[Any, ...]) -> dict[str, str]:
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.distributed.tensor import DTensor

    is_sharded = any(isinstance(module, FullyShardedDataParallel) for module in model.modules())
    if is_sharded or any(isinstance(parameter, DTensor) for parameter in model.parameters()):
        raise ValueError(
            f"examine: every process must hold the whole model, got a {type(model).__name__} that is sharded over them "
            "(FSDP); load the whole weights in each from a checkpoint"
        )
    return {"model": digest_of_model(model), "batches": digest(batches), "arguments": digest(arguments)}


_ADVICE = {
    "model": "load the same weights in every process, or draw them from the same seed",
    "batches": "give every process all batches, drawn from the same seed and not sharded: examine cuts them itself",
    "arguments": "call examine with the same loss, sites, routes, groups, subsets and budget in every process",
}


def _compare(digests: list[dict[str, str]]) -> None:
    for what, advice in _ADVICE.items():
        others = [rank for rank, found in enumerate(digests) if found[what] != digests[0][what]]
        if others:
            raise ValueError(
                f"examine: every process must have the same {what}, got others on rank "
                f"{', '.join(map(str, others))} than on rank 0; {advice}"
            )

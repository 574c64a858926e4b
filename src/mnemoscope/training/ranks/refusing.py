"""What does not work on several processes, by name: refused before anything is trained."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import nn

from mnemoscope.training.config import TrainConfig
from mnemoscope.training.lessons import LessonConfig, Plain, Staged
from mnemoscope.training.ranks.ranks import Ranks
from mnemoscope.training.remedies import RemedyConfig

REFUSED: Mapping[str, str] = {
    "loss_free_balancing": "moves biases by the loads of the whole batch, and each process sees only its rows",
    "multi_hop_targets": "takes a mean over the sequences that ask for an edge, of which processes have different "
    "numbers",
    "necessity_margin": "compares the losses and mean reads of the whole batch, and each process sees only its rows",
    "negative_control_reinitialise_slots": "draws weights anew, and each process draws other random numbers",
    "ntm_stability": "bounds gradients of single weights, which are summed over processes only afterwards",
}
"""Remedies that need the batch whole, or the same random numbers everywhere, and why."""

BY_ROWS = frozenset(
    {"bottleneck_noise", "branch_dropout", "dnc_masking", "expert_choice", "gate_floor"}
    | {"negative_control_top_k_addressing", "stochastic_depth", "stochastic_window", "window_dropout"}
)
"""Remedies that act on activations, row by row, and have no parameters of their own."""

BY_WEIGHTS = frozenset(
    {"bottleneck_rank", "bottleneck_variational", "gate_opening", "negative_control_diversity"}
    | {"negative_control_orthogonality", "prediction", "reconstruction", "shortcut_weakening"}
    | {"transplanted_embeddings"}
)
"""Remedies that need whole weights of the model, or have weights of their own: not with FSDP."""

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
"""Norms over the rows of a batch."""

LESSONS = (Plain, Staged)
"""Lessons whose step is one batch of rows that have nothing to do with each other, and none with the step before."""

OF_WEIGHTS = frozenset({"effective_dimension", "gradient_weight_cosine"})
"""Metrics of whole weights: not with FSDP."""


def refuse_indivisible(
    ranks: Ranks, model: nn.Module, config: TrainConfig, remedies: Sequence[RemedyConfig], lesson: LessonConfig
) -> None:
    """Refuse what would train something else on several processes than on one.

    Args:
        ranks: nothing is refused to one process.
        model: what is trained.
        config: of the training.
        remedies: that are on the model.
        lesson: how it is taught.

    Raises:
        ValueError: with the name of what is refused, why, and what to do.
    """
    if ranks.strategy is None:
        return
    where = f"train: {ranks.here.count} processes with {ranks.strategy}"
    _refuse_for_any(where, ranks, model, config, lesson)
    for remedy in remedies:
        _refuse_remedy(where, remedy.kind, ranks.is_sharded)
    if ranks.is_sharded:
        _refuse_for_shards(where, model, config)


def _refuse_for_any(where: str, ranks: Ranks, model: nn.Module, config: TrainConfig, lesson: LessonConfig) -> None:
    if config.batch_size < ranks.here.count:
        raise ValueError(
            f"{where}: TrainConfig.batch_size must be at least {ranks.here.count}, a sequence for each process, got "
            f"{config.batch_size}; enlarge the batch, or start fewer processes"
        )
    if not isinstance(lesson, LESSONS):
        raise ValueError(
            f"{where}: the lesson {type(lesson).__name__} keeps states or rewards of the whole batch; use "
            f"{' or '.join(each.__name__ for each in LESSONS)}, or one process"
        )
    for path, module in model.named_modules():
        if isinstance(module, BATCH_NORMS):
            raise ValueError(
                f"{where}: {path}, a {type(module).__name__}, takes statistics of the whole batch, and each process "
                "sees only its rows; use a norm of single rows (LayerNorm, RMSNorm), or one process"
            )


def _refuse_remedy(where: str, kind: str, sharded: bool) -> None:
    if kind in BY_ROWS:
        return
    if kind in BY_WEIGHTS:
        if sharded:
            raise ValueError(
                f"{where}: the remedy {kind} needs whole weights, and each process has a shard; use ddp, or one process"
            )
        return
    reason = REFUSED.get(kind, "is not known to be divisible among processes")
    raise ValueError(f"{where}: the remedy {kind} {reason}; use one process")


def _refuse_for_shards(where: str, model: nn.Module, config: TrainConfig) -> None:
    if config.optimiser == "muon":
        raise ValueError(f"{where}: TrainConfig.optimiser muon needs whole matrices; use adamw, or ddp")
    if config.orthogonal_gradient:
        raise ValueError(f"{where}: TrainConfig.orthogonal_gradient needs whole matrices; set it to 0, or use ddp")
    if config.precision not in ("32-true", "bf16-mixed"):
        raise ValueError(
            f"{where}: TrainConfig.precision must be 32-true or bf16-mixed, got {config.precision}; or use ddp"
        )
    metrics = OF_WEIGHTS.intersection(config.metrics.names if config.metrics else ())
    if metrics:
        raise ValueError(f"{where}: the metric {sorted(metrics)[0]} needs whole weights; leave it out, or use ddp")
    scalars = [name for name, parameter in model.named_parameters() if parameter.ndim == 0]
    if scalars:
        raise ValueError(
            f"{where}: {scalars[0]} is a single number, and parameters are sharded along their first axis; give it the "
            "shape (1,), or use ddp"
        )


@contextmanager
def uncallable(model: nn.Module) -> Iterator[None]:
    """A model that raises where it is called: one process alone would wait for the others' shards for ever.

    Raises:
        ValueError: in the block, where the model is called.
    """

    def refuse(module: nn.Module, given: object) -> None:
        raise ValueError("train: a callback runs the model, whose weights are sharded; use ddp, or leave it out")

    handle = model.register_forward_pre_hook(refuse, prepend=True)
    try:
        yield
    finally:
        handle.remove()

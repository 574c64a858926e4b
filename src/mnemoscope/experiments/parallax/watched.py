"""What a bank looks like: its slots, its reads, its addresses, and how far its reads are from the cortex's states.

    manifold     the directions that hold 95 % of the squared length of the cortex's states
    distance     share of what the bank says (before the gate) that lies outside of it, over that of a random vector:
                 0 within, 1 as far as chance

It is looked at while it is trained too: figures "bank.NAME" stand in the run's metrics.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mnemoscope.contracts import ReadPoint
from mnemoscope.contracts.precision import in_float64
from mnemoscope.examination.measures.addressing_entropy import addressing_entropy
from mnemoscope.examination.measures.mean_vector_share import read_variance_share
from mnemoscope.examination.measures.slot_geometry import centred_rank, mean_cosine, stability
from mnemoscope.examination.subject.intact import intact
from mnemoscope.memories import EnergyBank
from mnemoscope.models import Stack
from mnemoscope.tasks import Task, TextConfig, build_task, task_rng
from mnemoscope.training.callbacks import Moment

HELD = 0.95
"""Share of the squared length that the manifold holds."""

N_WINDOWS = 16
PREFIX = "bank."


class Looked(NamedTuple):
    """What a bank looks like on some windows.

    Args:
        cosine: mean over pairs of slots; 1 for a single slot.
        rank: centred effective rank of the slots.
        read_rank: of the reads.
        read_variance: share of the reads' energy that varies.
        entropy: of the addresses, over that of even ones; 1 for a single slot.
        sharpness: beta lambda_max(E[q q^T]); a bank that is one vector stays so below 1.
        distance: of what it says from the cortex's states.
        gate: its mean; 1 without one.
    """

    cosine: float
    rank: float
    read_rank: float
    read_variance: float
    entropy: float
    sharpness: float
    distance: float
    gate: float


class BankWatch:
    """A callback that looks at an energy bank; of other models it says nothing."""

    name = "bank"

    def __init__(self, task: TextConfig, every: int) -> None:
        self.task, self.every = task, every
        self._windows: Int[Tensor, "b t"] | None = None

    def after_step(self, moment: Moment) -> dict[str, float]:
        """Every so many steps, and after the last."""
        due = moment.step % self.every == 0 or moment.step == moment.steps
        if not due or not isinstance(moment.model, Stack) or bank_of(moment.model) is None:
            return {}
        if self._windows is None:
            task = build_task(self.task)
            held_out = task.batch(task_rng(0, "validation", 1), min(N_WINDOWS, _available(task)), "validation")
            self._windows = torch.from_numpy(held_out.inputs)
        looked = look(moment.model, self._windows.to(moment.model.head.weight.device))
        return {f"{PREFIX}{name}": value for name, value in looked._asdict().items()}

    def state(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def set_state(self, state: Mapping[str, Tensor]) -> None:
        """Nothing."""
        if state:
            raise ValueError(f"bank: has no state, got {sorted(state)}; use the checkpoints of this run")


def _available(task: Task) -> int:
    count = task.n_sequences("validation")
    return N_WINDOWS if count is None else count


def bank_of(model: Stack) -> EnergyBank | None:
    """The bank beside a cortex, if it is one."""
    mixer = model.blocks[-1].mixer
    return mixer if isinstance(mixer, EnergyBank) else None


@torch.no_grad()
def look(model: Stack, tokens: Int[Tensor, "b t"]) -> Looked:
    """What the bank of a model looks like on some windows; the model is left as it was.

    Raises:
        ValueError: no energy bank stands beside the cortex.
    """
    bank = bank_of(model)
    if bank is None:
        raise ValueError(f"look: the last block must hold an energy bank, got {type(model.blocks[-1].mixer).__name__}")
    with intact(model):
        states = cortex_states(model, tokens)
        given = list(model.blocks)[-1].mixer_norm(states)
        reads, weights, gates = _announced(bank, given)
    slots, one = bank.slots.detach(), bank.config.n_slots == 1
    return Looked(
        cosine=1.0 if one else mean_cosine(slots),
        rank=0.0 if one else centred_rank(slots),
        read_rank=centred_rank(reads),
        read_variance=read_variance_share(reads),
        entropy=1.0 if one else addressing_entropy(weights),
        sharpness=stability(bank.query(given).flatten(0, 1), bank.inverse_temperature).number,
        distance=distance_from(states.flatten(0, 1), bank.out(reads)),
        gate=gates,
    )


def cortex_states(model: Stack, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
    """What the cortex gives to what stands beside it."""
    x = model.embed(tokens, 0)
    for block in list(model.blocks)[:-1]:
        x, _ = block(x)
    return x


def distance_from(states: Float[Tensor, "n d"], said: Float[Tensor, "n d"]) -> float:
    """See the top of this file; 0 where nothing is said, or the states fill the space."""
    states, said = in_float64(states), in_float64(said)
    values, directions = torch.linalg.eigh(states.T @ states)
    shares = values.flip(0).clamp_min(0).cumsum(0) / values.clamp_min(0).sum()
    k = int((shares < HELD).sum()) + 1
    outside = directions[:, : len(values) - k]
    energy = float(said.square().sum())
    if energy == 0 or outside.shape[1] == 0:
        return 0.0
    return float((said @ outside).square().sum()) / energy / (outside.shape[1] / len(values))


def _announced(
    bank: EnergyBank, given: Float[Tensor, "b t d"]
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n m"], float]:
    """Reads, addresses and the mean gate for what the bank is given."""
    seen = dict[str, Tensor]()

    def note(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(_module: nn.Module, _arguments: object, output: Tensor) -> None:
            seen[name] = output

        return hook

    points = {name: point for name, point in bank.named_children() if isinstance(point, ReadPoint)}
    handles = [point.register_forward_hook(note(name)) for name, point in points.items()]
    try:
        bank(given)
    finally:
        for handle in handles:
            handle.remove()
    gate = float(seen["gate"].mean()) if "gate" in seen else 1.0
    return seen["read"].flatten(0, 1), seen["addressing"].flatten(0, 1), gate

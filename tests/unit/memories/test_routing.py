"""Banks under an energy, mixtures of experts and routed slots: what the contract does not say of them."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn

from mnemoscope.contracts import Slots
from mnemoscope.memories import EnergyBank, EnergyBankConfig, Experts, ExpertsConfig, SlotMemory, SlotMemoryConfig
from tests.tolerances import CAUSAL, FLOAT64, assert_close
from tests.unit.memories.cases import inputs, mixer_of, run_pieces
from tests.unit.models.test_compile import run_apart

D = 16
REFUSED = [
    (lambda: EnergyBankConfig(n_slots=0), "energy_bank.n_slots must be at least 1, got 0"),
    (lambda: EnergyBankConfig(inverse_temperature=0.0), "energy_bank.inverse_temperature must be positive and finite"),
    (lambda: EnergyBankConfig(sphere_radius=-1.0), "energy_bank.sphere_radius must be positive and finite, or None"),
    (lambda: EnergyBankConfig(weight=0.0), "energy_bank.weight must be positive and finite, got 0.0; use 0.1"),
    (lambda: ExpertsConfig(n_experts=0), "experts.n_experts must be at least 1"),
    (lambda: ExpertsConfig(experts_per_token=9), "experts.experts_per_token must be from 1 to n_experts=8, got 9"),
    (lambda: ExpertsConfig(width=0), "experts.width must be at least 1, or None"),
    (
        lambda: ExpertsConfig(routing="expert_choice", balanced=True),
        'experts.balanced must be off with routing="expert',
    ),
    (
        lambda: ExpertsConfig(balance_rate=0.1),
        "experts.balance_rate must be None, or positive and finite with balanced",
    ),
    (lambda: ExpertsConfig(chunk_tokens=8), 'experts.chunk_tokens must be None, or at least 1 with routing="expert_ch'),
    (lambda: SlotMemoryConfig(n_slots=0), "slots.n_slots must be at least 1"),
    (lambda: SlotMemoryConfig(width=0), "slots.width must be at least 1, or None"),
    (lambda: SlotMemoryConfig(slots_per_token=2), "slots.slots_per_token must be None, or from 1 to n_slots=16 with"),
    (
        lambda: SlotMemoryConfig(balance_rate=0.1),
        "slots.balance_rate must be None, or positive and finite with routing",
    ),
    (lambda: SlotMemoryConfig(chunk_tokens=4), 'slots.chunk_tokens must be None, or at least 1 with routing="expert_'),
    (
        lambda: SlotMemory(SlotMemoryConfig(), D).load(inputs(3).float()),
        'slots: load must be asked of routing="loss_fr',
    ),
    (lambda: Experts(ExpertsConfig(), D).rebalance(torch.ones(8)), "experts: rebalance must be asked of balanced=True"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_what_cannot_work_is_refused(make: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        make()


M = TypeVar("M", bound=nn.Module)


def made(module: Callable[[], M]) -> M:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return module().double()


def heard(memory: nn.Module, point: str, run: Callable[[], object]) -> Tensor:
    seen: list[Tensor] = []

    def listen(_module: nn.Module, _arguments: object, output: Tensor) -> None:
        seen.append(output)

    hook = memory.get_submodule(point).register_forward_hook(listen)
    run()
    hook.remove()
    return seen[0]


@pytest.mark.parametrize("case", ["energy bank", "energy bank on a sphere"])
def test_the_task_does_not_reach_the_slots_and_the_energy_nothing_else(case: str):
    memory, x = mixer_of(case), inputs(9).requires_grad_()
    named = dict(memory.named_parameters())
    of_task = torch.autograd.grad(memory(x)[0].sum(), list(named.values()), allow_unused=True)
    of_energy = torch.autograd.grad(memory.auxiliary_loss(x), [x, *named.values()], allow_unused=True)
    assert [name for name, gradient in zip(named, of_task, strict=True) if gradient is None] == ["slots"]
    reached = [name for name, g in zip(["x", *named], of_energy, strict=True) if g is not None]
    assert reached == ["slots"]


@pytest.mark.parametrize("case", ["energy bank", "energy bank on a sphere"])
@torch.no_grad()
def test_a_collapsed_bank_reads_a_constant(case: str):
    memory, x = mixer_of(case), inputs(9)
    assert isinstance(memory, EnergyBank)
    assert isinstance(memory, Slots)
    vector = memory.single_vector().clone()
    memory.slots.copy_(vector.expand_as(memory.slots))
    assert_close(heard(memory, "read", lambda: memory(x)), vector.expand(2, 9, D), FLOAT64)
    assert_close(memory.single_vector(), vector, FLOAT64)


@pytest.mark.parametrize(("ratio", "stays"), [(0.95, True), (1.05, False)])
@pytest.mark.parametrize("radius", [None, 2.0])
def test_the_bank_collapses_where_it_says_so(ratio: float, stays: bool, radius: float | None):
    x = inputs(60)
    unit = made(lambda: EnergyBank(EnergyBankConfig(n_slots=4, inverse_temperature=1.0, sphere_radius=radius), D))
    found = unit.collapse_threshold(x)
    config = EnergyBankConfig(
        n_slots=4,
        weight=1.0,
        sphere_radius=radius,
        inverse_temperature=ratio * float(found.threshold / found.sharpness),
    )
    memory = made(lambda: EnergyBank(config, D))
    sharpness, threshold = memory.collapse_threshold(x)
    assert (sharpness < threshold) == stays
    with torch.no_grad():
        mean = memory.query(x).mean((0, 1))
        memory.slots.copy_(mean / (1 if radius is None else mean.norm() / radius) + 1e-3 * memory.slots)
    optimiser = torch.optim.SGD([memory.slots], lr=2.0 if radius is None else 20.0)
    before = (memory.slots - memory.slots.mean(0)).norm().item()
    for _ in range(400):
        optimiser.zero_grad()
        memory.auxiliary_loss(x).backward()
        optimiser.step()
    after = (memory.slots - memory.slots.mean(0)).norm().item()
    assert after < before / 2 if stays else after > 2 * before


@torch.no_grad()
def test_an_expert_takes_no_more_than_its_share_of_a_chunk():
    config = ExpertsConfig(n_experts=4, experts_per_token=2, routing="expert_choice", chunk_tokens=8)
    memory = made(lambda: Experts(config, D))
    # One expert is everybody's favourite.
    x = inputs(400)
    memory.router.weight[0] = 5 * x[0].mean(0)
    load = memory.load(x)
    assert load.max() <= 0.5
    memory.router.weight.normal_(generator=torch.Generator().manual_seed(1), std=0.3)
    assert (memory.load(x) > 0.2).all()


@torch.no_grad()
def test_what_an_expert_took_before_counts_in_the_next_piece():
    """Cuts within chunks, over tokens that all experts want."""
    config = ExpertsConfig(n_experts=4, experts_per_token=1, routing="expert_choice", chunk_tokens=8)
    memory, x = made(lambda: Experts(config, D)), inputs(3).repeat(1, 20, 1)
    whole, state = memory(x)
    pieces, other = run_pieces(memory, x, memory.init_state(2), [3, 4, 5, 13, 30, 40, 41])
    assert_close(pieces, whole, FLOAT64)
    for ours, theirs in zip(state, other, strict=True):
        assert_close(ours, theirs, FLOAT64)


@pytest.mark.parametrize("case", ["experts that choose tokens", "slots that choose tokens"])
def test_no_choice_sees_the_future(case: str):
    """Later tokens that would win every choice change nothing, and have no gradient."""
    memory, x = mixer_of(case), inputs(40).requires_grad_()
    y = memory(x)[0]
    for t in range(0, 39, 6):
        with torch.no_grad():
            loud = x.clone()
            loud[:, t + 1 :] *= 30
            assert_close(memory(loud)[0][:, : t + 1], y[:, : t + 1], CAUSAL)
        gradient = torch.autograd.grad(y[:, t].square().sum(), x, retain_graph=True)[0]
        assert not gradient[:, t + 1 :].any()


@torch.no_grad()
def test_a_token_goes_to_as_many_experts_as_said():
    memory, x = made(lambda: Experts(ExpertsConfig(n_experts=5, experts_per_token=3), D)), inputs(30)
    load = memory.load(x)
    assert_close(load.sum(), torch.tensor(3.0), FLOAT64)
    memory.router.weight.zero_()
    memory.router.weight[2] = x[0, 0]
    assert memory.load(x[:1, :1])[2] == 1


@pytest.mark.parametrize(
    "memory",
    [
        pytest.param(lambda: Experts(ExpertsConfig(n_experts=6, balanced=True, balance_rate=0.01), D), id="experts"),
        pytest.param(
            lambda: SlotMemory(
                SlotMemoryConfig(n_slots=6, routing="loss_free", slots_per_token=2, balance_rate=0.01), D
            ),
            id="slots",
        ),
    ],
)
@torch.no_grad()
def test_rebalancing_evens_the_loads(memory: Callable[[], nn.Module]):
    module, x = made(memory), inputs(200)
    assert isinstance(module, Experts | SlotMemory)
    module.router.weight[0] += 0.3 * x.mean((0, 1)) / x.mean((0, 1)).square().sum()
    before = module.load(x)
    for _ in range(150):
        previous, load = module.bias.clone(), module.load(x)
        module.rebalance(load)
        assert_close(module.bias - previous, 0.01 * (load.mean() - load).sign(), FLOAT64)
    after = module.load(x)
    assert_close(before.sum(), after.sum(), FLOAT64)
    assert (after - after.mean()).abs().max() < 0.3 * (before - before.mean()).abs().max()
    assert not module.bias.requires_grad


@torch.no_grad()
def test_a_bias_ranks_and_does_not_weigh():
    memory, x = made(lambda: Experts(ExpertsConfig(n_experts=4, experts_per_token=4, balanced=True), D)), inputs(9)
    before = memory(x)[0]
    memory.bias.copy_(torch.tensor([5.0, -3.0, 0.0, 1.0]))
    assert_close(memory(x)[0], before, FLOAT64)


@torch.no_grad()
def test_experts_follow_replaced_addressing():
    """All weight on one expert is that expert's output alone."""
    memory, x = made(lambda: Experts(ExpertsConfig(n_experts=4, experts_per_token=2), D)), inputs(9)
    chosen = torch.zeros(2, 9, 4, dtype=x.dtype)
    chosen[..., 3] = 1
    memory.addressing.register_forward_hook(lambda _module, _args, _output: chosen)
    assert_close(memory(x)[0], nn.functional.gelu(x @ memory.inner[3]) @ memory.outer[3], FLOAT64)


@torch.no_grad()
def test_a_slot_writes_what_it_chose_and_its_chunk_reads_the_slots_before():
    config = SlotMemoryConfig(n_slots=3, routing="expert_choice", chunk_tokens=4, slots_per_token=1)
    memory, x = made(lambda: SlotMemory(config, D)), inputs(12)
    states = heard(memory, "state", lambda: memory(x))
    for chunk in states.split(4, dim=1):
        assert torch.equal(chunk, chunk[:, :1].expand_as(chunk))
    assert torch.equal(states[:, 0], memory.slots.expand(2, -1, -1))
    # Each slot writes the 2 of 4 tokens that would write it most; the others may be anything weaker.
    strength = memory.write_gate(x).sigmoid() * memory.router(x).softmax(-1)
    weakest = strength[0, :4].max(-1).values.argmin()
    if (strength[0, :4].argsort(0, descending=True)[:2] != weakest).all():
        other = x.clone()
        other[0, weakest] *= 0.9
        assert_close(memory(other)[0][0, 4:], memory(x)[0][0, 4:], FLOAT64)


@torch.no_grad()
def test_slots_shut_off_from_writing_keep_what_was_learned():
    memory, x = made(lambda: SlotMemory(SlotMemoryConfig(n_slots=3), D)), inputs(40)
    memory.write_gate.bias.fill_(-1e4)
    assert_close(memory(x)[1].s, memory.slots.expand(2, -1, -1), FLOAT64)


@pytest.mark.long
def test_every_routing_is_captured_as_one_graph(tmp_path: Path):
    run_apart(
        "aot_eager",
        tmp_path,
        23,
        "experts(n_experts=4, balanced=True)",
        "experts(n_experts=4, routing='expert_choice', chunk_tokens=5)",
        "slots(n_slots=4, routing='loss_free')",
        "slots(n_slots=4, routing='expert_choice', chunk_tokens=5)",
        "energy_bank(n_slots=4, sphere_radius=2.0)",
    )

"""Loss-free balancing: biases rank, never weigh, and move by one rate towards even loads."""

import math

import pytest
import torch
from torch import Tensor, nn

from mnemoscope.memories import Experts, ExpertsConfig, SlotMemory, SlotMemoryConfig
from mnemoscope.training.remedies import Computed, LossFreeBalancing
from mnemoscope.training.remedies.loss_free_balancing import (
    LossFreeBalancingTreatment,
    dead_share,
    max_violation,
)

SCORES = torch.tensor([[[0.65, 0.3, 0.05], [0.5, 0.4, 0.1], [0.9, 0.05, 0.05]]])


COMPUTED = Computed(inputs=SCORES, targets=SCORES, logits=SCORES, loss=SCORES.sum(), again=SCORES.sum)


class Router(nn.Module):
    """Gives what it is given, as the scores of three slots."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.scores(x)


def router(**settings: object) -> tuple[Router, LossFreeBalancingTreatment]:
    given = {"strength": 0.1, "sites": ("scores",), "n_slots": 3, "scores": "shares"} | settings
    model = Router()
    return model, LossFreeBalancing(**given).attach(model)  # pyright: ignore[reportArgumentType]


def take_step(model: nn.Module, treatment: LossFreeBalancingTreatment, step: int, steps: int, x: Tensor) -> Tensor:
    treatment.on_step(step, steps)
    y = model(x)
    treatment.after_step(COMPUTED)
    return y[0] if isinstance(y, tuple) else y


def test_loads_and_their_figures_are_as_by_hand():
    load = torch.tensor([0.75, 0.2, 0.03, 0.02])
    assert max_violation(load) == pytest.approx(2.0)
    assert dead_share(load) == pytest.approx(0.25)  # the mean is 0.25, and only 0.02 is below a tenth of it
    assert max_violation(torch.ones(4)) == 0 == dead_share(torch.ones(4))


def test_a_bias_moves_by_one_rate_and_ranks_but_does_not_weigh():
    model, treatment = router()
    first = take_step(model, treatment, 1, 9, SCORES)
    # All three tokens chose slot 0: loads 1, 0, 0 with mean 1/3.
    assert torch.equal(first, torch.tensor([[[0.65, 0, 0], [0.5, 0, 0], [0.9, 0, 0]]]))
    assert treatment.figures() == pytest.approx({"strength": 0.1, "max_violation": 2.0, "dead_share": 2 / 3})
    torch.testing.assert_close(treatment.state_dict()["ranked.0.bias"], torch.tensor([-0.1, 0.1, 0.1]))
    second = take_step(model, treatment, 2, 9, SCORES)
    # Ranked: 0.55, 0.4, 0.15; 0.4, 0.5, 0.2; 0.8, 0.15, 0.15. What is left is the score itself.
    assert torch.equal(second, torch.tensor([[[0.65, 0, 0], [0, 0.4, 0], [0.9, 0, 0]]]))
    # Loads 2/3, 1/3, 0: slot 1 has the mean and stays.
    torch.testing.assert_close(treatment.state_dict()["ranked.0.bias"], torch.tensor([-0.2, 0.1, 0.2]))


def test_of_logits_only_the_chosen_reach_a_softmax():
    model, treatment = router(scores="logits", n_chosen=2)
    y = take_step(model, treatment, 1, 1, SCORES[:, :1])
    assert y.tolist() == [[[pytest.approx(0.65), pytest.approx(0.3), -math.inf]]]
    assert y.softmax(-1)[0, 0, 0].item() == pytest.approx(1 / (1 + math.exp(-0.35)))


def test_gradients_go_to_the_chosen_scores_alone():
    model, treatment = router()
    scores = SCORES.clone().requires_grad_()
    take_step(model, treatment, 1, 1, scores).sum().backward()
    assert scores.grad is not None
    assert torch.equal(scores.grad, torch.tensor([[[1.0, 0, 0]] * 3]))
    assert not list(treatment.parameters())


def test_frozen_biases_still_rank_and_a_remedy_that_never_began_does_nothing():
    model, treatment = router(strength=0.3, final_strength=0.0)
    take_step(model, treatment, 1, 2, SCORES)
    last = take_step(model, treatment, 2, 2, SCORES)
    torch.testing.assert_close(treatment.state_dict()["ranked.0.bias"], torch.tensor([-0.3, 0.3, 0.3]))
    assert last[0, 0].tolist() == [0, pytest.approx(0.3), 0]
    model, treatment = router(strength=0.0)
    assert torch.equal(take_step(model, treatment, 1, 2, SCORES), SCORES)
    assert treatment.figures()["max_violation"] == pytest.approx(2.0)


@pytest.mark.parametrize("kind", ["slots", "experts"])
def test_memories_of_ours_are_balanced_by_their_own_rebalance(kind: str):
    torch.manual_seed(0)
    memory = (
        SlotMemory(SlotMemoryConfig(n_slots=4, routing="loss_free"), 8)
        if kind == "slots"
        else Experts(ExpertsConfig(n_experts=4, experts_per_token=1, balanced=True), 8)
    )
    model, x = nn.Sequential(memory), torch.randn(2, 30, 8)
    with torch.no_grad():
        memory.router.weight[0] += 3 * x.mean((0, 1))
    load = memory.load(x)
    treatment = LossFreeBalancing(strength=0.25, final_strength=0.0).attach(model)
    take_step(model, treatment, 1, 2, x)
    torch.testing.assert_close(memory.bias.data, 0.25 * (load.mean() - load).sign())
    assert treatment.figures()["max_violation"] == pytest.approx(float(load.max() / load.mean() - 1))
    take_step(model, treatment, 2, 2, x)
    torch.testing.assert_close(memory.bias.data, 0.25 * (load.mean() - load).sign())
    model.eval()
    treatment.on_step(1, 2)
    model(x)
    treatment.after_step(COMPUTED)
    torch.testing.assert_close(memory.bias.data, 0.25 * (load.mean() - load).sign())


def test_balancing_evens_the_loads_of_a_router():
    torch.manual_seed(0)
    scores, x = nn.Linear(8, 6), torch.randn(4, 50, 8)
    with torch.no_grad():
        scores.bias[0] = 2.0
    model = nn.Sequential(scores, nn.Softmax(-1))
    treatment = LossFreeBalancing(strength=0.01, sites=("1",), n_slots=6, scores="shares").attach(model)
    violations = []
    for step in range(1, 151):
        take_step(model, treatment, step, 150, x)
        violations.append(treatment.figures()["max_violation"])
    assert violations[0] > 2
    assert violations[-1] < 0.4


@pytest.mark.parametrize(
    ("remedy", "message"),
    [
        (LossFreeBalancing(), "has no routed memory with a bias; build it with"),
        (LossFreeBalancing(sites=("0",)), r"0, a Identity, must have at least n_chosen=1 slots, got n_slots=None"),
        (LossFreeBalancing(sites=("1",), n_chosen=5), "must have at least n_chosen=5 slots, got n_slots=4"),
        (LossFreeBalancing(sites=("2",)), "2 must have a bias, got SlotMemoryConfig"),
    ],
)
def test_places_without_scores_are_refused(remedy: LossFreeBalancing, message: str):
    model = nn.Sequential(nn.Identity(), nn.Linear(4, 4), SlotMemory(SlotMemoryConfig(), 4))
    with pytest.raises(ValueError, match=message):
        remedy.attach(model)


def test_numbers_that_cannot_be_are_refused():
    with pytest.raises(
        ValueError, match=r"LossFreeBalancing.n_chosen: must be at least 1 and at most n_slots=2, got 3"
    ):
        LossFreeBalancing(n_chosen=3, n_slots=2)
    model, treatment = router(n_slots=4)
    with pytest.raises(ValueError, match=r"must have n_slots=4 along the last axis, got shape \(1, 3, 3\)"):
        take_step(model, treatment, 1, 1, SCORES)

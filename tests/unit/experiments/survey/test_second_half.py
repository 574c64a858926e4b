"""What studies of machines, slots, curricula and collapsed structures compute, on cases whose answer is known."""

from dataclasses import replace
from typing import cast

import pytest
import torch

from mnemoscope.experiments.survey import (
    bottleneck,
    collapsed_experts,
    collapsed_heads,
    curriculum,
    dilution,
    dnc_amendments,
    gradients,
    ntm_start,
    reconstruction,
    slots,
)
from mnemoscope.experiments.survey.bits import NEVER, learned
from mnemoscope.experiments.survey.undoing import undone
from mnemoscope.memories import Attention, DNCConfig, Experts, NTMConfig, SlotMemory, SlotMemoryConfig
from mnemoscope.models import Stack, build_model
from mnemoscope.tasks import CopyingConfig, build_task, task_rng
from mnemoscope.training import Recipe, TrainedRun
from mnemoscope.training.lessons import Bandit, Plain, Staged
from tests.unit.experiments.survey.tiny import SETTINGS


def untrained(recipe: Recipe) -> TrainedRun:
    return TrainedRun(recipe=recipe, model=build_model(recipe.model, 0), task=build_task(recipe.task), step=0)


@pytest.mark.parametrize(
    ("errors", "last", "steps", "converged"),
    [
        ([3.0, 0.09, 0.05, 0.01], 0.03, 20, 1),
        ([3.0, 2.0, 1.0, 0.5], 0.75, NEVER * 40, 0),
        ([3.0, 0.05, 1.0, 1.0], 1.0, 20, 0),
    ],
)
def test_what_a_curve_of_errors_came_to(errors: list[float], last: float, steps: float, converged: int):
    found = learned([10.0, 20.0, 30.0, 40.0], errors)
    assert found.errors == pytest.approx(last)
    assert (found.steps, found.converged) == (steps, converged)


def test_networks_of_bits_fit_their_tasks():
    for module in (ntm_start, dnc_amendments, reconstruction, curriculum, dilution):
        for recipe in module.recipes(module.SMALL).values():
            task, vectors = build_task(recipe.task), recipe.model.vectors  # pyright: ignore[reportAttributeAccessIssue]
            assert (vectors.n_channels, vectors.n_outputs) == (task.n_channels, task.n_outputs)


def test_starts_and_stages_of_the_machine():
    arms = ntm_start.recipes(ntm_start.SMALL)
    starts = {name: cast(NTMConfig, recipe.model.mixers[0]).memory for name, recipe in arms.items()}
    assert starts == {"constant": "constant", "random": "random", "learned": "learned", "curriculum": "constant"}
    lessons = {name: recipe.lesson for name, recipe in arms.items()}
    assert [lessons[name] for name in ntm_start.STARTS] == [Plain()] * 3
    staged = cast(Staged, lessons["curriculum"])
    assert [cast(CopyingConfig, stage.task).max_length for stage in staged.stages] == [4, 6]


def test_every_arm_of_the_dnc_has_its_amendments():
    arms = dnc_amendments.recipes(dnc_amendments.SMALL)
    mixers = {name: cast(DNCConfig, recipe.model.mixers[0]) for name, recipe in arms.items()}
    found = {name: (dnc.masking, dnc.deallocation, dnc.sharpness) for name, dnc in mixers.items()}
    assert found == {
        "plain": (False, False, False),
        "masking": (True, False, False),
        "deallocation": (False, True, False),
        "sharpness": (False, False, True),
        "all": (True, True, True),
    }
    assert dnc_amendments.SMALL.guessing == 0.5 * 4 * 2 * 3


def test_a_probe_reads_what_a_state_holds_and_nothing_else():
    rng = torch.Generator().manual_seed(0)
    bits = torch.randint(2, (400, 6), generator=rng).double()
    mixed = bits @ torch.randn(6, 10, generator=rng).double() + 3
    noise = torch.randn(400, 10, generator=rng).double()
    assert reconstruction.readable(mixed[:200], bits[:200], mixed[200:], bits[200:]) == 1
    assert reconstruction.readable(noise[:200], bits[:200], noise[200:], bits[200:]) == pytest.approx(0.5, abs=0.05)


def test_states_are_those_at_the_delimiter():
    run = untrained(reconstruction.recipes(SETTINGS["survey-reconstruction"])["plain"])
    held, bits = reconstruction.states(run, "test", 16)
    inputs = torch.as_tensor(run.task.batch(task_rng(0, "test", 0), 16, "test").inputs)
    assert torch.equal(bits, inputs[:, :3, :-1].flatten(1).double())
    _, state = cast(Stack, run.model).prefill(inputs[:, :4])
    assert torch.allclose(held, torch.cat([part.flatten(1) for part in state.blocks[0]], 1).double(), atol=1e-6)
    assert 0 < reconstruction.stored(run, 64) < 1


def test_loads_of_slots():
    uneven = SlotMemory(SlotMemoryConfig(n_slots=4, routing="loss_free"), 8)
    even = SlotMemory(SlotMemoryConfig(n_slots=4), 8)
    with torch.no_grad():
        uneven.router.weight.zero_()
        uneven.bias[2] = 1.0
        even.router.weight.zero_()
    x = torch.randn(2, 5, 8)
    assert slots.loads(uneven, x).tolist() == [0, 0, 1, 0]
    assert slots.loads(even, x).tolist() == pytest.approx([0.25] * 4)


def test_routing_of_slots():
    arms = slots.recipes(slots.SMALL)
    routing = {name: cast(SlotMemoryConfig, recipe.model.mixers[1]).routing for name, recipe in arms.items()}
    assert routing == {
        "softmax": "softmax",
        "token choice": "loss_free",
        "balanced": "loss_free",
        "expert choice": "expert_choice",
    }
    assert [bool(recipe.remedies) for recipe in arms.values()] == [False, False, True, False]


def test_what_a_bandit_chooses_first():
    short = [0.4, 0.4, 0.3, 0.3, 0.2, 0.2, 0.1, 0.1]
    long = [0.5 - share for share in short]
    assert curriculum.short_first([short, short, long, long]) == pytest.approx(2 * (0.4 - 0.1))
    assert curriculum.short_first([long, long, short, short]) == pytest.approx(-2 * (0.4 - 0.1))


def test_lessons_of_the_curricula():
    lessons = curriculum.SMALL.lessons
    uniform, bandit = cast(Bandit, lessons["uniform"]), cast(Bandit, lessons["bandit"])
    assert uniform.arms == bandit.arms
    assert (uniform.eps, len(bandit.arms)) == (1.0, 4)
    staged = cast(Staged, lessons["staged"])
    assert [stage.until for stage in staged.stages] == pytest.approx([1 / 6, 2 / 6, 3 / 6])
    assert [cast(CopyingConfig, stage.task).max_length for stage in staged.stages] == [2, 4, 6]


def test_the_free_arm_of_bottlenecks_is_the_wide_hybrid_of_the_windows():
    arms = bottleneck.recipes(bottleneck.SMALL)
    wide = bottleneck.window.recipes(bottleneck.window.SMALL)["wide"]
    assert arms["free"] == wide
    assert all(recipe.model == wide.model and recipe.train == wide.train for recipe in arms.values())
    assert [len(recipe.remedies) for recipe in arms.values()] == [0, 1, 1, 1, 1]


def test_no_gradient_reaches_the_past_where_the_memory_is_cut_off():
    recipe = dilution.recipes(SETTINGS["survey-dilution"])["attention"]
    model = cast(Stack, build_model(recipe.model, 0))
    task = build_task(recipe.task)
    assert gradients.reach(model, task, 8) > 0
    with torch.no_grad():
        cast(Attention, model.blocks[0].mixer).out.weight.zero_()
    assert gradients.reach(model, task, 8) == 0


def test_stages_of_a_machine_follow_its_weights():
    recipe = dilution.recipes(SETTINGS["survey-dilution"])["ntm"]
    model, task = cast(Stack, build_model(recipe.model, 0)), build_task(recipe.task)
    found = gradients.stages(model, task, 8)
    assert tuple(found) == gradients.STAGES
    assert found["contribution"] == 1
    with torch.no_grad():
        controls = model.blocks[0].mixer.controller  # pyright: ignore[reportAttributeAccessIssue]
        for parameter in controls.parameters():
            parameter.zero_()
    assert gradients.stages(model, task, 8)["input"] == 0


def test_what_undoing_costs():
    heads = replace(SETTINGS["survey-collapsed-heads"], n_heads=2)
    run = untrained(collapsed_heads.recipes(heads)["four heads"])
    assert undone(run, Attention, lambda weights: weights, 16) == pytest.approx(0, abs=1e-6)
    assert abs(undone(run, Attention, collapsed_heads.same_look, 16)) > 1e-4
    experts = untrained(collapsed_experts.recipes(SETTINGS["survey-collapsed-experts"])["free experts"])
    assert abs(undone(experts, Experts, collapsed_experts.same_route, 16)) > 1e-4
    with torch.no_grad():
        cast(Experts, experts.model.get_submodule("blocks.1.mixer")).router.weight.zero_()
    assert undone(experts, Experts, collapsed_experts.same_route, 16) == pytest.approx(0, abs=1e-6)
    assert collapsed_experts.violation(experts) == pytest.approx(2)


def test_overlap_of_heads():
    run = untrained(collapsed_heads.recipes(SETTINGS["survey-collapsed-heads"])["four heads"])
    blocks = cast(Stack, run.model).blocks
    found = list[float]()
    for scale in (0.0, 300.0):
        with torch.no_grad():
            for block in blocks:
                cast(Attention, block.mixer).qkv.weight.mul_(1 if scale else 0).add_(
                    scale * torch.randn(block.mixer.qkv.weight.shape)  # pyright: ignore[reportAttributeAccessIssue]
                )
        found.append(collapsed_heads.overlap(run))
    assert found[0] == pytest.approx(1)
    assert found[1] < 0.7

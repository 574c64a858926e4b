"""What studies of machines, slots, curricula and collapsed structures compute, on cases whose answer is known."""

import math
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch

from mnemoscope.contracts import Batch
from mnemoscope.experiments.survey import (
    bottleneck,
    branches,
    collapsed_experts,
    collapsed_heads,
    controller,
    curriculum,
    dilution,
    dnc_amendments,
    gradients,
    ntm_start,
    overflow,
    reconstruction,
    slots,
    telling,
)
from mnemoscope.experiments.survey.arms import gains_of_share
from mnemoscope.experiments.survey.bits import NEVER, learned
from mnemoscope.experiments.survey.undoing import undone, without_reads
from mnemoscope.experiments.trained.truth import PerSequence
from mnemoscope.memories import MANN, Attention, DNCConfig, Experts, NTMConfig, SlotMemory, SlotMemoryConfig
from mnemoscope.models import Model, Stack, StackConfig, build_model
from mnemoscope.tasks import CopyingConfig, build_task, task_rng
from mnemoscope.training.lessons import Bandit, Plain, Staged
from tests.unit.experiments.survey.tiny import SETTINGS, untrained


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
    wide = bottleneck.window.recipes(bottleneck.window.SMALL)["last wide"]
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
    assert undone(run, Attention, collapsed_heads.uniform_look, 16) != 0
    assert collapsed_experts.violation(experts) == pytest.approx(2)


def test_what_a_controller_passes_on_of_the_reads_counts_as_theirs():
    """First nothing but the controller reaches the output, then nothing does."""
    run = untrained(controller.recipes(SETTINGS["survey-controller"])["feed-forward"])
    memory = next(module for module in run.model.modules() if isinstance(module, MANN))
    assert abs(without_reads(run, 16)) > 1e-6
    with torch.no_grad():
        memory.out.weight[:, : memory.config.n_heads * memory.config.word] = 0
    assert abs(without_reads(run, 16)) > 1e-6
    with torch.no_grad():
        memory.out.weight.zero_()
    assert without_reads(run, 16) == pytest.approx(0, abs=1e-7)
    assert "token" not in vars(memory)


def test_the_route_is_that_of_most_and_the_weight_a_token_s_own():
    shares = torch.tensor([[[0.7, 0.3], [0.4, 0.6], [0.8, 0.2]]])
    sent = collapsed_experts.same_route(shares)
    assert sent.argmax(-1).tolist() == [[0, 0, 0]]
    assert sent[..., 0].tolist() == [pytest.approx([0.7, 0.6, 0.8])]


def test_everywhere_alike_is_a_row_of_weights():
    looks = collapsed_heads.uniform_look(torch.rand(2, 3, 4, 4))
    assert looks.shape == (2, 3, 4, 4)
    assert looks[0, 0].tolist() == [[1, 0, 0, 0], [0.5, 0.5, 0, 0], pytest.approx([1 / 3] * 3 + [0]), [0.25] * 4]


def test_overlap_counts_rows_with_a_place_only():
    run = untrained(collapsed_heads.recipes(SETTINGS["survey-collapsed-heads"])["four heads"])
    blocks = cast(Stack, run.model).blocks
    for scale in (0.0, 300.0):
        with torch.no_grad():
            for block in blocks:
                cast(Attention, block.mixer).qkv.weight.mul_(1 if scale else 0).add_(
                    scale * torch.randn(block.mixer.qkv.weight.shape)  # pyright: ignore[reportAttributeAccessIssue]
                )
        peaked, alike = collapsed_heads.overlap(run)
        if scale:
            assert peaked > 0.5
            assert 0 < alike < 0.7
        else:
            assert peaked == 0
            assert math.isnan(alike)


def test_what_a_machine_s_gradient_is_held_against_has_learned():
    names = [f"{name} {when}: reach" for name in dilution.ARMS for when in dilution.WHEN]
    figures = dict.fromkeys(names, 0.2) | {f"{stage} before": 0.5 for stage in gradients.STAGES}
    figures |= {"linear attention after: reach": 0.05, "attention after: reach": 3.0}
    figures |= {f"{name}: learned": 1.0 for name in dilution.ARMS}
    assert dilution.compared(figures)["against_linear after"] == pytest.approx(0.2 / 0.05)
    assert dilution.compared(figures)["largest_reach"] == 3.0
    figures |= {"linear attention: learned": 0.1, "attention: learned": 0.1}
    found = dilution.compared(figures)
    assert (found["against_linear after"], found["largest_reach"]) == (pytest.approx(1.0), pytest.approx(0.2))
    assert (found["linear: learned"], found["best: learned"]) == (1.0, 1.0)
    none = dilution.compared(figures | {f"{name}: learned": 0.1 for name in dilution.ARMS})
    assert math.isnan(none["largest_reach"])
    assert math.isnan(none["against_linear after"])


def test_figures_that_tell_idle_heads_from_those_that_bear():
    idle = [telling.Head(0.0, 0.9, 0.01), telling.Head(0.005, 0.8, 0.2)]
    bearing = [telling.Head(0.5, 0.1, 0.3), telling.Head(0.02, 0.2, 0.1)]
    assert telling.told([*idle, *bearing]) == {"idle": 2, "bearing": 2, "entropy": 1.0, "gradient": 0.75}
    assert math.isnan(telling.told(idle)["entropy"])


def test_a_head_whose_read_goes_nowhere_is_idle():
    run = untrained(SETTINGS["survey-telling"].heads.recipe("recall"))
    (module,) = (module for module in run.model.modules() if isinstance(module, Attention))
    with torch.no_grad():
        module.out.weight.mul_(100)
        module.out.weight[:, :8] = 0
    shut, open_ = telling.heads_of(run, 16)
    assert shut.effect == pytest.approx(0, abs=1e-7)
    assert shut.gradient == pytest.approx(0, abs=1e-7)
    assert abs(open_.effect) > 1e-3
    assert open_.gradient == pytest.approx(1)
    assert 0 < open_.entropy <= 1
    assert not any(point._forward_hooks for point in (module.read, module.addressing))


def test_a_share_that_costs_too_much_accuracy_is_no_gain():
    figures = {"free: accuracy": 1.0, "free: share": 0.1, "cheap: accuracy": 0.99, "cheap: share": 0.5}
    figures |= {"dear: accuracy": 0.9, "dear: share": 0.9}
    found = gains_of_share(figures, ["cheap", "dear"], "free")
    assert found == pytest.approx({"cheap_cost": 0.01, "cheap_gain": 0.4, "dear_cost": 0.1, "dear_gain": 0.0})


def test_branches_differ_in_their_remedies_alone():
    arms = branches.recipes(branches.SMALL)
    assert all(recipe.model == arms["base"].model and recipe.train == arms["base"].train for recipe in arms.values())
    assert [recipe.remedies for recipe in arms.values()] == [(), *((remedy,) for remedy in branches.REMEDIES.values())]


def test_a_load_makes_sequences_longer_but_not_shorter(monkeypatch: pytest.MonkeyPatch):
    seen = list[tuple[int, int]]()
    settings = SETTINGS["survey-overflow"]
    run = untrained(overflow.recipes(settings)["attention"])
    measure = overflow.held_out_losses

    def watched(model: Model, batches: list[Batch]) -> PerSequence:
        seen.append(tuple(batches[0].inputs.shape))
        return measure(model, batches)

    monkeypatch.setattr(overflow, "held_out_losses", watched)
    for load in settings.loads:
        assert 0 <= overflow.at_load(run, settings, load) <= 1
    assert seen == [(16, 16), (16, 16), (16, 32)]


def test_an_unclipped_machine_that_fails_is_known_to_have_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    settings = SETTINGS["survey-ntm-start"]
    recipe = settings.unclipped
    assert recipe.train.grad_clip is None
    assert isinstance(recipe.model, StackConfig)
    assert cast(NTMConfig, recipe.model.mixers[0]).clip is None
    assert not ntm_start.fails(settings.training, recipe, 0, tmp_path)
    hopeless = replace(recipe, name="hopeless", train=replace(recipe.train, learning_rate=1e30, warmup_steps=0))
    assert ntm_start.fails(settings.training, hopeless, 0, tmp_path)

    def refused(*given: object) -> None:
        raise AssertionError("it is not begun again")

    monkeypatch.setattr(ntm_start, "trained", refused)
    assert ntm_start.fails(settings.training, hopeless, 0, tmp_path)

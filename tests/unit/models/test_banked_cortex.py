"""A cortex and what stands beside it, as a stack that is trained, examined, folded and resumed like any other."""

from pathlib import Path

import pytest
import torch

from mnemoscope.examination import Budget
from mnemoscope.experiments.examining import examine_run
from mnemoscope.experiments.parallax.watched import cortex_states
from mnemoscope.memories import ContractiveWorkspaceConfig, EnergyBankConfig, LogAccumulatorConfig
from mnemoscope.models import (
    BankedCortexConfig,
    ExpertWorkspace,
    ExpertWorkspaceConfig,
    MixerConfig,
    StackConfig,
    beside_of,
    build,
    parse_layout,
)
from mnemoscope.models.written import write_layout
from mnemoscope.tasks import TextConfig
from mnemoscope.training import Recipe, TrainConfig, load_run, train_recipe
from tests.tolerances import FLOAT64, assert_close

BESIDE = {
    "v2": EnergyBankConfig(n_slots=6),
    "v2, bidirectional": EnergyBankConfig(n_slots=6, bidirectional=True),
    "accumulator": LogAccumulatorConfig(n_heads=2),
    "accumulator in the loop": LogAccumulatorConfig(n_heads=2, compress="loop"),
    "v3": ExpertWorkspaceConfig(n_heads=2, n_iterations=4, stop="saturation"),
}


def cortex(beside: MixerConfig | None) -> StackConfig:
    return BankedCortexConfig(vocab_size=256, d_model=16, n_heads=2, mlp_ratio=1.0, beside=beside).stack


@torch.no_grad()
def test_nothing_but_the_head_comes_after_the_fusion():
    model = build(cortex(EnergyBankConfig(n_slots=6)), 0).double()
    tokens = torch.randint(256, (2, 9))
    h, _ = model.blocks[1](model.blocks[0](model.embedding(tokens))[0])
    bank, x = model.blocks[2].mixer, model.blocks[2].mixer_norm(h)
    query = x @ bank.query.weight.T
    read = ((query @ bank.slots.T) * 16**-0.5).softmax(-1) @ bank.slots
    gate = (torch.cat([x, read], -1) @ bank.fusion.weight.T + bank.fusion.bias).sigmoid()
    expected = model.head(model.norm(h + gate * (read @ bank.out.weight.T)))
    assert_close(model(tokens), expected, FLOAT64)


def test_the_default_is_the_bank_of_128_slots_beside_two_blocks_of_64_channels():
    stack = BankedCortexConfig(vocab_size=256).stack
    assert [mixer.kind for mixer in stack.mixers] == ["attention", "attention", "energy_bank"]
    assert (stack.d_model, stack.mixers[2], stack.mlp_widths) == (64, EnergyBankConfig(n_slots=128), (256, 256, 0))


def test_the_cortex_alone_has_nothing_beside_it():
    model = build(cortex(None), 0)
    assert model.config.mlp_widths == (16, 16)
    with pytest.raises(ValueError, match="the last block alone must be without a feed-forward part, got 0 such"):
        beside_of(model)
    assert beside_of(build(cortex(BESIDE["v3"]), 0)) == "blocks.2.mixer"


@pytest.mark.parametrize("bare", [-1, 3])
def test_bare_blocks_are_blocks(bare: int):
    with pytest.raises(ValueError, match=f"stack.bare_blocks must be from 0 to the 2 blocks there are, got {bare}"):
        StackConfig(vocab_size=8, bare_blocks=bare)


@pytest.mark.parametrize("beside", BESIDE.values(), ids=BESIDE)
def test_it_is_trained_stopped_and_resumed_to_the_bit(tmp_path: Path, beside: MixerConfig):
    def recipe(steps: int) -> Recipe:
        train = TrainConfig(
            steps=4, batch_size=2, warmup_steps=0, eval_every=steps, eval_sequences=2, checkpoint_every=2, threads=1
        )
        return Recipe(name="cortex", model=cortex(beside), task=TextConfig(length=12), train=train)

    train_recipe(recipe(4), tmp_path / "whole", progress=False)
    stop_at_two(recipe(4), tmp_path / "cut")
    train_recipe(recipe(4), tmp_path / "cut", resume=True, progress=False)
    whole, cut = (load_run(tmp_path / name).model.state_dict() for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


class Stops:
    """Interrupts after two steps."""

    name = "stops"

    def after_step(self, moment: object) -> dict[str, float]:
        if getattr(moment, "step", 0) == 2:
            raise KeyboardInterrupt
        return {}

    def state(self) -> dict[str, torch.Tensor]:
        return {}

    def set_state(self, state: object) -> None: ...


def stop_at_two(recipe: Recipe, folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_recipe(recipe, folder, progress=False, callbacks=(Stops(),))


def test_what_stands_beside_is_the_only_memory_that_is_examined(tmp_path: Path):
    train = TrainConfig(steps=2, batch_size=2, warmup_steps=0, eval_every=2, eval_sequences=2, threads=1)
    task = TextConfig(length=8)
    train_recipe(Recipe(name="cortex", model=cortex(BESIDE["v2"]), task=task, train=train), tmp_path, progress=False)
    budget = Budget(
        n_calibration=8, n_test=8, looks=1, fit_steps=1, joint_fit_steps=1, windows=(), untrained_copy=False,
        contribution=False, n_resamples=200,
    )  # fmt: skip
    assert [site.module for site in examine_run(tmp_path, budget).sites] == ["EnergyBank"]


def test_a_workspace_of_experts_is_written_as_a_layout():
    config = ExpertWorkspaceConfig(update_every=4, n_iterations=8)
    assert parse_layout(write_layout([config])) == (config,)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"update_every": 0}, "expert_workspace.update_every must be at least 1 token, got 0"),
        ({"n_waves": 0}, "expert_workspace.n_waves must be at least 1, got 0"),
        ({"rho": 1.0}, "workspace.rho must be between 0 and 1"),
        ({"d_state": 0}, "mamba.d_state must be at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(bad: dict[str, int], says: str):
    with pytest.raises(ValueError, match=says):
        ExpertWorkspaceConfig(**bad)  # pyright: ignore[reportArgumentType]


@torch.no_grad()
def test_the_order_of_the_proposals_does_not_matter_and_all_four_do():
    torch.manual_seed(0)
    workspace = ExpertWorkspace(ExpertWorkspaceConfig(n_heads=2, n_iterations=5), 16).double()
    x = torch.randn(1, 7, 16, dtype=torch.float64)
    whole = workspace(x)[0]
    for path in ("attention.qkv", "scan.out", "net_out", "wave"):
        weight = workspace.get_submodule(path).weight
        kept = weight.clone()
        weight.zero_()
        assert (workspace(x)[0] - whole).abs().max() > 1e-3, path
        weight.copy_(kept)
    assert_close(workspace(x)[0], whole, FLOAT64)


@torch.no_grad()
def test_between_two_updates_the_workspace_stays():
    torch.manual_seed(0)
    workspace = ExpertWorkspace(ExpertWorkspaceConfig(n_heads=2, n_iterations=5, update_every=3), 16).double()
    every = ExpertWorkspace(ExpertWorkspaceConfig(n_heads=2, n_iterations=5), 16).double()
    every.load_state_dict(workspace.state_dict())
    x = torch.randn(2, 8, 16, dtype=torch.float64)
    y, at_each = workspace(x)[0], every(x)[0]
    assert not y[:, :2].any()
    assert_close(y[:, 2:], at_each[:, [2, 2, 2, 5, 5, 5]], FLOAT64)


WORKSPACES = {"experts": ExpertWorkspaceConfig, "attention alone": ContractiveWorkspaceConfig}


@pytest.mark.parametrize(("rho", "step_size"), [(0.9, 1.0), (0.8, 0.5)])
@pytest.mark.parametrize("kind", WORKSPACES)
@torch.no_grad()
def test_no_pair_of_states_of_a_model_beats_the_certificate(kind: str, rho: float, step_size: float):
    """Ten thousand draws: ten matrices, each pushed by what a cortex says of ten texts of a hundred tokens.

    Half of the matrices are symmetric. States lie at sizes from 0.01 to 100 and apart by as much, a third of them the
    way the matrix stretches most. Of the map alone: tests/unit/ops/test_contraction.py.
    """
    model = build(cortex(WORKSPACES[kind](n_heads=2, rho=rho, step_size=step_size)), 0).double()
    workspace, drawn = model.get_submodule(beside_of(model)), torch.Generator().manual_seed(1)
    workspace.push.bias.zero_()
    largest, q = 0.0, workspace.certificate()
    for n in range(10):
        matrix = torch.randn(16, 16, generator=drawn)
        workspace.weight.copy_(matrix @ matrix.T if n % 2 else matrix)
        states = model.blocks[2].mixer_norm(cortex_states(model, torch.randint(256, (10, 100), generator=drawn)))
        sizes = 10 ** torch.randn(3, 10, 100, 1, generator=drawn, dtype=torch.float64).clamp(-2, 2)
        z, apart = torch.randn(2, 10, 100, 16, generator=drawn, dtype=torch.float64)
        apart[:, ::3] = torch.linalg.svd(workspace.weight).Vh[0]
        step, z, other = workspace.inner_map(sizes[0] * states), sizes[1] * z, sizes[1] * z + sizes[2] * apart
        ratios = (step(z) - step(other)).norm(dim=-1) / (z - other).norm(dim=-1)
        largest = max(largest, float(ratios.max()))
    assert q - 0.1 < largest <= q + 1e-9, "near its bound, and never above"


@pytest.mark.parametrize("kind", WORKSPACES)
def test_implicit_gradients_of_a_model_are_those_of_all_steps(kind: str):
    """Of every parameter, within 1e-6 of backpropagation through 60 steps, by 30 products, rho**31 being 5e-10.

    With a rho of 0.9 thirty products may leave out more; `ImplicitStep` has the bound.
    """
    tokens, found = torch.randint(256, (2, 9), generator=torch.Generator().manual_seed(0)), {}
    for gradient in ("unroll", "implicit", "one_live"):
        beside = WORKSPACES[kind](n_heads=2, n_iterations=60, rho=0.5, gradient=gradient)
        model = build(cortex(beside), 0).double()
        torch.nn.functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()).backward()
        found[gradient] = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
    assert {"blocks.2.mixer.weight", "blocks.2.mixer.push.weight", "embedding.weight"} <= found["implicit"].keys()
    for name, exact in found["unroll"].items():
        assert (found["implicit"][name] - exact).abs().max() < 1e-6, name
    assert any((found["one_live"][name] - exact).abs().max() > 1e-4 for name, exact in found["unroll"].items())


def test_fixed_slots_stay_as_they_were_drawn():
    model = build(cortex(EnergyBankConfig(n_slots=6, fixed=True)), 0)
    bank, x = model.blocks[2].mixer, torch.randn(2, 4, 16)
    assert not bank.slots.requires_grad
    assert not bank.auxiliary_loss(x).requires_grad


def test_the_histories_of_a_workspace_of_experts_can_be_cut():
    """The examination does so to every memory, the scan within the workspace included."""
    model = build(cortex(BESIDE["v3"]), 0)
    tokens, seen = torch.randint(256, (2, 8)), list[object]()
    scan = model.get_submodule(beside_of(model)).scan
    scan.register_forward_hook(lambda _module, arguments, _output: seen.append(arguments[1:]))
    _, state = model.step(tokens[:, 0], model.init_state(2))
    model.step(tokens[:, 1], state)
    model(tokens)
    assert seen[0] == seen[2] == (None,), "nothing was there before"
    assert seen[1] != (None,)

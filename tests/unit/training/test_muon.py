from copy import deepcopy

import pytest
import torch
from torch import nn

from mnemoscope.models import StackConfig, build
from mnemoscope.ops.newton_schulz import newton_schulz_naive
from mnemoscope.training import TrainConfig, build_optimiser
from tests.unit.training.small import SmallModel, small_model

MUON = TrainConfig(optimiser="muon", learning_rate=0.1, weight_decay=0.5, beta1=0.8, beta2=0.9)


class Zoo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.small = SmallModel()  # its head is tied to its embedding
        self.mixer = nn.Linear(4, 6)
        self.tied_to_mixer = nn.Linear(4, 6, bias=False)
        self.tied_to_mixer.weight = self.mixer.weight
        self.convolution = nn.Conv1d(4, 4, 3)
        self.rates = nn.Parameter(torch.ones(4, 4))
        self.embedding = nn.Linear(3, 4)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.head = nn.Linear(4, 9, bias=False)


def test_which_parameter_goes_where():
    hidden, decayed, spared = build_optimiser(Zoo(), MUON).param_groups
    assert hidden["param_names"] == ["small.hidden.weight", "mixer.weight"]
    assert (hidden["weight_decay"], hidden["momentum"], hidden["adjust_lr_fn"]) == (0.5, 0.95, "match_rms_adamw")
    assert decayed["param_names"] == ["rates", "convolution.weight", "head.weight"]
    assert (decayed["weight_decay"], decayed["betas"]) == (0.5, (0.8, 0.9))
    assert set(spared["param_names"]) == {
        "small.embedding.weight",
        "small.hidden.bias",
        "small.norm.weight",
        "small.norm.bias",
        "mixer.bias",
        "convolution.bias",
        "embedding.weight",
        "embedding.bias",
    }
    assert (spared["weight_decay"], spared["betas"]) == (0.0, (0.8, 0.9))


def test_of_a_stack_the_mixers_are_hidden_and_its_ends_are_not():
    model = build(StackConfig.of("attention, gated_delta", vocab_size=16, d_model=32), seed=0)
    hidden = set(build_optimiser(model, MUON).param_groups[0]["param_names"])
    linear = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    assert hidden == linear - {"head.weight"}
    assert len(hidden) >= 4


def test_a_head_that_is_tied_to_a_hidden_matrix_is_not_muons():
    model = nn.ModuleDict({"inner": nn.Linear(4, 4), "head": nn.Linear(4, 4), "other": nn.Linear(4, 4)})
    model["inner"].weight = model["head"].weight
    assert build_optimiser(model, MUON).param_groups[0]["param_names"] == ["other.weight"]


def test_the_step_is_the_nearest_matrix_with_equal_singular_values():
    """Against the polynomial on the singular values: W - lr decay W - lr 0.2 sqrt(6) NS(G); AdamW beside it."""
    model = nn.ModuleDict({"mixer": nn.Linear(4, 6)})
    weight, bias = (p.detach().clone() for p in model["mixer"].parameters())
    optimiser = build_optimiser(model, MUON)
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(6, 4, generator=generator)
    model["mixer"].weight.grad, model["mixer"].bias.grad = gradient.clone(), torch.ones(6)
    optimiser.step()
    expected = 0.95 * weight - 0.1 * 0.2 * 6**0.5 * newton_schulz_naive(gradient, 5)
    torch.testing.assert_close(model["mixer"].weight.detach(), expected, rtol=0, atol=0.1 * 0.2 * 6**0.5 * 0.02)
    torch.testing.assert_close(model["mixer"].bias.detach(), bias - 0.1)


def test_state_and_groups_survive_saving():
    ours, theirs = small_model(), small_model()
    first, second = build_optimiser(ours, MUON), build_optimiser(theirs, MUON)
    _step(ours, first, 3)
    theirs.load_state_dict(ours.state_dict())
    second.load_state_dict(deepcopy(first.state_dict()))
    for optimiser in (first, second):
        for group in optimiser.param_groups:
            group["lr"] = 0.02
    _step(ours, first, 2)
    _step(theirs, second, 2)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)
    kinds = {frozenset(state) for state in second.state_dict()["state"].values()}
    assert kinds == {frozenset({"momentum_buffer"}), frozenset({"step", "exp_avg", "exp_avg_sq"})}


def test_nothing_for_muon_is_refused():
    model = nn.ModuleDict({"embedding": nn.Embedding(3, 4), "head": nn.Linear(4, 3)})
    with pytest.raises(ValueError, match=r"TrainConfig\.optimiser: 'muon' needs a hidden matrix"):
        build_optimiser(model, MUON)


def _step(model: nn.Module, optimiser: torch.optim.Optimizer, n: int) -> None:
    for i in range(n):
        generator = torch.Generator().manual_seed(i)
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=generator)
        optimiser.step()

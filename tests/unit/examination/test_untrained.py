"""The untrained copy: fresh parameters, a model left alone, the verdict's predicate, and the floor of the probe."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from mnemoscope.contracts import Batch
from mnemoscope.examination import Budget, examine
from mnemoscope.examination.planning import plan
from mnemoscope.examination.protocol import controls as room
from mnemoscope.examination.subject.fresh import cannot_copy, fresh_copy
from mnemoscope.experiments.planted import KINDS
from mnemoscope.experiments.planted import sites as planted
from mnemoscope.models import StackConfig, build
from mnemoscope.runs.examination import ControlRecord, Examination
from tests.unit.examination.any_models import TINY, batches


class Bag(nn.Module):
    """A module of its own making beside ones that torch can reset."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(40, 50)
        self.norm = nn.LayerNorm(50)
        self.own = nn.Parameter(3 + 2 * torch.randn(4000, generator=torch.Generator().manual_seed(0)))
        self.number = nn.Parameter(torch.tensor(7.0))
        with torch.no_grad():
            self.linear.weight.fill_(9.0)
            self.norm.weight.fill_(5.0)
        self.tied = self.linear


def test_parameters_are_fresh_and_the_model_is_left_alone():
    model = Bag()
    before, rng = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    fresh = fresh_copy(model, seed=0)
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert fresh.said.startswith("4 of 6 parameters by the model's own initialisers, 2 redrawn")
    copied: Any = fresh.model
    assert copied.linear.weight.abs().max() <= 40**-0.5
    assert torch.equal(copied.norm.weight, torch.ones(50))
    assert copied.tied is copied.linear
    own = copied.own.detach()
    assert not torch.equal(own, model.own)
    assert abs(float(own.mean()) - 3) < 0.2
    assert abs(float(own.std()) - 2) < 0.2
    assert abs(float(torch.corrcoef(torch.stack([own, model.own.detach()]))[0, 1])) < 0.1
    assert copied.number.item() == 7.0
    again = fresh_copy(model, seed=0).model
    assert again is not None
    assert all(map(torch.equal, copied.parameters(), again.parameters()))


def test_an_initialiser_that_fails_leaves_its_parameters_to_be_redrawn():
    class Demanding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.arange(100.0))

        def reset_parameters(self, scale: float) -> None:
            nn.init.normal_(self.weight, std=scale)

    fresh = fresh_copy(Demanding(), 0)
    assert fresh.said.startswith("0 of 1")


def test_hugging_face_models_draw_their_own(monkeypatch: pytest.MonkeyPatch):
    config = GPT2Config(vocab_size=60, n_embd=32, n_layer=1, n_head=2, n_positions=16)
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.5)
            parameter._is_hf_initialized = True
    fresh = fresh_copy(model, 0)
    assert fresh.model is not None
    table = fresh.model.get_parameter("transformer.wte.weight")
    assert abs(table.std().item() - config.initializer_range) < 0.003
    assert torch.equal(fresh.model.get_parameter("transformer.h.0.ln_1.weight"), torch.ones(32))
    n = len(list(model.parameters()))
    assert fresh.said.startswith(f"{n} of {n} ")


def _hooked() -> nn.Module:
    model = nn.Linear(2, 2)
    model._hf_hook = object()  # pyright: ignore[reportArgumentType]
    return model


def _quantised() -> nn.Module:
    model = nn.Module()
    model.weight = nn.Parameter(torch.zeros(2, dtype=torch.int8), requires_grad=False)
    return model


def _replaced() -> nn.Module:
    model = nn.Linear(2, 2)
    original = model.forward
    model.forward = lambda input: original(input)
    return model


@pytest.mark.parametrize(
    ("build_model", "why"),
    [
        (nn.Identity, "no parameters"),
        (_hooked, "device map"),
        (_quantised, "quantised"),
        (lambda: nn.Linear(2, 2, device="meta"), "not all in memory"),
        (_replaced, "replaced on the instance"),
    ],
)
def test_what_cannot_be_copied_is_said(build_model: Any, why: str):
    model = build_model()
    assert why in (cannot_copy(model) or "")
    fresh = fresh_copy(model, 0)
    assert fresh.model is None
    assert why in fresh.said


def test_a_copy_that_fails_is_a_sentence():
    class Unwilling(nn.Linear):
        def __deepcopy__(self, memo: Any) -> Any:
            raise MemoryError

    assert fresh_copy(Unwilling(2, 2), 0).said == "the model cannot be copied: MemoryError"


def _stack() -> nn.Module:
    return build(StackConfig.of("attention, gated_delta", vocab_size=16, d_model=8), seed=0)


def _data() -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    return [Batch(inputs=rows, targets=rows.flip(1)) for rows in torch.randint(16, (6, 8, 12), generator=generator)]


def _control(examination: Examination) -> ControlRecord:
    (found,) = (control for control in examination.controls if control.name == "untrained copy")
    return found


def test_every_examination_has_the_arm_and_the_floor():
    model = _stack()
    before = copy.deepcopy(model.state_dict())
    examination = examine(model, _data(), budget=TINY)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    control = _control(examination)
    assert control.passed
    assert "untrained, as it must be" in control.seen
    (site,) = examination.sites
    assert site.probe is not None
    assert site.probe.untrained is not None
    assert site.probe.above_untrained is not None
    above = site.probe.gain.value - site.probe.untrained.value
    assert site.probe.above_untrained.value == pytest.approx(above, abs=1e-9)
    assert site.probe.stored is site.probe.above_untrained
    named = [control for control in examination.controls if control.name == f"untrained copy, {site.name}"]
    assert str(site.probe.untrained) in named[0].seen


@pytest.mark.long
def test_what_an_untrained_copy_holds_as_well_is_not_stored(monkeypatch: pytest.MonkeyPatch):
    """A memory that recalls without any training: its read holds the answer, and nobody taught it to."""
    trained = KINDS["G10"].examine(0).sites[0]
    for kind in (planted.Site, planted.WindowedSite):
        monkeypatch.setattr(kind, "reset_parameters", lambda self: self.out.reset_parameters())
    born = KINDS["G10"].examine(0).sites[0]
    assert trained.probe is not None
    assert born.probe is not None
    assert trained.probe.gain == born.probe.gain
    assert born.probe.stored.low <= 0 < trained.probe.stored.low
    assert [any("stored, not used" in flag for flag in site.flags) for site in (trained, born)] == [True, False]


def test_the_arm_can_be_left_out():
    examination = examine(_stack(), _data(), budget=Budget(**{**vars(TINY), "untrained_copy": False}))
    assert _control(examination).seen == "skipped: budget.untrained_copy is off"
    probe = examination.sites[0].probe
    assert probe is not None
    assert probe.untrained is None
    assert probe.stored is probe.gain


def test_a_copy_that_beats_every_constant_fails_the_arm():
    class Copying(nn.Module):
        """Says that the token comes again, whatever its one parameter is; the data do so."""

        def __init__(self) -> None:
            super().__init__()
            self.memory = nn.Linear(5, 5)

        def forward(self, tokens: Tensor) -> Tensor:
            seen = nn.functional.one_hot(tokens, 5).float()
            return 4 * seen + self.memory(seen)

    data = [Batch(inputs=batch.inputs % 5, targets=batch.inputs % 5) for batch in batches()]
    examination = examine(Copying(), data, sites=["memory"], budget=TINY)
    control = _control(examination)
    assert not control.passed
    assert "though nothing trained it" in control.seen
    assert any("control untrained copy failed" in warning for warning in examination.warnings)


@pytest.mark.long
def test_a_loss_that_knows_no_constant_is_not_judged():
    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return model(batch.inputs).square().mean((1, 2))

    control = _control(examine(_stack(), _data(), loss=loss, budget=TINY))
    assert control.passed
    assert "so it is not judged" in control.seen


@pytest.mark.long
def test_a_loss_that_runs_another_model_is_noticed():
    model = _stack()
    bound = model.forward

    def loss(_: nn.Module, batch: Batch) -> Tensor:
        return model(batch.inputs).square().mean((1, 2))

    assert bound is not None
    assert (
        "skipped: the copy's losses are the model's own"
        in _control(examine(model, _data(), loss=loss, budget=TINY)).seen
    )


def test_a_copy_whose_loss_is_not_finite_is_no_control(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(room, "_losses", lambda fresh, batches: torch.tensor([torch.nan]))
    assert "skipped: the copy's loss is not finite" in _control(examine(_stack(), _data(), budget=TINY)).seen


@pytest.mark.long
def test_the_dry_run_counts_the_copy():
    model = _stack()
    planned = plan(model, _data(), budget=TINY)
    assert planned.copy_bytes == planned.model_bytes
    assert planned.n_bytes == 2 * planned.model_bytes + planned.cache_bytes + planned.pass_bytes
    without = plan(model, _data(), budget=Budget(**{**vars(TINY), "untrained_copy": False}))
    assert without.copy_bytes == 0
    assert "off" in without.no_copy

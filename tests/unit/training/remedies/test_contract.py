"""What holds for every remedy: it attaches to unlike models, acts in training only, and leaves nothing behind."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.training.remedies import REMEDIES, Computed, RemedyConfig, Treatment, treated
from tests.unit.training.remedies.cases import CASES
from tests.unit.training.remedies.models import VOCAB, Hybrid, stack

STEPS = 2


@dataclass(frozen=True, kw_only=True)
class _Untreated(RemedyConfig):
    """A remedy that does nothing."""

    def attach(self, model: nn.Module) -> Treatment:
        return Treatment(self)


def _models() -> list[tuple[str, str]]:
    return [(name, where) for name, case in CASES.items() for where in ("stack", "hybrid") if getattr(case, where)]


@pytest.fixture(params=_models(), ids="-".join)
def treated_case(request: pytest.FixtureRequest) -> tuple[nn.Module, RemedyConfig]:
    name, where = request.param
    case = CASES[name]
    return (stack(case.layout) if where == "stack" else Hybrid()), getattr(case, where)


def _data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randint(0, VOCAB, (3, 20), generator=generator)
    return inputs, torch.randint(0, VOCAB, (3, 20), generator=generator)


def _loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    logits = model(inputs)
    return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def _train(model: nn.Module, treatment: Treatment | None, steps: int = STEPS) -> list[float]:
    """Two steps of SGD over the model's and the treatment's parameters; the losses beside the task."""
    inputs, targets = _data()
    treatment = treatment or _Untreated().attach(model)
    optimiser = torch.optim.SGD([*model.parameters(), *treatment.parameters()], lr=1e-2)
    extras: list[float] = []
    model.train()
    for step in range(1, steps + 1):
        treatment.on_step(step, steps)
        rng = torch.get_rng_state()
        logits, loss = _loss(model, inputs, targets)

        def again(rng: Tensor = rng) -> Tensor:
            with torch.random.fork_rng(devices=[]):
                torch.set_rng_state(rng)
                return _loss(model, inputs, targets)[1]

        computed = Computed(inputs=inputs, targets=targets, logits=logits, loss=loss, again=again)
        extra = treatment.extra_loss(computed)
        optimiser.zero_grad()
        (loss if extra is None else loss + extra).backward()
        optimiser.step()
        treatment.after_step(computed)
        extras.append(0.0 if extra is None else extra.item())
    return extras


def _structure(model: nn.Module) -> dict[str, object]:
    """Modules by path and identity, parameters by identity, hooks by module, and forward methods set on instances."""
    return {
        "modules": {path: id(module) for path, module in model.named_modules()},
        "parameters": {name: id(parameter) for name, parameter in model.named_parameters()},
        "requires_grad": {name: parameter.requires_grad for name, parameter in model.named_parameters()},
        "buffers": sorted(name for name, _ in model.named_buffers()),
        "hooks": {
            path: [len(getattr(module, kind)) for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")]
            for path, module in model.named_modules()
        },
        "parameter_hooks": {name: len(p._backward_hooks or {}) for name, p in model.named_parameters()},
        "instance_attributes": {path: sorted(vars(module)) for path, module in model.named_modules()},
    }


def test_every_remedy_has_a_case() -> None:
    assert sorted(CASES) == sorted(REMEDIES) == list(REMEDIES)
    assert all(issubclass(config, RemedyConfig) and config.__doc__ for config in REMEDIES.values())


def test_a_remedy_trains_and_leaves_the_model_as_it_was(treated_case: tuple[nn.Module, RemedyConfig]) -> None:
    model, remedy = treated_case
    before = _structure(model)
    with treated(model, (remedy,)) as (treatment,):
        extras = _train(model, treatment)
        assert all(map(torch.isfinite, map(torch.tensor, extras)))
        assert all(isinstance(value, float) for value in treatment.figures().values())
    assert _structure(model) == before


def test_a_remedy_does_nothing_in_evaluation(treated_case: tuple[nn.Module, RemedyConfig]) -> None:
    model, remedy = treated_case
    inputs, _ = _data()
    with treated(model, (remedy,)) as (treatment,):
        _train(model, treatment)
        treatment.on_step(1, STEPS)
        model.eval()
        with torch.no_grad():
            during = model(inputs)
    with torch.no_grad():
        torch.testing.assert_close(model(inputs), during, rtol=0, atol=0)


def test_a_treatment_goes_on_from_its_state(treated_case: tuple[nn.Module, RemedyConfig]) -> None:
    model, remedy = treated_case
    with treated(model, (remedy,)) as (treatment,):
        _train(model, treatment)
        state = {name: value.clone() for name, value in treatment.state_dict().items()}
    with treated(model, (remedy,)) as (other,):
        other.load_state_dict(state)
        assert all(torch.equal(value, other.state_dict()[name]) for name, value in state.items())


def test_a_remedy_changes_what_is_learned(treated_case: tuple[nn.Module, RemedyConfig]) -> None:
    model, remedy = treated_case
    start = {name: value.clone() for name, value in model.state_dict().items()}
    with treated(model, (remedy,)) as (treatment,):
        _train(model, treatment)
    with_remedy = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(start)
    torch.manual_seed(0)
    _train(model, None)
    assert any(not torch.equal(value, with_remedy[name]) for name, value in model.state_dict().items())

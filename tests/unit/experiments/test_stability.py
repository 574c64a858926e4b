from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from mnemoscope.experiments.grokking.full_batches import Curve
from mnemoscope.experiments.reproducing import Experiment
from mnemoscope.experiments.stability import GROKKED, PERPGRAD, STRENGTHS, WEIGHT_DECAY, Addition, learned
from mnemoscope.tasks.modular_arithmetic import ModularArithmetic, ModularArithmeticConfig

SMALL = Addition(
    epochs=100,
    weight_decays=(0.0, 0.0),
    strengths=(1.0, 0.0),
    rescales=(True, False),
    modulus=47,
    train_fraction=0.6,
    width=128,
)


def test_perpgrad_generalises_where_adamw_does_not():
    """At a size that takes seconds; chance is 1 / 47."""
    orthogonal, plain = (learned(SMALL, arm, 0) for arm in (0, 1))
    assert orthogonal.epochs == [25, 50, 75, 100]
    assert plain.train[-1] == orthogonal.train[-1] == 1.0
    assert orthogonal.test[-1] > 0.95
    assert plain.test[-1] < 0.02


def test_adamw_alone_is_adamw():
    """Against a loop of its own over the equations of the task, and other seeds give other curves."""
    settings = replace(SMALL, modulus=11, width=8, epochs=20, every=5)
    task = ModularArithmetic(ModularArithmeticConfig(modulus=11, train_fraction=0.6, split_seed=3))
    found = learned(settings, 1, 3)
    assert learned(settings, 1, 3) == found
    assert replace(found, collapsed=(), dimension=()) == Curve(**_by_hand(task, seed=3))
    assert learned(settings, 1, 4) != found
    decayed = replace(settings, weight_decays=(0.0, 1.0))
    assert learned(decayed, 1, 3) != found


def test_when_it_is_said_to_have_grokked():
    curve = Curve(epochs=[25, 50, 75], train=[1.0, 1.0, 1.0], test=[0.2, 0.99, 0.98])
    assert curve.since(GROKKED, curve.test) == 50.0
    assert curve.at(75, curve.test) == 0.98
    assert curve.since(GROKKED, [0.2, 0.3, 0.98]) == torch.inf


@pytest.mark.parametrize("experiment", [PERPGRAD, WEIGHT_DECAY, STRENGTHS])
def test_every_claim_is_measured(experiment: Experiment[Addition]):
    settings = experiment.sizes["small"]
    measured = experiment.measure(replace(settings, modulus=11, width=4, epochs=200, every=100), 0)
    assert {claim.figure for claim in experiment.claims} == measured.figures.keys()
    assert len(measured.series) == 1 + 2 * len(settings.strengths)
    assert len({len(values) for values in measured.series.values()}) == 1


def test_the_published_settings():
    for experiment in (PERPGRAD, WEIGHT_DECAY, STRENGTHS):
        settings = experiment.sizes["small"]
        assert (settings.modulus, settings.train_fraction, settings.width) == (113, 0.4, 200)
        assert (settings.learning_rate, settings.betas, settings.eps) == (0.01, (0.9, 0.99), 1e-25)
    with pytest.raises(ValueError, match="one for each arm"):
        replace(SMALL, strengths=(1.0,))
    with pytest.raises(ValueError, match=r"Addition\.every: must divide epochs = 100, got 30"):
        replace(SMALL, every=30)


def _by_hand(task: ModularArithmetic, seed: int) -> dict[str, list[float]]:
    shown = torch.from_numpy(task.equations("train"))
    hidden = torch.cat([torch.from_numpy(task.equations(split)) for split in ("validation", "test")])
    assert len(shown) + len(hidden) == 121
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        weights = [torch.nn.Linear(n, m, bias=False).weight for n, m in ((22, 8), (8, 8), (8, 11))]

    def logits(rows: torch.Tensor) -> torch.Tensor:
        a, b = (F.one_hot(rows[:, i], 11).float() for i in (0, 1))
        x = torch.cat([a, b], dim=1)
        return ((x @ weights[0].T).relu() @ weights[1].T).relu() @ weights[2].T

    def right(rows: torch.Tensor) -> float:
        return (logits(rows).argmax(1) == rows[:, 2]).double().mean().item()

    optimiser = torch.optim.AdamW(weights, lr=0.01, betas=(0.9, 0.99), eps=1e-25, weight_decay=0.0, fused=True)
    train, test = [], []
    for epoch in range(1, 21):
        optimiser.zero_grad()
        F.cross_entropy(logits(shown), shown[:, 2]).backward()
        optimiser.step()
        if epoch % 5 == 0:
            train.append(right(shown))
            test.append(right(hidden))
    return {"epochs": [5, 10, 15, 20], "train": train, "test": test}

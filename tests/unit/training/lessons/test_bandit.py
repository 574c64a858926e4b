import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnemoscope.training.batches import draw
from mnemoscope.training.lessons import Bandit
from mnemoscope.training.lessons.bandit import BanditLesson, Exp3S, Reservoir
from tests.unit.training.lessons.courses import RECALL, course, stack

ARMS = (replace(RECALL, n_pairs=1), RECALL)


def test_two_updates_by_hand():
    # First alpha = 1: each arm has what the other was moved to. p = (1/2, 1/2), so the drawn one moves by 0.1 * 1 / p.
    first = Exp3S(w=np.zeros(2)).updated(0, 1.0, eta=0.1, beta=0.0, eps=0.5)
    np.testing.assert_allclose(first.w, [0.0, 0.2], atol=1e-15)
    # Then alpha = 1/2: with two arms both get the mean. p_1 = 1/2 e^.2 / (1 + e^.2) + 1/4.
    p = 0.5 * math.exp(0.2) / (1 + math.exp(0.2)) + 0.25
    np.testing.assert_allclose(first.policy(0.5), [1 - p, p], atol=1e-15)
    second = first.updated(1, -1.0, eta=0.1, beta=0.0, eps=0.5)
    mean = math.log(0.5 * 1 + 0.5 * math.exp(0.2 - 0.1 / p))
    np.testing.assert_allclose(second.w, [mean, mean], atol=1e-15)
    assert second.n_updates == 2


@given(
    w=st.lists(st.floats(-5, 5), min_size=2, max_size=5),
    arm=st.integers(0, 1),
    reward=st.floats(-1, 1),
    beta=st.floats(0, 0.5),
    n_updates=st.integers(0, 50),
)
def test_an_update_is_that_of_the_paper(w: list[float], arm: int, reward: float, beta: float, n_updates: int):
    n, eta, eps, alpha = len(w), 0.3, 0.05, 1 / (n_updates + 1)
    total = sum(math.exp(each) for each in w)
    policy = [(1 - eps) * math.exp(each) / total + eps / n for each in w]
    moved = [w[i] + eta * ((reward if i == arm else 0.0) + beta) / policy[i] for i in range(n)]
    wanted = [
        math.log(
            (1 - alpha) * math.exp(moved[i]) + alpha / (n - 1) * sum(math.exp(moved[j]) for j in range(n) if j != i)
        )
        for i in range(n)
    ]
    before = Exp3S(w=np.array(w), n_updates=n_updates)
    np.testing.assert_allclose(before.policy(eps), policy, rtol=1e-12)
    np.testing.assert_allclose(before.updated(arm, reward, eta=eta, beta=beta, eps=eps).w, wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_the_arm_that_is_rewarded_and_the_next_one(seed: int):
    rng, bandit = np.random.default_rng(seed), Exp3S(w=np.zeros(4))
    for good in (2, 0):
        for _ in range(3000):
            arm = int(rng.choice(4, p=bandit.policy(0.05)))
            bandit = bandit.updated(arm, 1.0 if arm == good else -1.0, eta=0.01, beta=0.0, eps=0.05)
        assert bandit.policy(0.05)[good] > 0.9


def test_quantiles_by_hand():
    gains = Reservoir(kept=np.arange(11.0), size=11, n_seen=11)  # 20 % at 2, 80 % at 8
    assert [gains.rescaled(value) for value in (-4, 2, 5, 6.5, 8, 90)] == pytest.approx([-1, -1, 0, 0.5, 1, 1])
    assert Reservoir(kept=np.zeros(0), size=3).rescaled(7.0) == 0
    same = Reservoir(kept=np.ones(4), size=4, n_seen=4)
    assert [same.rescaled(value) for value in (0.0, 1.0, 2.0)] == [-1, 0, 1]


def test_the_reservoir_is_a_uniform_sample():
    counts = np.zeros(8)
    for trial in range(2000):
        reservoir = Reservoir(kept=np.zeros(0), size=3)
        for value in range(8):
            reservoir = reservoir.with_value(value, np.random.default_rng([trial, value]))
        assert (len(reservoir.kept), reservoir.n_seen) == (3, 8)
        counts[reservoir.kept.astype(int)] += 1
    assert np.abs(counts / 2000 - 3 / 8).max() < 4 * math.sqrt(3 / 8 * 5 / 8 / 2000)


def begun(settings: Bandit) -> BanditLesson:
    return settings.begin(course(stack("linear_attention(n_heads=2)"), steps=1000, batch_size=2))


def test_a_gain_is_what_the_step_brought_a_sequence_by_its_tokens():
    lesson = begun(Bandit(arms=ARMS))
    computed = lesson.forward(1)
    before = computed.loss.item()
    computed.loss.backward()
    with torch.no_grad():
        for parameter in lesson.course.model.parameters():
            parameter -= 0.0 if parameter.grad is None else 0.1 * parameter.grad
        after = torch.nn.functional.cross_entropy(
            lesson.course.model(computed.inputs).flatten(0, 1), computed.targets.flatten()
        ).item()
    lesson.after_step(computed)
    n_pairs = computed.inputs.shape[1] // 3
    figures = lesson.figures(computed)
    assert figures["lesson.gain"] == pytest.approx((before - after) * n_pairs / (3 * n_pairs), rel=1e-9)
    assert figures["lesson.gain"] > 0
    assert figures["lesson.reward"] == 0
    assert figures["lesson.policy.0"] == figures["lesson.policy.1"] == 0.5


def test_a_step_trains_on_the_arm_and_finds_the_one_that_teaches():
    lesson = begun(Bandit(arms=ARMS, eta=0.1, reservoir=50))
    drawn = [0, 0]
    for step in range(1, 151):
        computed = lesson.forward(step)
        arm = int(computed.inputs.shape[1] == 9)
        drawn[arm] += 1
        inputs, _ = draw(lesson.tasks[arm], lesson.course.config.seed, "train", step, 2)
        assert torch.equal(computed.inputs, inputs)
        lesson.after_step(replace(computed, again=lambda arm=arm, loss=computed.loss: loss - 0.1 * arm))
    assert lesson.bandit.policy(0.05)[1] > 0.8  # once most gains that are kept are its own, it is rewarded less
    assert drawn[1] > 100


def test_the_state_makes_a_lesson_go_on():
    ours, theirs = begun(Bandit(arms=ARMS, eta=0.5, reservoir=3)), begun(Bandit(arms=ARMS, eta=0.5, reservoir=3))
    for step in range(1, 9):
        computed = ours.forward(step)
        ours.after_step(replace(computed, again=lambda step=step, loss=computed.loss: loss - step % 3))
    theirs.set_state({name: tensor.clone() for name, tensor in ours.state().items()})
    for step in range(9, 20):
        for lesson in (ours, theirs):
            computed = lesson.forward(step)
            lesson.after_step(replace(computed, again=lambda step=step, loss=computed.loss: loss - step % 3))
    assert ours.bandit.w.tolist() == theirs.bandit.w.tolist()
    assert ours.gains.kept.tolist() == theirs.gains.kept.tolist()
    assert (theirs.bandit.n_updates, theirs.gains.n_seen) == (19, 19)
    with pytest.raises(ValueError, match="resume the run's own lesson"):
        theirs.set_state({})
    three = begun(Bandit(arms=(*ARMS, RECALL)))
    with pytest.raises(ValueError, match="of 3 arms"):
        three.set_state(ours.state())


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"Bandit.arms: must be at least 2, got 1"):
        Bandit(arms=ARMS[:1])
    with pytest.raises(ValueError, match=r"Bandit.reservoir: must be at least 2, got 1"):
        Bandit(arms=ARMS, reservoir=1)
    with pytest.raises(ValueError, match=r"Bandit.eps: must be in \(0, 1\]"):
        Bandit(arms=ARMS, eps=0.0)
    with pytest.raises(ValueError, match=r"Bandit.eta, .beta: must be finite"):
        Bandit(arms=ARMS, eta=0.0)

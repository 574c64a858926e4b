"""Bandit curriculum: the task of every step is chosen by how much the last steps on each task taught (R7).

What it does: of N tasks (arms), step t draws one from the policy

    pi_i = (1 - eps) exp(w_i) / sum_j exp(w_j) + eps / N

and trains on a batch of it. The prediction gain is the loss of a sequence (the sum over what is scored) before the
optimiser's step less that after it, on the same batch with the same random numbers, at one more forward pass a step.
Per token of the arm's sequences it is rescaled to a reward in [-1, 1], linearly from the 20 % to the 80 % quantile of a
reservoir of earlier gains and cut off beyond; the first step has none. Exp3.S then moves the weights, of the arm a
that was drawn and of the others:

    r_i = (reward [i = a] + beta) / pi_i                                  alpha = 1 / t, w = 0 at first
    w_i <- log((1 - alpha) exp(w_i + eta r_i) + alpha / (N - 1) sum_{j != i} exp(w_j + eta r_j))

Why: the lengths that teach most change while a model learns, and nobody knows the points of change.

Published effect: faster than uniform choice on copying and recall curricula, up to half the time; uniform choice among
the arms was a strong baseline (Graves et al., arXiv 1704.03003). Nothing was measured here for it.

Known problems: eta = 1e-3 is slow: thousands of steps until the policy is far from uniform. Prediction gain favours
what is learnt quickly, noise that is memorised included. The arms alone are trained on: put the run's own task among
them. Tokens must mean the same in all arms, which is not checked. Dropout makes gains noisy only through the model,
since both passes draw the same.

Example: `Bandit(arms=tuple(CopyingConfig(max_length=n) for n in (5, 10, 20)))`.

Source: Graves, Bellemare, Menick, Munos, Kavukcuoglu, "Automated Curriculum Learning for Neural Networks" (2017),
sections 2 and 3; Exp3.S is of Auer et al., "The nonstochastic multiarmed bandit problem" (2002). Step sizes and
quantiles: decorative-memory specification, R7. Differs: the quantiles are of a fixed number of earlier gains, drawn
uniformly from all of them.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mnemoscope.tasks import TaskConfig
from mnemoscope.training.batches import draw
from mnemoscope.training.lessons.fitting import fitting_tasks
from mnemoscope.training.lessons.lesson import Course, Lesson, LessonConfig
from mnemoscope.training.loss import is_scored
from mnemoscope.training.remedies import Computed

Weights: TypeAlias = NDArray[np.float64]

QUANTILES = (0.2, 0.8)
"""Of earlier gains: what is rescaled to -1 and to 1."""

ARM, RESERVOIR = 1, 2
"""Streams of random numbers beside those of the data."""


@dataclass(frozen=True, kw_only=True)
class Bandit(LessonConfig):
    """Settings.

    Args:
        arms: tasks to choose from, at least 2.
        eta: step size of the weights, positive.
        beta: what every arm's reward is raised by, at least 0.
        eps: share of the steps that are drawn uniformly, in (0, 1].
        reservoir: earlier gains that are kept, at least 2.
    """

    kind: Literal["bandit"] = "bandit"
    arms: tuple[TaskConfig, ...]
    eta: float = 1e-3
    beta: float = 0.0
    eps: float = 0.05
    reservoir: int = 1000

    def __post_init__(self) -> None:
        for name, fewest in (("arms", 2), ("reservoir", 2)):
            value = getattr(self, name)
            number = value if isinstance(value, int) else len(value)
            if number < fewest:
                raise ValueError(f"Bandit.{name}: must be at least {fewest}, got {number}; nearest valid: {fewest}")
        if not 0 < self.eta < math.inf or not 0 <= self.beta < math.inf:
            raise ValueError(
                f"Bandit.eta, .beta: must be finite, positive and at least 0, got {self.eta} and {self.beta}"
            )
        if not 0 < self.eps <= 1:
            raise ValueError(f"Bandit.eps: must be in (0, 1], so that every arm is tried, got {self.eps}")

    def begin(self, course: Course) -> "BanditLesson":
        """On any model that has outputs for all tokens.

        Raises:
            ValueError: an arm that does not fit the model or is not measured as the run's task is.
        """
        return BanditLesson(self, course)


@final
@dataclass(frozen=True, kw_only=True)
class Exp3S:
    """The state of the bandit.

    Args:
        w: a weight for every arm; logarithms.
        n_updates: rewards so far.
    """

    w: Weights
    n_updates: int = 0

    def policy(self, eps: float) -> Weights:
        """The probability of every arm."""
        shares = np.exp(self.w - self.w.max())
        return (1 - eps) * shares / shares.sum() + eps / len(self.w)

    def updated(self, arm: int, reward: float, *, eta: float, beta: float, eps: float) -> "Exp3S":
        """After the reward of an arm that was drawn from the policy."""
        t, n = self.n_updates + 1, len(self.w)
        rewards = (reward * (np.arange(n) == arm) + beta) / self.policy(eps)
        moved = self.w + eta * rewards
        largest = moved.max()
        shares = np.exp(moved - largest)
        others = shares.sum() - shares
        w = largest + np.log((1 - 1 / t) * shares + others / (t * (n - 1)))
        return replace(self, w=w, n_updates=t)


@final
@dataclass(frozen=True, kw_only=True)
class Reservoir:
    """A uniform sample of everything that came, of a fixed size.

    Args:
        kept: of it.
        n_seen: how much came.
        size: the most that is kept.
    """

    kept: Weights
    size: int
    n_seen: int = 0

    def rescaled(self, value: float) -> float:
        """From -1 at the lower quantile to 1 at the upper one, and no further; 0 where nothing came before."""
        if not len(self.kept):
            return 0.0
        low, high = np.quantile(self.kept, QUANTILES)
        if high > low:
            return float(np.clip(2 * (value - low) / (high - low) - 1, -1, 1))
        return float(np.sign(value - low))

    def with_value(self, value: float, rng: np.random.Generator) -> "Reservoir":
        """One more came; it takes the place of a random one with probability size / n_seen (algorithm R)."""
        n_seen = self.n_seen + 1
        if len(self.kept) < self.size:
            return replace(self, kept=np.append(self.kept, value), n_seen=n_seen)
        place, kept = int(rng.integers(n_seen)), self.kept
        if place < self.size:
            kept = kept.copy()
            kept[place] = value
        return replace(self, kept=kept, n_seen=n_seen)


class BanditLesson(Lesson):
    """One batch of the drawn arm a step, and one more forward pass on it after the optimiser's step."""

    def __init__(self, settings: Bandit, course: Course) -> None:
        super().__init__(course)
        self.settings = settings
        self.tasks = fitting_tasks("Bandit.arms", settings.arms, course)
        self.bandit = Exp3S(w=np.zeros(len(self.tasks)))
        self.gains = Reservoir(kept=np.zeros(0), size=settings.reservoir)
        self._step = self._arm = 0
        self._gain = self._reward = 0.0

    def forward(self, step: int) -> Computed:
        """The loss of a batch of an arm that is drawn from the policy."""
        config, policy = self.course.config, self.bandit.policy(self.settings.eps)
        self._step = step
        self._arm = int(_rng(config.seed, step, ARM).choice(len(policy), p=policy))
        inputs, targets = draw(self.tasks[self._arm], config.seed, "train", step, config.batch_size)
        return self.course.compute(inputs, targets)

    @torch.no_grad()
    def after_step(self, computed: Computed) -> None:
        """The gain of the step becomes a reward, and the reward a policy."""
        settings = self.settings
        scored = int(is_scored(computed.targets).sum()) / len(computed.targets)
        gain = (computed.loss - computed.again()).item() * scored
        self._gain = gain / computed.inputs.shape[1]
        self._reward = self.gains.rescaled(self._gain)
        self.gains = self.gains.with_value(self._gain, _rng(self.course.config.seed, self._step, RESERVOIR))
        self.bandit = self.bandit.updated(
            self._arm, self._reward, eta=settings.eta, beta=settings.beta, eps=settings.eps
        )

    def figures(self, computed: Computed) -> dict[str, float]:
        """Loss and figure of the arm's task, which it was, its gain a token and reward, and the policy from now on."""
        policy = self.bandit.policy(self.settings.eps)
        own = {"lesson.arm": float(self._arm), "lesson.gain": self._gain, "lesson.reward": self._reward}
        shares = {f"lesson.policy.{arm}": float(share) for arm, share in enumerate(policy)}
        return self.course.figures(computed, self.tasks[self._arm]) | own | shares

    def state(self) -> dict[str, Tensor]:
        """Weights and reservoir."""
        return {
            "weights": torch.from_numpy(self.bandit.w.copy()),
            "n_updates": torch.tensor(self.bandit.n_updates),
            "gains": torch.from_numpy(self.gains.kept.copy()),
            "n_gains": torch.tensor(self.gains.n_seen),
        }

    def set_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned.

        Raises:
            ValueError: the state of another lesson, or of other arms.
        """
        own = self.state()
        if sorted(state) != sorted(own) or len(state["weights"]) != len(self.tasks):
            raise ValueError(
                f"BanditLesson: needs {', '.join(own)} of {len(self.tasks)} arms, got "
                f"{', '.join(state) or 'nothing'}; resume the run's own lesson"
            )
        self.bandit = Exp3S(w=state["weights"].numpy().copy(), n_updates=int(state["n_updates"]))
        kept = state["gains"].numpy().copy()
        self.gains = Reservoir(kept=kept, size=self.settings.reservoir, n_seen=int(state["n_gains"]))


def _rng(seed: int, step: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([seed, step, stream])

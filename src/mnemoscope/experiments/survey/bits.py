"""Arms that learn bits: how soon their errors fall, and how many are left.

Errors are bits a sequence, of the validation sequences, as training logs them. "Few" is the published criterion of
convergence: 0.1 a sequence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mnemoscope.experiments.survey.arms import Training, folder_of, trained
from mnemoscope.models import VectorsConfig
from mnemoscope.runs import RunDirectory
from mnemoscope.tasks import CopyingConfig, KeyValueConfig
from mnemoscope.training import Recipe
from mnemoscope.training.lessons import AnyLesson, Plain
from mnemoscope.training.remedies import Remedy

FEW = 0.1
"""Bit errors of a sequence below which a network has converged (Collier & Beel 2018)."""
NEVER = 1.5
"""What counts as the steps of a network that did not converge, as a share of those there were."""
EVALUATIONS = 40


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What a training came to.

    Args:
        errors: bits a sequence, at the end; the mean of the last two evaluations.
        steps: until they are few, `NEVER` times those there were where they never are.
    """

    errors: float
    steps: float

    @property
    def converged(self) -> float:
        """1: errors became few."""
        return float(self.errors < FEW)


def of_bits(
    training: Training,
    name: str,
    layout: str,
    task: CopyingConfig | KeyValueConfig,
    *,
    remedies: tuple[Remedy, ...] = (),
    lesson: AnyLesson | None = None,
) -> Recipe:
    """One training on vectors of bits."""
    vectors = VectorsConfig(n_channels=_channels(task), n_outputs=task.n_bits)
    recipe = training.recipe(name, layout, task, vocab_size=0, vectors=vectors, remedies=remedies)
    train = replace(recipe.train, eval_every=max(1, training.steps // EVALUATIONS), eval_sequences=64)
    return replace(recipe, train=train, lesson=lesson or Plain())


def _channels(task: CopyingConfig | KeyValueConfig) -> int:
    """Numbers of an input: bits, and delimiters."""
    return task.n_bits + 1 if isinstance(task, CopyingConfig) else 2 * task.n_bits + 1 + task.two_way


def all_learned(
    training: Training, recipes: Mapping[str, Recipe], seed: int, out: Path
) -> tuple[dict[str, Learned], dict[str, Sequence[float]]]:
    """Train all arms; what each came to, and its curve as the series "NAME: step" and "NAME: errors"."""
    found, series = dict[str, Learned](), dict[str, Sequence[float]]()
    for name, recipe in recipes.items():
        trained(training, recipe, seed, out)
        steps, errors = curve(folder_of(out, recipe, seed))
        found[name] = learned(steps, errors)
        series |= {f"{name}: step": steps, f"{name}: errors": errors}
    return found, series


def curve(folder: Path) -> tuple[list[float], list[float]]:
    """Steps and validation errors of a run."""
    rows = [row for row in RunDirectory(folder).read_metrics() if "validation_bit_errors" in row]
    return [float(row["step"]) for row in rows], [float(row["validation_bit_errors"]) for row in rows]


def learned(steps: Sequence[float], errors: Sequence[float]) -> Learned:
    """What a curve came to."""
    last = errors[-2:]
    few = [step for step, error in zip(steps, errors, strict=True) if error < FEW]
    return Learned(errors=sum(last) / len(last), steps=min(few, default=NEVER * steps[-1]))

"""The guide's trials by name: each changes a recipe as the guide changes its own values.

    mnemoscope train atlas-tiny+longer-phase1              `mnemoscope list presets` has the names; several may be added
    mnemoscope trial atlas-tiny --presets option-a,option-b

The guide's lists "Experiments to Try" have eleven open boxes, and its list of what is validated has a twelfth; one of
them names two values, and two say that a value is to be kept. Besides there are options A and B for a plateau, and the
configurations that it recommends for language and for mathematics.

A preset is about a recipe, not about the guide's numbers: what the guide counts in its own steps and texts (phase 1,
storage samples, masks), the inner step, which each memory measures in its own way, and what is forgotten, which one
memory forgets per chunk and another per token, are multiplied as the guide multiplies them; everything else gets the
guide's value. Weight decay "after grokking" is there from the first step, since a run has one weight decay. In the
recipes "-compat" floors are refused: the public code never reads them.

Some change nothing in some recipes (`changes_nothing`): what a recipe has already, and the phases of the floors where
those of storage and retrieval are as high, since a step does nothing but store and retrieve. With the guide's own
floors (.3, .1, .05 against .8 and .3) that is so from the first step to the last.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mnemoscope.contracts.written import nearest
from mnemoscope.experiments.settings import with_settings
from mnemoscope.memories.atlas_compat import AtlasCompatConfig
from mnemoscope.memories.omega import OmegaConfig
from mnemoscope.memories.omega_mlp import OmegaMlpConfig
from mnemoscope.models import ContextConfig, ParallelConfig, SerialConfig, StackConfig
from mnemoscope.models.mixers import MixerConfig
from mnemoscope.tasks import MaskedWordsConfig
from mnemoscope.training import Recipe
from mnemoscope.training.lessons import Episodic
from mnemoscope.training.remedies import GateFloor, Remedy

PROJECTION_OFF: tuple[str, ...] = (
    "train.orthogonal_gradient=0",
    "train.rescale_gradient=false",
    "train.orthogonal_gradient_of=matrices",
)
STEEPEST = 0.95
"""Where an inner step begins it must be below 1."""
LEAST_RETAINED = 0.05
"""Where a retention begins it must be above 0."""

SEPARATOR = "+"
"""Between the name of a recipe and those of presets."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A trial of the guide.

    Args:
        says: what the guide changes, in its own values.
        why: what it expects of it; its words where they are quoted.
        sets: settings as `--set` takes them, with names in braces that stand for numbers of the recipe, see `numbers`.
        sets_omega: those that `omega` needs besides.
        here: what a user has to know of it here; empty for nothing.
    """

    says: str
    why: str
    sets: tuple[str, ...]
    sets_omega: tuple[str, ...] = ()
    here: str = ""


_LONGER_PHASE = ("gate_floor.switches=[{longer_phase1},{longer_phase2}]",)
_HALF_FLOOR = ("gate_floor.retrieval_floor=0.5",)
_HEAVIER = ("lesson.retrieval_weight=10",)
_FASTER = ("*.initial_step_size={twice_step_size}",)
_LOWER = ("*.initial_retention={lower_retention}",)
_RESET = ("lesson.between=reset",)
_STEEP = "a step that would reach 1 begins at 0.95"
_IDLE = "phases act only where the floors of storage or retrieval are lower"

PRESETS: Mapping[str, Preset] = {
    "longer-phase1": Preset(
        says="phase1_steps 3000 -> 10000", why="longer forced memory period", sets=_LONGER_PHASE, here=_IDLE
    ),
    "higher-retrieval-floor": Preset(
        says="retrieval_gate_floor 0.30 -> 0.50", why="force more memory influence", sets=_HALF_FLOOR
    ),
    "keep-phase3-floor": Preset(
        says="phase3_gate_floor stays 0.05",
        why="monitor if gates stay healthy",
        sets=("gate_floor.floors=[{floor1},{floor2},0.05]",),
        here=_IDLE,
    ),
    "faster-memory": Preset(says="init_eta 0.1 -> 0.2", why="faster memory learning", sets=_FASTER, here=_STEEP),
    "fastest-memory": Preset(
        says="init_eta 0.1 -> 0.3",
        why="faster memory learning",
        sets=("*.initial_step_size={thrice_step_size}",),
        here=_STEEP,
    ),
    "lower-retention": Preset(says="init_alpha 0.99 -> 0.95", why="more aggressive memory updates", sets=_LOWER),
    "keep-degree": Preset(
        says="poly_degree stays 2",
        why="already reasonable",
        sets=("*.degree=2",),
        sets_omega=("omega.features=elementwise",),
        here="of a recipe with plain keys it changes the feature map to the guide's",
    ),
    "more-storage": Preset(
        says="storage_samples 5 -> 10", why="store more before testing", sets=("task.n_storage={twice_storage}",)
    ),
    "reset-episodes": Preset(
        says="reset_memory_between_episodes false -> true", why="cleaner signal per episode", sets=_RESET
    ),
    "fewer-masks": Preset(
        says="num_masks 13 -> 8", why="easier task if accuracy struggles", sets=("task.n_masks={fewer_masks}",)
    ),
    "heavier-retrieval": Preset(says="retrieval_loss_weight 5 -> 10", why="very strong memory pressure", sets=_HEAVIER),
    "lighter-retrieval": Preset(
        says="retrieval_loss_weight 5 -> 2",
        why="see if model naturally uses memory without pressure",
        sets=("lesson.retrieval_weight=2",),
    ),
    "small-weight-decay": Preset(
        says="weight_decay 0 -> 0.01",
        why="improve generalization after grokking",
        sets=("train.weight_decay=0.01",),
        here="from the first step",
    ),
    "option-a": Preset(
        says="retrieval_gate_floor 0.50, phase1_steps 10000, retrieval_loss_weight 10",
        why="force more memory usage",
        sets=(*_HALF_FLOOR, *_LONGER_PHASE, *_HEAVIER),
        here=_IDLE,
    ),
    "option-b": Preset(
        says="init_eta 0.2, init_alpha 0.95, reset_memory_between_episodes true",
        why="faster memory learning",
        sets=(*_FASTER, *_LOWER, *_RESET),
    ),
    "language": Preset(
        says="weight_decay 0, learning_rate 3e-4, StableMax off, PerpGrad off",
        why="validated for language tasks",
        sets=("train.weight_decay=0", "train.learning_rate=3e-4", "train.loss=cross_entropy", *PROJECTION_OFF),
    ),
    "math": Preset(
        says="weight_decay 0.1, StableMax on, PerpGrad 0.5",
        why="may help on math tasks, caused collapse on language",
        sets=("train.weight_decay=0.1", "train.loss=stablemax", "train.orthogonal_gradient=0.5"),
    ),
}
"""In the guide's order; thirteen for its twelve boxes, then A, B and the two configurations."""

TO_TRY: tuple[str, ...] = tuple(PRESETS)[:13]
"""What its boxes are."""


def with_presets(recipe: Recipe, names: Sequence[str]) -> Recipe:
    """The recipe with the guide's changes, in order; its name says so.

    Raises:
        ValueError: an unknown name, with the nearest one, or a change for which the recipe has no place.
    """
    changed = recipe
    for name in names:
        if name not in PRESETS:
            raise ValueError(f"no preset is called {name!r}{nearest(name, PRESETS)}; see `mnemoscope list presets`")
        changed = _with_preset(changed, name)
    return replace(changed, name=", ".join([recipe.name, *names]))


def _with_preset(recipe: Recipe, name: str) -> Recipe:
    sets = PRESETS[name].sets + (PRESETS[name].sets_omega if isinstance(_memory(recipe), OmegaConfig) else ())
    if any(each.startswith("gate_floor.") for each in sets) and floors_are_fixed(recipe):
        raise ValueError(
            f"preset {name}: {recipe.name} computes what the public code does, and that never reads its floors; use a "
            "recipe that is not -compat"
        )
    known = {f"{{{key}}}": f"{value:g}" for key, value in numbers(recipe).items()}
    try:
        return with_settings(recipe, [_filled(each, known) for each in sets])
    except ValueError as error:
        raise ValueError(f"preset {name}: does not fit {recipe.name}: {error}") from error


def changes_nothing(recipe: Recipe, changed: Recipe) -> bool:
    """Whether two recipes train alike: equal but for their names, and for phases of floors that never act."""
    one, other = (replace(each, name=recipe.name, remedies=_acting(each)) for each in (recipe, changed))
    return one == other


def _acting(recipe: Recipe) -> tuple[Remedy, ...]:
    """Its remedies, without the phases of floors that are never reached in episodes."""
    if not isinstance(recipe.lesson, Episodic):
        return recipe.remedies
    return tuple(
        replace(each, floors=(0.0,), switches=(), unit="parts")
        if isinstance(each, GateFloor) and each.phases_are_idle
        else each
        for each in recipe.remedies
    )


def numbers(recipe: Recipe) -> dict[str, float]:
    """What stands in braces in `Preset.sets`, as far as the recipe has it."""
    found, task = dict[str, float](), recipe.task
    if isinstance(task, MaskedWordsConfig):
        found |= {"twice_storage": 2 * task.n_storage, "fewer_masks": max(1, round(task.n_masks * 8 / 13))}
    for remedy in recipe.remedies:
        if isinstance(remedy, GateFloor) and len(remedy.floors) == 3:
            first, second = remedy.switches
            longer = _at(remedy, first * 10 / 3)
            found |= {"longer_phase1": longer, "longer_phase2": _at(remedy, longer + second - first)}
            found |= {"floor1": remedy.floors[0], "floor2": remedy.floors[1]}
    step_size = _step_size(recipe)
    steps = (
        {}
        if step_size is None
        else {"twice_step_size": min(2 * step_size, STEEPEST), "thrice_step_size": min(3 * step_size, STEEPEST)}
    )
    return found | steps | _retentions(recipe) | _widths(recipe)


def _widths(recipe: Recipe) -> dict[str, float]:
    """Of a head of the memory, for wider keys and for a sketch."""
    memory = _memory(recipe)
    if not isinstance(memory, OmegaConfig) or not isinstance(recipe.model, StackConfig):
        return {}
    width = memory.head_width or recipe.model.d_model // memory.n_heads
    return {"twice_width": 2 * width, "four_widths": 4 * width}


def _retentions(recipe: Recipe) -> dict[str, float]:
    """The guide's .99 to .95, .9 and nearer to 1, in what is forgotten: 5 times and 10 times as much, and a tenth."""
    memory = _memory(recipe)
    if memory is None or not (isinstance(memory, AtlasCompatConfig) or memory.retains):
        return {}
    lower, lowest, higher = (1 - times * (1 - memory.initial_retention) for times in (5, 10, 0.1))
    least = min(LEAST_RETAINED, memory.initial_retention)
    return {"lower_retention": max(lower, least), "lowest_retention": max(lowest, least), "higher_retention": higher}


def _at(remedy: GateFloor, at: float) -> float:
    return round(at) if remedy.unit == "steps" else at


def _filled(setting: str, known: Mapping[str, str]) -> str:
    for name, value in known.items():
        setting = setting.replace(name, value)
    if "{" in setting:
        target = setting.partition("=")[0]
        gated = target.startswith("gate_floor.")
        lacks = "gate between memory and attention with floors in three phases" if gated else "such setting"
        raise ValueError(f"{target}: the recipe has no {lacks}")
    return setting


def floors_are_fixed(recipe: Recipe) -> bool:
    """Whether its floors are those that the public code has, whatever is said."""
    detached = isinstance(recipe.lesson, Episodic) and recipe.lesson.detach_write
    return detached and isinstance(_memory(recipe), AtlasCompatConfig)


def _step_size(recipe: Recipe) -> float | None:
    """Of the first memory that learns at test time; None without one."""
    memory = _memory(recipe)
    if isinstance(memory, OmegaConfig | OmegaMlpConfig) and memory.initial_step_size is None:
        return memory.default_step_size
    return None if memory is None else memory.initial_step_size


def _memory(recipe: Recipe) -> OmegaConfig | OmegaMlpConfig | AtlasCompatConfig | None:
    """The first memory that learns at test time, however it is put together with attention."""
    mixers = recipe.model.mixers if isinstance(recipe.model, StackConfig) else ()
    parts = [part for mixer in mixers for part in _parts(mixer)]
    return next((part for part in parts if isinstance(part, OmegaConfig | OmegaMlpConfig | AtlasCompatConfig)), None)


def _parts(mixer: MixerConfig) -> tuple[object, ...]:
    if isinstance(mixer, ParallelConfig):
        return mixer.memory, mixer.beside
    if isinstance(mixer, SerialConfig):
        return mixer.first, mixer.second
    return (mixer.memory,) if isinstance(mixer, ContextConfig) else (mixer,)

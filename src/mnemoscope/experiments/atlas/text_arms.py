"""What the studies of ATLAS on text hold against the base recipe, by name.

    base, compat                               a differentiable write, and everything as the public code has it
    compat-slow                                the same at a fifth of the learning rate, which `base` was searched at
    none, clamp, affine, penalty; -detached    the guide's floors in each way, the write with a gradient and without
    tied, untied; -stablemax, -perpgrad        loss and projection by themselves and together, and half the projection
    gentle, carry                              "affine" in small inner steps; the same carried from episode to episode
    gentle-option-b                            option B from small steps: the base's 0.4 has no room to grow
    phases                                     the floors of the guide's phases alone, none of storage and retrieval
    option-a ...                               the guide's own trials (`trials`), against "affine", which resets

The arms of the second line, and the trials, have the guide's floors, whatever the base has; "longer-phase1" has those
of "phases", since beside the guide's other floors no phase acts. Those of the third draw embedding and head as small as
the guide's model does (0.02), since a large start hides what is learned in what was drawn, and project every tensor, as
its code does.

The guide carries its memory on. The base cannot: a token's gradient is taken at the memory as its chunk found it, so 32
tokens with one key step 32 times as far, and with the base's step of 0.4 (twice that a token, 26 a chunk) a memory that
is not empty grows from chunk to chunk until it overflows, in step 44 of seed 0. Small steps stay below 2 a chunk.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mnemoscope.experiments.atlas.text_recipe import TextRecipe
from mnemoscope.experiments.atlas.trials import PRESETS, with_presets
from mnemoscope.experiments.settings import with_settings
from mnemoscope.training import Recipe


@dataclass(frozen=True, kw_only=True)
class TextArm:
    """How one arm differs from the base.

    Args:
        title: in tables and figures.
        sets: settings, written as for `--set`.
        presets: trials of the guide, after these.
        compat: as the public code computes.
    """

    title: str
    sets: tuple[str, ...] = ()
    presets: tuple[str, ...] = ()
    compat: bool = False


SLOW = "compat-slow"

FLOORS: Mapping[str, str] = {
    "none": "no floors",
    "clamp": "clamped floors",
    "affine": "affine floors",
    "penalty": "floors by penalty",
}
_GUIDES_FLOORS = (
    "gate_floor.floors=[0.3,0.1,0.05]",
    "gate_floor.storage_floor=0.8",
    "gate_floor.retrieval_floor=0.3",
)
_NO_FLOORS = (
    "gate_floor.floors=[0,0,0]",
    "gate_floor.storage_floor=0",
    "gate_floor.retrieval_floor=0",
    "gate_floor.floor_mode=affine",
)
_AFFINE = (*_GUIDES_FLOORS, "gate_floor.floor_mode=affine")
_GENTLE = (*_AFFINE, "omega.initial_step_size=0.025")
_PHASES = (*_AFFINE, "gate_floor.storage_floor=0", "gate_floor.retrieval_floor=0")
IN_PHASES = ("longer-phase1",)
"""Trials of the guide that are about its phases."""
DETACHED = ("omega.detach_write=true", "lesson.detach_write=true")
"""Written under no gradient, and cut off between storage and retrieval."""

HEADS: Mapping[str, tuple[str, ...]] = {
    "tied": ("model.tie_embeddings=true", "model.embedding_std=0.02"),
    "untied": ("model.tie_embeddings=false", "model.embedding_std=0.02"),
}
_STABLEMAX = ("train.loss=stablemax",)
_PERPGRAD = ("train.orthogonal_gradient=1", "train.orthogonal_gradient_of=all")
_HALF = ("train.orthogonal_gradient=0.5", "train.orthogonal_gradient_of=all")
CELLS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "": ("cross-entropy", ()),
    "-stablemax": ("StableMax", _STABLEMAX),
    "-perpgrad": ("PerpGrad 1", _PERPGRAD),
    "-both": ("StableMax, PerpGrad 1", (*_STABLEMAX, *_PERPGRAD)),
    "-half": ("PerpGrad 0.5", _HALF),
}
"""Cells of the 2 x 2, and the one that the guide has not tested: title and settings by the end of the name."""


def _floors() -> dict[str, TextArm]:
    found = dict[str, TextArm]()
    for floor, title in FLOORS.items():
        sets = _NO_FLOORS if floor == "none" else (*_GUIDES_FLOORS, f"gate_floor.floor_mode={floor}")
        found[floor] = TextArm(title=title, sets=sets)
        found[f"{floor}-detached"] = TextArm(title=f"{title}, detached", sets=(*sets, *DETACHED))
    return found


ARMS: Mapping[str, TextArm] = {
    "base": TextArm(title="differentiable write"),
    "compat": TextArm(title="as published", compat=True),
    SLOW: TextArm(title="as published, slower", sets=("train.learning_rate=0.001",), compat=True),
    **_floors(),
    **{
        head + cell: TextArm(title=f"{head}, {title}", sets=(*sets_of_head, *sets))
        for head, sets_of_head in HEADS.items()
        for cell, (title, sets) in CELLS.items()
    },
    "gentle": TextArm(title="affine floors, small steps", sets=_GENTLE),
    "gentle-option-b": TextArm(title="option-b from small steps", sets=_GENTLE, presets=("option-b",)),
    "carry": TextArm(title="affine floors, small steps, carried", sets=(*_GENTLE, "lesson.between=carry")),
    "phases": TextArm(title="floors in phases alone", sets=_PHASES),
    **{name: TextArm(title=name, sets=_PHASES if name in IN_PHASES else _AFFINE, presets=(name,)) for name in PRESETS},
}
SHARED = ("base", "affine")


def recipe_of(text: TextRecipe, corpus: str, name: str, steps: int) -> Recipe:
    """One arm on a text, called TEXT-LAYERS-STEPS-ARM after its folder, the arm one of `SHARED` where it is the same.

    Raises:
        ValueError: an unknown arm, or a change for which the recipe has no place.
    """
    if name not in ARMS:
        raise ValueError(f"no arm is called {name!r}; known: {', '.join(ARMS)}")
    arm = ARMS[name]
    base = text.recipe(corpus, steps=steps, compat=arm.compat)
    changed = with_presets(with_settings(base, arm.sets), arm.presets)
    shared = () if arm.compat else SHARED
    alike = (each for each in shared if _same(changed, with_settings(base, ARMS[each].sets)))
    layers = text.guide["n_layers"]
    return replace(changed, name=f"{Path(corpus).stem}-{layers}-{steps}-{next(alike, name)}")


def _same(one: Recipe, other: Recipe) -> bool:
    return replace(one, name=other.name) == other

"""The constant that takes a memory's place, found as an examination finds it: the same sequences, starts and steps.

What takes the place of what:

    read        one vector in place of the read; what stands behind the read stays
    positions   one for each position: of a clock
    zero        nothing in place of the module's output
    output      one vector in place of the module's output
"""

import difflib
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from mnemoscope.contracts.outputs import first_tensor
from mnemoscope.examination import Budget
from mnemoscope.examination.interventions.reads import Constant, PositionConstant, Zero
from mnemoscope.examination.protocol.conditions import Fitted, Moments, Profile, removal_of_memory
from mnemoscope.examination.protocol.fit import Removal, fit_removals
from mnemoscope.examination.running.editing import Edit, edited
from mnemoscope.examination.running.replay import Replayer
from mnemoscope.examination.running.tape import Tape
from mnemoscope.examination.subject.intact import intact
from mnemoscope.examination.subject.losses import Loss, score
from mnemoscope.examination.subject.sites import Point, Site, find_sites

Way = Literal["read", "positions", "zero", "output"]
"""What takes a memory's place; see the top of this file."""


class Fit(NamedTuple):
    """A constant, where it stands, and what the module around it returns under it.

    Args:
        way: what the constant replaces.
        owner: path of the memory's module.
        edits: which put the constant into the model.
        constant: of one token, or of a sequence (t, ...) under "positions".
        output: what the owner's output becomes on a batch.
        rest: how many further things the owner returns; None where it returns a tensor.
    """

    way: Way
    owner: str
    edits: list[Edit]
    constant: Shaped[Tensor, "..."]
    output: Shaped[Tensor, "..."]
    rest: int | None


def fitted(
    model: nn.Module, loss: Loss, calibration: Sequence[Any], site: str, way: Way, budget: Budget | None = None
) -> Fit:
    """Fit the constant of a memory site; the model stays as it is.

    Args:
        model: any module with announced or known memories.
        loss: one value per sequence.
        calibration: batches to fit on, at least two.
        site: name of a memory site, as an examination has it.
        way: what is replaced.
        budget: `fit_steps`, `joint_fit_steps` (of positions) and `tape_bytes` count.

    Raises:
        ValueError: no such site, one without a module of its own, or a part of one.
    """
    budget = budget or Budget()
    with torch.inference_mode(False), torch.enable_grad(), intact(model) as held:
        found = _found(model, loss, calibration[0], site)
        assert found.whole is not None
        assert found.owner is not None
        point = found.loci["read"] if way in ("read", "positions") else found.whole
        replayer = Replayer(model, loss, [point], held)
        edits, constant = _constant(replayer, calibration, found, point, way, budget)
        replayer.restore_rng()
        output, rest = _output(model, loss, calibration[0], found, edits)
    return Fit(way=way, owner=found.owner, edits=edits, constant=constant.detach(), output=output, rest=rest)


def _found(model: nn.Module, loss: Loss, batch: Any, name: str) -> Site:
    with torch.no_grad():
        memories = find_sites(model, lambda: score(loss, model, batch)).memories
    by_name = {site.name: site for site in memories}
    if name not in by_name:
        nearest = difflib.get_close_matches(name, by_name, n=1, cutoff=0.0)
        raise ValueError(
            f"fold: {name!r} must be a whole memory site of the model, did you mean {nearest[0]!r}? sites: "
            f"{', '.join(by_name)}"
        )
    site = by_name[name]
    if site.owner is None or site.part is not None:
        raise ValueError(f"fold: {name} has no module of its own (it is a tap or a part of an output); fold by hand")
    return site


def _constant(
    replayer: Replayer, calibration: Sequence[Any], site: Site, point: Point, way: Way, budget: Budget
) -> tuple[list[Edit], Tensor]:
    tapes, profile = _recorded(replayer, calibration, point, budget)
    if way == "zero":
        return [Edit(point, Zero())], torch.zeros_like(profile.mean)
    if way == "output":
        removal = Removal(point=point, window=None, start=profile.mean, scale=profile.rms)
        (constant,) = fit_removals(replayer, tapes, [removal], budget.fit_steps)
        return [Edit(point, Constant(constant))], constant
    profiles, coalition = {point: profile}, frozenset({site.name})
    found = Fitted(replayer, tapes, {site.name: [removal_of_memory(site, profiles)]}, budget)
    edits = found.edits(coalition) if way == "read" else found.by_position(coalition, profiles)
    if not edits:
        raise ValueError(f"fold: {site.name} gives sequences of several lengths, so there is no constant by position")
    intervention = edits[0].intervention
    assert isinstance(intervention, Constant | PositionConstant)
    return edits, intervention.value if isinstance(intervention, Constant) else intervention.values


def _recorded(
    replayer: Replayer, calibration: Sequence[Any], point: Point, budget: Budget
) -> tuple[list[Tape], Profile]:
    tapes, kept, moments = list[Tape](), 0, Moments(point)
    for batch in calibration:
        tape = replayer.record(batch, keep=(point,))
        kept += tape.n_bytes
        if kept > budget.tape_bytes:
            tape.calls.clear()
        moments.see(tape)
        tape.values.clear()
        tapes.append(tape)
    return tapes, moments.profile()


@torch.no_grad()
def _output(model: nn.Module, loss: Loss, batch: Any, site: Site, edits: Sequence[Edit]) -> tuple[Tensor, int | None]:
    """What the owner returns on a batch under the edits, and how many things behind it."""
    seen = list[Any]()
    modules = dict(model.named_modules())
    assert site.owner is not None
    with edited(modules, edits):
        # After the edits, so that it sees what they put there.
        handle = modules[site.owner].register_forward_hook(lambda _module, _args, output: seen.append(output))
        try:
            score(loss, model, batch)
        finally:
            handle.remove()
    output = seen[0]
    return first_tensor(output).clone(), len(output) - 1 if isinstance(output, tuple) else None

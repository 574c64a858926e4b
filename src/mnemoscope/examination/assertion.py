"""`assert_load_bearing`: a verdict as a test of a user's own suite."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from mnemoscope.examination.budget import Budget
from mnemoscope.examination.session import examine
from mnemoscope.examination.subject.losses import Loss
from mnemoscope.runs.examination import Estimate, Examination, PrescriptionRecord, SiteRecord, Verdict

ENOUGH: Mapping[str, tuple[Verdict, ...]] = {
    "ungraded": ("load-bearing", "load-bearing (shared)", "load-bearing (sole)"),
    "shared": ("load-bearing (shared)", "load-bearing (sole)"),
    "sole": ("load-bearing (sole)",),
}
"""Verdicts that will do; "load-bearing" without a grade is what can be said where nobody named the routes."""


def assert_load_bearing(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    loss: Loss | None = None,
    sites: Sequence[str] | None = None,
    routes: Sequence[str] | None = None,
    local_window: int | None = None,
    budget: Budget | None = None,
    at_least: str = "shared",
) -> Examination:
    """Fail unless every memory of a model, or every named one, is load-bearing.

    For a test suite::

        def test_the_memory_is_used():
            model = load_model("runs/recall")
            batches = held_out_batches()  # not those that the model was trained on
            ms.assert_load_bearing(model, batches, sites=["blocks.1.mixer"], at_least="shared")

    Args:
        model: any module.
        batches: batches the loss understands, as for `examine`.
        loss: `loss(model, batch)` to one value per sequence, in nats; None for next-token cross-entropy of logits.
        sites: path patterns of the memories that must be load-bearing; None for every announced one.
        routes: path patterns of what could replace them, as for `examine`.
        local_window: tokens of history that count as local, as for `examine`.
        budget: what the examination may cost.
        at_least: "sole", where nothing else may supply what the memory holds; "shared", where something else may
            supply part of it; "ungraded", where nobody knows the routes.

    Returns:
        The examination, for further assertions.

    Raises:
        AssertionError: with the verdict of every memory that fails, the effect it rests on, and what to do.
        ValueError: as `examine`.
    """
    if at_least not in ENOUGH:
        raise ValueError(f"assert_load_bearing: at_least must be one of {', '.join(ENOUGH)}, got {at_least!r}")
    examination = examine(
        model, batches, loss=loss, sites=sites, routes=routes, local_window=local_window, budget=budget
    )
    require_load_bearing(examination, at_least)
    return examination


def require_load_bearing(examination: Examination, at_least: str = "shared") -> None:
    """The same for an examination that there is already.

    Raises:
        AssertionError: for a memory that is not load-bearing enough.
    """
    failed = [site for site in examination.sites if site.verdict not in ENOUGH[at_least]]
    if failed:
        n_sites = len(examination.sites)
        first = (
            f"{len(failed)} of {n_sites} {'memory' if n_sites == 1 else 'memories'} of {examination.subject} not "
            f"load-bearing as asked (at least {at_least}), on {examination.n_test} sequences:"
        )
        raise AssertionError("\n".join([first, *(_told(site, examination, at_least) for site in failed)]))


def _told(site: SiteRecord, examination: Examination, at_least: str) -> str:
    lines = [f"  {site.name} ({site.module}): {site.verdict or 'no verdict'}: {site.because}"]
    effect = site.effects["read"].get("optimal_constant")
    if effect is not None:
        lines.append(f"    best constant in its place: {_with_level(effect)}, margin {examination.margin:.3f} nats")
    if site.share is not None:
        lines.append(f"    share of the headroom: {_with_level(site.share)}")
    lines += [f"    {flag}" for flag in site.flags]
    lines += [f"    to do: {advice}" for advice in _advice(site, examination.prescriptions, at_least)]
    return "\n".join(lines)


def _with_level(effect: Estimate) -> str:
    return f"{effect} at {100 * effect.level:.3g} %"


def _advice(site: SiteRecord, prescriptions: Sequence[PrescriptionRecord], at_least: str) -> list[str]:
    if site.verdict == "inconclusive":
        if site.required_sequences is None:
            return ["examine a memory whose history can be cut (announce it by read points); no data decide this"]
        return [f"test on {site.required_sequences} sequences (budget.n_test, and batches that hold them)"]
    if site.verdict is None or (site.verdict == "load-bearing" and at_least != "ungraded"):
        return ["name what could replace the memory, routes=[...] (routes=[] for nothing), or ask at_least='ungraded'"]
    if site.verdict == "load-bearing (shared)":
        return ["see which route carries the rest (examine(...).routes), or ask at_least='shared'"]
    named = [f"{row.change} ({row.source})" for row in prescriptions if row.site == site.name]
    return named or ["read the whole record: mnemoscope.examine(...), mnemoscope.report(...)"]
